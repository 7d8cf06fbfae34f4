"""Intervals of one experiment, and of several in one list."""

import numpy as np
import pytest

from popdyn.base.intervals import Intervals
from popdyn.base.quadrature import quadrature

A, B = np.array([0.0, 0.1, 0.3]), np.array([5.0, 5.5])
TWO = Intervals(np.concatenate([A, B]), (0, 3))


def test_of_one_experiment_they_are_all_differences():
    one = Intervals(A)
    np.testing.assert_array_equal(one.before, [0, 1])
    np.testing.assert_array_equal(one.tau, np.diff(A))
    np.testing.assert_array_equal(one.quadrature(), quadrature(A))
    assert one.touching == [[0], [0, 1], [1]]


def test_none_crosses_from_one_experiment_to_the_next():
    assert len(TWO) == 3
    np.testing.assert_array_equal(TWO.before, [0, 1, 3])
    np.testing.assert_array_equal(TWO.after, [1, 2, 4])
    np.testing.assert_allclose(TWO.tau, [0.1, 0.2, 0.5])
    assert TWO.touching == [[0], [0, 1], [1], [2], [2]]
    assert TWO.own == [slice(0, 2), slice(2, 3)]


def test_integrals_use_the_times_of_their_own_experiment():
    weights = TWO.quadrature()
    np.testing.assert_array_equal(weights[:2, :3], quadrature(A))
    np.testing.assert_array_equal(weights[2:, 3:], quadrature(B))
    assert not weights[:2, 3:].any()
    assert not weights[2:, :3].any()


def test_the_longest_experiment_says_how_long_they_last():
    assert TWO.duration == pytest.approx(0.5)
    assert TWO.span == (0.0, 5.5)
    assert TWO.distinct == 5
