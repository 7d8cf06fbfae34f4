"""A diffusivity that depends on the state, in Itô's sense: schemes, PDE, store, refusals."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

import popdyn
from popdyn.dynamics import Dynamics, FreeEnergy
from popdyn.simulation import advance, fokker_planck, simulate
from popdyn.snapshots import open_snapshots, positions

ALPHA = 1e-5
SIGMA, SPAN = 0.6, 0.8
TIMES = [0.0, 0.4, 1.0]


def geometric():
    """dX = σX dB: X_t = x₀ exp(σB_t − σ²t/2), a martingale in Itô's sense alone."""
    return Dynamics(diffusivity=lambda x: 0.5 * SIGMA**2 * x[:, 0] ** 2)


@pytest.mark.parametrize(
    ("scheme", "steps"), [("euler_maruyama", 400), ("milstein", 100), ("srk", 40)]
)
def test_geometric_brownian_motion(scheme, steps):
    """The bias of Euler's scheme at 400 steps is below what 20 000 particles tell, see below."""
    n = 20_000
    stream = torch.Generator().manual_seed(3)
    x = advance(
        geometric(), torch.ones(n, 1), 0.0, SPAN, substeps=steps, scheme=scheme, generator=stream
    )
    law = stats.lognorm(SIGMA * math.sqrt(SPAN), scale=math.exp(-(SIGMA**2) * SPAN / 2))
    assert stats.kstest(x[:, 0].numpy(), law.cdf).pvalue > ALPHA
    assert float(x.mean()) == pytest.approx(1.0, abs=5 * law.std() / math.sqrt(n))
    # Stratonovich's sense would give a mean of exp(σ²t/2): 15 %, 30 standard errors, off.
    assert math.exp(SIGMA**2 * SPAN / 2) - 1 > 20 * law.std() / math.sqrt(n)


def test_higher_schemes_follow_single_paths_better():
    """Strong errors on the paths of a fine Milstein run cannot be had through torchsde's own
    Brownian motion; the second moment, with few steps, tells the weak error instead."""
    n, errors = 400_000, {}
    exact = math.exp(SIGMA**2 * SPAN)
    for scheme in ("euler_maruyama", "srk"):
        stream = torch.Generator().manual_seed(5)
        x = advance(
            geometric(),
            torch.ones(n, 1, dtype=torch.float64),
            0.0,
            SPAN,
            substeps=2,
            scheme=scheme,
            generator=stream,
        )
        errors[scheme] = abs(float(x.square().mean()) - exact)
    # Euler's second moment is (1 + σ²h)^n for e^{σ²nh}: off by 0.026 here; 5 standard errors of
    # the mean of X² are 0.011.
    assert errors["euler_maruyama"] > 0.015
    assert errors["srk"] < 0.015


@pytest.mark.parametrize(
    ("name", "params"),
    [("rising", {"low": 0.05, "high": 0.8, "width": 0.5}), ("hollow", {"low": 0.1, "high": 0.8})],
)
@pytest.mark.parametrize("scheme", ["euler_maruyama", "milstein"])
def test_particles_against_the_pde(name, params, scheme):
    flow = Dynamics("quadratic", diffusivity=name, diffusivity_params=params)
    n, box, bins = 40_000, (-6.0, 6.0), 30

    def start(x):
        return np.exp(-0.5 * ((x[:, 0] - 0.8) / 0.5) ** 2) / (0.5 * math.sqrt(2 * math.pi))

    def masses(cells):
        found = fokker_planck(flow, start, TIMES, bounds=[box], cells=cells).density.values
        return found.reshape(len(TIMES), bins, -1).sum(-1) * (box[1] - box[0]) / cells

    fine, coarse = masses(960), masses(480)
    data = simulate(
        flow,
        particles=n,
        times=TIMES,
        step=0.0025,
        scheme=scheme,
        dim=1,
        initial="gaussian",
        initial_params={"mean": [0.8], "std": 0.5},
        test_particles=0,
        seed=7,
    )
    for k in (1, 2):
        p = fine[k]
        found = np.histogram(positions(data, k)[:, 0], bins, box)[0] / n
        keep = p * n >= 100
        assert keep.sum() >= 8
        se = np.sqrt(p * (1 - p) / n)
        # Of the grid the difference to half as many cells, three times its error; of the step, of
        # weak order 1, 0.2 % of a cell's mass.
        allowed = np.abs(fine - coarse)[k] + 2e-3 * p
        assert (np.maximum(np.abs(found - p) - allowed, 0) / se)[keep].max() < 5


def test_it_is_ito_in_two_dimensions():
    """∂ₜE|X|² = 2dE β(X) and no drift at rest: the mean stays though β rises across it."""
    flow = Dynamics(diffusivity="rising", diffusivity_params={"low": 0.1, "high": 1.0})
    n, t = 40_000, 0.1
    stream = torch.Generator().manual_seed(1)
    start = 0.3 * torch.randn(n, 2, generator=stream)
    x = advance(flow, start, 0.0, t, substeps=50, generator=stream)
    moved = (x - start).double()
    assert (moved.mean(0).abs() < 5 * moved.std(0) / math.sqrt(n)).all()
    gained = x.double().square().sum(1) - start.double().square().sum(1)
    beta = (flow.noise(start) + flow.noise(x)).mean() / 2
    assert float(gained.mean()) == pytest.approx(
        float(4 * beta * t), abs=5 * float(gained.std()) / math.sqrt(n)
    )


def test_the_pde_rests_at_the_law_of_pure_diffusion():
    """Without a drift βρ is constant at rest, exactly so at the cell centres."""
    flow = Dynamics(diffusivity="hollow", diffusivity_params={"low": 0.2, "high": 1.0})
    x = np.linspace(-3, 3, 81)[:-1] + 3 / 80
    rest = 1 / flow.noise(x[:, None])
    rest /= rest.sum() * 6 / 80
    found = fokker_planck(flow, rest, [0, 1.0], bounds=[(-3, 3)], cells=80, boundary_mass=1)
    np.testing.assert_allclose(found.density.values[1], rest, rtol=1e-10)


def test_constant_is_constant():
    """A β(x) that is one number is that number's law, and the PDE its solution."""
    flat = Dynamics("quadratic", diffusivity=lambda x: 0.3 + 0 * x[:, 0])
    plain = FreeEnergy("quadratic", diffusivity=0.3)
    options = {"particles": 200, "times": TIMES, "scheme": "euler_maruyama", "seed": 2}
    a, b = (simulate(flow, **options)["train"]["x"].values for flow in (flat, plain))
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    start = np.full(60, 1 / 6.0)
    solutions = [
        fokker_planck(flow, start, [0, 0.5], bounds=[(-3, 3)], cells=60, boundary_mass=1)
        for flow in (flat, plain)
    ]
    np.testing.assert_allclose(*(s.density.values for s in solutions), rtol=1e-9)


def test_it_is_stored_rebuilt_and_scored(run_popdyn, tmp_path):
    flags = ["--diffusivity", "rising", "--diffusivity-param", "high=0.9", "--snapshots", "3"]
    sizes = ["--particles", "300", "--dt", "0.1", "--scheme", "euler_maruyama"]
    done = run_popdyn("simulate", "--potential", "quadratic", *flags, *sizes, "--out", "x.zarr")
    assert done.code == 0, done.err
    stored = open_snapshots(tmp_path / "x.zarr")
    flow = Dynamics.from_spec(stored.attrs["dynamics"])
    assert flow.terms["diffusion"].label() == "rising(high=0.9)"
    assert run_popdyn("train", "x.zarr", "--learner", "oracle", "--out", "run").code == 0
    done = run_popdyn("score", "run", "--points", "50", "--json")
    assert done.code == 0, done.err
    assert done.json["diffusivity"]["true"] is None
    shown = run_popdyn("score", "run", "--points", "50")
    assert shown.code == 0
    assert "β(x) (β(x))" in shown.out + shown.err


WRONG = [
    ({}, {"scheme": "heun"}, "scheme 'heun' and a diffusivity that depends on the state: it is"),
    ({}, {"scheme": "jko"}, "diffusivity β\\(x\\)"),
    ({}, {"scheme": "srk"}, "in 2 dimensions its noise does not commute; expected one of euler"),
    ({"growth": "bump"}, {"scheme": "srk", "dim": 1}, "beside a growth: its solver"),
    (
        {"diffusivity": lambda x: -1 + 0 * x[:, 0]},
        {"scheme": "euler_maruyama"},
        "is -1 somewhere: expected numbers ≥ 0",
    ),
    (
        {"diffusivity": lambda x: x},
        {"scheme": "euler_maruyama"},
        "expected a tensor of shape",
    ),
    (
        {"diffusivity": lambda x: math.nan * x[:, 0]},
        {"scheme": "euler_maruyama"},
        "is -inf somewhere: expected numbers ≥ 0",
    ),
]


@pytest.mark.parametrize(("parts", "options", "line"), WRONG)
def test_what_is_wrong_is_said_in_one_line(parts, options, line):
    flow = Dynamics("quadratic", **({"diffusivity": "rising"} | parts))
    with pytest.raises(popdyn.PopdynError, match=line) as error:
        simulate(flow, particles=5, **options)
    assert "\n" not in str(error.value)
