"""Options of a simulation: what ``simulate`` takes, what a suite says, and the command's flags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from popdyn.base.options import Bounds, Off, OneOf, Options
from popdyn.base.plain import LARGEST
from popdyn.simulation.schemes import DEFAULT_SCHEME

__all__ = ["MAX_DIMENSION", "SimulationOptions"]

# Limits beyond which a run ends in nobody's lifetime.
MAX_SNAPSHOTS = 10**6
MAX_DIMENSION = 10**6


@dataclass(frozen=True, eq=False)
class SimulationOptions(Options):
    """Options of a simulation, less its energy; all quantities are dimensionless.

    Attributes:
        particles: Particles in each snapshot: one number, or one for each.
        test_particles: Particles in each snapshot of the test group. None: as ``particles``.
        snapshots: How many, the first at time 0.
        dt: Time between them.
        times: Snapshot times instead of the two; they need not be evenly spaced.
        step: Longest integration step; every interval is divided into equal ones. None: a
            twentieth of each interval.
        scheme: Time stepping scheme, a name of `popdyn list schemes`.
        dim: Dimension. None: 2, or that of an initial array.
        initial: A name of `popdyn list initial`, a ``.npy`` file, or from Python an array
            ``(m, d)``, whose rows are dealt out: train and test group share none, and none starts
            two particles as long as they last; where they do not, ``initial["note"]`` in the
            attributes says so.
        initial_params: Parameters of a named initial law.
        paired: The same particles at every time, or an independent population for each.
        noise: Standard deviation of the observation noise on each component; the dynamics do
            not see it.
        outliers: Share of the particles that are recorded anywhere within five standard deviations
            of the mean of their block in each component, wherever they are. The test group, where
            scores are taken, has none.
        growth_as: ``weights``: each particle carries its mass, exact to the scheme; ``births``:
            cells of equal weight divide and die, and each snapshot has as many as are alive.
        proportions: See proportions alone: the total mass is not measured.
        interaction_batch: Partners of each particle in each step (the random batch method). None:
            all pairs.
        seed: Seed of everything random.
        device: Where torch steps the particles, such as ``cuda``; a custom energy must take
            tensors that live there.
        block: Particles of a snapshot that are made at once; an interacting population that is
            larger is made of independent systems of this size. None: about 16 MiB of them.

    Example:
        >>> SimulationOptions(particles=100).snapshots
        6
        >>> SimulationOptions(particles=0)
        Traceback (most recent call last):
        popdyn.base.errors.PopdynError: particles is 0: expected 1 or more
    """

    particles: Annotated[int | tuple[int, ...], Bounds(ge=1)] = 10_000
    test_particles: Annotated[int | tuple[int, ...] | None, Bounds(ge=0)] = None
    snapshots: Annotated[int, Bounds(ge=2, le=MAX_SNAPSHOTS)] = 6
    dt: Annotated[float, Bounds(gt=0)] = 0.01
    times: tuple[float, ...] | None = None
    step: Annotated[float | None, Bounds(gt=0)] = None
    scheme: Annotated[str, OneOf("scheme", ("popdyn.simulation.schemes:SCHEMES",))] = DEFAULT_SCHEME
    dim: Annotated[int | None, Bounds(ge=1, le=MAX_DIMENSION)] = None
    initial: Any = "uniform"
    initial_params: Mapping[str, Any] | None = None
    paired: Annotated[bool, Off("unpaired")] = False
    noise: Annotated[float, Bounds(ge=0)] = 0.0
    outliers: Annotated[float, Bounds(ge=0, lt=1)] = 0.0
    growth_as: Literal["weights", "births"] = "weights"
    proportions: bool = False
    interaction_batch: Annotated[int | None, Bounds(ge=1)] = None
    seed: Annotated[int, Bounds(ge=0, le=LARGEST)] = 0
    device: str = "cpu"
    block: Annotated[int | None, Bounds(ge=1)] = None
