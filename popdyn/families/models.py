"""Learned potentials: torch modules that are terms of an energy, rebuilt from JSON and tensors."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from popdyn.base.errors import PopdynError
from popdyn.base.registry import Registry, lookup
from popdyn.dynamics import FreeEnergy
from popdyn.dynamics.fields import RadialKernel, ScalarField, Time
from popdyn.dynamics.interactions import SymmetrisedField

__all__ = [
    "MODELS",
    "MLPPotential",
    "Scaling",
    "SecondOrder",
    "dense_layers",
    "module_of",
    "rebuild",
    "set_mean_zero",
]


class Scaling(nn.Module):
    """Standardised inputs and a tail that confines outside the box of the training data.

    Inside the box the tail is 0; outside it is ½ κ |x − x_box|², with κ so large that a particle is
    pulled back within the time that the data covers.

    Args:
        mean, scale: Mean and standard deviation of the training particles, ``(d,)``.
        low, high: Their smallest and largest value, ``(d,)``.
        horizon: The time that the data covers; sets the unit of V, |x|²/time.

    Attributes:
        unit: Mean over the components of the unit of V.
    """

    mean: Tensor
    scale: Tensor
    low: Tensor
    high: Tensor
    unit: Tensor

    def __init__(
        self, mean: Tensor, scale: Tensor, low: Tensor, high: Tensor, horizon: float
    ) -> None:
        super().__init__()
        margin = 0.05 * (high - low)
        self.register_buffer("mean", mean.float())
        self.register_buffer("scale", scale.float())
        self.register_buffer("low", ((low - margin - mean) / scale).float())
        self.register_buffer("high", ((high + margin - mean) / scale).float())
        self.register_buffer("unit", (scale.square().mean() / horizon).float())

    def standardise(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.scale

    @property
    def shares(self) -> Tensor:
        """The unit of V in each component over their mean, ``(d)``."""
        return self.scale.square() / self.scale.square().mean()

    @property
    def half_width(self) -> Tensor:
        """Half width of the box around 0 that holds the standardised one, ``(d)``."""
        return torch.maximum(self.low.abs(), self.high.abs())

    def _outside(self, z: Tensor) -> Tensor:
        return z - z.clamp(self.low, self.high)  # type: ignore[arg-type]

    def tail(self, z: Tensor) -> Tensor:
        return 2.0 * self.unit * (self.shares * self._outside(z).square()).sum(-1)

    def tail_gradient(self, z: Tensor) -> Tensor:
        """Return the tail's gradient with respect to z."""
        return 4.0 * self.unit * self.shares * self._outside(z)


MODELS: Registry[type[LearnedTerm]] = Registry(
    "popdyn.terms", "learned term", "popdyn.families", "popdyn.learners"
)
"""The classes of learned terms by name; a subclass enters itself."""


class LearnedTerm(nn.Module, ScalarField):
    """A term with weights; ``config`` and ``state_dict`` rebuild it, by the name of its class."""

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        MODELS.enter(cls.__name__, cls, cls.__module__)

    def config(self) -> dict[str, Any]:
        """Return the JSON arguments of ``from_config``."""
        raise NotImplementedError

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> LearnedTerm:
        """Build the term with empty weights, to be filled by ``load_state_dict``."""
        raise NotImplementedError

    def label(self) -> str:
        return f"learned {type(self).__name__}"


def dense_layers(
    widths: Sequence[int], generator: torch.Generator | None
) -> tuple[nn.ParameterList, nn.ParameterList]:
    """Return the weights of a network's layers, and the biases of its hidden ones, which are 0.

    Weights have variance 1/width, those of the last layer a tenth of the size.
    """
    weights = nn.ParameterList(
        torch.randn(b, a, generator=generator) / math.sqrt(a) for a, b in itertools.pairwise(widths)
    )
    with torch.no_grad():
        weights[-1].mul_(0.1)
    return weights, nn.ParameterList(torch.zeros(b) for b in widths[1:-1])


class MLPPotential(LearnedTerm):
    """A SiLU network on standardised inputs, and on time where asked, plus the confining tail.

    The gradient is written out layer by layer: a simulating learner calls it many times for each
    training step, and autograd would double its cost.

    Args:
        scaling: Standardisation and tail.
        hidden: Widths of the hidden layers.
        time_range: First and last time of the data if V depends on time, else None.
        generator: Draws the initial weights.
        held: Earliest and latest time at which V moves, constant before and after; None if it
            moves all the time.
    """

    offset: Tensor

    def __init__(
        self,
        scaling: Scaling,
        hidden: Sequence[int] = (64, 64),
        time_range: tuple[float, float] | None = None,
        generator: torch.Generator | None = None,
        held: tuple[float, float] | None = None,
    ) -> None:
        super().__init__()
        self.scaling, self.hidden, self.time_range = scaling, tuple(hidden), time_range
        self.held = held
        self.time_dependent = time_range is not None
        d = scaling.mean.shape[0]
        widths = [d + (time_range is not None), *hidden, 1]
        self.weights, self.biases = dense_layers(widths, generator)
        with torch.no_grad():
            for bias in self.biases:
                bias.uniform_(-1.0, 1.0, generator=generator)
        self.register_buffer("offset", torch.zeros(()))

    def _inputs(self, x: Tensor, t: Time) -> tuple[Tensor, Tensor]:
        z = self.scaling.standardise(x.to(self.scaling.mean.dtype))
        if self.time_range is None:
            return z, z
        first, last = self.time_range
        now = torch.as_tensor(self.time(t), dtype=z.dtype, device=z.device)
        if self.held is not None:
            now = now.clamp(*self.held)
        s = 2.0 * (now - first) / (last - first) - 1.0
        return z, torch.cat([z, s.expand(z.shape[:-1])[..., None]], -1)

    @staticmethod
    def activation(h: Tensor) -> Tensor:
        """Return what a hidden layer makes of its sums."""
        return nn.functional.silu(h)

    @staticmethod
    def sloping(h: Tensor) -> tuple[Tensor, Tensor]:
        """Return the activation and its slope."""
        s = torch.sigmoid(h)
        a = h * s
        return a, torch.addcmul(a, a, s, value=-1.0).add_(s)

    def value(self, x: Tensor, t: Time = None) -> Tensor:
        z, h = self._inputs(x, t)
        for weight, bias in zip(self.weights, self.biases, strict=False):
            h = self.activation(nn.functional.linear(h, weight, bias))
        out = nn.functional.linear(h, self.weights[-1])[..., 0]
        return (self.scaling.unit * out + self.scaling.tail(z) - self.offset).to(x.dtype)

    def gradient(self, x: Tensor, t: Time = None) -> Tensor:
        z, h = self._inputs(x, t)
        slopes = []
        for weight, bias in zip(self.weights, self.biases, strict=False):
            h, slope = self.sloping(nn.functional.linear(h, weight, bias))
            slopes.append(slope)
        g = self.weights[-1].expand(*h.shape[:-1], -1) * slopes[-1]
        for weight, slope in zip(reversed(self.weights[1:-1]), reversed(slopes[:-1]), strict=False):
            g = (g @ weight) * slope
        g = (g @ self.weights[0])[..., : z.shape[-1]]
        g = (self.scaling.unit * g + self.scaling.tail_gradient(z)) / self.scaling.scale
        return g.to(x.dtype)

    def label(self) -> str:
        return f"network of widths {', '.join(map(str, self.hidden))}"

    def config(self) -> dict[str, Any]:
        return {
            "dim": self.scaling.mean.shape[0],
            "hidden": list(self.hidden),
            "time_range": self.time_range and list(self.time_range),
            "held": self.held and list(self.held),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> MLPPotential:
        span, held = config["time_range"], config["held"]
        term = cls(empty_scaling(config["dim"]), config["hidden"], span and tuple(span))
        term.held = held and tuple(held)
        return term


class SecondOrder(LearnedTerm):
    """V − (τ/4)|∇V|²: the continuous-time potential behind a V fitted by implicit Euler steps.

    An implicit Euler step of V with step τ follows the flow of V − (τ/4)|∇V|² to second order.

    Args:
        base: The potential that the JKO-based fit gave.
        tau: The interval between snapshots, the same for all.

    References:
        Hairer, Lubich and Wanner, Geometric Numerical Integration, IX.1 (modified equations).
    """

    def __init__(self, base: LearnedTerm, tau: float) -> None:
        super().__init__()
        self.base, self.tau = base, tau
        self.time_dependent = base.time_dependent

    def value(self, x: Tensor, t: Time = None) -> Tensor:
        return self.base.value(x, t) - 0.25 * self.tau * self.base.gradient(x, t).square().sum(-1)

    def label(self) -> str:
        return f"{self.base.label()}, corrected to second order"

    def config(self) -> dict[str, Any]:
        return {"tau": self.tau, "base": module_of(self.base)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> SecondOrder:
        return cls(rebuild(config["base"]), config["tau"])

    @property
    def offset(self) -> Tensor:
        return self.base.offset  # type: ignore[return-value]


def empty_scaling(dim: int) -> Scaling:
    """Return a scaling of the right shape, to be filled by ``load_state_dict``."""
    one = torch.ones(dim)
    return Scaling(0 * one, one, -one, one, 1.0)


def module_of(term: ScalarField) -> dict[str, Any]:
    """Return the JSON that names a learned term and its configuration, or a named one.

    Raises:
        PopdynError: If it is neither: no file can rebuild it.
    """
    if isinstance(term, LearnedTerm):
        return {"model": type(term).__name__, "config": term.config()}
    spec = term.spec()
    if spec is None:
        raise PopdynError(
            f"'{term.label()}' is neither named nor a LearnedTerm: no file can rebuild it, keep "
            "the run in memory"
        )
    pairs = isinstance(term, RadialKernel | SymmetrisedField)
    return {"named": "interaction" if pairs else "potential", "spec": spec}


def rebuild(spec: dict[str, Any]) -> Any:
    """Build the term that ``module_of`` described, with empty weights."""
    if "named" in spec:
        energy = FreeEnergy.from_spec({spec["named"]: spec["spec"]})
        return energy.W if spec["named"] == "interaction" else energy.V
    return lookup(MODELS, spec["model"], MODELS.kind).from_config(spec["config"])


CENTRED, AT_ONCE = 200_000, 20_000  # particles of each snapshot, and of one block


@torch.no_grad()
def set_mean_zero(term: LearnedTerm, snapshots: Sequence[Tensor], times: Sequence[float]) -> None:
    """Shift a potential so that its mean over all training snapshots is 0.

    Of a snapshot larger than memory the first particles stand for all: their order is random.
    """
    means = []
    for x, t in zip(snapshots, times, strict=True):
        blocks = x[:CENTRED].split(AT_ONCE)
        total = sum(float(term.value(block, t).sum(dtype=torch.float64)) for block in blocks)
        means.append(total / min(len(x), CENTRED))
    term.offset.add_(sum(means) / len(means))  # type: ignore[operator, union-attr]
