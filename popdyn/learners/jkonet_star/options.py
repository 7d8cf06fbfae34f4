"""Options of JKOnet*."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from popdyn.base.errors import PopdynError
from popdyn.base.options import Bounds, Options
from popdyn.estimation.parts import Part

__all__ = ["JKOnetStarOptions"]


@dataclass(frozen=True)
class JKOnetStarOptions(Options):
    """Options of JKOnet*; all quantities are dimensionless.

    The published protocol is ``model="published", early_stop=False, density="mixture"`` with
    ``epochs=1000``.

    Attributes:
        learn: What is learned; the rest is 0 or fixed.
        diffusivity: β if it is known. None: learned if asked for, or 0.
        time_varying: Whether V depends on time.
        model: ``features`` (in closed form), ``network`` (SiLU, of standardised positions) or
            ``published`` (softplus network of the positions as they are).
        density: How ∇log ρ is estimated where there is diffusion: ``mixture`` or
            ``score_matching``.
        block: Particles of a block of the couplings; 0 for one plan of all.
        particles: Most particles of each snapshot that are coupled.
        debias: Weight in [0, 1] of pairs from which what the coupling of two samples of one
            population does is taken off, beside plain ones: less bias and more noise. None: one
            half with ``features``, 0 with networks.
        early_stop: Whether held-out couplings choose the ridges of ``features``, or how many epochs
            a network is trained on all particles: as many steps as two networks, each of one half,
            take until they explain the couplings of the other half best. Else nothing is held
            out: all epochs are done, and ``features`` takes ``ridge``.
        epochs: Most passes over the couplings; ``features`` needs none.
        batch: Pairs in a step.
        learning_rate: Rate of Adam.
        hidden: Widths of the layers.
        ridge: Relative ridge of ``features`` where nothing is held out.
        degree: Highest degree in time of ``features`` with ``time_varying``.
        folds: How often the couplings of a part of the particles are held out, for ``features``:
            random halves, drawn anew each time, or as many blocks as there are.
        iterations: Most iterations of the transport solver.
    """

    learn: tuple[Part, ...] = ("potential",)
    diffusivity: Annotated[float | None, Bounds(ge=0)] = None
    time_varying: bool = False
    model: Literal["features", "network", "published"] = "features"
    density: Literal["mixture", "score_matching"] = "score_matching"
    block: Annotated[int, Bounds(ge=0)] = 1000
    particles: Annotated[int, Bounds(ge=4)] = 20_000
    debias: Annotated[float | None, Bounds(ge=0, le=1)] = None
    early_stop: bool = True
    epochs: Annotated[int, Bounds(ge=1)] = 100
    batch: Annotated[int, Bounds(ge=1)] = 250
    learning_rate: Annotated[float, Bounds(gt=0)] = 1e-3
    hidden: Annotated[tuple[int, ...], Bounds(ge=1, what="widths")] = (64, 64)
    ridge: Annotated[float, Bounds(gt=0)] = 1e-2
    degree: Annotated[int, Bounds(ge=1)] = 3
    folds: Annotated[int, Bounds(ge=2)] = 12
    iterations: Annotated[int, Bounds(ge=1)] = 10_000_000

    def check(self) -> None:
        if self.time_varying and "potential" not in self.learn:
            raise PopdynError(
                f"time_varying with learn '{','.join(self.learn)}': expected 'potential' among them"
            )

    @property
    def debiased(self) -> float:
        """Weight of the pairs without the displacements of sampling alone."""
        if self.debias is None:
            return 0.5 if self.model == "features" else 0.0
        return float(self.debias)

    @property
    def noisy(self) -> bool:
        """Whether the density of the snapshots enters."""
        return "diffusion" in self.learn or bool(self.diffusivity)
