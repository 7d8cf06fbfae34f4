"""An interrupt while a learner is being set up waits, and is not lost."""

import os
import signal

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


def test_without_an_interrupt_nothing_happens():
    with interrupts_held():
        pass
