"""An interval that is nothing beside the others does not stop ``inspect``."""

import numpy as np

import popdyn


def test_one_interval_is_shorter_by_17_orders():
    generator = np.random.default_rng(0)
    x = [generator.normal(size=(100, 2)) for _ in range(3)]
    data = popdyn.snapshots.make_tree(x, x, [0.0, 2.0, 1e18], {"dynamics": None})
    assert popdyn.inspect(data)["times"] == [0.0, 2.0, 1e18]
