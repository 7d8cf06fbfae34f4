"""Initial laws: where the particles start."""

from __future__ import annotations

import hashlib
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from popdyn.errors import PopdynError
from popdyn.registry import lookup

__all__ = ["INITIAL_LAWS", "InitialEntry", "InitialLaw", "initial_law"]

Vector = float | Sequence[float]


@dataclass(frozen=True)
class InitialEntry:
    """A named initial law.

    Attributes:
        name: Registry key.
        sample: ``f(n, dim, generator, **parameters) → (n, dim)`` float32.
        formula: The law, in plain text.
        summary: One line on what it is.
    """

    name: str
    sample: Callable[..., Tensor]
    formula: str
    summary: str

    @property
    def parameters(self) -> dict[str, Any]:
        """The law's parameters with their defaults."""
        signature = inspect.signature(self.sample).parameters.values()
        return {p.name: p.default for p in signature if p.default is not p.empty}


INITIAL_LAWS: dict[str, InitialEntry] = {}


def _enter(formula: str) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    def enter(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        summary = (function.__doc__ or "").strip().splitlines()[0]
        INITIAL_LAWS[function.__name__] = InitialEntry(
            function.__name__, function, formula, summary
        )
        return function

    return enter


@_enter("U([low, high]^d)")
def uniform(
    n: int, dim: int, generator: Generator, low: Vector = -4.0, high: Vector = 4.0
) -> Tensor:
    """Uniform on a box; low and high are numbers or one number for each component."""
    a, b = _vector(low, dim, "low"), _vector(high, dim, "high")
    if not (a < b).all():
        raise PopdynError(f"initial 'uniform' has low {low} and high {high}: expected low < high")
    return torch.rand(n, dim, generator=generator, device=generator.device).mul_(
        (b - a).to(generator.device)
    ) + a.to(generator.device)


@_enter("N(mean, diag(std²))")
def gaussian(
    n: int, dim: int, generator: Generator, mean: Vector = 0.0, std: Vector = 1.0
) -> Tensor:
    """Gaussian with independent components; std are standard deviations."""
    m, s = _vector(mean, dim, "mean"), _vector(std, dim, "std", positive=True)
    x = torch.randn(n, dim, generator=generator, device=generator.device)
    return x.mul_(s.to(x)).add_(m.to(x))


@_enter("Σ_j w_j N(mean_j, std_j² I)")
def gaussian_mixture(
    n: int,
    dim: int,
    generator: Generator,
    means: Sequence[Vector] = (-2.0, 2.0),
    stds: Vector = 0.5,
    weights: Sequence[float] | None = None,
) -> Tensor:
    """Mixture of round Gaussians; equal weights unless given."""
    centres = torch.stack([_vector(m, dim, "means") for m in means])
    k = len(centres)
    s = _vector(stds, k, "stds", positive=True)
    w = _vector(1.0 if weights is None else weights, k, "weights", positive=True)
    device = generator.device
    which = torch.multinomial(w.to(device), n, replacement=True, generator=generator)
    x = torch.randn(n, dim, generator=generator, device=device)
    return x.mul_(s.to(x)[which, None]).add_(centres.to(x)[which])


@_enter("radius·(cos θ, sin θ, 0, …) + N(0, width² I), θ uniform")
def ring(n: int, dim: int, generator: Generator, radius: float = 2.0, width: float = 0.1) -> Tensor:
    """A noisy circle in the first two components."""
    _at_least_two("ring", dim)
    angle = 2 * math.pi * torch.rand(n, generator=generator, device=generator.device)
    x = torch.randn(n, dim, generator=generator, device=generator.device).mul_(width)
    x[:, 0] += radius * angle.cos()
    x[:, 1] += radius * angle.sin()
    return x


@_enter("two half circles of radius scale, shifted against each other, + N(0, width² I)")
def two_moons(
    n: int, dim: int, generator: Generator, scale: float = 2.0, width: float = 0.1
) -> Tensor:
    """Two interleaved half circles in the first two components, centred at 0."""
    _at_least_two("two_moons", dim)
    device = generator.device
    angle = math.pi * torch.rand(n, generator=generator, device=device)
    side = 1.0 - 2.0 * torch.randint(2, (n,), generator=generator, device=device)
    x = torch.randn(n, dim, generator=generator, device=device).mul_(width)
    x[:, 0] += scale * side * (angle.cos() - 0.5)
    x[:, 1] += scale * side * (angle.sin() - 0.25)
    return x


@dataclass(frozen=True, eq=False)
class InitialLaw:
    """A named law with its parameters, or the empirical law of given rows.

    Attributes:
        name: Key of ``INITIAL_LAWS``, or ``"array"``.
        params: Parameters of a named law.
        rows: Starting points ``(m, d)`` float32 of an empirical law.
        origin: The file that the rows come from.
    """

    name: str
    params: Mapping[str, Any] = field(default_factory=dict)
    rows: np.ndarray | None = None
    origin: str | None = None

    def sample(self, n: int, dim: int, generator: Generator) -> Tensor:
        """Draw ``(n, dim)`` float32 starting points.

        An empirical law is drawn without replacement: no row comes a second time before every
        row has come once, so nearest-neighbour distances stay positive as long as n ≤ m.
        """
        if self.rows is None:
            return INITIAL_LAWS[self.name].sample(n, dim, generator, **self.params)
        rows = torch.from_numpy(self.rows).to(generator.device)
        rounds = [
            torch.randperm(len(rows), generator=generator, device=generator.device)
            for _ in range(-(-n // len(rows)))
        ]
        which = torch.cat(rounds)[:n] if rounds else torch.empty(0, dtype=torch.long)
        return rows[which]

    def spec(self) -> dict[str, Any]:
        """Return what the store says about the law, as JSON."""
        if self.rows is None:
            return {"name": self.name, "params": dict(self.params)}
        digest = hashlib.sha256(np.ascontiguousarray(self.rows).tobytes()).hexdigest()
        params = {"rows": len(self.rows), "file": self.origin, "sha256": digest}
        return {"name": "array", "params": params}


def initial_law(
    initial: str | Path | np.ndarray | Tensor | InitialLaw,
    params: Mapping[str, Any] | None = None,
    dim: int | None = None,
) -> tuple[InitialLaw, int]:
    """Return the law that a user means, and the dimension.

    Args:
        initial: A name of ``INITIAL_LAWS``, a ``.npy`` file, or an array ``(m, d)``.
        params: Parameters of a named law.
        dim: The dimension; that of the array, or 2, if None.

    Raises:
        PopdynError: On an unknown name or parameter, or an array or file that is not a finite
            ``(m, dim)``.
    """
    params = dict(params or {})
    if isinstance(initial, InitialLaw):
        return initial, dim or (2 if initial.rows is None else initial.rows.shape[1])
    if isinstance(initial, str) and not initial.endswith(".npy"):
        entry = lookup(INITIAL_LAWS, initial, "initial law")
        known = entry.parameters
        for key in params:
            if key not in known:
                raise PopdynError(
                    f"initial '{initial}' has no parameter '{key}': expected one of "
                    f"{', '.join(known)}"
                )
        law = InitialLaw(initial, params)
        dim = dim or 2
        law.sample(1, dim, torch.Generator())  # a bad parameter must speak up before the work
        return law, dim
    if params:
        raise PopdynError(f"initial parameters {', '.join(params)} were given with an array")
    origin = None
    if isinstance(initial, (str, Path)):
        origin, initial = Path(initial).name, _load(Path(initial))
    rows = initial.detach().cpu().numpy() if isinstance(initial, Tensor) else np.asarray(initial)
    where = f"initial file '{origin}'" if origin else "the initial array"
    expected = f"(particles, {dim})" if dim else "(particles, d)"
    if rows.ndim != 2 or 0 in rows.shape or (dim and rows.shape[1] != dim):
        raise PopdynError(f"{where} has shape {rows.shape}: expected {expected}")
    if not np.issubdtype(rows.dtype, np.number) or not np.isfinite(rows).all():
        raise PopdynError(f"{where} holds values that are not finite numbers")
    rows = np.ascontiguousarray(rows, dtype=np.float32)
    return InitialLaw("array", {}, rows, origin), rows.shape[1]


def _load(path: Path) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False)  # type: ignore[no-any-return]
    except (OSError, ValueError) as error:
        raise PopdynError(f"initial file '{path}' cannot be read as .npy: {error}") from None


def _vector(value: Any, dim: int, name: str, *, positive: bool = False) -> Tensor:
    try:
        out = torch.tensor(value, dtype=torch.float32)
    except (TypeError, ValueError):
        raise PopdynError(f"initial {name} is {value!r}: expected a number or a list") from None
    if out.ndim > 1 or (out.ndim == 1 and len(out) not in (1, dim)):
        raise PopdynError(f"initial {name} has shape {tuple(out.shape)}: expected () or ({dim},)")
    if not torch.isfinite(out).all() or (positive and not (out > 0).all()):
        raise PopdynError(
            f"initial {name} is {value}: expected {'positive' if positive else 'finite'} numbers"
        )
    return out.expand(dim)


def _at_least_two(name: str, dim: int) -> None:
    if dim < 2:
        raise PopdynError(f"initial '{name}' needs dimension 2 or more, found {dim}")
