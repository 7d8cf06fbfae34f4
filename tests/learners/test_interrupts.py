"""An interrupt while a learner is being set up waits, and is not lost."""

import os
import signal
import subprocess
import sys

import pytest

from popdyn.learners.training import interrupts_held


def interrupted_by(number):
    """Send a signal to ourselves inside the block; raise AssertionError where it is not held."""
    with interrupts_held():
        try:
            os.kill(os.getpid(), number)
        except BaseException as error:  # as some imports do
            raise AssertionError("raised where it can be lost") from error


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_waits_for_the_end_of_the_block(number):
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt):
        interrupted_by(number)
    assert signal.getsignal(number) == before


def test_the_command_line_ends_with_status_1_wherever_an_interrupt_falls(tmp_path):
    lines = (
        "import popdyn.cli",
        "popdyn.cli.group.main = lambda **options: exec('raise KeyboardInterrupt')",
        "popdyn.cli.main()",
    )
    (tmp_path / "cut_short.py").write_text("\n".join(lines))
    command = [sys.executable, "-m", "cut_short"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 1
    assert ended.stderr == "popdyn: error: interrupted; what was already written is kept\n"


def test_without_an_interrupt_nothing_happens():
    with interrupts_held():
        pass
