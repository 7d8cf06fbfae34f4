"""Numbers of NumPy, torch and xarray at the public doors: taken, written down, and never named."""

import numpy as np
import pytest
import torch
import xarray as xr

import popdyn

SCALARS = {
    "numpy": (np.int64, np.float64),
    "float32": (np.int32, np.float32),
    "arrays": (np.array, np.array),
    "torch": (torch.tensor, torch.tensor),
    "xarray": (xr.DataArray, xr.DataArray),
}


@pytest.fixture(scope="module")
def data():
    energy = popdyn.FreeEnergy("quadratic", diffusivity=0.25)
    return popdyn.simulate(energy, particles=200, snapshots=4, dt=0.25, initial="gaussian")


# The rest of them is one more conversion by the same door.
LATER = [pytest.param(name, marks=pytest.mark.slow) for name in ("float32", "arrays", "torch")]


@pytest.mark.parametrize("library", ["numpy", "xarray", *LATER])
def test_scalars_are_numbers_at_every_door(tmp_path, data, library):
    whole, real = SCALARS[library]
    energy = popdyn.FreeEnergy(
        "quadratic", diffusivity=real(0.25), potential_params={"scale": real(1.0)}
    )
    made = popdyn.simulate(
        energy,
        particles=200,
        snapshots=whole(4),
        dt=real(0.25),
        initial="gaussian",
        initial_params={"std": real(1.0)},
        seed=whole(0),
        out=tmp_path / "a.zarr",
    )
    assert made["train"].load().equals(data["train"])
    run = popdyn.fit(
        data,
        "weak_form",
        hold_out=whole(2),
        seed=whole(1),
        diffusivity=real(0.25),
        out=tmp_path / "run",
    )
    same = popdyn.fit(data, "weak_form", hold_out=[2], seed=1, diffusivity=0.25)
    x = np.ones((3, 2))
    np.testing.assert_array_equal(
        run.energy.potential_gradient(x), same.energy.potential_gradient(x)
    )
    assert popdyn.load_run(tmp_path / "run").config["hold_out"] == [2]
    options = {"seed": whole(3), "hold_out": whole(2)}
    found = popdyn.score(run.energy, data, points=50, **options)
    assert found == popdyn.score(run.energy, data, points=50, seed=3, hold_out=(2,))
    ahead = popdyn.predict(run.energy, data, [real(0.5)], **options)
    assert ahead["train"].equals(
        popdyn.predict(run.energy, data, [0.5], seed=3, hold_out=2)["train"]
    )


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (lambda d: popdyn.fit(d, seed=np.float32(1.5)), "seed is 1.5: expected a whole number"),
        (lambda d: popdyn.fit(d, hold_out="1"), "hold_out is '1': expected whole numbers"),
        (lambda d: popdyn.fit(d, hold_out=np.float64(0.5)), "hold_out is 0.5: expected a whole"),
        (lambda d: popdyn.fit(d, hold_out=9), "hold-out index 9"),
        (lambda d: popdyn.fit(d, "weak_form", diffusivity=np.float32(-1)), "diffusivity is -1.0"),
        (lambda d: popdyn.FreeEnergy(diffusivity=np.float32(-2)), "diffusivity is -2.0"),
        (lambda d: popdyn.simulate(popdyn.FreeEnergy(), seed=True), "seed is True"),
        (lambda d: popdyn.simulate(popdyn.FreeEnergy(), dim=np.float32(0.5)), "dim is 0.5"),
    ],
)
def test_what_is_no_such_number_is_one_line_without_the_name_of_a_library(data, call, line):
    with pytest.raises(popdyn.PopdynError, match=line) as error:
        call(data)
    assert "numpy" not in str(error.value)
    assert "float32" not in str(error.value)


def test_no_seed_is_no_whole_number(data):
    for call in (popdyn.fit, lambda data, seed: popdyn.score(popdyn.FreeEnergy(), data, seed=seed)):
        with pytest.raises(popdyn.PopdynError, match="seed is None: expected a whole number"):
            call(data, seed=None)
