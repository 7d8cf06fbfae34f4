"""``popdyn simulate`` through a real process."""

import numpy as np
import pytest

from popdyn.dynamics import Dynamics, FreeEnergy
from popdyn.learners import load_run
from popdyn.scores import score
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
        (["--potential", "flat", "--diffusivity", "-1"], 2, ["--diffusivity", "-1", "≥ 0"]),
        (["--diffusivity", "rizing"], 2, ["--diffusivity", "rizing", "did you mean rising"]),
        (["--potential", "flat", "--circulation", "rotatin"], 2, ["did you mean rotation"]),
        (["--circulation", "along_levels"], 1, ["along_levels", "expected one"]),
        (["--circulation", "rotation", "--dim", "1"], 1, ["rotation", "components up to 1"]),
        (["--circulation", "rotation", "--scheme", "jko"], 1, ["jko", "rotation", "gradient"]),
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


def test_circulation_is_stored_rebuilt_and_scored(run_popdyn, tmp_path):
    """The oracle's force is the whole drift; an energy without the circulation lacks its share."""
    flags = ["--circulation", "along_levels", "--circulation-param", "rate=0.5"]
    sizes = ["--particles", "400", "--snapshots", "3", "--dt", "0.1", "--seed", "3"]
    given = ["--potential", "double_well", "--diffusivity", "0.2", *flags, *sizes]
    assert run_popdyn("simulate", *given, "--out", "x.zarr").code == 0
    stored = open_snapshots(tmp_path / "x.zarr")
    energy = FreeEnergy("double_well", diffusivity=0.2)
    flow = Dynamics(energy, circulation="along_levels", circulation_params={"rate": 0.5})
    made = simulate(flow, particles=400, snapshots=3, dt=0.1, seed=3)
    assert Dynamics.from_spec(stored.attrs["dynamics"]).spec() == flow.spec()
    assert np.array_equal(made["train"]["x"], stored["train"]["x"])
    assert run_popdyn("train", "x.zarr", "--learner", "oracle", "--out", "run").code == 0
    run = load_run(tmp_path / "run")
    assert run.dynamics.spec() == flow.spec()
    done = run_popdyn("score", "run", "--points", "50", "--json")
    scores = done.json["gradient"]
    assert scores["force"]["skill"] == pytest.approx(1.0)
    # A∇V is as long as ∇V, times the rate, and at a right angle: 0.5² of 1 + 0.5² is lost.
    without = score(energy, stored, points=50)["gradient"]
    assert without["potential"]["skill"] == pytest.approx(1.0)
    assert without["force"]["skill"] == pytest.approx(1 - 0.25 / 1.25, abs=1e-6)
    assert run_popdyn("predict", "run", "--times", "0.3", "--out", "y.zarr").code == 0
    predicted = open_snapshots(tmp_path / "y.zarr")
    assert predicted.attrs["dynamics"] == stored.attrs["dynamics"]
