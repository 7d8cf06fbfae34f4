"""Gradient scores against cases computed by hand."""

import numpy as np
import pytest

from popdyn.base.errors import PopdynError
from popdyn.dynamics import FreeEnergy
from popdyn.scores.moments import MAX_PAIRS, gradient_table, part_moments
from popdyn.scores.protocol import Protocol
from popdyn.scores.scoring import gradient_scores
from popdyn.snapshots import make_tree

TIMES = [0.0, 0.1, 0.3]


@pytest.fixture(scope="module")
def snapshots():
    rng = np.random.default_rng(7)
    x = rng.normal(size=(3, 200, 2)) * np.array([1.0, 2.0, 0.5])[:, None, None]
    return (x - x.mean(1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def protocol(snapshots):
    return Protocol(make_tree(snapshots, snapshots, TIMES))


def quadratic(scale, strength=None):
    interaction = None if strength is None else "quadratic"
    params = None if strength is None else {"strength": strength}
    return FreeEnergy(
        "quadratic", interaction, potential_params={"scale": scale}, interaction_params=params
    )


@pytest.mark.parametrize("a", [1.0, 0.9, 0.0, -1.0, 3.0])
def test_a_multiple_of_the_truth(protocol, snapshots, a):
    # ∇V̂ = a x against ∇V* = x: the error is (a − 1) x.
    found = gradient_scores(quadratic(a), quadratic(1.0), protocol)["potential"]
    x = snapshots.astype(np.float64)
    square, variance = (x**2).sum(2).mean(1), x.var(1).sum(1)
    assert found["skill"] == pytest.approx(1 - (a - 1) ** 2, abs=1e-6)
    assert found["relative_error"] == pytest.approx(abs(a - 1), abs=1e-6)
    assert found["cosine"] == pytest.approx(np.sign(a), abs=1e-12)
    tau = np.diff(TIMES)
    uvp = 100 * tau**2 * (a - 1) ** 2 * square[1:] / variance[:-1]
    assert found["l2_uvp"] == pytest.approx(uvp.mean(), rel=1e-5, abs=1e-12)
    assert [row["time"] for row in found["by_time"]] == TIMES[1:]
    assert [row["l2_uvp"] for row in found["by_time"]] == pytest.approx(uvp, rel=1e-5, abs=1e-12)
    assert "skill_modulo_gauge" not in found


def test_skill_sums_over_the_snapshots_before_it_divides(protocol, snapshots):
    # V̂ is right at the first time only: its error there is 0, at the second |x|² each.
    truth = FreeEnergy(lambda x, t: 0.5 * x.square().sum(-1) * (1.0 if t < 0.2 else 2.0))
    found = gradient_scores(quadratic(1.0), truth, protocol)["potential"]
    first, second = (snapshots[1:].astype(np.float64) ** 2).sum(2).mean(1)
    assert found["skill"] == pytest.approx(1 - second / (first + 4 * second), rel=1e-5)
    assert [row["skill"] for row in found["by_time"]] == pytest.approx([1.0, 0.75], rel=1e-5)


def test_the_truth_is_perfect_and_zero_is_nothing_exactly(protocol):
    truth = FreeEnergy("styblinski_tang", "gaussian_repulsion", 0.1)
    perfect = gradient_scores(truth, truth, protocol)
    for part in ("potential", "interaction", "force"):
        assert perfect[part]["skill"] == 1.0
        assert perfect[part]["standard_error"]["skill"] == 0.0
    assert perfect["potential"]["skill_modulo_gauge"] == 1.0
    assert perfect["potential"]["relative_error"] == perfect["potential"]["l2_uvp"] == 0.0
    zero = gradient_scores(FreeEnergy(), truth, protocol)
    assert zero["potential"]["skill"] == zero["interaction"]["skill"] == zero["force"]["skill"] == 0
    assert zero["potential"]["relative_error"] == 1.0
    assert zero["potential"]["cosine"] == 0.0


def test_interaction_skill_over_pairs(protocol):
    found = gradient_scores(quadratic(1.0, 1.5), quadratic(1.0, 2.0), protocol)
    # ∇Ŵ − ∇W* = −0.5 z against 2 z.
    assert found["interaction"]["skill"] == pytest.approx(1 - 0.25**2, rel=1e-6)
    # By the gauge c = −0.5 all of it could be V's: what is left is shared between the two.
    assert found["interaction"]["skill_modulo_gauge"] > found["interaction"]["skill"]


def test_pairs_are_weighted_as_they_occur(protocol, snapshots):
    truth = FreeEnergy(None, "gaussian_repulsion")
    found = gradient_scores(FreeEnergy(None, "quadratic"), truth, protocol)["interaction"]
    error = true = 0.0
    for x in snapshots[1:].astype(np.float64):
        i, j = np.triu_indices(len(x), 1)
        z = x[i] - x[j]
        exact = -np.exp(-0.5 * (z**2).sum(1, keepdims=True)) * z
        error += ((z - exact) ** 2).sum(1).mean()
        true += (exact**2).sum(1).mean()
    assert found["skill"] == pytest.approx(1 - error / true, rel=1e-5)


@pytest.mark.parametrize("c", [0.7, -0.3])
def test_the_gauge_is_removed_from_both(protocol, snapshots, c):
    # With the mean at 0: V − ½c|x|² and W + ½c|z|² push as V and W do.
    found = gradient_scores(quadratic(1.0 - c, 2.0 + c), quadratic(1.0, 2.0), protocol)
    for part in ("potential", "interaction"):
        assert found[part]["skill_modulo_gauge"] == pytest.approx(1.0, abs=1e-9)
        assert found[part]["skill"] < 0.99
    # In a finite population a particle does not act on itself: c x/(n − 1) is left of the force.
    left = (c / (len(snapshots[0]) - 1)) ** 2
    assert found["force"]["skill"] == pytest.approx(1.0, abs=2 * left)


def test_one_constant_for_both(protocol):
    # V is off by its gauge direction, W is right: c is paid for in W's skill.
    found = gradient_scores(quadratic(0.0, 2.0), quadratic(1.0, 2.0), protocol)
    # e_V = −x = u_V; e_W = 0; relative sizes: |u_V|²/|∇V*|² = 1, |u_W|²/|∇W*|² = 1/4: c = 4/5.
    assert found["potential"]["skill_modulo_gauge"] == pytest.approx(1 - 0.2**2, rel=1e-4)
    assert found["interaction"]["skill_modulo_gauge"] == pytest.approx(1 - 0.4**2, rel=1e-4)


def test_the_gauge_moves_with_the_mean(snapshots):
    # u = −(x − m_k), m_k the mean of each snapshot, not the origin.
    x = snapshots + np.array([0.0, 5.0, -3.0], np.float32)[:, None, None]
    truth = FreeEnergy("quadratic", "quadratic")
    estimate = FreeEnergy(
        lambda x, t: (
            0.5 * x.square().sum(-1) - 0.5 * (x - (5.0 if t < 0.2 else -3.0)).square().sum(-1)
        ),
        "quadratic",
        interaction_params={"strength": 2.0},
    )
    found = gradient_scores(estimate, truth, Protocol(make_tree(x, x, TIMES)))
    assert found["potential"]["skill_modulo_gauge"] == pytest.approx(1.0, abs=1e-6)


def test_force_skill_by_hand(protocol, snapshots):
    # Force of V = ½a|x|², W = ½s|z|² on a centred population: −(a + s n/(n − 1)) x.
    n = snapshots.shape[1]
    found = gradient_scores(quadratic(1.0, 0.5), quadratic(1.0, 2.0), protocol)
    expected = 1 - (1.5 * n / (n - 1) / (1 + 2 * n / (n - 1))) ** 2
    assert found["force"]["skill"] == pytest.approx(expected, rel=1e-5)


def test_what_has_no_meaning_is_null_or_left_out(protocol):
    without = gradient_scores(quadratic(1.0), FreeEnergy(), protocol)
    assert without["potential"]["skill"] is None
    assert without["potential"]["relative_error"] is None
    assert without["potential"]["cosine"] is None
    assert without["potential"]["l2_uvp"] > 0
    assert without["force"]["skill"] is None
    assert "interaction" not in without
    invented = gradient_scores(quadratic(1.0, 1.0), quadratic(1.0), protocol)
    assert invented["interaction"]["skill"] is None
    assert invented["interaction"]["skill_modulo_gauge"] is None
    assert invented["potential"]["skill_modulo_gauge"] is not None


def test_direction_is_not_asked_where_the_truth_has_none():
    x = np.array([[[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]]] * 2)
    found = gradient_scores(quadratic(2.0), quadratic(1.0), Protocol(make_tree(x, x, [0.0, 1.0])))
    assert found["potential"]["cosine"] == pytest.approx(1.0)


def test_bootstrap_error_is_the_spread_over_fresh_samples():
    # 40 draws: their standard deviation is known to 11 %, a bootstrap's from 100 resamples to 7 %.
    truth, estimate = FreeEnergy("wavy_plateau", "gaussian_repulsion"), quadratic(1.0, 0.5)
    rng = np.random.default_rng(8)
    found, errors = [], []
    for _ in range(40):
        x = rng.uniform(-2, 2, size=(2, 100, 2))
        scores = gradient_scores(estimate, truth, Protocol(make_tree(x, x, [0.0, 0.1])))
        names = (("potential", "skill"), ("interaction", "skill"), ("potential", "l2_uvp"))
        found.append([scores[part][name] for part, name in names])
        errors.append([scores[part]["standard_error"][name] for part, name in names])
    # Both known to some 15 % together, so a factor of 1.5 is three of them.
    ratio = np.median(errors, 0) / np.std(found, 0)
    assert (ratio > 1 / 1.5).all(), ratio
    assert (ratio < 1.5).all(), ratio


def test_many_particles_use_random_pairs():
    x = np.random.default_rng(9).normal(size=(400, 2)).astype(np.float32)
    assert len(x) * (len(x) - 1) / 2 > MAX_PAIRS
    truth = FreeEnergy(None, "gaussian_repulsion")
    table = gradient_table(FreeEnergy(), truth, x, 0.0, np.random.default_rng(0))
    i, j = table.members["interaction"].T
    assert len(i) == MAX_PAIRS
    assert (i != j).all()
    # E|∇W|² = E[|z|² exp(−|z|²)] for z ~ N(0, 2 I) in the plane: 4/5² (by the particles' draw 5 %).
    moments = part_moments([table], np.ones(1))["interaction"]
    assert moments.truth[0] == pytest.approx(0.16, rel=0.2)


def test_bad_gradients_are_named(protocol):
    infinite = FreeEnergy(lambda x: x.abs().sqrt().sum(-1) / 0.0)
    with pytest.raises(PopdynError, match="∇V is not finite at 200 of 200"):
        gradient_scores(infinite, quadratic(1.0), protocol)
    wrong = FreeEnergy(lambda x: (x @ x.new_ones(5)).square())
    with pytest.raises(PopdynError, match="could not be evaluated in dimension 2"):
        gradient_scores(wrong, quadratic(1.0), protocol)
