"""Scalar functions V(x, t) and W(z) with their gradients: the summands of a free energy."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from popdyn.base.errors import PopdynError
from popdyn.base.registry import Registry, summary_of

__all__ = [
    "CallableField",
    "Entry",
    "LevelField",
    "NamedField",
    "RadialField",
    "RadialKernel",
    "ScalarField",
    "Time",
    "Vector",
    "beyond",
    "check_gradient",
    "entry_of",
    "hill",
    "squared_norm",
    "takes_time",
    "unnamed",
    "vector",
]

Time = float | Tensor | None
Vector = float | Sequence[float]


class ScalarField:
    """A scalar function of position, and of time where ``time_dependent`` says so.

    Subclasses give ``value``; ``gradient`` falls back on autograd. Positions have shape
    ``(..., d)``; a time is a number or a tensor that broadcasts against ``x[..., 0]``, and
    None where nothing depends on it. Values are defined up to a constant. A gradient comes without
    a graph: for second derivatives differentiate ``value``.

    Example:
        >>> class Bowl(ScalarField):
        ...     def value(self, x, t=None):
        ...         return x.square().sum(-1)
        >>> Bowl().gradient(torch.tensor([[1.0, 2.0]]))
        tensor([[2., 4.]])
    """

    time_dependent: bool = False

    def value(self, x: Tensor, t: Time = None) -> Tensor:
        """Return the function's values, ``(..., d) → (...)``, dimensionless."""
        raise NotImplementedError

    def gradient(self, x: Tensor, t: Time = None) -> Tensor:
        """Return the gradient in x, ``(..., d) → (..., d)``, dimensionless, in new memory."""
        with torch.inference_mode(False), torch.enable_grad():
            x = (x.clone() if x.is_inference() else x.detach()).requires_grad_(True)
            values = self.value(x, t)
            gradient = None
            if values.requires_grad:
                (gradient,) = torch.autograd.grad(values.sum(), x, allow_unused=True)
        if gradient is not None:
            return gradient
        # A function that does not depend on x; or one whose graph was cut, and no force is 0.
        moves = isinstance(t, Tensor) and t.numel() > 1
        if not moves and values.numel() > 1 and bool((values != values.flatten()[0]).any()):
            raise PopdynError(
                f"'{self.label()}' depends on positions, and no gradient comes back to them: "
                "expected torch operations, without detach, no_grad or NumPy"
            )
        return torch.zeros_like(x)

    def time(self, t: Time) -> float | Tensor:
        """Return the time at which a term that depends on it is asked for.

        Raises:
            PopdynError: If there is none: no time is guessed.
        """
        if t is None:
            raise PopdynError(f"'{self.label()}' depends on time, and none was given: expected t")
        return t

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
        formula: The formula, in plain text.
        summary: One line on what the entry is.
        gradient: Closed-form gradient with the same arguments (for a radial kernel the slope
            ``dφ/ds``, which may overwrite ``s``), or None for autograd. It is given every
            parameter, runs without a graph and does not change ``x``.
        min_dim: Smallest dimension in which the formula makes sense.
        time_dependent: Whether the function takes a time.
        radial: Whether ``function`` is the profile of a radial kernel.
        positive: Parameters that must be > 0; for a radial kernel its lengths.
        of_potential: Whether the function is linear and takes V (its gradient ∇V) in place of a
            position, as a stream function along the levels of V does.
        exponential: For a radial kernel whose slope is ``a·exp(−b·s)``: the function that gives
            ``(a, b)`` for its parameters, with which forces are faster.
    """

    name: str
    function: Callable[..., Tensor]
    formula: str
    summary: str
    gradient: Callable[..., Tensor] | None = None
    min_dim: int = 1
    time_dependent: bool = False
    radial: bool = False
    positive: tuple[str, ...] = ()
    of_potential: bool = False
    exponential: Callable[..., tuple[float, float]] | None = None

    @property
    def parameters(self) -> dict[str, Any]:
        """The entry's parameters with their defaults; every entry has ``scale``."""
        signature = inspect.signature(self.function).parameters.values()
        own = {p.name: p.default for p in signature if p.default is not p.empty}
        return {"scale": 1.0, **{k: list(v) if type(v) is tuple else v for k, v in own.items()}}

    def checked(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return all parameters, defaults filled in, as floats and lists of floats for JSON.

        Raises:
            PopdynError: On an unknown parameter, or a value that is not what is expected.
        """
        known = self.parameters
        out = dict(known)
        for key, value in params.items():
            if key not in known:
                raise PopdynError(
                    f"'{self.name}' has no parameter '{key}': expected one of {', '.join(known)}"
                )
            out[key] = self._checked(key, value, known[key])
        return out

    def _checked(self, key: str, value: Any, default: Any) -> Any:
        if value is None and default is None:
            return None
        single, positive = isinstance(default, float), key in self.positive
        try:
            array = np.asarray(value)
        except ValueError:  # a ragged list
            array = np.empty(0)
        good = array.size > 0 and array.dtype.kind in "iuf" and bool(np.isfinite(array).all())
        if not good or (single and array.ndim) or (positive and array.min() <= 0):
            raise PopdynError(
                f"parameter '{key}' of '{self.name}' is {value!r}: expected "
                f"{'a finite number' if single else 'finite numbers'}{' > 0' if positive else ''}"
            )
        return array.astype(float).tolist()


@dataclass(frozen=True)
class NamedField(ScalarField):
    """An entry of a registry with its parameters filled in, times ``scale``.

    Raises:
        PopdynError: On an unknown parameter or a wrong value; when called, on a dimension that
            does not fit.
    """

    entry: Entry
    params: Mapping[str, Any] = field(default_factory=dict)
    arguments: Mapping[str, Any] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        params = self.entry.checked(self.params)
        object.__setattr__(self, "params", params)
        arguments = {key: value for key, value in params.items() if key != "scale"}
        object.__setattr__(self, "arguments", arguments)

    @property
    def time_dependent(self) -> bool:  # type: ignore[override]
        """Whether the entry depends on time."""
        return self.entry.time_dependent

    def value(self, x: Tensor, t: Time = None) -> Tensor:
        return self._call(self.entry.function, x, t)

    def gradient(self, x: Tensor, t: Time = None) -> Tensor:
        if self.entry.gradient is None:
            return super().gradient(x, t)
        with torch.no_grad():
            return self._call(self.entry.gradient, x, t)

    def check_dimension(self, x: Tensor) -> None:
        """Refuse positions of too few components.

        Raises:
            PopdynError: If there are fewer than the entry needs.
        """
        if x.shape[-1] < self.entry.min_dim:
            raise PopdynError(
                f"'{self.entry.name}' needs dimension {self.entry.min_dim} or more, "
                f"found {x.shape[-1]}"
            )

    def _call(self, function: Callable[..., Tensor], x: Tensor, t: Time) -> Tensor:
        self.check_dimension(x)
        time = (self.time(t),) if self.entry.time_dependent else ()
        out = function(x, *time, **self.arguments)
        scale = self.params["scale"]
        return out if scale == 1.0 else scale * out

    def spec(self) -> dict[str, Any] | None:
        """Return the name and all parameters."""
        return {"name": self.entry.name, "params": dict(self.params)}

    def label(self) -> str:
        usual = self.entry.parameters
        given = ", ".join(
            f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}"
            for key, value in self.params.items()
            if value != usual[key]
        )
        return f"{self.entry.name}({given})" if given else self.entry.name


@dataclass(frozen=True)
class LevelField(NamedField):
    """An entry that is a multiple of a potential V: its levels are those of V."""

    potential: ScalarField | None = None

    @property
    def time_dependent(self) -> bool:  # type: ignore[override]
        """Whether V depends on time."""
        return self.potential is not None and self.potential.time_dependent

    def value(self, x: Tensor, t: Time = None) -> Tensor:
        assert self.potential is not None
        return self._multiple(x, self.potential.value(x, t))

    def gradient(self, x: Tensor, t: Time = None) -> Tensor:
        assert self.potential is not None
        return self._multiple(x, self.potential.gradient(x, t))

    def _multiple(self, x: Tensor, of: Tensor) -> Tensor:
        self.check_dimension(x)
        return self.params["scale"] * self.entry.function(of, **self.arguments)


class RadialKernel(ScalarField):
    """A kernel W(z) = φ(|z|²) given by its slope, so that forces need no pair gradient.

    Attributes:
        exponential: (a, b) if the slope is a·exp(−b·s), else None.
        length: The smallest length in the kernel.
    """

    exponential: tuple[float, float] | None = None
    length: float = 1.0

    def gradient(self, x: Tensor, t: Time = None) -> Tensor:
        with torch.no_grad():
            return (2.0 * x).mul_(self.slope(squared_norm(x)[..., None]))

    def slope(self, s: Tensor) -> Tensor:
        """Return dφ/ds at squared distances s, ``(...) → (...)``; it may overwrite ``s``.

        The gradient is ∇W(z) = 2 φ'(|z|²) z.
        """
        raise NotImplementedError


class RadialField(RadialKernel, NamedField):
    """A radial entry of a registry, given by its profile φ and its slope."""

    def value(self, x: Tensor, t: Time = None) -> Tensor:
        # keepdim: positions in one dimension must not look like a value of dimension 0.
        return self._call(self.entry.function, squared_norm(x)[..., None], None)[..., 0]

    def slope(self, s: Tensor) -> Tensor:
        if self.entry.gradient is None:
            with torch.inference_mode(False), torch.enable_grad():
                s = s.clone().requires_grad_(True)
                values = self._call(self.entry.function, s, None)
                return torch.autograd.grad(values.sum(), s)[0]
        with torch.no_grad():
            return self._call(self.entry.gradient, s, None)

    @property
    def exponential(self) -> tuple[float, float] | None:  # type: ignore[override]
        """(a, b) if the slope is a·exp(−b·s), else None."""
        if self.entry.exponential is None:
            return None
        a, b = self.entry.exponential(**self.arguments)
        return self.params["scale"] * a, b

    @property
    def length(self) -> float:  # type: ignore[override]
        """The smallest length in the kernel: of its positive parameters."""
        return min((self.params[key] for key in self.entry.positive), default=1.0)


class CallableField(ScalarField):
    """A user's own function of a torch tensor, ``(..., d) → (...)``.

    A function with an argument named ``t`` is taken as time dependent.
    """

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self.function = function
        self.time_dependent = takes_time(function)

    def value(self, x: Tensor, t: Time = None) -> Tensor:
        # Flat, so that a function written for positions of shape (n, d) serves for pairs, too.
        flat = x.reshape(-1, x.shape[-1])
        if self.time_dependent:
            if isinstance(t, Tensor) and t.ndim:
                t = t.to(x).expand(x.shape[:-1]).reshape(-1)
            out = self._called(flat, t=self.time(t))
        else:
            out = self._called(flat)
        if not isinstance(out, Tensor) or out.shape != flat.shape[:1]:
            found = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
            raise PopdynError(
                f"the callable '{self.label()}' returned {found} for positions of shape "
                f"{tuple(flat.shape)}: expected a tensor of shape {tuple(flat.shape[:1])}"
            )
        return out.reshape(x.shape[:-1])

    def _called(self, x: Tensor, **more: Any) -> Any:
        weight = None
        if isinstance(self.function, torch.nn.Module):
            weight = next(self.function.parameters(), None)
        try:
            # A module has a precision of its own.
            out = self.function(x if weight is None else x.to(weight.dtype), **more)
        except RuntimeError as error:
            if "numpy()" not in str(error):
                raise
            raise PopdynError(
                f"the callable '{self.label()}' takes NumPy arrays: expected torch operations"
            ) from error
        return out if weight is None or not isinstance(out, Tensor) else out.to(x.dtype)

    def label(self) -> str:
        return getattr(self.function, "__name__", type(self.function).__name__)


WRONG, MOST_WRONG = 1e-2, 0.1  # relative; of the points, for a formula may have a kink


def check_gradient(term: ScalarField, dim: int, t: float, *, seed: int = 0) -> None:
    """Refuse a named function whose closed-form gradient is not that of its values.

    Args:
        term: The function; only a named one with a gradient of its own is looked at.
        dim: Dimension in which it will be used.
        t: Time, of a function that depends on it.
        seed: Seed of the 64 random points, normal with standard deviations from 0.1 to 10.

    Raises:
        PopdynError: If the two differ by more than a hundredth at more than a tenth of the points.

    Example:
        >>> from popdyn.dynamics import FreeEnergy
        >>> check_gradient(FreeEnergy("styblinski_tang").V, dim=2, t=0.0)
    """
    if not isinstance(term, NamedField) or term.entry.gradient is None:
        return
    if dim < term.entry.min_dim:  # said where it is asked for
        return
    generator = torch.Generator().manual_seed(seed)
    size = torch.logspace(-1, 1, 64, dtype=torch.float64)
    x = torch.randn(64, dim, generator=generator, dtype=torch.float64) * size[:, None]
    when = t if term.time_dependent else None
    own, true = term.gradient(x.clone(), when), ScalarField.gradient(term, x, when)
    if own.shape != true.shape:
        raise PopdynError(
            f"the gradient of '{term.label()}' has shape {tuple(own.shape)} at positions of shape "
            f"{tuple(x.shape)}: expected the same"
        )
    off = (own - true).norm(dim=1) > WRONG * (true.norm(dim=1) + true.norm(dim=1).median())
    if float(off.double().mean()) > MOST_WRONG:
        i = int(off.nonzero()[0, 0])
        point, found, expected = (
            ", ".join(f"{v:.3g}" for v in y[i].tolist()) for y in (x, own, true)
        )
        raise PopdynError(
            f"the gradient of '{term.label()}' is not that of its values: found ({found}) at "
            f"x = ({point}), expected ({expected})"
        )


def takes_time(function: Callable[..., Any]) -> bool:
    """Return whether a callable has an argument named ``t``."""
    try:
        return "t" in inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False


def unnamed(value: Any, params: Mapping[str, Any], kind: str) -> ScalarField | None:
    """Return what is no name as a scalar field: a field itself, a callable, or None.

    Raises:
        PopdynError: If it is something else, or there are parameters, which belong to a name.
    """
    if params:
        raise PopdynError(
            f"{kind} parameters {', '.join(params)} were given without a named {kind}"
        )
    if value is None or isinstance(value, ScalarField):
        return value
    if callable(value):
        return CallableField(value)
    raise PopdynError(f"the {kind} is {value!r}: expected a name, a callable or None")


def entry_of(
    registry: Registry[Entry], formula: str, **declared: Any
) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """Return a decorator that enters a function into a registry under its own name.

    The first line of the function's docstring becomes the entry's summary; ``declared`` are
    further fields of :class:`Entry`. A parameter whose default is a number takes a number, one
    whose default is None or a tuple takes numbers, too.
    """

    def enter(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        name, summary = function.__name__, summary_of(function)
        entry = Entry(name, function, formula=formula, summary=summary, **declared)
        registry.enter(name, entry, function.__module__)
        return function

    return enter


def vector(value: Vector, x: Tensor, name: str) -> Tensor:
    """Return a parameter as a tensor ``(d)`` like x; a number stands for all components.

    Raises:
        PopdynError: If it has another length than the dimension of ``x``.
    """
    out, d = x.new_tensor(value), x.shape[-1]
    if out.numel() != 1 and out.shape != (d,):
        raise PopdynError(
            f"parameter '{name}' has shape {tuple(out.shape)}: expected {d} numbers, "
            f"as positions have dimension {d}"
        )
    return out.reshape(-1).expand(d)


def beyond(x: Tensor, direction: Vector | None, offset: float, width: float) -> Tensor:
    """Return 0 before the plane n·x = offset and 1 beyond it, with a logistic edge; ``(...)``.

    Args:
        x: Positions, ``(..., d)``.
        direction: Along n, of any length; None: the first axis.
        offset: Distance of the plane from the origin, along n.
        width: Of the edge.

    Raises:
        PopdynError: If the direction has another dimension than ``x``.
    """
    if direction is None:
        return torch.sigmoid((x[..., 0] - offset) / width)
    n = vector(direction, x, "direction")
    return torch.sigmoid((x @ (n / n.norm()) - offset) / width)


def hill(x: Tensor, center: Vector | None, width: float) -> Tensor:
    """Return exp(−|x − center|²/(2 width²)), ``(...)``; around the origin if there is no center.

    Raises:
        PopdynError: If the center has another dimension than ``x``.
    """
    z = x if center is None else x - vector(center, x, "center")
    return (squared_norm(z) * (-0.5 / width**2)).exp()


def squared_norm(x: Tensor) -> Tensor:
    """Return |x|², ``(..., d) → (...)``; several times faster than a sum over a short last axis."""
    return x.square() @ x.new_ones(x.shape[-1])
