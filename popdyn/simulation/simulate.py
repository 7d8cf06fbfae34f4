"""Snapshots of a known energy: configuration, blocks, and where they go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from torch import Tensor

from popdyn.energies import FreeEnergy
from popdyn.errors import PopdynError
from popdyn.simulation.blocks import simulate_block
from popdyn.simulation.config import SimulationConfig, snapshot_times
from popdyn.simulation.initial import InitialLaw, initial_law
from popdyn.simulation.schemes import DEFAULT_SCHEME
from popdyn.snapshots import make_tree, write

__all__ = ["simulate"]

DEFAULT_PARTICLES = 10_000


def simulate(
    energy: FreeEnergy,
    *,
    particles: int | Sequence[int] | None = None,
    n_particles: int | Sequence[int] | None = None,
    snapshots: int = 6,
    dt: float = 0.01,
    times: Sequence[float] | np.ndarray | None = None,
    step: float | None = None,
    scheme: str = DEFAULT_SCHEME,
    dim: int | None = None,
    initial: str | Path | np.ndarray | Tensor | InitialLaw = "uniform",
    initial_params: Mapping[str, Any] | None = None,
    paired: bool = False,
    test_particles: int | Sequence[int] | None = None,
    seed: int = 0,
    block: int = 1 << 20,
    out: str | Path | None = None,
    overwrite: bool = False,
) -> xr.DataTree:
    """Return snapshots of particles that follow an energy.

    Args:
        energy: V, W and β.
        particles: Particles in each snapshot: one number, or one for each; 10 000 if None.
        n_particles: Another spelling of ``particles``.
        snapshots: How many, the first at time 0.
        dt: Time between them, dimensionless.
        times: Snapshot times instead of the two; they need not be evenly spaced.
        step: Longest integration step; a twentieth of each interval if None. Every interval is
            divided into equal steps.
        scheme: A name of ``SCHEMES``.
        dim: Dimension; 2, or that of an initial array, if None.
        initial: A name of ``INITIAL_LAWS``, a ``.npy`` file, or an array ``(m, d)``.
        initial_params: Parameters of a named initial law.
        paired: The same particles at every time instead of an independent population for each.
        test_particles: Particles in each snapshot of the test group; as ``particles`` if None.
        seed: Seed of everything random.
        block: Particles that are made at once.
        out: A store to write; the tree that is returned reads from it.
        overwrite: Whether an existing ``out`` is replaced.

    Returns:
        A snapshot tree of format 1.

    Raises:
        PopdynError: On an option out of range, or a simulation that leaves finite numbers.

    Example:
        >>> data = simulate(FreeEnergy("styblinski_tang"), particles=100, snapshots=3)
        >>> data["train"]["x"].shape
        (3, 100, 2)
    """
    law, d = initial_law(initial, initial_params, dim)
    t = snapshot_times(times, snapshots, dt)
    train = _counts(_one_of(particles, n_particles), len(t))
    config = SimulationConfig(
        times=t,
        train=train,
        test=train if test_particles is None else _counts(test_particles, len(t)),
        dim=d,
        initial=law,
        scheme=scheme,
        step=step,
        paired=paired,
        seed=seed,
        block=block,
    )
    groups = [_group(energy, config, name) for name in ("train", "test")]
    data = make_tree(*groups, t, _attributes(energy, config))
    if out is not None:
        write(data, out, overwrite=overwrite)
    return data


def _group(energy: FreeEnergy, config: SimulationConfig, group: str) -> list[np.ndarray]:
    blocks = [simulate_block(energy, config, group, b) for b in range(config.blocks(group))]
    if not blocks:
        return [np.zeros((0, config.dim), np.float32) for _ in config.times]
    return [np.concatenate(parts) for parts in zip(*blocks, strict=True)]


def _attributes(energy: FreeEnergy, config: SimulationConfig) -> dict[str, Any]:
    return {
        "title": f"simulated snapshots of {energy!r}",
        "observation": "paired" if config.paired else "unpaired",
        "energy": energy.spec(),
        "initial": config.initial.spec(),
        "scheme": config.scheme,
        "step": config.longest_step,
        "seed": config.seed,
    }


def _one_of(particles: Any, n_particles: Any) -> Any:
    if particles is not None and n_particles is not None and particles != n_particles:
        raise PopdynError(
            f"particles is {particles} and n_particles is {n_particles}: expected one of the two"
        )
    given = n_particles if particles is None else particles
    return DEFAULT_PARTICLES if given is None else given


def _counts(particles: int | Sequence[int], snapshots: int) -> tuple[int, ...]:
    if np.ndim(particles) == 0:
        return (int(particles),) * snapshots  # type: ignore[arg-type]
    return tuple(int(n) for n in particles)  # type: ignore[union-attr]
