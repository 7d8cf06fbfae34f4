"""Options of JKOnet*."""

from __future__ import annotations

import math
from dataclasses import dataclass

from popdyn.errors import PopdynError
from popdyn.learners.checks import check_diffusivity, check_least, check_parts
from popdyn.learners.jkonet_star.density import DENSITIES
from popdyn.registry import lookup

__all__ = ["JKOnetStarOptions"]

MODELS = ("linear", "mlp", "published")


@dataclass(frozen=True)
class JKOnetStarOptions:
    """Options of JKOnet*; all quantities are dimensionless.

    The published protocol is ``model="published", early_stop=False, density="mixture"`` with
    ``epochs=1000``.

    Attributes:
        learn: What is learned; the rest is 0 or fixed.
        diffusivity: β if it is known, else None: learned if asked for, or 0.
        time_varying: Whether V depends on time.
        model: ``linear`` (features, closed form), ``mlp`` (SiLU network of standardised positions)
            or ``published`` (softplus network of the positions as they are).
        density: How ∇log ρ is estimated where there is diffusion: ``mixture`` or
            ``score_matching``.
        block: Particles of a block of the couplings; 0 for one plan of all.
        particles: Most particles of each snapshot that are coupled.
        debias: Weight in [0, 1] of pairs from which what the coupling of two samples of one
            population does is taken off, beside plain ones: less bias and more noise. None: one
            half with ``linear``, 0 with networks.
        early_stop: Whether held-out couplings choose the ridges of ``linear``, or how many epochs
            a network is trained on all particles: as many steps as two networks, each of one half,
            take until they explain the couplings of the other half best. Else nothing is held
            out: all epochs are done, and ``linear`` takes ``ridge``.
        epochs: Most passes over the couplings; ``linear`` needs none.
        batch: Pairs in a step.
        learning_rate: Rate of Adam.
        hidden: Widths of the layers.
        ridge: Relative ridge of ``linear`` where nothing is held out.
        degree: Highest degree in time of ``linear`` with ``time_varying``.
        folds: How often the couplings of a part of the particles are held out, for ``linear``:
            random halves, drawn anew each time, or as many blocks as there are.
        iterations: Most iterations of the transport solver.
    """

    learn: tuple[str, ...] = ("potential",)
    diffusivity: float | None = None
    time_varying: bool = False
    model: str = "linear"
    density: str = "score_matching"
    block: int = 1000
    particles: int = 20_000
    debias: float | None = None
    early_stop: bool = True
    epochs: int = 100
    batch: int = 250
    learning_rate: float = 1e-3
    hidden: tuple[int, ...] = (64, 64)
    ridge: float = 1e-2
    degree: int = 3
    folds: int = 12
    iterations: int = 10_000_000

    def __post_init__(self) -> None:
        check_parts(self.learn)
        check_diffusivity(self.diffusivity)
        if self.model not in MODELS:
            raise PopdynError(f"model is '{self.model}': expected one of {', '.join(MODELS)}")
        lookup(DENSITIES, self.density, "density")
        if self.time_varying and "potential" not in self.learn:
            raise PopdynError(
                f"time_varying with learn '{','.join(self.learn)}': expected 'potential' among them"
            )
        check_least(self, block=0, particles=4, epochs=1, batch=1, degree=1, folds=2, iterations=1)
        if not self.hidden or min(self.hidden) < 1:
            raise PopdynError(f"hidden is {self.hidden}: expected widths of 1 or more")
        if not 0 < self.learning_rate < math.inf:
            raise PopdynError(f"learning_rate is {self.learning_rate}: expected a number > 0")
        if not 0 < self.ridge < math.inf:
            raise PopdynError(f"ridge is {self.ridge}: expected a number > 0")
        if not 0 <= self.debiased <= 1:
            raise PopdynError(f"debias is {self.debias}: expected between 0 and 1")

    @property
    def debiased(self) -> float:
        """Weight of the pairs without the displacements of sampling alone."""
        if self.debias is None:
            return 0.5 if self.model == "linear" else 0.0
        return float(self.debias)

    @property
    def noisy(self) -> bool:
        """Whether the density of the snapshots enters."""
        return "diffusion" in self.learn or bool(self.diffusivity)
