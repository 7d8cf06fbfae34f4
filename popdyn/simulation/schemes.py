"""Time stepping schemes for dX = −∇V dt − (∇W∗ρ) dt + √(2β) dB, with their declared orders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from popdyn.energies import FreeEnergy
from popdyn.errors import PopdynError
from popdyn.simulation.brownian import Noise
from popdyn.simulation.forces import Drive
from popdyn.simulation.jko import jko_step
from popdyn.simulation.sde_library import milstein_step, srk_step

__all__ = ["DEFAULT_SCHEME", "SCHEMES", "Scheme"]

Time = float | Tensor


@dataclass(frozen=True)
class Scheme:
    """A scheme: its facts, and one step.

    Attributes:
        name: Registry key.
        formula: One step, in plain text; ∇J stands for ∇V + ∇W∗ρ.
        summary: One line on when to take it.
        step: ``step(x, t, h, drive, noise)`` moves ``x`` in place over ``[t, t + h]``; ``noise``
            is a :class:`Noise`, or None where β = 0. ``h`` is a number, or a tensor that
            broadcasts against ``x`` where ``many_steps`` allows it.
        strong_order: Declared strong order for additive noise, None if not consistent.
        weak_order: Declared weak order, None if not consistent.
        whole_interval: The step is the interval between snapshots itself, and the data is the
            scheme's own, not the SDE's.
        noise: Whether β > 0 is possible.
        random_batches: Whether random batches are possible.
        integral: Whether the step needs the integral of the Brownian path.
        many_steps: Whether ``h`` may differ between populations.
    """

    name: str
    formula: str
    summary: str
    step: Callable[[Tensor, Time, Time, Drive, Noise | None], None]
    strong_order: float | None = None
    weak_order: float | None = None
    whole_interval: bool = False
    noise: bool = True
    random_batches: bool = True
    integral: bool = False
    many_steps: bool = True

    @property
    def consistent(self) -> bool:
        """Whether the data converges to the SDE as the step shrinks."""
        return not self.whole_interval

    def check(
        self,
        energy: FreeEnergy,
        *,
        step: float | None = None,
        interaction_batch: int | None = None,
        check_step: bool = False,
    ) -> None:
        """Refuse what the scheme cannot do.

        Raises:
            PopdynError: On an impossible pair, with the reason.
        """
        if energy.diffusivity > 0 and not self.noise:
            raise PopdynError(
                f"scheme '{self.name}' and diffusivity {energy.diffusivity:g}: no step of single "
                "particles has an entropy in its objective; expected diffusivity 0"
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


def _euler_maruyama(x: Tensor, t: Time, h: Time, drive: Drive, noise: Noise | None) -> None:
    _descend(x, drive.gradient(x, t), h)
    if noise is not None:
        x.add_(noise.increment)


def _heun(x: Tensor, t: Time, h: Time, drive: Drive, noise: Noise | None) -> None:
    gradient = drive.gradient(x, t)
    ahead = x.clone()
    _descend(ahead, gradient, h)
    if noise is not None:
        ahead.add_(noise.increment)
    gradient += drive.gradient(ahead, _later(t, h))
    _descend(x, gradient, h / 2)
    if noise is not None:
        x.add_(noise.increment)


def _descend(x: Tensor, gradient: Tensor, h: Time) -> None:
    if isinstance(h, Tensor):
        x.addcmul_(gradient, h, value=-1.0)
    else:
        x.add_(gradient, alpha=-h)


def _later(t: Time, h: Time) -> Time:
    # A tensor h has the component axis that a time has not.
    return t + (h.squeeze(-1) if isinstance(h, Tensor) else h)


SCHEMES: dict[str, Scheme] = {
    scheme.name: scheme
    for scheme in (
        Scheme(
            "heun",
            "y = x − h∇J(x,t) + dB;  x ← x − ½h(∇J(x,t) + ∇J(y,t+h)) + dB",
            "the accurate default: two gradients a step, weak order 2",
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
        Scheme(
            "srk",
            "Rößler's SRA1 for additive noise, by torchsde",
            "close to single paths: strong order 1.5",
            srk_step,
            strong_order=1.5,
            weak_order=2.0,
            integral=True,
            many_steps=False,
        ),
        Scheme(
            "milstein",
            "x ← x − h∇J(x,t) + dB: its correction vanishes for additive noise; by torchsde",
            "a second opinion on euler_maruyama",
            milstein_step,
            strong_order=1.0,
            weak_order=1.0,
            many_steps=False,
        ),
        Scheme(
            "one_step",
            "x ← x − τ∇J(x,t) + dB, τ the whole interval",
            "the field's legacy protocol: one explicit step for each interval; not the SDE",
            _euler_maruyama,
            whole_interval=True,
        ),
        Scheme(
            "jko",
            "x ← argmin_y V(y,t+τ) + (W∗ρ)(y) + |y − x|²/2τ, W jointly for the population",
            "the JKO step itself, β = 0: data that a JKO learner's model fits exactly",
            jko_step,
            whole_interval=True,
            noise=False,
            random_batches=False,
            many_steps=False,
        ),
    )
}

DEFAULT_SCHEME = "heun"
