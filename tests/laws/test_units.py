"""Units do not matter: what is learned is the same whatever the data is measured in.

Each test transforms a data set, fits it, and takes what was learned back. Three kinds of difference
are allowed, and each law says which it has:

- rounding: positions are stored in float32, and what is computed from them has passed through it
  once more. Where a transformation does nothing else, an estimate moves by far less than its
  standard error; a network's by far less than its size.
- data: positions shifted by 10⁴ spreads are stored to 10⁴ · 6·10⁻⁸ of a spread, each cell by
  another amount: a known part of the sampling noise.
- draws: the noise of a simulated step, batches and a network's first weights belong to a place in
  an array. Where places change, an estimate moves by part of its standard error.
"""

import functools

import numpy as np
import pytest
import torch

import popdyn
from popdyn import FreeEnergy
from popdyn.snapshots import make_tree, positions, times

V, BETA, ALL = ("potential",), ("potential", "diffusion"), ("potential", "interaction", "diffusion")
WEAK = {"learner": "weak_form"}
FEATURES = {"learner": "ijkonet", "model": "features"}
NETWORK = {
    "learner": "ijkonet",
    "model": "network",
    "steps": 20,
    "batch": 100,
    "hidden": (16,),
    "every": 10,
}
STAR = {"learner": "jkonet_star"}


def case(learner, learn, slow=False):
    name = learner["learner"] + learner.get("model", "")
    marks = [pytest.mark.slow] if slow else []
    return pytest.param(learner, learn, id=f"{name}-{'+'.join(learn)}", marks=marks)


CASES = [
    case(WEAK, V),
    case(WEAK, BETA),
    case(WEAK, ALL, slow=True),
    case(FEATURES, V),
    case(FEATURES, BETA, slow=True),
    case(FEATURES, ALL, slow=True),
    case(NETWORK, V),
    case(NETWORK, BETA, slow=True),
    case(NETWORK, ALL, slow=True),
    case(STAR, V, slow=True),
    case(STAR, ALL, slow=True),
]
learners = pytest.mark.parametrize(("learner", "learn"), CASES)
X = np.random.default_rng(7).uniform(-1.5, 1.5, (60, 2))


@functools.cache
def snapshots(learn):
    """Return four snapshots of 300 cells and their times."""
    truth = FreeEnergy(
        "styblinski_tang",
        "gaussian_repulsion" if "interaction" in learn else None,
        0.3 if "diffusion" in learn else 0.0,
        potential_params={"scale": 0.1},
    )
    data = popdyn.simulate(truth, particles=300, snapshots=4, dt=0.15, test_particles=1, seed=3)
    return [positions(data, k).astype(np.float64) for k in range(4)], times(data)


def fitted(learner, learn, clouds, t):
    """Return what a learner makes of some snapshots."""
    nobody = [np.empty((0, clouds[0].shape[1]))] * len(t)
    return popdyn.fit(make_tree(clouds, nobody, t), learn=learn, seed=0, **dict(learner))


@functools.cache
def _plain(learner, learn):
    return fitted(dict(learner), learn, *snapshots(learn))


def plain(learner, learn):
    return _plain(tuple(learner.items()), learn)


def compare(run, other, there, back, *, length=1.0, interval=1.0, share=0.0, size=0.0):
    """Hold a run against one of transformed data.

    Args:
        run, other: The runs.
        there: Takes positions to the other's; an affine map.
        back: Takes the other's gradients back to the run's components.
        length, interval: The other's units in those of the run.
        share: How many of its standard errors an estimate may be off by.
        size: How much of the largest gradient of either, where no standard error is known.
    """
    moved = there(X)
    for name, at in (("potential", moved), ("interaction", moved - there(np.zeros_like(X)))):
        term = run.energy.V if name == "potential" else run.energy.W
        if term is None:
            continue
        gradient = f"{name}_gradient"
        one = getattr(run.energy, gradient)(X)
        two = back(getattr(other.energy, gradient)(at)) * (interval / length)
        off = two - one
        allowed = size * max(np.abs(one).max(), np.abs(two).max())
        if hasattr(term, "gradient_std"):
            error = term.gradient_std(torch.from_numpy(X)).numpy()
            allowed = share * np.sqrt(np.mean(error**2))
        assert np.sqrt(np.mean(off**2)) <= allowed, name
    error = run.energy.diffusivity_standard_error
    off = other.energy.diffusivity * interval / length**2 - run.energy.diffusivity
    assert abs(off) <= size * run.energy.diffusivity if error is None else share * error


def same(x):
    return x


# Of a standard error, or of the largest gradient of a network: rounding moves an estimate by 10⁻⁷
# times the condition of its equations, of which a few hundred is usual here.
ROUNDING = {"share": 1e-3, "size": 1e-4}
# A network beside W or β begins at the weak form's V, which 400 steps of Adam make it follow: near
# the end their gradients are what rounding leaves, and each step is as long as any other.
FOLLOWED = {"share": 1e-3, "size": 0.02}


def rounding(learner, learn):
    return FOLLOWED if learner is NETWORK and learn != V else ROUNDING


@learners
@pytest.mark.parametrize(
    ("length", "interval"),
    [
        (1e9, 1.0),
        (1e-9, 1e9),
        *[
            pytest.param(10.0**a, 10.0**b, marks=pytest.mark.slow)
            for a, b in ((-9, 0), (-5, 0), (-1, 0), (4, 0), (0, -9), (0, -3), (0, 9), (7, -7))
        ],
    ],
)
def test_units_of_length_and_time(learner, learn, length, interval):
    clouds, t = snapshots(learn)
    other = fitted(learner, learn, [length * x for x in clouds], interval * t)
    there, allowed = functools.partial(np.multiply, length), rounding(learner, learn)
    compare(plain(learner, learn), other, there, same, length=length, interval=interval, **allowed)


@learners
def test_a_factor_of_two_changes_not_a_bit(learner, learn):
    if learn == ALL:
        pytest.skip("pairs are summed in the user's units, of which float32 keeps other digits")
    clouds, t = snapshots(learn)
    other = fitted(learner, learn, [8.0 * x for x in clouds], 0.25 * t)
    run = plain(learner, learn)
    one, two = (r.energy.potential_gradient(x) for r, x in ((run, X), (other, 8.0 * X)))
    np.testing.assert_array_equal(one, two / 32.0)
    assert run.energy.diffusivity == other.energy.diffusivity / 256.0


@learners
def test_origins_of_positions_and_of_time(learner, learn):
    # 10⁴ spreads and 2.5 million intervals away. Positions are stored in float32 to 6·10⁻⁸ of what
    # they are, here to some 10⁻³ of a spread: noise that is a thousandth of that of sampling.
    clouds, t = snapshots(learn)
    there = functools.partial(np.add, 1e4)
    other = fitted(learner, learn, [there(x) for x in clouds], t + 2.5e6 * (t[1] - t[0]))
    compare(plain(learner, learn), other, there, same, share=0.02, size=0.01)


@learners
def test_order_and_sign_of_components(learner, learn):
    if learner is NETWORK:
        pytest.skip("the first weights of a network belong to a component: see the slow test")
    clouds, t = snapshots(learn)

    def turned(x):
        return -x[:, ::-1]

    other = fitted(learner, learn, [turned(x) for x in clouds], t)
    # The noise of a step is drawn for each component: with β another draw, whose part in an
    # estimate is below that of the data.
    allowed = ROUNDING if learn == V else {"share": 1.0, "size": 0.1}
    compare(plain(learner, learn), other, turned, turned, **allowed)


@learners
def test_order_of_particles(learner, learn):
    if learner is STAR and learn == ALL:
        pytest.skip("three parts of 300 cells are noise to it: which of them are held out decides")
    clouds, t = snapshots(learn)
    rng = np.random.default_rng(5)
    other = fitted(learner, learn, [rng.permutation(x) for x in clouds], t)
    # Which cells are held out, and meet in a batch, is another draw: of features the single cell
    # that is held out, or the noise of steps. 20 steps of a network from the same weights leave
    # what batches of a third of the cells differ by.
    compare(plain(learner, learn), other, same, same, share=1.0, size=0.3)


@learners
def test_a_constant_component_and_a_copy(learner, learn):
    clouds, t = snapshots(learn)

    def wider(x):
        return np.concatenate([x, 0.0 * x[:, :1] + 7.0, 3.0 - 2.0 * x[:, :1]], 1)

    other = fitted(learner, learn, [wider(x) for x in clouds], t)
    assert "component 2 is constant, 7 in every cell" in other.notes[0]
    assert "component 3 says the same as component 0" in other.notes[1]
    np.testing.assert_array_equal(other.energy.potential_gradient(wider(X))[:, 2:], 0.0)
    compare(plain(learner, learn), other, wider, lambda g: g[:, :2], **rounding(learner, learn))


TURN = np.array([[np.cos(0.6), -np.sin(0.6)], [np.sin(0.6), np.cos(0.6)]])


@learners
def test_a_turn(learner, learn):
    if learn == ALL or learner is NETWORK:
        pytest.skip("W trades with V, and the weights of a network see the turn: see slow tests")
    # A dictionary of functions of one component is another one after a turn, and so is what it
    # leaves out: that and half of the errors, which are of the same cells, make the difference.
    clouds, t = snapshots(learn)
    other = fitted(learner, learn, [x @ TURN.T for x in clouds], t)
    compare(
        plain(learner, learn),
        other,
        lambda x: x @ TURN.T,
        lambda g: g @ TURN,
        share=3.0,
        size=0.3,
    )


FACTORS = np.array([1.0, 1e5])


@pytest.mark.parametrize("learner", [WEAK, FEATURES], ids=["weak_form", "ijkonet"])
def test_components_in_units_of_their_own(learner):
    # Without noise, and with V a sum over components. Functions of both are off in one case as in
    # the other, or nearly so: what is left is a small part of the error.
    clouds, t = snapshots(V)
    run = plain(learner, V)
    other = fitted(learner, V, [FACTORS * x for x in clouds], t)
    compare(run, other, lambda x: FACTORS * x, lambda g: g / FACTORS, share=0.1)
    assert "spreads of the components differ by a factor of" in other.notes[0]
    assert "--standardize component" in other.notes[0]


@pytest.mark.slow
@pytest.mark.parametrize("turn", [np.array([[0.0, -1.0], [-1.0, 0.0]]), TURN], ids=["swap", "turn"])
def test_a_trained_network_and_the_order_of_components(turn):
    # Trained from other weights, as a turn makes them, a network ends elsewhere.
    learner = NETWORK | {"steps": 600, "hidden": (32, 32), "every": 100}
    clouds, t = snapshots(V)
    run, other = (fitted(learner, V, [x @ a.T for x in clouds], t) for a in (np.eye(2), turn))
    compare(run, other, lambda x: x @ turn.T, lambda g: g @ turn, size=0.3)
