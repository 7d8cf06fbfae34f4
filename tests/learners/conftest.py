"""What tests of learners share."""

import pytest

from popdyn.snapshots import positions, times


@pytest.fixture
def skill():
    """The skill of ∇V on the test group, written out: not by the code that scores."""

    def measure(energy, truth, data):
        wrong = scale = 0.0
        for k, t in list(enumerate(times(data)))[1:]:
            x = positions(data, k, "test")
            true = truth.potential_gradient(x, t)
            wrong += ((energy.potential_gradient(x, t) - true) ** 2).sum()
            scale += (true**2).sum()
        return 1 - wrong / scale

    return measure
