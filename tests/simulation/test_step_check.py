"""The stated discretisation error."""

import math

import numpy as np
import pytest

from popdyn.dynamics import FreeEnergy
from popdyn.simulation import SCHEMES, simulate

OU = FreeEnergy("quadratic", diffusivity=0.5)


def check(scheme, step=0.1):
    data = simulate(
        OU,
        particles=20_000,
        test_particles=0,
        times=[0, 0.5, 1],
        step=step,
        scheme=scheme,
        initial="gaussian",
        initial_params={"mean": 2.0, "std": 0.5},
        check_step=True,
    )
    return data.attrs["step_check"]


@pytest.mark.parametrize("scheme", [s for s in SCHEMES if SCHEMES[s].consistent])
def test_the_stated_bias_is_the_true_one(scheme):
    report, h = check(scheme), 0.1
    # The step multiplies the mean by r and adds variance v, both known for a linear drift.
    r = 1 - h if scheme in ("euler_maruyama", "milstein") else 1 - h + h**2 / 2
    v = {"heun": 2 * 0.5 * h * (1 - h / 2) ** 2, "srk": None}.get(scheme, 2 * 0.5 * h)
    for k, t in enumerate([0, 0.5, 1.0]):
        n = round(t / h)
        bias = 2.0 * r**n - 2.0 * math.exp(-t)
        found = np.array(report["mean"]["bias"][k])
        error = np.array(report["mean"]["standard_error"][k])
        # 5 standard errors, and the next order of the extrapolation
        assert (np.abs(found - bias) <= 5 * error + h * abs(bias) + 1e-9).all()
        if v is not None:
            variance = 0.25 * r ** (2 * n) + v * (1 - r ** (2 * n)) / (1 - r**2)
            bias = variance - (0.25 * math.exp(-2 * t) + 0.5 * (1 - math.exp(-2 * t)))
            found = np.array(report["variance"]["bias"][k])
            error = np.array(report["variance"]["standard_error"][k])
            assert (np.abs(found - bias) <= 5 * error + h * abs(bias) + 1e-9).all()


def test_half_the_step_shows_a_bias_smaller_by_the_weak_order():
    for scheme in ("euler_maruyama", "heun"):
        coarse, fine = (np.mean(check(scheme, h)["mean"]["bias"][2]) for h in (0.1, 0.05))
        assert math.log2(coarse / fine) == pytest.approx(SCHEMES[scheme].weak_order, abs=0.3)


def test_the_arrays_are_those_without_the_check():
    a, b = (simulate(OU, particles=50, check_step=c)["train"]["x"].values for c in (True, False))
    assert np.array_equal(a, b)
    assert "step_check" not in simulate(OU, particles=50).attrs
