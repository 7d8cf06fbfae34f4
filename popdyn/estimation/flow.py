"""The weak form's unknowns, and populations that run under a state of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from popdyn.estimation.groups import Group
from popdyn.families.features import FeatureMap
from popdyn.families.linear import RadialFeatures, time_basis
from popdyn.families.mean_fields import Fields
from popdyn.families.rates import Rates, Streams
from popdyn.families.sums import WeightedSum

__all__ = ["Drive", "Path", "Unknowns"]


@dataclass(frozen=True)
class Unknowns:
    """What is linear in the unknowns θ = (V for each degree in time, g, ψ, W, β).

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
        groups: For each unknown the group that it shares its strength with.
        least: What groups must earn, in log evidence, to take part; the others always do.
        rates: Functions of x for the growth g, or None.
        streams: Stream functions ψ of a circulation, or None.
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
    groups: tuple[Group, ...]
    least: Mapping[Group, float] = field(default_factory=dict)
    rates: Rates | None = None
    streams: Streams | None = None

    @property
    def potential(self) -> slice:
        """Where the unknowns of V are."""
        return slice(0, self.times * self.mixing.shape[1])

    @property
    def growth(self) -> slice:
        """Where the unknowns of g are."""
        start = self.potential.stop
        return slice(start, start + (0 if self.rates is None else self.rates.size))

    @property
    def circulation(self) -> slice:
        """Where the unknowns of ψ are."""
        start = self.growth.stop
        return slice(start, start + (0 if self.streams is None else self.streams.size))

    @property
    def interaction(self) -> slice:
        """Where the unknowns of W are."""
        start = self.circulation.stop
        return slice(start, start + self.radial_mixing.shape[1])

    @property
    def size(self) -> int:
        """The number of unknowns."""
        return self.interaction.stop + (self.diffusivity is None)

    @property
    def beyond_potential(self) -> bool:
        """Whether more than V is learned: what V lacks it makes up for, and steps go astray."""
        more = (self.radial, self.rates, self.streams)
        return self.diffusivity is None or any(part is not None for part in more)

    @property
    def noise_alone(self) -> bool:
        """Whether β, and nothing else, is learned beside V."""
        return self.diffusivity is None and self.radial is None and not self.alike

    @property
    def shrinks_force(self) -> bool:
        """Whether V itself is shrunk where β is learned beside it, and not the motion."""
        both = self.diffusivity is None and self.features is not None
        return both and not len(self.log_density)

    @property
    def alike(self) -> bool:
        """Whether a growth or a circulation is learned, which look like V but to rough functions.

        What is noise in the derivatives has to be known then, and rough functions to stay.
        """
        return self.rates is not None or self.streams is not None

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

    def growth_weights(self, theta: np.ndarray) -> np.ndarray:
        """Return the weights of 1 and of the functions of g, ``(p, ...) → (1 + m, ...)``."""
        assert self.rates is not None
        return self.rates.mixing @ theta[self.growth]

    def stream_weights(self, theta: np.ndarray) -> np.ndarray:
        """Return the weights of each plane's stream function, ``(p, ...) → (P, m, ...)``."""
        assert self.streams is not None
        return np.tensordot(self.streams.mixing, theta[self.circulation], (2, 0))

    def gauge_functional(self, strengths: Mapping[Group, float]) -> np.ndarray | None:
        """Return what of θ says how much of the gauge W has, ``(p,)``.

        Args:
            strengths: The prior's; None is returned where V or W is switched off.
        """
        on = np.array([strengths.get(g, 0.0) > 0.0 for g in self.groups])
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
        log_weight: ℓ = ∫g dt along the path of each, ``(n)``; None where nothing grows.
    """

    end: Tensor
    middles: list[Tensor]
    times: list[float]
    step: float
    log_weight: Tensor | None = None

    def shares(self) -> tuple[Tensor, float]:
        """Return e^ℓ over its mean, ``(n)``, and the logarithm of that mean."""
        if self.log_weight is None:
            return self.end.new_ones(len(self.end)), 0.0
        log_weight = self.log_weight.double()
        total = float(log_weight.logsumexp(0)) - math.log(len(log_weight))
        return (log_weight - total).exp().to(self.end), total


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
        self.rate: Tensor | None = None
        if unknowns.rates is not None and (rate := unknowns.growth_weights(theta)).any():
            self.rate = torch.from_numpy(rate).float()
        self.stream: Tensor | None = None
        if unknowns.streams is not None and (stream := unknowns.stream_weights(theta)).any():
            self.stream = torch.from_numpy(stream).float()
        self._still: WeightedSum | None = None
        if self.driven and unknowns.times == 1:
            self._still = self.potential_at(unknowns.span[0])

    @property
    def moves(self) -> bool:
        """Whether a particle goes anywhere."""
        return self.driven or self.pulled or self.stream is not None or self.beta > 0

    @property
    def still(self) -> bool:
        """Whether neither moves nor grows anything."""
        return not self.moves and self.rate is None

    def potential_at(self, t: float) -> WeightedSum:
        """Return the sum of V's functions at a time."""
        if self._still is not None:
            return self._still
        unknowns, now = self.unknowns, torch.tensor(t, dtype=torch.float32)
        assert unknowns.features is not None
        weights = self.weights @ time_basis(now, unknowns.span, unknowns.times)[:, None]
        return WeightedSum(unknowns.features, weights, unknowns.times == 1)

    def gradient(self, x: Tensor, t: float) -> Tensor:
        """Return minus the drift: ∇V(x, t) + mean over the others of ∇W − A∇ψ, ``(n, d)``."""
        if not x.isfinite().all():  # a trial step led there: no table has such a place
            return torch.full_like(x, torch.nan)
        out = torch.zeros_like(x)
        features = self.unknowns.features
        if self.driven and features is not None:
            scaling = features.scaling
            out += self.potential_at(t).gradient(x)
            out += scaling.tail_gradient(scaling.standardise(x)) / scaling.scale
        if self.pulled and self.unknowns.fields is not None:
            field = self.unknowns.fields.gradients(x, x, self.kernel)[..., 0].T
            out += field * (len(x) / (len(x) - 1))
        if self.stream is not None and self.unknowns.streams is not None:
            out += self.unknowns.streams.slope(x, self.stream)
        return out

    def bend(self, x: Tensor, t: float) -> Tensor:
        """Return the derivatives of minus the drift, ``(n, d, d)``; W's matter little: left out."""
        if self.driven:
            out = self.potential_at(t).hessian(x)
        else:
            out = x.new_zeros(len(x), x.shape[1], x.shape[1])
        if self.stream is not None and self.unknowns.streams is not None:
            out = out + self.unknowns.streams.bend(x, self.stream)
        return out

    def growth(self, x: Tensor) -> Tensor | None:
        """Return g, ``(n)``; None where nothing grows."""
        if self.rate is None or self.unknowns.rates is None:
            return None
        return self.unknowns.rates.value(x, self.rate)

    def steps(self, x: Tensor, t: float, tau: float) -> tuple[int, int]:
        """Return how many steps an interval needs, and how many parts each for the noise's sake.

        The stiffest of all but a few particles decides, and where V moves how long the interval is:
        a push early in a step counts for no other than a late one in the derivatives, and V would
        swing where the data is far apart.
        """
        rates = self.bend(x[:2000], t).flatten(1).norm(dim=1)
        bent = self.driven or self.stream is not None
        stiff = tau * float(rates.quantile(0.98)) if bent else 0.0
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
        rate = self.growth(x)
        if not self.moves:
            grown = None if rate is None else tau * rate
            return Path(x, [x], [t + 0.5 * tau], tau, grown)
        steps, parts = cut
        h = tau / (steps * parts)
        rng = np.random.default_rng(seed)
        middles, times = [], []
        grown = None if rate is None else torch.zeros_like(rate)
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
            half = 0.5 * (x + after) + (h / 8.0) * (one - four)
            if grown is not None and rate is not None:  # Simpson's rule
                ahead = self.growth(after)
                grown += (h / 6.0) * (rate + 4.0 * self.growth(half) + ahead)  # type: ignore[operator]
                rate = ahead
            if parts == 1:
                middles.append(half)
                times.append(now + 0.5 * h)
            elif i % 2 == 0:
                middles.append(after)
                times.append(now + h)
            x = after
        return Path(x, middles, times, h * parts, grown)
