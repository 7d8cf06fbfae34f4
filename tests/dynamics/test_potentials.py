"""Every potential: its formula in plain NumPy, its gradient, its conventions."""

import inspect
import itertools
import math

import numpy as np
import pytest
import torch

from popdyn.base.errors import PopdynError
from popdyn.dynamics import POTENTIALS, FreeEnergy, ScalarField


def halves(v):
    return np.mean(v[: len(v) // 2]), np.mean(v[len(v) // 2 :])


def friedman(v):
    z1, z2 = halves(2 * (v - 7))
    a, b = z1, z2 / 2
    return (
        10 * np.sin(np.pi * a * b)
        + 20 * (a * np.sin(b) - 0.5) ** 2
        + 10 * (a * np.cos(b) - 1) ** 2
        + 0.1 * b * np.sin(a)
    ) / 100


def ishigami(v):
    z1, z2 = halves(v)
    return np.sin(z1) + 7 * np.sin(z2) ** 2 + 0.1 * ((z1 + z2) / 2) ** 4 * np.sin(z1)


def holder_table(v):
    z1, z2 = halves(v)
    return 10 * abs(np.sin(z1) * np.cos(z2) * np.exp(abs(1 - np.sqrt(np.sum(v**2)) / np.pi)))


def bohachevsky(v):
    z1, z2 = halves(v)
    waves = 0.3 * np.cos(3 * np.pi * z1) + 0.4 * np.cos(4 * np.pi * z2)
    return 10 * (z1**2 + 2 * z2**2 - waves)


def rotational(v):
    z1, z2 = halves(v)
    return -500 * max(math.atan2(z2 + 5, z1 + 5) + math.pi, 0.0)


def turned_styblinski_tang(v, seed=0):
    q, r = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(v), len(v))))
    u = (q * np.sign(np.diag(r))) @ v
    return 0.5 * np.sum(u**4 - 16 * u**2 + 5 * u)


def coupled_waves(v):
    return 2 * np.sum(np.sin(1.5 * v[:-1]) * np.cos(1.5 * v[1:])) + 0.5 * np.sum(v**2)


def curved_well(v):
    curve = np.array([np.cos(i * v[0] / 2) for i in range(2, len(v) + 1)])
    return 2 * (v[0] ** 2 / 4 - 1) ** 2 + 2 * np.sum((v[1:] - curve) ** 2)


def muller_brown(v):
    u, w = -0.2 + 0.35 * v[0], 0.8 + 0.35 * v[1]
    A, a, b, c = (-200, -100, -170, 15), (-1, -1, -6.5, 0.7), (0, 0, 11, 0.6), (-10, -10, -6.5, 0.7)
    p, q = (1, 0, -0.5, -1), (0, 0.5, 1.5, 1)
    surface = sum(
        A[k]
        * np.exp(a[k] * (u - p[k]) ** 2 + b[k] * (u - p[k]) * (w - q[k]) + c[k] * (w - q[k]) ** 2)
        for k in range(4)
    )
    return 0.05 * surface + 0.5 * np.sum(v[2:] ** 2)


def gaussian_mixture(v):
    density = 0.0
    for mean in (-2.0, 2.0):
        density += 0.5 * np.exp(-np.sum((v - mean) ** 2) / 2) / (2 * np.pi) ** (len(v) / 2)
    return -np.log(density)


def pairs(v):
    return itertools.pairwise(v)


T = 0.3  # the time at which the time-dependent potentials are evaluated


def moving_well(v):
    center = np.zeros(len(v))
    center[:2] = [2 * np.cos(2 * np.pi * T), 2 * np.sin(2 * np.pi * T)][: len(v)]
    return 2.5 * np.sum((v - center) ** 2)


def splitting_well(v):
    r = 4 * np.tanh((T - 0.5) / 0.25)
    return v[0] ** 4 / 4 - r * v[0] ** 2 / 2 + 0.5 * np.sum(v[1:] ** 2)


FORMULAS = {
    "styblinski_tang": lambda v: 0.5 * np.sum(v**4 - 16 * v**2 + 5 * v),
    "holder_table": holder_table,
    "zigzag_ridge": lambda v: sum(
        (a - b) ** 2 + np.cos(a) * (a + b) + a**2 * b for a, b in pairs(v)
    ),
    "oakley_ohagan": lambda v: 5 * np.sum(np.sin(v) + np.cos(v) + v**2 + v),
    "watershed": lambda v: sum(a + a**2 * (b + 4) for a, b in pairs(v)) / 10,
    "ishigami": ishigami,
    "friedman": friedman,
    "sphere": lambda v: -10 * np.sum(v**2),
    "bohachevsky": bohachevsky,
    "flowers": lambda v: np.sum(v + 2 * np.sin(np.abs(v) ** 1.2)),
    "wavy_plateau": lambda v: np.sum(np.cos(np.pi * v) + 0.5 * v**4 - 3 * v**2 + 1),
    "double_exp": lambda v: (
        200 * (np.exp(-np.sum((v - 3) ** 2) / 20) + np.exp(-np.sum((v + 3) ** 2) / 20))
    ),
    "relu": lambda v: -50 * np.sum(np.maximum(v, 0)),
    "rotational": rotational,
    "flat": lambda v: 0.0,
    "quadratic": lambda v: 0.5 * np.sum(v**2),
    "double_well": lambda v: 2 * (v[0] ** 2 / 4 - 1) ** 2 + 0.5 * np.sum(v[1:] ** 2),
    "muller_brown": muller_brown,
    "gaussian_mixture": gaussian_mixture,
    "moving_well": moving_well,
    "splitting_well": splitting_well,
    "coupled_waves": coupled_waves,
    "turned_styblinski_tang": turned_styblinski_tang,
    "shell": lambda v: 4 * (np.linalg.norm(v) - 2) ** 2 + 0.5 * v[0] * v[1],
    "curved_well": curved_well,
}

# Other values than the defaults, so that no parameter is ignored.
PARAMETERS = {
    "quadratic": {"stiffness": 2.0, "matrix": [[2.0, 0.5], [0.5, 1.0]], "center": [1.0, -1.0]},
    "double_well": {"height": 1.5, "distance": 1.2, "stiffness": 3.0},
    "muller_brown": {"height": 0.1, "length": 0.3, "origin": [0.1, 0.5], "stiffness": 2.0},
    "gaussian_mixture": {
        "means": [[0.0, 1.0], [2.0, -1.0], [-1.0, 0.5]],
        "width": [0.7, 1.1, 2.0],
        "weights": [1.0, 2.0, 3.0],
    },
    "moving_well": {"stiffness": 2.0, "radius": 1.0, "frequency": 3.0},
    "splitting_well": {
        "depth": 2.0,
        "onset": 0.2,
        "duration": 0.4,
        "quartic": 0.5,
        "stiffness": 2.0,
    },
}

PARAMETERS |= {
    "coupled_waves": {"strength": 1.0, "frequency": 0.7, "stiffness": 2.0},
    "turned_styblinski_tang": {"seed": 3},
    "shell": {"stiffness": 2.0, "radius": 1.0, "coupling": -0.3},
    "curved_well": {"height": 1.0, "distance": 1.5, "stiffness": 3.0, "bend": 0.5},
}

CASES = [
    (name, dim)
    for name, entry in POTENTIALS.items()
    for dim in (1, 2, 3, 10)
    if dim >= entry.min_dim
]


def points(dim, n=32, seed=0):
    return np.random.default_rng(seed).uniform(-4, 4, (n, dim))


def test_table_has_every_potential():
    assert FORMULAS.keys() == POTENTIALS.keys()
    assert PARAMETERS.keys() == {n for n, e in POTENTIALS.items() if len(e.parameters) > 1}
    assert sum(e.function.__module__.endswith(".benchmark") for e in POTENTIALS.values()) == 15


@pytest.mark.parametrize(("name", "dim"), CASES)
def test_value_is_the_formula(name, dim):
    x = points(dim)
    expected = [FORMULAS[name](v) for v in x]
    np.testing.assert_allclose(FreeEnergy(name).potential(x, T), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("name", "dim"), CASES)
def test_gradient_is_that_of_the_value(name, dim):
    V = FreeEnergy(name, potential_params={"scale": 1.5}).V
    x = torch.from_numpy(points(dim))
    np.testing.assert_allclose(
        V.gradient(x, T), ScalarField.gradient(V, x, T), rtol=1e-11, atol=1e-11, err_msg=name
    )


@pytest.mark.parametrize("name", PARAMETERS)
def test_gradient_with_other_parameters(name):
    V = FreeEnergy(name, potential_params=PARAMETERS[name]).V
    x = torch.from_numpy(points(2))
    np.testing.assert_allclose(
        V.gradient(x, T), ScalarField.gradient(V, x, T), rtol=1e-11, atol=1e-11
    )


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [(name, key, value) for name, given in PARAMETERS.items() for key, value in given.items()]
    + [("relu", "scale", 2.0)],
)
def test_every_parameter_changes_the_value(name, key, value):
    # Lists of widths and weights need the means that they belong to.
    base = {"means": PARAMETERS[name]["means"]} if key in ("width", "weights") else {}
    usual = FreeEnergy(name, potential_params=base)
    changed = FreeEnergy(name, potential_params={**base, key: value})
    x = points(2 if isinstance(value, list) else 3)
    assert not np.allclose(usual.potential(x, T), changed.potential(x, T))


def test_quadratic_with_matrix_and_center():
    energy = FreeEnergy("quadratic", potential_params=PARAMETERS["quadratic"])
    A, c = np.array([[2.0, 0.5], [0.5, 1.0]]), np.array([1.0, -1.0])
    x = points(2)
    expected = [0.5 * 2.0 * (v - c) @ A @ (v - c) for v in x]
    np.testing.assert_allclose(energy.potential(x), expected, rtol=1e-12)


def test_gaussian_mixture_with_all_parameters():
    energy = FreeEnergy("gaussian_mixture", potential_params=PARAMETERS["gaussian_mixture"])
    means, width, weights = (np.array(v) for v in PARAMETERS["gaussian_mixture"].values())
    for v in points(2):
        parts = np.exp(-np.sum((v - means) ** 2, 1) / (2 * width**2)) / (2 * np.pi * width**2)
        expected = -np.log(np.sum(weights / weights.sum() * parts))
        assert energy.potential(v[None])[0] == pytest.approx(expected, rel=1e-12)


def test_literature_minima():
    # Styblinski–Tang: −39.16617 for each component, at −2.903534.
    x = np.full((1, 3), -2.903534)
    assert FreeEnergy("styblinski_tang").potential(x)[0] == pytest.approx(3 * -39.16617, abs=1e-4)
    # Müller–Brown in its own coordinates: minima of −146.70, −108.17 and −80.77.
    own = {"height": 1.0, "length": 1.0, "origin": [0.0, 0.0]}
    classic = FreeEnergy("muller_brown", potential_params=own)
    minima = np.array([[-0.558, 1.442], [0.623, 0.028], [-0.050, 0.467]])
    np.testing.assert_allclose(classic.potential(minima), [-146.70, -108.17, -80.77], atol=0.01)
    # The points are rounded to 5e-4 and the curvature is below 3000, so the slope below 2.
    assert np.abs(classic.potential_gradient(minima)).max() < 2.0


def test_muller_brown_is_moderate_in_the_default_box():
    x = points(2, 4096).astype(np.float32)
    energy = FreeEnergy("muller_brown")
    V = energy.potential(x)
    assert -8.0 < V.min() < -7.0
    assert np.isfinite(energy.potential_gradient(x)).all()


def test_halves_of_an_odd_dimension():
    # d = 3: z₁ is the first component, z₂ the mean of the other two.
    x = np.array([[0.3, 1.0, 2.0]])
    in_two = FreeEnergy("ishigami").potential(np.array([[0.3, 1.5]]))
    np.testing.assert_allclose(FreeEnergy("ishigami").potential(x), in_two, rtol=1e-14)


@pytest.mark.parametrize("name", POTENTIALS)
def test_gradient_leaves_positions_alone_and_keeps_their_type(name):
    x = torch.from_numpy(points(4).astype(np.float32)).reshape(2, 16, 4)
    before = x.clone()
    V = FreeEnergy(name).V
    gradient = V.gradient(x, T)
    assert torch.equal(x, before)
    assert gradient.shape == x.shape
    assert gradient.dtype == torch.float32
    assert gradient.data_ptr() != x.data_ptr()
    exact = V.gradient(x.double(), T)
    np.testing.assert_allclose(gradient, exact, rtol=2e-3, atol=1e-4 * exact.abs().max())
    with_graph = V.gradient(x.clone().requires_grad_(True), T)
    assert not with_graph.requires_grad
    assert torch.equal(with_graph, gradient)


@pytest.mark.parametrize("name", POTENTIALS)
def test_gradient_at_zero_is_finite(name):
    assert torch.isfinite(FreeEnergy(name).V.gradient(torch.zeros(1, 2), T)).all()


@pytest.mark.parametrize("name", [n for n, e in POTENTIALS.items() if e.time_dependent])
def test_time_may_be_a_tensor(name):
    energy = FreeEnergy(name)
    assert energy.time_dependent
    x, t = points(3, 5), np.linspace(0, 1, 5)
    each = np.stack([energy.potential_gradient(x[i : i + 1], t[i])[0] for i in range(5)])
    np.testing.assert_allclose(energy.potential_gradient(x, t), each, rtol=1e-12)
    values = [energy.potential(x[i : i + 1], t[i])[0] for i in range(5)]
    np.testing.assert_allclose(energy.potential(x, t), values, rtol=1e-12)
    assert len({round(float(v), 9) for v in energy.potential(np.ones((5, 2)), t)}) > 1
    for ask in (energy.potential, energy.potential_gradient, energy.force):
        with pytest.raises(PopdynError, match=r"expected t$"):  # no time is guessed
            ask(x)


def test_splitting_well_splits():
    energy = FreeEnergy("splitting_well")
    late = np.array([[-2.0, 0.0], [2.0, 0.0]])
    np.testing.assert_allclose(energy.potential_gradient(late, 50.0), 0.0, atol=1e-12)
    middle = np.array([[0.0, 0.0], [0.1, 0.0]])
    early, split = (np.diff(energy.potential(middle, t))[0] for t in (0.0, 1.0))
    assert early > 0 > split


@pytest.mark.parametrize("name", POTENTIALS)
def test_entry_tells_what_a_list_needs(name):
    entry = POTENTIALS[name]
    assert entry.name == name
    assert entry.formula
    assert entry.summary
    assert entry.parameters["scale"] == 1.0
    # A gradient takes the same parameters in the same order.
    if entry.gradient not in (None, torch.zeros_like):
        of_value, of_gradient = (
            list(inspect.signature(f).parameters) for f in (entry.function, entry.gradient)
        )
        assert of_value == of_gradient
    assert set(entry.positive) <= entry.parameters.keys()


@pytest.mark.parametrize(
    ("name", "params", "dim", "found"),
    [
        ("ishigami", {}, 1, "'ishigami' needs dimension 2 or more, found 1"),
        ("quadratic", {"matrix": [[1.0]]}, 2, "shape (1, 1): expected a symmetric matrix"),
        ("quadratic", {"matrix": [[1.0, 2.0], [0.0, 1.0]]}, 2, "expected a symmetric matrix"),
        ("quadratic", {"center": [1.0, 2.0, 3.0]}, 2, "'center' has shape (3,): expected 2"),
        ("muller_brown", {"origin": [1.0, 2.0, 3.0]}, 2, "'origin' has shape (3,): expected 2"),
        ("gaussian_mixture", {"means": [[1.0, 2.0, 3.0]]}, 2, "'means' has shape (3,)"),
        ("gaussian_mixture", {"width": [1.0, 2.0, 3.0]}, 2, "expected 2 numbers each"),
    ],
)
def test_parameters_that_do_not_fit_the_dimension(name, params, dim, found):
    energy = FreeEnergy(name, potential_params=params)
    for method in (energy.potential, energy.potential_gradient):
        with pytest.raises(PopdynError) as error:
            method(np.zeros((4, dim)))
        assert found in str(error.value)
        assert "\n" not in str(error.value)
