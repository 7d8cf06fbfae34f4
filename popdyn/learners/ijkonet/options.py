"""Options of iJKOnet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from torch import nn

from popdyn.base.errors import PopdynError
from popdyn.base.options import Bounds, OneOf, Options
from popdyn.estimation.options import WeakFormOptions, check_together
from popdyn.estimation.parts import AUTO, Choice, check_choice

__all__ = ["IJKOnetOptions"]

RATE = 3e-3  # of AdamW, where none is named


@dataclass(frozen=True)
class IJKOnetOptions(Options):
    """Options of iJKOnet; all quantities are dimensionless.

    Attributes:
        inner: Inner solver: ``network``, ``proximal`` or ``simulate``.
        model: What V, W are made of: ``features``, solved for by Newton's method (with
            ``simulate``), or a ``network``, trained by gradient steps. ``auto``: features with
            ``simulate``, and where these do not explain the snapshots by V alone the better of
            the two on held-out particles; else a network. ``run.model`` says which it was.
        potential: A ``torch.nn.Module`` of one's own for V, ``(..., d) → (...)``, or ``(x, t)`` if
            it has ``time_dependent = True``; from Python alone. It is a network.
        learn: What is learned, the rest is 0 or fixed; ``auto``: what the snapshots ask for.
        diffusivity: β if it is known. None: learned if asked for, or 0.
        time_varying: Whether V depends on time.
        hold_ends: With a time-varying network: V stands still over the first interval, and after
            the middle of the last; between them it moves.
        steps: Training steps of a network; Newton's method stops by itself. None: 2000, and 1000
            where the network only stands in for features that do not explain the snapshots.
        batch: Particles of each snapshot in a step. None: 1000, and 500 there.
        learning_rate: Peak rate of AdamW; warm-up and cosine. None: 0.003, and 0.01 of a network
            that only tells the structure of features.
        weight_decay: AdamW's weight decay.
        hidden: Widths of the potential's layers.
        inputs: How a network's inputs are standardised: each ``component`` by its own spread, or
            all by the ``common`` one of the widest, so that components that hardly vary weigh
            little.
        interaction: What W may be where it is a network: ``radial``, a smooth function of |z|, or
            ``even``, any even function.
        seeded: Whether networks for V and W begin at the weak form's solution. None: where
            interaction or diffusion is learned as well.
        entropy_gradient: Whether β follows the gradient of the entropies, on which it drifts,
            instead of being held at the weak form's estimate.
        substeps: Integration steps of every interval with ``simulate`` and a network; None: as many
            as the stiffness of the present energy asks for.
        inner_steps: Ascent steps of the inner network for each step of the energy.
        multimap: With ``network``: one map for each interval.
        first_order: Leave out the second-order recovery after a JKO-based fit.
        every: Steps between two evaluations of the held-out criterion.
        validation_fraction: Part of each snapshot kept for that criterion.
    """

    inner: Annotated[str, OneOf("inner solver", ("popdyn.learners.jko.inner:INNERS",))] = "simulate"
    model: Literal["auto", "features", "network"] = "auto"
    potential: nn.Module | None = None
    learn: tuple[Choice, ...] = AUTO
    diffusivity: Annotated[float | None, Bounds(ge=0)] = None
    time_varying: bool = False
    hold_ends: bool = True
    steps: Annotated[int | None, Bounds(ge=1)] = None
    batch: Annotated[int | None, Bounds(ge=1)] = None
    learning_rate: Annotated[float | None, Bounds(gt=0)] = None
    weight_decay: Annotated[float, Bounds(ge=0)] = 1e-2
    hidden: Annotated[tuple[int, ...], Bounds(ge=1, what="widths")] = (64, 64)
    inputs: Literal["component", "common"] = "component"
    interaction: Literal["radial", "even"] = "radial"
    seeded: bool | None = None
    entropy_gradient: bool = False
    substeps: Annotated[int | None, Bounds(ge=1)] = None
    inner_steps: Annotated[int, Bounds(ge=1)] = 5
    multimap: bool = False
    first_order: bool = False
    every: Annotated[int, Bounds(ge=1)] = 100
    validation_fraction: Annotated[float, Bounds(gt=0, lt=1)] = 0.2

    def check(self) -> None:
        check_choice(self.learn)
        more = [part for part in self.learn if part in ("growth", "circulation")]
        if more and not self.linear:
            raise PopdynError(
                f"learn '{','.join(self.learn)}' with a network: {more[0]} is learned by features, "
                "expected --inner simulate with model features"
            )
        check_together(self.learn)
        if self.potential is not None and self.learn == AUTO:
            object.__setattr__(self, "learn", ("potential",))
        if self.inner == "proximal" and (self.diffusivity or self.learns_diffusivity):
            raise PopdynError(
                "--inner proximal has no entropy term, found diffusion: use --inner simulate, "
                "or --inner network"
            )
        if self.potential is not None and not isinstance(self.potential, nn.Module):
            raise PopdynError(
                f"potential is {self.potential!r}: expected a torch.nn.Module, given from Python"
            )
        if self.potential is not None and (self.model == "features" or self.begins_seeded):
            raise PopdynError(
                "a module of one's own for V is trained from its own weights: expected model "
                "network, learn potential, and not seeded"
            )
        if self.model == "features" and self.inner != "simulate":
            raise PopdynError(
                f"model features needs --inner simulate, found {self.inner}: use --model network"
            )
        if self.linear and self.interaction == "even" and "interaction" in self.learn:
            raise PopdynError(
                "interaction 'even' is a network: use --model network, or --inner network"
            )
        if not self.linear and set(self.learn) == {"diffusion"}:
            raise PopdynError(
                "learn 'diffusion' alone with a network: use --inner simulate with model features"
            )

    @property
    def linear(self) -> bool:
        """Whether the energies are linear in features."""
        return self.inner == "simulate" and self.model != "network" and self.potential is None

    @property
    def weak_form(self) -> WeakFormOptions:
        """What the weak form is asked for, where it solves for the same."""
        return WeakFormOptions(self.learn, self.diffusivity, self.time_varying)

    @property
    def training(self) -> tuple[int, int]:
        """Steps of a network, and particles of each snapshot in one."""
        steps, batch = (1000, 500) if self.linear else (2000, 1000)
        return self.steps or steps, self.batch or batch

    @property
    def peak_rate(self) -> float:
        """Peak rate of AdamW."""
        return self.learning_rate or RATE

    @property
    def learns_diffusivity(self) -> bool:
        """Whether β is learned rather than given."""
        return "diffusion" in self.learn and self.diffusivity is None

    @property
    def begins_seeded(self) -> bool:
        """Whether networks begin at the weak form's solution."""
        if self.seeded is None:
            return self.learn not in (AUTO, ("potential",))
        return self.seeded
