"""Options of JKOnet*."""

from __future__ import annotations

import math
from dataclasses import dataclass

from popdyn.errors import PopdynError
from popdyn.learners.checks import check_diffusivity, check_energies, check_least
from popdyn.learners.jkonet_star_density import DENSITIES
from popdyn.registry import lookup

__all__ = ["JKOnetStarOptions"]

MODELS = ("linear", "mlp", "published")


@dataclass(frozen=True)
class JKOnetStarOptions:
    """Options of JKOnet*; all quantities are dimensionless.

    The published protocol is ``model="published", early_stop=False, density="mixture"`` with
    ``epochs=1000``.

    Attributes:
        energies: What is learned; the rest is 0 or fixed.
        diffusivity: β if it is known, else None: learned if asked for, or 0.
        time_varying: Whether V depends on time.
        model: ``linear`` (features, closed form), ``mlp`` (SiLU network of standardised positions)
            or ``published`` (softplus network of the positions as they are).
        density: How ∇log ρ is estimated where there is diffusion: ``mixture`` or
            ``score_matching``.
        block: Particles of a block of the couplings; 0 for one plan of all.
        particles: Most particles of each snapshot that are coupled.
        debias: Whether what the coupling of two samples of one population does is taken off. None:
            with ``linear``; a network's early stop cannot pay for the noise that it adds.
        early_stop: Whether held-out couplings choose how many epochs a network is trained, on all
            particles then, or the ridges of ``linear``. Else nothing is held out: all epochs are
            done, and ``linear`` takes ``ridge``.
        epochs: Most passes over the couplings; ``linear`` needs none.
        batch: Pairs in a step.
        learning_rate: Rate of Adam.
        hidden: Widths of the layers.
        ridge: Relative ridge of ``linear`` where nothing is held out.
        degree: Highest degree in time of ``linear`` with ``time_varying``.
        folds: Parts of the particles whose couplings are held out in turn, for ``linear``.
        iterations: Most iterations of the transport solver.
        validation_fraction: Part of each snapshot for the held-out couplings of a network.
    """

    energies: tuple[str, ...] = ("potential",)
    diffusivity: float | None = None
    time_varying: bool = False
    model: str = "linear"
    density: str = "score_matching"
    block: int = 1000
    particles: int = 20_000
    debias: bool | None = None
    early_stop: bool = True
    epochs: int = 100
    batch: int = 250
    learning_rate: float = 1e-3
    hidden: tuple[int, ...] = (64, 64)
    ridge: float = 1e-2
    degree: int = 3
    folds: int = 5
    iterations: int = 10_000_000
    validation_fraction: float = 0.2

    def __post_init__(self) -> None:
        check_energies(self.energies)
        check_diffusivity(self.diffusivity)
        if self.model not in MODELS:
            raise PopdynError(f"model is '{self.model}': expected one of {', '.join(MODELS)}")
        lookup(DENSITIES, self.density, "density")
        if self.time_varying and "potential" not in self.energies:
            raise PopdynError(
                f"time_varying with energies '{','.join(self.energies)}': expected 'potential' "
                "among them"
            )
        check_least(self, block=0, particles=4, epochs=1, batch=1, degree=1, folds=2, iterations=1)
        if not self.hidden or min(self.hidden) < 1:
            raise PopdynError(f"hidden is {self.hidden}: expected widths of 1 or more")
        if not 0 < self.learning_rate < math.inf:
            raise PopdynError(f"learning_rate is {self.learning_rate}: expected a number > 0")
        if not 0 < self.ridge < math.inf:
            raise PopdynError(f"ridge is {self.ridge}: expected a number > 0")
        if not 0 < self.validation_fraction < 1:
            raise PopdynError(
                f"validation_fraction is {self.validation_fraction}: expected between 0 and 1"
            )

    @property
    def debiased(self) -> bool:
        """Whether the displacements of sampling alone are taken off."""
        return self.model == "linear" if self.debias is None else self.debias

    @property
    def noisy(self) -> bool:
        """Whether the density of the snapshots enters."""
        return "diffusion" in self.energies or bool(self.diffusivity)
