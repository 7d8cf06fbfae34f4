"""``popdyn train`` ends in words; the certificate's numbers are asked for."""

import pytest

import popdyn

NUMBERS = ("inner_residual", "outer_step", "misfit")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("train") / "bowl.zarr"
    energy = popdyn.FreeEnergy("quadratic", diffusivity=0.2)
    popdyn.write(popdyn.simulate(energy, particles=1500, snapshots=4, dt=0.2, seed=0), path)
    return path


def test_train_ends_in_words(run_popdyn, store, tmp_path):
    said = run_popdyn("train", store, "--out", "run", "--learn", "potential,diffusion")
    assert said.code == 0, said.err
    assert said.out == ""
    lines = said.err.splitlines()
    run = popdyn.load_run(tmp_path / "run")
    assert lines[0] == f"{run.word}: {run.verdict.note}"
    assert lines[1] == "learned: potential V and diffusivity β (ijkonet, model=features)"
    beta, error = run.energy.diffusivity, run.energy.diffusivity_standard_error
    assert lines[2] == f"β: {beta:.3g} ± {error:.2g}"
    assert lines[3].startswith("met: ")
    assert lines[4].startswith("took: ")
    assert lines[5] == "run: run"
    assert lines[-2:] == ["next: popdyn score run", "next: popdyn plot run --out figures"]
    assert not any(number in said.err for number in NUMBERS)


def test_numbers_are_under_verbose_and_in_json(run_popdyn, store):
    named = ("train", store, "--learn", "potential,diffusion")
    told = run_popdyn(*named, "--out", "told", "--verbose")
    assert all(f"{number}: " in told.err for number in NUMBERS)
    found = run_popdyn(*named, "--out", "json", "--json").json
    assert set(NUMBERS) <= set(found["certificate"])
    assert found["model"] == "features"
    assert list(found)[:4] == ["run", "learner", "verdict", "learned"]


def test_what_is_not_explained_is_followed_by_what_to_try(run_popdyn, store):
    said = run_popdyn(
        "train", store, "--out", "net", "--model", "network", "--steps", "2", "--learn", "potential"
    )
    assert said.err.startswith("unexplained: ")
    assert "learned: potential V (ijkonet, model=network)" in said.err
    last = said.err.splitlines()[-1]
    assert last == (
        "next: train again with --learn potential,interaction,diffusion, or more --steps, or "
        "--time-varying; popdyn score net says how far off it is"
    )
    table = run_popdyn("score", "net", "--points", "100").out
    assert "net (ijkonet, model=network)" in table
