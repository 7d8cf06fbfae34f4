"""A wheel of the tree, in an environment of its own, outside the checkout."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_wheel_works_outside_the_checkout(tmp_path):
    def call(*command, cwd=tmp_path):
        env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
        done = subprocess.run(
            [str(c) for c in command], cwd=cwd, env=env, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    call(sys.executable, "-m", "build", "--wheel", "--outdir", tmp_path / "dist", ROOT)
    (wheel,) = (tmp_path / "dist").glob("popdyn_jko-*.whl")
    call(sys.executable, "-m", "venv", tmp_path / "env")
    python, popdyn = tmp_path / "env/bin/python", tmp_path / "env/bin/popdyn"
    call(python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", wheel)
    assert "styblinski_tang" in call(popdyn, "list", "potentials")
    assert "jko15" in call(popdyn, "list", "suites")
    simulate = ("simulate", "--potential", "quadratic", "--particles", "300", "--out", "q.zarr")
    call(popdyn, *simulate)
    call(popdyn, "train", "q.zarr", "--steps", "20", "--out", "run")
    assert '"skill"' in call(popdyn, "score", "run", "--points", "100", "--json")
