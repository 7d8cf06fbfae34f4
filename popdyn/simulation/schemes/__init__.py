"""The registry of schemes for dX = b(X, t) dt + √(2β) dB: a file of this folder each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Generator, Tensor

from popdyn.base.errors import PopdynError
from popdyn.base.registry import Registry
from popdyn.dynamics import Dynamics
from popdyn.dynamics.drive import Drive
from popdyn.simulation.brownian import Noise

__all__ = ["DEFAULT_SCHEME", "SCHEMES", "Scheme", "descend", "later", "scheme"]

Time = float | Tensor
Step = Callable[[Tensor, Time, Time, Drive, Noise | None], None]
Solve = Callable[[Tensor, float, float, int, Drive, Generator | None], None]


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
        state_dimension: Largest dimension in which β may depend on the state, 0 if in none. A step
            then multiplies its noise by ``drive.spread``, or there is ``solve``.
        solve: ``solve(x, t, h, steps, drive, generator)`` moves ``x`` in place over that many
            steps at once, where β depends on the state: a solver of another library.
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
    state_dimension: float = 0
    solve: Solve | None = None
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
        dim: int = 1,
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
        if dynamics.beta is None:
            self._check_state_noise(dynamics, interaction_batch, check_step, dim)
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

    def _check_state_noise(
        self, dynamics: Dynamics, batch: int | None, check_step: bool, dim: int
    ) -> None:
        what = f"scheme '{self.name}' and a diffusivity that depends on the state"
        able = [s.name for s in SCHEMES.values() if s.state_dimension >= dim and s.consistent]
        if dim > self.state_dimension:
            reason = (
                f"in {dim} dimensions its noise does not commute"
                if self.state_dimension
                else "it is made for additive noise"
            )
            raise PopdynError(f"{what}: {reason}; expected one of {', '.join(able)}")
        beside = {
            "a growth": "growth" in dynamics.terms,
            f"interaction_batch {batch}": batch is not None,
            "check_step": check_step,
        }
        for name, there in beside.items():
            if there and self.solve is not None:
                raise PopdynError(
                    f"{what}, beside {name}: its solver takes many steps at once; expected "
                    "euler_maruyama"
                )


SCHEMES: Registry[Scheme] = Registry("popdyn.schemes", "scheme", __name__)

DEFAULT_SCHEME = "heun"


def scheme(name: str, formula: str, summary: str, **facts: Any) -> Callable[[Step], Step]:
    """Return a decorator that enters a step as a scheme; ``facts``: fields of ``Scheme``."""

    def enter(step: Step) -> Step:
        SCHEMES.enter(name, Scheme(name, formula, summary, step, **facts), step.__module__)
        return step

    return enter


def descend(x: Tensor, slope: Tensor, h: Time) -> None:
    """Move ``x`` in place by −h times the slope, which is minus the drift."""
    if isinstance(h, Tensor):
        x.addcmul_(slope, h, value=-1.0)
    else:
        x.add_(slope, alpha=-h)


def later(t: Time, h: Time) -> Time:
    """Return t + h."""
    # A tensor h has the component axis that a time has not.
    return t + (h.squeeze(-1) if isinstance(h, Tensor) else h)
