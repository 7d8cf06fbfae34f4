"""The discretisation error, estimated by a rerun with half the step on the same Brownian path."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from popdyn.dynamics import Dynamics
from popdyn.dynamics.drive import Drive
from popdyn.simulation.brownian import Brownian, join
from popdyn.simulation.config import SimulationConfig
from popdyn.simulation.schemes import SCHEMES
from popdyn.simulation.streams import generator

__all__ = ["step_bias"]

PARTICLES = 1 << 16


@torch.no_grad()
def step_bias(dynamics: Dynamics, config: SimulationConfig) -> dict[str, Any]:
    """Return the estimated bias of each snapshot's mean and variance.

    Particles of the same initial law run twice on the same Brownian path, with the step h and
    with h/2. As the difference is the fall of the bias from h to h/2, and the bias is c·h^p with
    the scheme's weak order p, the bias at h is 2^p/(2^p − 1) times the difference.

    Args:
        dynamics: What acts.
        config: The simulation; one population of it is run, of 65 536 particles at most where
            they do not interact.

    Returns:
        JSON: ``step``, ``weak_order``, ``particles``, and for the ``mean`` and the ``variance``
        of each component at each time the ``bias`` (time, component) with its
        ``standard_error``.
    """
    scheme = SCHEMES[config.scheme]
    n = min(config.train[0], config.block)
    n = n if dynamics.interacting else min(n, PARTICLES)
    starts = generator(config.seed, "initial", "check")
    noise, partners = (
        generator(config.seed, purpose, "check", device=config.device)
        for purpose in ("noise", "partners")
    )
    drive = Drive(dynamics, partners=config.interaction_batch, generator=partners)
    # Two, as each overwrites its last noise and both halves of a step are needed at once.
    brownians = [
        Brownian(dynamics.beta, integral=scheme.integral, generator=noise) for _ in range(2)
    ]
    coarse = config.initial.sample(n, config.dim, starts).to(config.device)
    fine = coarse.clone()
    assert scheme.weak_order is not None  # check_step is refused for schemes without one
    factor = 2.0**scheme.weak_order / (2.0**scheme.weak_order - 1.0)
    rows = [_moments(coarse, fine, factor)]
    for start, h, steps in config.intervals:
        for j in range(steps):
            t = start + j * h
            halves = [brownian.draw(fine, h / 2) for brownian in brownians]
            drive.begin_step(coarse)
            scheme.step(coarse, t, h, drive, join(halves[0], halves[1], h / 2))
            for i, half in enumerate(halves):
                drive.begin_step(fine)
                scheme.step(fine, t + i * h / 2, h / 2, drive, half)
        rows.append(_moments(coarse, fine, factor))
    names = ("mean", "variance")
    return {
        "step": config.steps,
        "weak_order": scheme.weak_order,
        "particles": n,
        **{
            name: {
                "bias": [row[i][0] for row in rows],
                "standard_error": [row[i][1] for row in rows],
            }
            for i, name in enumerate(names)
        },
    }


def _moments(coarse: Tensor, fine: Tensor, factor: float) -> list[tuple[list[float], list[float]]]:
    """Return bias and standard error of the mean and of the variance, for each component."""
    a, b = coarse.double(), fine.double()
    shift = a - b
    spread = (a - a.mean(0)).square() - (b - b.mean(0)).square()
    return [
        (
            (factor * each.mean(0)).tolist(),
            (factor * each.std(0, correction=0) / math.sqrt(len(a))).tolist(),
        )
        for each in (shift, spread)
    ]
