"""``popdyn simulate`` through a real process."""

import numpy as np
import pytest

from popdyn.dynamics import FreeEnergy
from popdyn.simulation import simulate
from popdyn.snapshots import open_snapshots, validate


def test_the_command_makes_what_python_makes(run_popdyn, tmp_path):
    np.save(tmp_path / "start.npy", np.random.default_rng(0).normal(size=(1000, 3)))
    done = run_popdyn(
        *("simulate", "--potential", "quadratic", "--potential-param", "stiffness=2"),
        *("--interaction", "gaussian_repulsion", "--interaction-param", "scale=3"),
        *("--diffusivity", 0.1, "--dim", 3, "--particles", "300,200,300"),
        *("--test-particles", 50, "--times", "0,0.1,0.4", "--step", 0.02, "--scheme", "srk"),
        *("--initial", "start.npy", "--noise", 0.01, "--interaction-batch", 20, "--seed", 7),
        *("--check-step", "--out", "x.zarr", "--json"),
    )
    assert done.code == 0, done.err
    said = done.json
    assert said["out"] == "x.zarr"
    assert said["particles"] == [300, 200, 300]
    assert said["times"] == [0, 0.1, 0.4]
    # snapshot k has run for all steps up to it: 5 for the second, 20 for the third
    assert said["particle_steps"] == (200 + 50) * 5 + (300 + 50) * 20
    assert said["particle_steps_per_second"] == pytest.approx(
        said["particle_steps"] / said["seconds"]
    )
    assert done.err == ""
    assert validate(tmp_path / "x.zarr") == []
    stored = open_snapshots(tmp_path / "x.zarr")
    assert "popdyn simulate --potential quadratic" in stored.attrs["history"]
    made = simulate(
        FreeEnergy(
            "quadratic",
            "gaussian_repulsion",
            0.1,
            potential_params={"stiffness": 2},
            interaction_params={"scale": 3},
        ),
        particles=[300, 200, 300],
        test_particles=50,
        times=[0, 0.1, 0.4],
        step=0.02,
        scheme="srk",
        initial=tmp_path / "start.npy",
        noise=0.01,
        interaction_batch=20,
        seed=7,
        check_step=True,
    )
    for group in ("train", "test"):
        assert np.array_equal(made[group]["x"], stored[group]["x"], equal_nan=True)
    different = {k for k in made.attrs if made.attrs[k] != stored.attrs.get(k)}
    assert different <= {"history"}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--potential", "styblinski_tan"], 2, ["styblinski_tan", "did you mean styblinski_tang"]),
        (["--potential", "flat", "--diffusivity", "-1"], 2, ["--diffusivity", "-1", "x>=0"]),
        (["--potential", "wavy_plateau", "--dt", "0.1", "--step", "0.1"], 1, ["stable", "step"]),
    ],
)
def test_bad_input_is_one_clear_line(run_popdyn, tmp_path, arguments, code, words):
    done = run_popdyn("simulate", *arguments, "--out", "x.zarr")
    assert done.code == code
    assert "Traceback" not in done.err
    assert all(word in done.last_line for word in words), done.err
    if code == 1:
        assert len(done.err.splitlines()) == 1
    assert not (tmp_path / "x.zarr").exists()
