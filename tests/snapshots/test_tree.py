"""Trees in memory: layout, questions, and what they refuse."""

import numpy as np
import pytest

from popdyn.base.errors import PopdynError
from popdyn.snapshots import (
    counts,
    dimension,
    make_tree,
    open_snapshots,
    positions,
    times,
    validate,
    write,
)


@pytest.fixture
def populations():
    generator = np.random.default_rng(0)
    return [generator.normal(size=(n, 3)).astype(np.float32) for n in (5, 2, 7)]


def empty(populations):
    return [x[:0] for x in populations]


def test_what_goes_in_comes_out(populations):
    tree = make_tree(populations, empty(populations), [0, 0.1, 0.4], {"seed": 3})
    assert times(tree).tolist() == [0, 0.1, 0.4]
    assert counts(tree).tolist() == [5, 2, 7]
    assert counts(tree, "test").tolist() == [0, 0, 0]
    assert dimension(tree) == 3
    for k, x in enumerate(populations):
        np.testing.assert_array_equal(positions(tree, k), x)
    np.testing.assert_array_equal(positions(tree, -1, start=2, stop=4), populations[2][2:4])
    assert positions(tree, 1, start=1, stop=100).shape == (1, 3)


def test_layout_is_that_of_the_page(populations):
    tree = make_tree(populations, empty(populations), [0, 1, 2], {"seed": 3, "extra": "kept"})
    x = tree["train"]["x"]
    assert x.dims == ("time", "particle", "component")
    assert x.dtype == np.float32
    assert np.isnan(x.values[1, 2:]).all()
    assert tree["train"]["count"].dtype == np.int64
    assert tree["train"]["time"].attrs == {"units": "1"}
    wanted = "popdyn_format title history source observation dynamics initial scheme step seed"
    assert list(tree.attrs)[:10] == wanted.split()
    assert tree.attrs["complete"] is True
    assert tree.attrs["extra"] == "kept"
    assert tree.attrs["source"]["numpy"] == np.__version__


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"times": [0, 1, 1]}, "time 2 is 1 after 1: expected strictly increasing times"),
        ({"times": [0, np.nan, 1]}, "time 1 is not a finite number"),
        ({"times": [0, 1]}, "train has 3 snapshots: expected 2"),
        ({"times": []}, "expected one or more snapshots"),
    ],
)
def test_bad_times_are_one_line(populations, change, line):
    with pytest.raises(PopdynError, match=line) as error:
        make_tree(populations, empty(populations), change["times"])
    assert "\n" not in str(error.value)


def test_positions_that_are_not_finite_are_named(populations):
    populations[1][1, 2] = np.nan
    with pytest.raises(PopdynError, match="train snapshot 1 is nan at row 1, component 2"):
        make_tree(populations, empty(populations), [0, 1, 2])


def test_shapes_must_agree(populations):
    with pytest.raises(PopdynError, match=r"dimensions \[2, 3\]"):
        make_tree([*populations[:2], np.zeros((4, 2))], empty(populations), [0, 1, 2])
    with pytest.raises(PopdynError, match="train snapshot 0 is empty"):
        make_tree(empty(populations), populations, [0, 1, 2])
    with pytest.raises(PopdynError, match=r"shape \(4,\): expected \(particles, d\)"):
        make_tree([np.zeros(4)] * 3, empty(populations), [0, 1, 2])


def test_questions_refuse_what_is_not_there(populations):
    tree = make_tree(populations, empty(populations), [0, 1, 2])
    with pytest.raises(PopdynError, match="snapshot 3 was asked for: expected 0 to 2"):
        positions(tree, 3)
    with pytest.raises(PopdynError, match="group 'valid' was asked for: expected train or test"):
        positions(tree, 0, "valid")
    with pytest.raises(PopdynError, match="the data is ndarray"):
        times(np.zeros(3))
    del tree["test"]
    with pytest.raises(PopdynError, match="no group 'test'"):
        counts(tree, "test")


def test_a_single_snapshot_is_a_store(tmp_path):
    # What a prediction at one time gives.
    tree = make_tree([np.ones((5, 2))], [np.zeros((0, 2))], [3.0])
    write(tree, tmp_path / "one.zarr")
    assert not validate(tmp_path / "one.zarr")
    assert times(open_snapshots(tmp_path / "one.zarr")).tolist() == [3.0]
