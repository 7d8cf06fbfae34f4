"""Snapshots of a known energy: from options to a tree in memory or a store on disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import xarray as xr
from torch import Tensor

from popdyn.base.errors import blaming
from popdyn.base.options import read_options
from popdyn.base.plain import plain_numbers
from popdyn.dynamics import Dynamics, FreeEnergy
from popdyn.simulation.config import SimulationConfig, snapshot_times
from popdyn.simulation.initial import initial_law
from popdyn.simulation.options import SimulationOptions
from popdyn.simulation.output import run_simulation
from popdyn.snapshots.layout import block_rows

__all__ = ["configure", "simulate"]


def configure(**options: Any) -> SimulationConfig:
    """Return the checked configuration that :class:`SimulationOptions` mean.

    Raises:
        PopdynError: On an option out of range.

    Example:
        >>> configure(particles=100, snapshots=3).particle_steps("train")
        6000
    """
    o = read_options(SimulationOptions, options, "a simulation")
    with blaming("initial"):
        law, d = initial_law(o.initial, o.initial_params, o.dim)
    with blaming("times"):
        t = snapshot_times(o.times, o.snapshots, o.dt)
    train = _counts(o.particles, len(t))
    test = train if o.test_particles is None else _counts(o.test_particles, len(t))
    return SimulationConfig(
        times=t,
        train=train,
        test=test,
        dim=d,
        initial=law,
        block=block_rows(max(1, *train, *test), d) if o.block is None else o.block,
        scheme=o.scheme,
        step=o.step,
        paired=o.paired,
        noise=o.noise,
        outliers=o.outliers,
        growth_as=o.growth_as,
        proportions=o.proportions,
        interaction_batch=o.interaction_batch,
        seed=o.seed,
        device=o.device,
        threads=torch.get_num_threads(),
    )


@plain_numbers(whole=("reference_cells", "workers"))
def simulate(
    energy: Dynamics | str | Callable[..., Tensor],
    *,
    check_step: bool = False,
    reference: bool = False,
    reference_cells: int | None = None,
    workers: int = 1,
    scheduler: str | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    progress: bool = False,
    attrs: Mapping[str, Any] | None = None,
    **options: Any,
) -> xr.DataTree:
    """Return snapshots of particles that follow an energy, or dynamics that are more than one.

    Args:
        energy: A ``FreeEnergy`` or other ``Dynamics``; or V alone, as a name or a callable.
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
        **options: ``particles``, ``snapshots``, ``dt``, ``times``, ``step``, ``scheme``, ``dim``,
            ``initial``, ``paired``, ``noise``, ``seed`` and the others of
            :class:`popdyn.simulation.SimulationOptions`.

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
    return run_simulation(
        energy if isinstance(energy, Dynamics) else FreeEnergy(energy),
        configure(**options),
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


def _counts(particles: int | tuple[int, ...], snapshots: int) -> tuple[int, ...]:
    return (particles,) * snapshots if isinstance(particles, int) else particles
