"""Units of the data's own, in which every learner works, and what is learned seen from outside."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from popdyn.base.errors import PopdynError
from popdyn.dynamics.fields import RadialKernel, ScalarField, Time, squared_norm
from popdyn.families.models import LearnedTerm, module_of, rebuild

__all__ = ["KernelInUnits", "RateInUnits", "StreamInUnits", "TermInUnits", "Units"]


@dataclass(frozen=True)
class Units:
    """z = (x − mean)/scale of the components that are kept, and s = (t − first)/interval.

    One scale for all components: a gradient flow in z is one in x, with V = scale²/interval · V̂,
    W likewise and β = scale²/interval · β̂.

    Attributes:
        mean: Of each component, ``(d)`` float64.
        scale: The root mean square distance from the mean, over √d.
        first: First time.
        interval: Mean interval.
        kept: Indices of the components that are not constant and no copies of others.
        copies: Of each copy its index, that of the component that it follows, and its slope.
        frame: Directions that take the place of the kept components, orthogonal, ``(kept, kept)``
            with a row for each; None: the components themselves.
    """

    mean: np.ndarray
    scale: float
    first: float
    interval: float
    kept: tuple[int, ...]
    copies: tuple[tuple[int, int, float], ...] = ()
    frame: np.ndarray | None = None

    @classmethod
    def of_frame(cls, frame: np.ndarray) -> Units:
        """Return units in which nothing but the directions is another."""
        return cls(np.zeros(len(frame)), 1.0, 0.0, 1.0, tuple(range(len(frame))), (), frame)

    @property
    def energy(self) -> float:
        """The unit of V, W and β, in those of the data."""
        return self.scale * (self.scale / self.interval)

    def of_positions(self, x: Tensor) -> Tensor:
        """Return z ``(..., kept)`` of positions ``(..., d)``; computed in float64.

        Raises:
            PopdynError: On another number of components than the data has.
        """
        if x.shape[-1] != len(self.mean):
            raise PopdynError(
                f"positions have {x.shape[-1]} component(s): expected {len(self.mean)}, as many as "
                "the data that this was learned from"
            )
        z = (x.double() - torch.from_numpy(self.mean).to(x.device)).div_(self.scale)
        z = z if len(self.kept) == len(self.mean) else z[..., list(self.kept)]
        return z if self.frame is None else z @ self._frame(z).T

    def _frame(self, like: Tensor) -> Tensor:
        return torch.as_tensor(self.frame).to(like)

    def of_times(self, t: Any) -> Any:
        """Return s of times in float64."""
        return (t - self.first) / self.interval

    def to_positions(self, z: Tensor) -> Tensor:
        """Return positions ``(..., d)`` of z, in its precision; with a graph."""
        moves = z.double() * self.scale
        if self.frame is not None:
            moves = moves @ self._frame(moves)
        if len(self.kept) < len(self.mean):
            every = moves.new_zeros(*z.shape[:-1], len(self.mean))
            every[..., list(self.kept)] = moves
            for copy, of, slope in self.copies:
                every[..., copy] = slope * every[..., of]
            moves = every
        return (moves + torch.from_numpy(self.mean).to(z.device)).to(z.dtype)

    def to_times(self, s: Time) -> Time:
        """Return times of s."""
        if isinstance(s, Tensor):
            return (s.double() * self.interval + self.first).to(s.dtype)
        return None if s is None else s * self.interval + self.first

    def config(self) -> dict[str, Any]:
        """Return the JSON arguments of ``from_config``."""
        frame = None if self.frame is None else self.frame.tolist()
        return dataclasses.asdict(self) | {"mean": self.mean.tolist(), "frame": frame}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Units:
        """Return the units that ``config`` described."""
        copies = tuple((int(c), int(of), float(slope)) for c, of, slope in config["copies"])
        given = {"mean": np.array(config["mean"]), "kept": tuple(config["kept"]), "copies": copies}
        frame = config.get("frame")
        return cls(**config | given | {"frame": None if frame is None else np.array(frame)})


class TermInUnits(LearnedTerm):
    """A term learned in units of the data's own, in those of the user.

    Differences to the mean and to the first time are taken in float64, before anything is rounded
    to the precision of the positions. A component that was left out has gradient 0.

    Args:
        inner: The term that was learned, asked in the precision of its weights if it has any.
        units: Its units; of an interaction their mean is 0.
    """

    def __init__(self, inner: ScalarField, units: Units) -> None:
        super().__init__()
        self.inner: Any = inner
        self.units = units
        self.time_dependent = inner.time_dependent
        weight = next(self.parameters(), None)
        self.precision = None if weight is None else weight.dtype

    def _inside(self, x: Tensor, t: Time) -> tuple[Tensor, Time]:
        z = self.units.of_positions(x).to(self.precision or x.dtype)
        if not self.time_dependent or t is None:
            return z, None
        s = self.units.of_times(t.double() if isinstance(t, Tensor) else float(t))
        return z, s.to(z) if isinstance(s, Tensor) else s

    def _outwards(self, slope: Tensor, x: Tensor) -> Tensor:
        """Return what a gradient in z is in x, ``(..., kept) → (..., d)``."""
        slope = slope.double() * (self.units.scale / self.units.interval)
        if self.units.frame is not None:
            slope = slope @ self.units._frame(slope)
        return self._to_components(slope.to(x.dtype), x)

    def _to_components(self, slope: Tensor, x: Tensor) -> Tensor:
        if len(self.units.kept) == x.shape[-1]:
            return slope
        out = x.new_zeros(*slope.shape[:-1], x.shape[-1])
        out[..., list(self.units.kept)] = slope
        return out

    def value(self, x: Tensor, t: Time = None) -> Tensor:
        return (self.inner.value(*self._inside(x, t)).double() * self.units.energy).to(x.dtype)

    def gradient(self, x: Tensor, t: Time = None) -> Tensor:
        return self._outwards(self.inner.gradient(*self._inside(x, t)), x)

    @property
    def gradient_std(self) -> Callable[..., Tensor]:
        """``(x, t)`` ↦ the standard error of each component; only where the term knows it."""
        own: Callable[..., Tensor] = self.inner.gradient_std  # type: ignore[assignment]
        units = self.units
        # Standard errors of directions say nothing of those of components: these are the term's.
        more = {} if units.frame is None else {"frame": units._frame(torch.zeros(()))}

        def std(x: Tensor, t: Time = None) -> Tensor:
            inside = own(*self._inside(x, t), **more).double() * (units.scale / units.interval)
            return self._to_components(inside.to(x.dtype), x)

        return std

    @property
    def value_std(self) -> Callable[..., Tensor]:
        """``(x, reference, t)`` ↦ the standard error of a difference; where the term knows it."""
        own: Callable[..., Tensor] = self.inner.value_std  # type: ignore[assignment]

        def std(x: Tensor, reference: Tensor, t: Time = None) -> Tensor:
            here, now = self._inside(x, t)
            return own(here, self._inside(reference, t)[0], now) * self.units.energy

        return std

    def label(self) -> str:
        return self.inner.label()

    def config(self) -> dict[str, Any]:
        return {"inner": module_of(self.inner), "units": self.units.config()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> TermInUnits:
        return cls(rebuild(config["inner"]), Units.from_config(config["units"]))


class RateInUnits(TermInUnits):
    """A rate of growth learned in units of the data's own: g(x) = ĝ(z)/interval."""

    def value(self, x: Tensor, t: Time = None) -> Tensor:
        inside = self.inner.value(*self._inside(x, t)).double()
        return (inside / self.units.interval).to(x.dtype)

    def gradient(self, x: Tensor, t: Time = None) -> Tensor:
        return super().gradient(x, t) / self.units.scale**2

    def value_std(self, x: Tensor, t: Time = None) -> Tensor:
        """Return the standard error of g, ``(..., d) → (...)``."""
        own: Callable[..., Tensor] = self.inner.value_std  # type: ignore[assignment]
        return (own(*self._inside(x, t)).double() / self.units.interval).to(x.dtype)


class StreamInUnits(TermInUnits):
    """A stream function learned in units of the data's own, with the A of its drift A∇ψ."""

    @property
    def matrix(self) -> Tensor:
        """A in all components, ``(d, d)``."""
        inner: Tensor = self.inner.matrix  # type: ignore[assignment]
        if self.units.frame is not None:
            frame = self.units._frame(inner)
            inner = frame.T @ inner @ frame
        out = inner.new_zeros(len(self.units.mean), len(self.units.mean))
        kept = torch.tensor(self.units.kept)
        out[kept[:, None], kept] = inner
        return out

    def drift_std(self, x: Tensor, t: Time = None) -> Tensor:
        """Return the standard error of each component of A∇ψ, ``(..., d) → (..., d)``."""
        own: Callable[..., Tensor] = self.inner.drift_std  # type: ignore[assignment]
        inside = own(*self._inside(x, t)).double() * (self.units.scale / self.units.interval)
        return self._to_components(inside.to(x.dtype), x)


class KernelInUnits(TermInUnits, RadialKernel):
    """A radial kernel learned in units of the data's own: W(z) = scale²/interval · Ŵ(z/scale)."""

    @property
    def length(self) -> float:  # type: ignore[override]
        """The smallest length in the kernel."""
        return self.units.scale * float(self.inner.length)  # type: ignore[arg-type]

    def gradient(self, x: Tensor, t: Time = None) -> Tensor:
        with torch.no_grad():
            return (2.0 * x).mul_(self.slope(squared_norm(x)[..., None]))

    def slope(self, s: Tensor) -> Tensor:
        out: Tensor = self.inner.slope(s / self.units.scale**2)  # type: ignore[operator]
        return out / self.units.interval
