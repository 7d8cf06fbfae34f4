"""The registry of schemes for dX = b(X, t) dt + √(2β) dB: a file of this folder each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from popdyn.base.errors import PopdynError
from popdyn.base.registry import Registry
from popdyn.dynamics import Dynamics
from popdyn.dynamics.drive import Drive
from popdyn.simulation.brownian import Noise

__all__ = ["DEFAULT_SCHEME", "SCHEMES", "Scheme", "later", "move", "scheme"]

Time = float | Tensor
Step = Callable[[Tensor, Time, Time, Drive, Noise | None], None]


@dataclass(frozen=True)
class Scheme:
    """A scheme: its facts, and one step.

    Attributes:
        name: Registry key.
        formula: One step, in plain text; b stands for the whole drift, −∇V − ∇W∗ρ of an energy.
        summary: One line on when to take it.
        step: ``step(x, t, h, drive, noise)`` moves ``x`` in place over ``[t, t + h]``; ``noise``
            is a :class:`Noise`, or None where β = 0. ``h`` is a number, or a tensor that
            broadcasts against ``x`` where ``many_steps`` allows it.
        strong_order: Declared strong order for additive noise, None if not consistent.
        weak_order: Declared weak order, None if not consistent.
        whole_interval: The step is the interval between snapshots itself, and the data is the
            scheme's own, not the SDE's.
        noise: Whether β > 0 is possible.
        state_noise: Whether β may depend on the state; the step then takes ``drive.spread``.
        any_drift: Whether the drift may be other than a gradient.
        random_batches: Whether random batches are possible.
        integral: Whether the step needs the integral of the Brownian path.
        many_steps: Whether ``h`` may differ between populations.
    """

    name: str
    formula: str
    summary: str
    step: Step
    strong_order: float | None = None
    weak_order: float | None = None
    whole_interval: bool = False
    noise: bool = True
    state_noise: bool = False
    any_drift: bool = True
    random_batches: bool = True
    integral: bool = False
    many_steps: bool = True

    @property
    def consistent(self) -> bool:
        """Whether the data converges to the SDE as the step shrinks."""
        return not self.whole_interval

    def check(
        self,
        dynamics: Dynamics,
        *,
        step: float | None = None,
        interaction_batch: int | None = None,
        check_step: bool = False,
    ) -> None:
        """Refuse what the scheme cannot do.

        Raises:
            PopdynError: On an impossible pair, with the reason.
        """
        if dynamics.beta != 0 and not self.noise:
            raise PopdynError(
                f"scheme '{self.name}' and diffusivity {dynamics.beta or 'β(x)'}: no step of "
                "single particles has an entropy in its objective; expected diffusivity 0"
            )
        if dynamics.beta is None and not self.state_noise:
            able = ", ".join(name for name, each in SCHEMES.items() if each.state_noise)
            raise PopdynError(
                f"scheme '{self.name}' and a diffusivity that depends on the state: it is made for "
                f"additive noise; expected one of {able}"
            )
        more = [t.label() for t in dynamics.terms.values() if not t.conservative]
        if more and not self.any_drift:
            raise PopdynError(
                f"scheme '{self.name}' and {', '.join(more)}: its step descends an "
                "energy; expected a drift that is a gradient"
            )
        if interaction_batch is not None and not self.random_batches:
            raise PopdynError(
                f"scheme '{self.name}' and interaction_batch {interaction_batch}: its objective "
                "must stay the same while it is minimised; expected no interaction_batch"
            )
        if self.whole_interval and step is not None:
            raise PopdynError(
                f"scheme '{self.name}' and step {step:g}: it takes one step for each interval "
                "between snapshots; expected no step"
            )
        if self.whole_interval and check_step:
            raise PopdynError(
                f"scheme '{self.name}' and check_step: its data is defined by the whole interval, "
                "so half a step is other data, not a better one; expected no check_step"
            )


SCHEMES: Registry[Scheme] = Registry("popdyn.schemes", "scheme", __name__)

DEFAULT_SCHEME = "heun"


def scheme(name: str, formula: str, summary: str, **facts: Any) -> Callable[[Step], Step]:
    """Return a decorator that enters a step as a scheme; ``facts``: fields of ``Scheme``."""

    def enter(step: Step) -> Step:
        SCHEMES.enter(name, Scheme(name, formula, summary, step, **facts), step.__module__)
        return step

    return enter


def move(x: Tensor, drift: Tensor, h: Time) -> None:
    """Move ``x`` in place by h times the drift."""
    if isinstance(h, Tensor):
        x.addcmul_(drift, h)
    else:
        x.add_(drift, alpha=h)


def later(t: Time, h: Time) -> Time:
    """Return t + h."""
    # A tensor h has the component axis that a time has not.
    return t + (h.squeeze(-1) if isinstance(h, Tensor) else h)
