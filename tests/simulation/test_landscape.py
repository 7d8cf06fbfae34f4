"""Wells, passes and fates of landscapes that are known, and of one that was learned."""

import anndata
import numpy as np
import pytest

import popdyn
from popdyn.base.errors import PopdynError
from popdyn.learners import save_run


@pytest.fixture(scope="module")
def data():
    return popdyn.simulate(popdyn.FreeEnergy("double_well", diffusivity=0.3), particles=400, seed=0)


def test_two_wells_the_pass_between_them_and_who_ends_where(data) -> None:
    wells = popdyn.FreeEnergy("double_well", diffusivity=0.3)
    found = popdyn.landscape(wells, data, snapshots=[0], cells=150)
    assert sorted(found.bottoms[:, 0]) == pytest.approx([-2.0, 2.0], abs=0.02)
    # V has its saddle at 0; a path over cells goes past it at some distance, and so too high.
    over = float(wells.potential(np.zeros((1, 2)))[0] - wells.potential(found.bottoms[:1])[0])
    assert over <= found.barriers[0, 1] + 1e-4 < 1.15 * over
    assert np.isnan(found.depth_errors).all()  # a known V has none
    x = popdyn.snapshots.positions(data, 0, "train")[:150, 0]
    left = int(np.argmin(found.bottoms[:, 0]))
    # The chance of a pass uphill is e^(−2/0.3) of the time: who starts beyond 1 stays there.
    assert found.fates[x < -1.0, left].mean() > 20 * found.fates[x > 1.0, left].mean()
    assert 0.2 < found.fates[np.abs(x) < 0.3, left].mean() < 0.8
    assert (found.fates.sum(1) <= 1.0 + 1e-12).all()
    assert np.nanmin(found.arrival) >= 0.0
    assert "2 well(s)" in str(found)
    assert len(found.to_dict()["fates"]) == 150


def test_without_noise_a_cell_ends_where_it_drains(data) -> None:
    wells = popdyn.FreeEnergy("double_well")
    found = popdyn.landscape(wells, data, snapshots=[0], cells=100, horizon=20.0)
    x = popdyn.snapshots.positions(data, 0, "train")[:100, 0]
    right = int(np.argmax(found.bottoms[:, 0]))
    np.testing.assert_array_equal(found.fates[:, right], x > 0.0)


def test_a_learned_landscape_knows_its_errors(data) -> None:
    run = popdyn.fit(data, learner="weak_form", learn="potential,diffusion")
    found = popdyn.landscape(run, snapshots=[0], cells=5, replicates=2)
    assert (found.depth_errors > 0.0).all()
    assert np.isfinite(found.pass_errors[np.isfinite(found.barriers)]).all()
    # Shifting x shifts V by its error alone: that of a difference to itself is 0.
    point = found.bottoms[:1].astype(np.float64)
    import torch

    zero = run.energy.V.value_std(torch.from_numpy(point), torch.from_numpy(point))
    assert float(zero) == pytest.approx(0.0, abs=1e-9)


def test_the_command_and_the_export_say_the_same(run_popdyn, tmp_path) -> None:
    wells = popdyn.FreeEnergy("double_well", diffusivity=0.3)
    made = popdyn.simulate(wells, particles=80, snapshots=3, dt=0.3, seed=0)
    # Cells in no order, as files have them.
    x = np.concatenate([popdyn.snapshots.positions(made, k) for k in range(3)])
    order = np.random.default_rng(0).permutation(len(x))
    labels = np.repeat([0.0, 0.3, 0.6], 80)
    np.savez(tmp_path / "cells.npz", pcs=x[order], sample_labels=labels[order])
    data = popdyn.import_data(tmp_path / "cells.npz")
    run = popdyn.fit(data, learner="weak_form", learn="potential", diffusivity=0.3)
    popdyn.write(data, tmp_path / "d.zarr")
    save_run(run, tmp_path / "run")
    asked = run_popdyn("landscape", "run", "--data", "d.zarr", "--json", "--cells", "30")
    assert asked.code == 0, asked.err
    out = ("--to-h5ad", "out.h5ad", "--fates", "--units", "store")
    done = run_popdyn("export", "run", "--data", "d.zarr", *out)
    assert done.code == 0, done.err
    cells = anndata.read_h5ad(tmp_path / "out.h5ad")
    wells = cells.uns["popdyn_landscape"]
    np.testing.assert_allclose(wells["bottoms"], asked.json["bottoms"], rtol=1e-4)
    np.testing.assert_allclose(wells["depths"], asked.json["depths"], rtol=1e-4)
    fates = cells.obsm["popdyn_fates"]
    assert fates.shape[1] == len(wells["bottoms"])
    x, at = cells.obsm["X_pca"], cells.obs["time"].to_numpy()
    assert (np.diff(at) < 0).any()
    found = popdyn.landscape(run, data, cells=[x[at == t] for t in (0.0, 0.3, 0.6)])
    assert len(np.unique(fates, axis=0)) > 1
    for k, t in enumerate((0.0, 0.3, 0.6)):
        np.testing.assert_allclose(fates[at == t], found.fates[found.index == k])
    best = np.where(fates.any(1), fates.argmax(1), -1)
    np.testing.assert_array_equal(cells.obs["popdyn_fate"].to_numpy(), best)
    text = run_popdyn("landscape", "run", "--data", "d.zarr", "--cells", "5")
    assert text.out.startswith("2 well(s), fates of ")
    wrong = run_popdyn("landscape", "run", "--data", "d.zarr", "--snapshots", "99")
    assert wrong.code == 1
    assert "snapshot 99 is asked for" in wrong.last_line


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"snapshots": [9]}, "snapshot 9 is asked for: the data has 0 to"),
        ({"replicates": 0}, "replicates is 0: expected more than 0"),
        ({"data": None}, "expected the snapshots"),
        ({"cells": []}, "cells has 0 arrays: expected 6"),
    ],
)
def test_what_cannot_be_asked_is_one_line(data, given, said) -> None:
    with pytest.raises(PopdynError, match=said):
        popdyn.landscape(popdyn.FreeEnergy("double_well"), **({"data": data} | given))


def test_a_slope_has_no_well(data) -> None:
    with pytest.raises(PopdynError, match="no well is found among the cells"):
        popdyn.landscape(popdyn.FreeEnergy(lambda x: -3.0 * x[..., 0]), data)
    with pytest.raises(PopdynError, match="needs a potential"):
        popdyn.landscape(popdyn.FreeEnergy(None, diffusivity=0.1), data)


@pytest.mark.parametrize(("center", "wells"), [(0.5, 1), (1.4, 0)])
def test_a_well_is_one_only_where_there_are_cells(center, wells) -> None:
    rng = np.random.default_rng(0)
    cells = popdyn.from_arrays([rng.uniform(-1, 1, (300, 2)) for _ in range(3)], [0.0, 1.0, 2.0])
    bowl = popdyn.FreeEnergy("quadratic", potential_params={"center": [center, 0.0]})
    if not wells:
        with pytest.raises(PopdynError, match="no well is found among the cells"):
            popdyn.landscape(bowl, cells, cells=20)
        return
    found = popdyn.landscape(bowl, cells, cells=20)
    assert len(found.bottoms) == wells
    # 2 in time is not enough to come near: what is said of later times goes beyond the data.
    assert "fates are extrapolated" in str(found)


@pytest.mark.slow
def test_what_is_not_explained_is_no_sure_landscape(data) -> None:
    run = popdyn.fit(data, learner="weak_form", learn="potential")
    run.verdict = type(run.verdict)("unexplained", None, None, None, "told so")
    found = popdyn.landscape(run, snapshots=[0], cells=2)
    assert "the fit is unexplained" in found.notes[0]
    assert found.to_dict()["notes"] == list(found.notes)
