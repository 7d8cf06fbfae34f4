"""A configured simulation run to its end: in memory, or streamed to a store."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
import xarray as xr

from popdyn.base.errors import PopdynError
from popdyn.base.host import usual_torch
from popdyn.base.progress import progress_bar
from popdyn.dynamics import Dynamics
from popdyn.dynamics.drive import Drive
from popdyn.simulation.blocks import ExplosionError, simulate_block
from popdyn.simulation.config import SimulationConfig
from popdyn.simulation.fokker_planck import reference_density
from popdyn.simulation.runner import Task, disk_error, run_tasks
from popdyn.simulation.schemes import SCHEMES
from popdyn.simulation.step_check import step_bias
from popdyn.simulation.streams import generator
from popdyn.snapshots import make_tree, open_snapshots
from popdyn.snapshots.layout import CHUNK_BYTES
from popdyn.snapshots.tree import GROUPS
from popdyn.snapshots.writer import StoreWriter

__all__ = ["run_simulation"]

PILOT_PARTICLES = 2000
# Of the free disk: a run that resumes has written a part of its store already, and files compress.
DISK_SHARE = 2.0


@usual_torch()
def run_simulation(
    dynamics: Dynamics,
    config: SimulationConfig,
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
) -> xr.DataTree:
    """Return the snapshots of a configuration; :func:`simulate` explains the arguments."""
    config.check(dynamics)
    SCHEMES[config.scheme].check(dynamics, check_step=check_step)
    if workers < 1:
        raise PopdynError(f"workers is {workers}: expected 1 or more")
    _check_memory(dynamics, config, None if out is None else Path(out), 1 if scheduler else workers)
    probes = _probe(dynamics, config)
    attributes = {**_attributes(dynamics, config), **(attrs or {})}
    total = sum(config.particle_steps(group) for group in GROUPS)
    with progress_bar("simulate", total, visible=progress, unit="particle-steps") as report:
        where: dict[str, Any] = {"workers": workers, "scheduler": scheduler, "report": report}
        extras = _Extras(dynamics, config, check_step, reference, reference_cells)
        if out is None:
            return _in_memory(dynamics, config, attributes, extras, where)
        _streamed(dynamics, config, attributes, extras, where, Path(out), overwrite, probes)
    return open_snapshots(out)


class _Extras:
    """What is stored beside the particles on request."""

    def __init__(
        self,
        dynamics: Dynamics,
        config: SimulationConfig,
        check_step: bool,
        reference: bool,
        cells: int | None,
    ) -> None:
        self.dynamics, self.config = dynamics, config
        self.check_step, self.reference, self.cells = check_step, reference, cells

    def attributes(self) -> dict[str, Any]:
        return {"step_check": step_bias(self.dynamics, self.config)} if self.check_step else {}

    def groups(self) -> dict[str, xr.Dataset]:
        """Return the density of the law that the particles have before observation noise."""
        if not self.reference:
            return {}
        config = self.config
        density = config.initial.density
        n = min(PILOT_PARTICLES, *config.train)
        pilot = replace(config, train=(n,) * len(config.times), noise=0.0)
        x = np.concatenate(simulate_block(self.dynamics, pilot, "train", 0))
        bounds = list(zip(x.min(0).tolist(), x.max(0).tolist(), strict=True))
        solution = reference_density(
            self.dynamics, density, config.times, bounds=bounds, cells=self.cells
        )
        return {"reference": solution}


def _in_memory(
    dynamics: Dynamics,
    config: SimulationConfig,
    attributes: dict[str, Any],
    extras: _Extras,
    where: dict[str, Any],
) -> xr.DataTree:
    shape = (config.dim,)
    arrays = {g: [np.empty((n, *shape), np.float32) for n in config.counts(g)] for g in GROUPS}

    def done(task: Task, made: list[np.ndarray] | None) -> None:
        assert made is not None
        for whole, part in zip(arrays[task.group], made, strict=True):
            start = task.block * config.block
            whole[start : start + len(part)] = part

    tasks = [Task(g, b) for g in GROUPS for b in range(config.blocks(g))]
    groups = extras.groups()
    run_tasks(dynamics, config, tasks, done, **where)
    attributes = {**attributes, **extras.attributes()}
    tree = make_tree(arrays["train"], arrays["test"], config.times, attributes)
    for name, dataset in groups.items():
        tree[name] = xr.DataTree(dataset)
    return tree


def _streamed(
    dynamics: Dynamics,
    config: SimulationConfig,
    attributes: dict[str, Any],
    extras: _Extras,
    where: dict[str, Any],
    out: Path,
    overwrite: bool,
    probes: str,
) -> None:
    try:
        with StoreWriter(
            out,
            times=config.times,
            counts={g: config.counts(g) for g in GROUPS},
            dimension=config.dim,
            attrs=attributes,
            overwrite=overwrite,
            fingerprint=probes,
            chunk_rows=_chunk_rows(config),
            shard_rows=config.block,
        ) as writer:
            groups = extras.groups()
            wanted: dict[tuple[str, int], list[Any]] = {}
            for block in writer.pending():
                wanted.setdefault((block.group, block.start // config.block), []).append(block)
            tasks = [Task(g, b, tuple(blocks)) for (g, b), blocks in wanted.items()]
            try:
                run_tasks(dynamics, config, tasks, lambda *_: None, writer=writer.workers, **where)
            except ExplosionError:
                # There is nothing to resume, and the name must be free for a better step.
                writer.forget()
                raise
            writer.attrs.update(extras.attributes())
            for name, dataset in groups.items():
                writer.write_group(name, dataset)
    except OSError as error:
        raise disk_error(error, out) from None


def _chunk_rows(config: SimulationConfig) -> int:
    """Return rows of about 2 MiB that divide a block."""
    pieces = max(1, config.block * config.dim * 4 // CHUNK_BYTES)
    while config.block % pieces:
        pieces -= 1
    return config.block // pieces


def _attributes(dynamics: Dynamics, config: SimulationConfig) -> dict[str, Any]:
    shortage = config.initial.shortage(config)
    out: dict[str, Any] = {
        "title": f"simulated snapshots of {dynamics!r}",
        "observation": "paired" if config.paired else "unpaired",
        "dynamics": dynamics.spec(),
        "initial": config.initial.spec() | ({"note": shortage} if shortage else {}),
        "scheme": config.scheme,
        "step": config.steps,
        "seed": config.seed,
        "block": config.block,
        "device": config.device,
        "threads": config.threads_for(dynamics),
    }
    if config.noise:
        out["noise"] = config.noise
    if dynamics.interacting:
        out["interaction_batch"] = config.interaction_batch
        if max(config.train + config.test) > config.block:
            out["populations"] = (
                f"each snapshot holds independent interacting systems of {config.block} particles"
            )
    return out


def _probe(dynamics: Dynamics, config: SimulationConfig) -> str:
    """Return a digest of what the dynamics do, so that another callable does not resume a store.

    Raises:
        PopdynError: If they do not fit the dimension.
    """
    stream = generator(0, "initial")
    x = (4.0 * torch.randn(64, config.dim, generator=stream)).to(config.device)
    drive = Drive(dynamics)
    digest = hashlib.sha256()
    for t in (config.times[0], config.times[-1]):
        drift = drive.drift(x, t)
        if drift.shape != x.shape:
            raise PopdynError(
                f"the drift of {dynamics!r} has shape {tuple(drift.shape)} for positions of "
                f"shape {tuple(x.shape)}: expected the same"
            )
        digest.update(drift.detach().cpu().numpy().tobytes())
    return digest.hexdigest()


def _check_memory(
    dynamics: Dynamics, config: SimulationConfig, out: Path | None, workers: int
) -> None:
    row = 4 * config.dim
    times = len(config.times)
    rows = min(config.block, max(config.train + config.test))
    # The block itself; a population under way needs its gradient, noise and copies, too.
    copies = (2 if config.paired else times) + (4 if dynamics.interacting else 1)
    need = workers * rows * row * (copies + times)
    what = f"block {config.block} needs about {need / 2**30:.1f} GiB"
    cure = "a smaller block"
    if out is None:
        # The arrays, and the tree that is made of them.
        total = 2 * row * (sum(config.train) + sum(config.test))
        if total > need:
            what, cure = f"the snapshots need about {total / 2**30:.1f} GiB", "out, a store on disk"
        need = max(need, total)
    available = psutil.virtual_memory().available
    if need > available:
        raise PopdynError(
            f"{what} of memory, {available / 2**30:.1f} GiB are free: expected {cure}"
        )
    if out is not None:
        size = row * (sum(config.train) + sum(config.test))
        place = next(p for p in (out.absolute(), *out.absolute().parents) if p.exists())
        free = shutil.disk_usage(place).free
        if size > DISK_SHARE * free:
            raise PopdynError(
                f"the store needs up to {size / 2**30:.3g} GiB, {free / 2**30:.3g} GiB are free on "
                f"the disk of '{out}': expected fewer particles, or another --out"
            )
