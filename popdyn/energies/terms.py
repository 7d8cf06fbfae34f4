"""Scalar functions V(x, t) and W(z) with their gradients: the summands of a free energy."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from popdyn.errors import PopdynError

__all__ = ["CallableTerm", "Entry", "NamedTerm", "RadialTerm", "Term", "Time", "entry_of"]

Time = float | Tensor | None


class Term:
    """A scalar function of position, and of time where ``time_dependent`` says so.

    Subclasses give ``value``; ``gradient`` falls back on autograd. Positions have shape
    ``(..., d)``; a time is a number or a tensor that broadcasts against ``x[..., 0]``.
    """

    time_dependent: bool = False

    def value(self, x: Tensor, t: Time = None) -> Tensor:
        """Return the function's values, ``(..., d) → (...)``, dimensionless."""
        raise NotImplementedError

    def gradient(self, x: Tensor, t: Time = None) -> Tensor:
        """Return the gradient in x, ``(..., d) → (..., d)``, dimensionless."""
        with torch.enable_grad():
            x = x.detach().requires_grad_(True)
            total = self.value(x, t).sum()
            if not total.requires_grad:  # a function that does not depend on x
                return torch.zeros_like(x)
            (gradient,) = torch.autograd.grad(total, x, allow_unused=True)
        return torch.zeros_like(x) if gradient is None else gradient

    def spec(self) -> dict[str, Any] | None:
        """Return the JSON that rebuilds the term, or None where nothing could."""
        return None

    def label(self) -> str:
        """Return what a person would call the term."""
        return type(self).__name__


@dataclass(frozen=True)
class Entry:
    """A named function of a registry.

    Attributes:
        name: Registry key.
        function: ``f(x, **parameters)``, or ``f(x, t, **parameters)`` if time dependent; for a
            radial kernel the profile ``φ(s, **parameters)`` of the squared distance ``s = |z|²``.
        gradient: Closed-form gradient with the same arguments (for a radial kernel ``dφ/ds``),
            or None for autograd.
        formula: The formula, in plain text.
        summary: One line on what the entry is.
        min_dim: Smallest dimension in which the formula makes sense.
        time_dependent: Whether the function takes a time.
        radial: Whether ``function`` is the profile of a radial kernel.
    """

    name: str
    function: Callable[..., Tensor]
    gradient: Callable[..., Tensor] | None
    formula: str
    summary: str
    min_dim: int = 1
    time_dependent: bool = False
    radial: bool = False

    @property
    def parameters(self) -> dict[str, Any]:
        """The entry's parameters with their defaults; every entry has ``scale``."""
        signature = inspect.signature(self.function).parameters.values()
        own = {p.name: p.default for p in signature if p.default is not p.empty}
        return {"scale": 1.0, **own}


@dataclass(frozen=True)
class NamedTerm(Term):
    """An entry of a registry with its parameters filled in, times ``scale``."""

    entry: Entry
    params: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = self.entry.parameters
        for key in self.params:
            if key not in known:
                raise PopdynError(
                    f"'{self.entry.name}' has no parameter '{key}': expected one of "
                    f"{', '.join(known)}"
                )

    @property
    def time_dependent(self) -> bool:  # type: ignore[override]
        return self.entry.time_dependent

    @property
    def scale(self) -> float:
        return float(self.params.get("scale", 1.0))

    def _call(self, function: Callable[..., Tensor], x: Tensor, t: Time) -> Tensor:
        own = {k: v for k, v in self.params.items() if k != "scale"}
        if self.entry.time_dependent:
            return self.scale * function(x, 0.0 if t is None else t, **own)
        return self.scale * function(x, **own)

    def _check_dimension(self, x: Tensor) -> None:
        if x.shape[-1] < self.entry.min_dim:
            raise PopdynError(
                f"'{self.entry.name}' needs dimension {self.entry.min_dim} or more, "
                f"found {x.shape[-1]}"
            )

    def value(self, x: Tensor, t: Time = None) -> Tensor:
        self._check_dimension(x)
        return self._call(self.entry.function, x, t)

    def gradient(self, x: Tensor, t: Time = None) -> Tensor:
        if self.entry.gradient is None:
            return super().gradient(x, t)
        self._check_dimension(x)
        return self._call(self.entry.gradient, x, t)

    def spec(self) -> dict[str, Any] | None:
        return {"name": self.entry.name, "params": dict(self.params)}

    def label(self) -> str:
        given = ", ".join(f"{k}={v}" for k, v in self.params.items())
        return f"{self.entry.name}({given})" if given else self.entry.name


class RadialTerm(NamedTerm):
    """A kernel W(z) = φ(|z|²) − φ(0) given by its profile, so that forces need no pair gradient."""

    def value(self, x: Tensor, t: Time = None) -> Tensor:
        s = x.square().sum(-1)
        return self._call(self.entry.function, s, t) - self._call(
            self.entry.function, torch.zeros_like(s[..., :1]).reshape(-1)[:1], t
        )

    def slope(self, s: Tensor) -> Tensor:
        """Return dφ/ds at squared distances s, ``(...) → (...)``; ∇W(z) = 2 φ'(|z|²) z."""
        assert self.entry.gradient is not None  # every radial entry brings its slope
        return self._call(self.entry.gradient, s, None)

    def gradient(self, x: Tensor, t: Time = None) -> Tensor:
        return 2.0 * self.slope(x.square().sum(-1, keepdim=True)) * x


class CallableTerm(Term):
    """A user's own function of a torch tensor, ``(..., d) → (...)``.

    A function with a second argument ``t`` is taken as time dependent.
    """

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self.function = function
        try:
            names = list(inspect.signature(function).parameters)
        except (TypeError, ValueError):
            names = []
        self.time_dependent = "t" in names

    def value(self, x: Tensor, t: Time = None) -> Tensor:
        if self.time_dependent:
            out = self.function(x, t=0.0 if t is None else t)
        else:
            out = self.function(x)
        if not isinstance(out, Tensor) or out.shape != x.shape[:-1]:
            found = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
            raise PopdynError(
                f"the callable '{self.label()}' returned {found} for positions of shape "
                f"{tuple(x.shape)}: expected a tensor of shape {tuple(x.shape[:-1])}"
            )
        return out

    def label(self) -> str:
        return getattr(self.function, "__name__", type(self.function).__name__)


def entry_of(
    registry: dict[str, Entry],
    formula: str,
    *,
    gradient: Callable[..., Tensor] | None = None,
    min_dim: int = 1,
    time_dependent: bool = False,
    radial: bool = False,
) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """Return a decorator that enters a function into a registry under its own name.

    The first line of the function's docstring becomes the entry's summary.
    """

    def enter(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        summary = (function.__doc__ or "").strip().splitlines()[0]
        registry[function.__name__] = Entry(
            function.__name__, function, gradient, formula, summary, min_dim, time_dependent, radial
        )
        return function

    return enter
