"""Time stepping schemes for dX = −∇V dt − (∇W∗ρ) dt + √(2β) dB, with their declared orders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

__all__ = ["DEFAULT_SCHEME", "SCHEMES", "Gradient", "Scheme"]

Gradient = Callable[[Tensor, float | Tensor], Tensor]
"""(x, t) ↦ ∇V(x, t) + mean ∇W: what the drift is minus of. Its result is read, never changed."""


@dataclass(frozen=True)
class Scheme:
    """A scheme: its facts, and one step.

    Attributes:
        name: Registry key.
        formula: One step, in plain text.
        summary: One line on when to take it.
        step: ``step(x, t, h, gradient, noise)`` moves ``x`` in place over ``[t, t + h]``;
            ``noise`` is √(2β)·(B(t+h) − B(t)), or None where β = 0. ``h`` is a number, or a
            tensor that broadcasts against ``x``.
        strong_order: Declared strong order for additive noise, None if not consistent.
        weak_order: Declared weak order, None if not consistent.
        consistent: Whether the steps converge to the SDE as the step shrinks.
    """

    name: str
    formula: str
    summary: str
    step: Callable[[Tensor, float | Tensor, float | Tensor, Gradient, Tensor | None], None]
    strong_order: float | None
    weak_order: float | None
    consistent: bool = True


def _euler_maruyama(
    x: Tensor, t: float | Tensor, h: float | Tensor, gradient: Gradient, noise: Tensor | None
) -> None:
    _descend(x, gradient(x, t), h)
    if noise is not None:
        x.add_(noise)


def _heun(
    x: Tensor, t: float | Tensor, h: float | Tensor, gradient: Gradient, noise: Tensor | None
) -> None:
    first = gradient(x, t)
    y = _descended(x, first, h)
    if noise is not None:
        y.add_(noise)
    last = gradient(y, _later(t, h))
    _descend(x, first, h / 2)
    _descend(x, last, h / 2)
    if noise is not None:
        x.add_(noise)


def _descend(x: Tensor, gradient: Tensor, h: float | Tensor) -> None:
    if isinstance(h, Tensor):
        x.addcmul_(gradient, h, value=-1.0)
    else:
        x.add_(gradient, alpha=-h)


def _descended(x: Tensor, gradient: Tensor, h: float | Tensor) -> Tensor:
    if isinstance(h, Tensor):
        return x.addcmul(gradient, h, value=-1.0)
    return x.add(gradient, alpha=-h)


def _later(t: float | Tensor, h: float | Tensor) -> float | Tensor:
    # A tensor h has the component axis that a time has not.
    return t + (h.squeeze(-1) if isinstance(h, Tensor) else h)


SCHEMES: dict[str, Scheme] = {
    scheme.name: scheme
    for scheme in (
        Scheme(
            "heun",
            "y = x − h∇J(x,t) + dB;  x ← x − ½h(∇J(x,t) + ∇J(y,t+h)) + dB",
            "the accurate default: two gradients a step, weak order 2 for additive noise",
            _heun,
            strong_order=1.0,
            weak_order=2.0,
        ),
        Scheme(
            "euler_maruyama",
            "x ← x − h∇J(x,t) + dB",
            "the fastest step, weak order 1",
            _euler_maruyama,
            strong_order=1.0,
            weak_order=1.0,
        ),
    )
}

DEFAULT_SCHEME = "heun"
