"""The weak form's unknowns, and populations that run under a state of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from popdyn.learners.features import FeatureMap
from popdyn.learners.weak_form.fields import Fields
from popdyn.learners.weak_form.sums import WeightedSum
from popdyn.learners.weak_form.terms import RadialFeatures, time_basis

__all__ = ["Drive", "Path", "Unknowns"]


@dataclass(frozen=True)
class Unknowns:
    """What is linear in the unknowns θ = (V for each degree in time, W, β).

    θ are coefficients of combinations with unit prior variance; ``mixing`` takes them to weights
    of the functions themselves.

    Attributes:
        features: Functions of x for V, or None.
        mixing: ``(m, p)`` combinations of them.
        times: Number T of polynomials in time; 1 for a static V.
        span: First and last time of the data.
        radial: Functions of |z| for W, or None.
        radial_mixing: Combinations of them.
        gauge: c in W ≈ ½c|z|² over the pairs of the data for each radial function, ``(m)``.
        fields: Mean fields of the radial functions.
        diffusivity: β where it is known, None where it is learned.
        log_density: Coefficients ψ of log ρ̄, the density of all snapshots together, in the first
            unknowns of V: where β is learned V = Σ θ_j φ_j − β log ρ̄. At θ_V = 0 a population
            that is at rest stays so whatever β is: what is shrunk is the motion, not V.
        groups: For each unknown the name of the group that it shares its strength with.
        least: What groups must earn, in log evidence, to take part; the others always do.
    """

    features: FeatureMap | None
    mixing: np.ndarray
    times: int
    span: tuple[float, float]
    radial: RadialFeatures | None
    radial_mixing: np.ndarray
    gauge: np.ndarray
    fields: Fields | None
    diffusivity: float | None
    log_density: np.ndarray
    groups: tuple[str, ...]
    least: Mapping[str, float] = field(default_factory=dict)

    @property
    def potential(self) -> slice:
        """Where the unknowns of V are."""
        return slice(0, self.times * self.mixing.shape[1])

    @property
    def interaction(self) -> slice:
        """Where the unknowns of W are."""
        return slice(self.potential.stop, self.potential.stop + self.radial_mixing.shape[1])

    @property
    def size(self) -> int:
        """The number of unknowns."""
        return self.interaction.stop + (self.diffusivity is None)

    @property
    def beyond_potential(self) -> bool:
        """Whether W or β is learned: what V lacks they make up for, and steps go astray."""
        return self.radial is not None or self.diffusivity is None

    @property
    def plain(self) -> bool:
        """Whether V alone is learned, and stands still."""
        return self.times == 1 and not self.beyond_potential

    def potential_weights(self, theta: np.ndarray) -> np.ndarray:
        """Return the weights of the functions of V, ``(p, ...) → (m, T, ...)``."""
        own = theta[self.potential].reshape(self.times, -1, *theta.shape[1:])
        if len(self.log_density):
            own = own.copy()
            own[0, : len(self.log_density)] -= np.multiply.outer(self.log_density, theta[-1])
        return np.tensordot(self.mixing, own, (1, 1))

    def interaction_weights(self, theta: np.ndarray) -> np.ndarray:
        """Return the weights of the radial functions, ``(p, ...) → (m, ...)``."""
        return self.radial_mixing @ theta[self.interaction]

    def gauge_functional(self, strengths: Mapping[str, float]) -> np.ndarray | None:
        """Return what of θ says how much of the gauge W has, ``(p,)``.

        Args:
            strengths: The prior's; None is returned where V or W is switched off.
        """
        on = np.array([strengths.get(name, 0.0) > 0.0 for name in self.groups])
        if self.features is None or not (on[self.potential].any() and on[self.interaction].any()):
            return None
        gauge = np.zeros(self.size)
        gauge[self.interaction] = self.gauge @ self.radial_mixing
        return gauge * on

    def beta(self, theta: np.ndarray) -> float:
        """Return β, which is not below 0 however θ is."""
        return float(max(theta[-1], 0.0)) if self.diffusivity is None else self.diffusivity


@dataclass(frozen=True)
class Path:
    """A population that ran for an interval.

    Attributes:
        end: Where it arrived, ``(n, d)``.
        middles: Where it was in the middle of each step.
        times: The times of those.
        step: Length of a step.
    """

    end: Tensor
    middles: list[Tensor]
    times: list[float]
    step: float


class Drive:
    """The dynamics under a state θ of the unknowns."""

    # A step of Runge–Kutta's scheme is exact to some 1e-3 up to this product of rate and step.
    RATE = 0.8
    MOST = 6
    IN_TIME = 10  # steps over all times, at least, where V moves
    # Noise that is constant over a step is of weak order 2 only.
    NOISY_RATE = 0.2

    def __init__(self, unknowns: Unknowns, theta: np.ndarray) -> None:
        self.unknowns = unknowns
        self.weights = torch.from_numpy(unknowns.potential_weights(theta)).float()
        self.kernel = torch.from_numpy(unknowns.interaction_weights(theta))[:, None]
        self.beta = unknowns.beta(theta)
        self.driven = unknowns.features is not None and bool(self.weights.count_nonzero())
        self.pulled = unknowns.fields is not None and bool(self.kernel.count_nonzero())
        self._still: WeightedSum | None = None
        if self.driven and unknowns.times == 1:
            self._still = self.potential_at(unknowns.span[0])

    def potential_at(self, t: float) -> WeightedSum:
        """Return the sum of V's functions at a time."""
        if self._still is not None:
            return self._still
        unknowns, now = self.unknowns, torch.tensor(t, dtype=torch.float32)
        assert unknowns.features is not None
        weights = self.weights @ time_basis(now, unknowns.span, unknowns.times)[:, None]
        return WeightedSum(unknowns.features, weights, unknowns.times == 1)

    def gradient(self, x: Tensor, t: float) -> Tensor:
        """Return ∇V(x, t) + mean over the others of ∇W, ``(n, d)``."""
        out = torch.zeros_like(x)
        features = self.unknowns.features
        if self.driven and features is not None:
            scaling = features.scaling
            out += self.potential_at(t).gradient(x)
            out += scaling.tail_gradient(scaling.standardise(x)) / scaling.scale
        if self.pulled and self.unknowns.fields is not None:
            field = self.unknowns.fields.gradients(x, x, self.kernel)[..., 0].T
            out += field * (len(x) / (len(x) - 1))
        return out

    def bend(self, x: Tensor, t: float) -> Tensor:
        """Return ∇²V(x, t), ``(n, d, d)``; W's part is left out, it matters little."""
        if self.driven:
            return self.potential_at(t).hessian(x)
        return x.new_zeros(len(x), x.shape[1], x.shape[1])

    def steps(self, x: Tensor, t: float, tau: float) -> tuple[int, int]:
        """Return how many steps an interval needs, and how many parts each for the noise's sake.

        The stiffest of all but a few particles decides, and where V moves how long the interval is:
        a push early in a step counts for no other than a late one in the derivatives, and V would
        swing where the data is far apart.
        """
        rates = self.bend(x[:2000], t).flatten(1).norm(dim=1)
        stiff = tau * float(rates.quantile(0.98)) if self.driven else 0.0
        first, last = self.unknowns.span
        moving = self.IN_TIME * tau / (last - first) if self.unknowns.times > 1 else 0.0
        steps = min(self.MOST, max(1, math.ceil(max(stiff / self.RATE, moving - 1e-6))))
        return steps, 2 if self.beta > 0 and stiff / steps > self.NOISY_RATE else 1

    def run(
        self, x: Tensor, t: float, tau: float, seed: Sequence[int], cut: tuple[int, int]
    ) -> Path:
        """Run a population for an interval by Runge–Kutta's scheme of order 4.

        Noise enters as a constant force over each step, which is of weak order 2. Its draws follow
        from the seed and the cut, the number of steps and of parts of each, alone: two states see
        the same noise.
        """
        if not (self.driven or self.pulled or self.beta > 0):
            return Path(x, [x], [t + 0.5 * tau], tau)
        steps, parts = cut
        h = tau / (steps * parts)
        rng = np.random.default_rng(seed)
        middles, times = [], []
        for i in range(steps * parts):
            now, push = t + i * h, 0.0 * x
            if self.beta > 0:
                push = torch.from_numpy(rng.standard_normal(x.shape, dtype=np.float32))
                push *= math.sqrt(2.0 * self.beta / h)
            one = push - self.gradient(x, now)
            two = push - self.gradient(x + 0.5 * h * one, now + 0.5 * h)
            three = push - self.gradient(x + 0.5 * h * two, now + 0.5 * h)
            four = push - self.gradient(x + h * three, now + h)
            after = x + (h / 6.0) * (one + 2.0 * two + 2.0 * three + four)
            if parts == 1:
                middles.append(0.5 * (x + after) + (h / 8.0) * (one - four))
                times.append(now + 0.5 * h)
            elif i % 2 == 0:
                middles.append(after)
                times.append(now + h)
            x = after
        return Path(x, middles, times, h * parts)
