"""Initial laws: what they draw, their densities, and bad input."""

import numpy as np
import pytest
import torch

import popdyn
from popdyn.base.errors import PopdynError
from popdyn.simulation.initial import INITIAL_LAWS, initial_law
from popdyn.simulation.streams import generator


@pytest.mark.parametrize(
    ("name", "params"),
    [(name, {}) for name in INITIAL_LAWS]
    + [("ring", {"radius": 1.0, "width": 0.8}), ("two_moons", {"scale": 1.0, "width": 0.5})],
)
def test_samples_have_the_declared_density(name, params):
    law, dim = initial_law(name, params)
    n, cells = 200_000, 60  # the uniform box ends where a cell does
    x = law.sample(n, dim, generator(0, "initial")).numpy()
    assert x.shape == (n, 2)
    assert x.dtype == np.float32
    edges = np.linspace(-5, 5, cells + 1)
    found = np.histogram2d(x[:, 0], x[:, 1], [edges, edges])[0]
    # cell averages of the density by 4×4 midpoints of each cell: rings are narrow
    fine = np.linspace(-5, 5, 4 * cells + 1)
    mid = (fine[1:] + fine[:-1]) / 2
    points = np.stack(np.meshgrid(mid, mid, indexing="ij"), -1).reshape(-1, 2)
    density = law.density(points).reshape(cells, 4, cells, 4).mean((1, 3))
    expected = n * density * (10 / cells) ** 2
    assert expected.sum() == pytest.approx(n, rel=2e-3)
    # 5 standard errors of a count, and the quadrature's error on a narrow ring
    tolerance = 5 * np.sqrt(expected + 1) + 0.003 * expected.max()
    assert (np.abs(found - expected) < tolerance).all()


@pytest.mark.parametrize("name", INITIAL_LAWS)
@pytest.mark.parametrize("dim", [3, 100])
def test_every_law_works_in_high_dimension(name, dim):
    law, _ = initial_law(name, dim=dim)
    x = law.sample(500, dim, generator(0, "initial"))
    assert x.shape == (500, dim)
    assert np.isfinite(law.density(x.numpy())).all()
    assert (law.density(x[:, :].numpy()) > 0).all()


def test_parameters_reach_the_law():
    law, _ = initial_law("gaussian", {"mean": [1, -2], "std": [0.5, 2]}, 2)
    x = law.sample(100_000, 2, generator(1, "initial")).numpy()
    # 5 standard errors
    np.testing.assert_allclose(x.mean(0), [1, -2], atol=5 * 2 / np.sqrt(1e5))
    np.testing.assert_allclose(x.std(0), [0.5, 2], rtol=5 / np.sqrt(2e5))
    assert law.spec() == {"name": "gaussian", "params": {"mean": [1, -2], "std": [0.5, 2]}}


def test_mixture_weights():
    law, _ = initial_law("gaussian_mixture", {"means": [-9, 9], "weights": [1, 3]}, 1)
    x = law.sample(100_000, 1, generator(1, "initial")).numpy()
    assert (x > 0).mean() == pytest.approx(0.75, abs=5 * np.sqrt(0.75 * 0.25 / 1e5))


def test_rows_of_an_array_come_once_before_any_comes_twice():
    rows = np.arange(20.0).reshape(10, 2)
    law, dim = initial_law(rows)
    assert dim == 2
    x = law.sample(25, 2, generator(0, "initial"))
    _, counts = np.unique(x.numpy(), axis=0, return_counts=True)
    assert sorted(counts) == [2] * 5 + [3] * 5
    assert law.spec()["params"]["rows"] == 10


def test_a_file_and_a_tensor_are_the_same_law(tmp_path):
    rows = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    np.save(tmp_path / "start.npy", rows)
    a, b = initial_law(tmp_path / "start.npy")[0], initial_law(torch.from_numpy(rows))[0]
    assert a.spec()["params"]["sha256"] == b.spec()["params"]["sha256"]
    assert a.spec()["params"]["file"] == "start.npy"


@pytest.mark.parametrize(
    ("initial", "params", "dim", "line"),
    [
        ("unifrom", {}, 2, "did you mean uniform"),
        ("uniform", {"lo": 1}, 2, "no parameter 'lo': expected one of low, high"),
        ("uniform", {"low": 4}, 2, "expected low < high"),
        ("uniform", {"low": [1, 2, 3]}, 2, "expected a number, or a list of 2"),
        ("gaussian", {"std": -1}, 2, "expected positive numbers"),
        ("gaussian", {"mean": "x"}, 2, "expected a number or a list"),
        ("gaussian_mixture", {"means": 3}, 2, "expected a list"),
        ("gaussian_mixture", {"weights": [1, 2, 3]}, 2, "a list of 2"),
        ("ring", {}, 1, "needs dimension 2"),
        ("ring", {"width": 0}, 2, "expected a number > 0"),
        ("missing.npy", {}, 2, "is not there"),
        (np.zeros((5, 3)), {}, 2, r"shape \(5, 3\): expected \(particles, 2\)"),
        (np.zeros(5), {}, None, r"shape \(5,\)"),
        (np.full((5, 2), np.nan), {}, None, "not finite"),
        (np.zeros((5, 2)), {"low": 1}, None, "given with an array"),
    ],
)
def test_bad_input_is_one_clear_line(initial, params, dim, line):
    with pytest.raises(PopdynError, match=line):
        initial_law(initial, params, dim)


def test_a_file_that_is_no_array(tmp_path):
    (tmp_path / "bad.npy").write_text("no array")
    with pytest.raises(PopdynError, match=r"bad\.npy' is no \.npy array"):
        initial_law(tmp_path / "bad.npy")


def test_an_array_has_no_density():
    with pytest.raises(PopdynError, match="has no density"):
        initial_law(np.zeros((5, 2)))[0].density(np.zeros((1, 2)))


def starts(tree, group):
    """The starting points of all particles of a group: with no energy they stay there."""
    x = tree[group]["x"].values
    return [tuple(row) for row in x[np.isfinite(x).all(-1)]]


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("block", [None, 7])
def test_no_row_of_an_array_serves_twice_while_rows_last(paired, block):
    rows = np.random.default_rng(0).normal(size=(400, 2)).astype(np.float32)
    tree = popdyn.simulate(
        popdyn.FreeEnergy(),
        initial=rows,
        particles=90,
        test_particles=40,
        snapshots=3,
        paired=paired,
        block=block,
    )
    assert "note" not in tree.attrs["initial"]
    train, test = starts(tree, "train"), starts(tree, "test")
    times_each = 3 if paired else 1  # the same particle at three times
    assert len(set(train)) * times_each == len(train) == 270
    assert len(set(test)) * times_each == len(test) == 120
    assert not set(train) & set(test)
    assert set(train + test) <= set(map(tuple, rows))


def test_where_the_rows_do_not_last_it_is_said_and_the_groups_still_share_none():
    rows = np.random.default_rng(0).normal(size=(400, 2)).astype(np.float32)
    tree = popdyn.simulate(popdyn.FreeEnergy(), initial=rows, particles=1000, snapshots=2)
    train, test = starts(tree, "train"), starts(tree, "test")
    assert (len(set(train)), len(set(test))) == (200, 200)
    assert not set(train) & set(test)
    # None comes once more before all have come.
    assert set(np.unique(tree["train"]["x"].values[0], axis=0, return_counts=True)[1]) == {5}
    assert "400 rows do not last" in tree.attrs["initial"]["note"]
    assert "2000 draws from 200 rows in train" in tree.attrs["initial"]["note"]
    one = popdyn.simulate(popdyn.FreeEnergy(), initial=rows[:1], particles=3, snapshots=2)
    assert "its one row serves both groups" in one.attrs["initial"]["note"]


def test_all_rows_are_for_training_where_there_is_no_test_group():
    rows = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    options = {"particles": 50, "test_particles": 0, "snapshots": 2, "paired": True}
    tree = popdyn.simulate(popdyn.FreeEnergy(), initial=rows, **options)
    assert set(starts(tree, "train")) == set(map(tuple, rows))
    assert "note" not in tree.attrs["initial"]
