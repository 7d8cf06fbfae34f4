"""Snapshots of a known energy: from options to a tree in memory or a store on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from popdyn.base.errors import PopdynError
from popdyn.base.plain import plain_numbers
from popdyn.energies import FreeEnergy
from popdyn.simulation.config import MAX_DIMENSION, SimulationConfig, snapshot_times
from popdyn.simulation.initial import InitialLaw, initial_law
from popdyn.simulation.output import run_simulation
from popdyn.simulation.schemes import DEFAULT_SCHEME
from popdyn.snapshots.layout import block_rows

__all__ = ["configure", "simulate"]

DEFAULT_PARTICLES = 10_000


@plain_numbers(whole=("snapshots", "dim", "interaction_batch", "seed", "block"))
def configure(
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
    noise: float = 0.0,
    interaction_batch: int | None = None,
    test_particles: int | Sequence[int] | None = None,
    seed: int = 0,
    device: str = "cpu",
    block: int | None = None,
) -> SimulationConfig:
    """Return the checked configuration that the options of :func:`simulate` mean.

    Raises:
        PopdynError: On an option out of range.

    Example:
        >>> configure(particles=100, snapshots=3).particle_steps("train")
        6000
    """
    if dim is not None and dim > MAX_DIMENSION:
        raise PopdynError(f"dim is {dim}: expected {MAX_DIMENSION} or fewer")
    law, d = initial_law(initial, initial_params, dim)
    t = snapshot_times(times, snapshots, dt)
    train = _counts(_one_of(particles, n_particles), len(t), "particles")
    test = train if test_particles is None else _counts(test_particles, len(t), "test_particles")
    return SimulationConfig(
        times=t,
        train=train,
        test=test,
        dim=d,
        initial=law,
        block=block_rows(max(1, *train, *test), d) if block is None else block,
        scheme=scheme,
        step=step,
        paired=paired,
        noise=noise,
        interaction_batch=interaction_batch,
        seed=seed,
        device=device,
        threads=torch.get_num_threads(),
    )


@plain_numbers(whole=("reference_cells", "workers"))
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
    noise: float = 0.0,
    interaction_batch: int | None = None,
    test_particles: int | Sequence[int] | None = None,
    seed: int = 0,
    device: str = "cpu",
    block: int | None = None,
    check_step: bool = False,
    reference: bool = False,
    reference_cells: int | None = None,
    workers: int = 1,
    scheduler: str | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    progress: bool = False,
    attrs: Mapping[str, Any] | None = None,
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
        initial: A name of ``INITIAL_LAWS``, a ``.npy`` file, or an array ``(m, d)``, whose rows
            are dealt out: train and test group share none, and none starts two particles as
            long as they last; where they do not, ``initial["note"]`` in the attributes says so.
        initial_params: Parameters of a named initial law.
        paired: The same particles at every time instead of an independent population for each.
        noise: Standard deviation of the observation noise on each component; the dynamics do
            not see it.
        interaction_batch: Partners of each particle in each step (the random batch method);
            all pairs if None.
        test_particles: Particles in each snapshot of the test group; as ``particles`` if None.
        seed: Seed of everything random.
        device: Where torch steps the particles, such as ``"cuda"``; a custom energy must take
            tensors that live there.
        block: Particles of a snapshot that are made at once; about 16 MiB of them if None. An
            interacting population that is larger is made of independent systems of this size.
        check_step: Estimate the bias that the step leaves in each snapshot's moments, by a
            rerun with half the step on the same Brownian path; root attribute ``step_check``.
        reference: Solve the Fokker–Planck equation, too (one or two dimensions); group
            ``reference``. Its attribute ``numerical_diffusivity`` is what the grid adds to β.
        reference_cells: Cells of that solution along each axis; 400 in one dimension, 100 in
            two, if None.
        workers: Local processes that make blocks; 1 is this one, and no other is started.
        scheduler: Address of a Dask scheduler whose workers make the blocks; they see the same
            file system as this process.
        out: A store to write, block by block; the tree that is returned reads from it.
        overwrite: Whether an existing ``out`` is replaced.
        progress: Whether to show a bar on a terminal.
        attrs: Further root attributes, such as ``title`` or ``history``.

    Returns:
        A snapshot tree of format 2.

    Raises:
        PopdynError: On an option out of range, an impossible pair of scheme and system, a
            simulation that leaves finite numbers, or one that does not fit into memory.

    Example:
        >>> data = simulate(FreeEnergy("styblinski_tang"), particles=100, snapshots=3)
        >>> data["train"]["x"].shape
        (3, 100, 2)
    """
    config = configure(
        particles=particles,
        n_particles=n_particles,
        snapshots=snapshots,
        dt=dt,
        times=times,
        step=step,
        scheme=scheme,
        dim=dim,
        initial=initial,
        initial_params=initial_params,
        paired=paired,
        noise=noise,
        interaction_batch=interaction_batch,
        test_particles=test_particles,
        seed=seed,
        device=device,
        block=block,
    )
    return run_simulation(
        energy,
        config,
        check_step=check_step,
        reference=reference,
        reference_cells=reference_cells,
        workers=workers,
        scheduler=scheduler,
        out=out,
        overwrite=overwrite,
        progress=progress,
        attrs=attrs,
    )


def _one_of(particles: Any, n_particles: Any) -> Any:
    if particles is not None and n_particles is not None:
        raise PopdynError("particles and n_particles were both given: expected one of the two")
    given = n_particles if particles is None else particles
    return DEFAULT_PARTICLES if given is None else given


def _counts(particles: int | Sequence[int], snapshots: int, name: str) -> tuple[int, ...]:
    numbers = np.asarray(particles)
    if numbers.ndim > 1 or not np.issubdtype(numbers.dtype, np.integer):
        raise PopdynError(f"{name} is {particles!r}: expected a whole number, or a list of them")
    return tuple(int(n) for n in (numbers if numbers.ndim else [numbers] * snapshots))
