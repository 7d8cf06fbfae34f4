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
from popdyn.simulation.blocks import ExplosionError, Made, simulate_block
from popdyn.simulation.config import SimulationConfig
from popdyn.simulation.fokker_planck import reference_density
from popdyn.simulation.runner import Task, disk_error, run_tasks
from popdyn.simulation.schemes import SCHEMES
from popdyn.simulation.step_check import step_bias
from popdyn.simulation.streams import generator
from popdyn.snapshots import make_tree, open_snapshots, write
from popdyn.snapshots.layout import CHUNK_BYTES
from popdyn.snapshots.tree import GROUPS
from popdyn.snapshots.writer import StoreWriter, store_target

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
    """Return the snapshots of a configuration; :func:`simulate` explains the arguments.

    Example:
        >>> from popdyn.dynamics import FreeEnergy
        >>> from popdyn.simulation import configure
        >>> data = run_simulation(FreeEnergy("quadratic"), configure(particles=50, snapshots=3))
        >>> data["train"]["count"].values
        array([50, 50, 50])
    """
    config.check(dynamics)
    SCHEMES[config.scheme].check(dynamics, check_step=check_step, dim=config.dim)
    if workers < 1:
        raise PopdynError(f"workers is {workers}: expected 1 or more")
    grows = "growth" in dynamics.terms
    # How many cells there are, or what all of them weigh, is known once they have been made.
    streamed = out is not None and not (
        grows and (config.growth_as == "births" or config.proportions)
    )
    if out is not None and not streamed:
        store_target(out, overwrite=overwrite).check()
    place = Path(out) if out is not None and streamed else None
    _check_memory(dynamics, config, place, 1 if scheduler else workers)
    if check_step and grows:
        raise PopdynError(
            "check_step and a growth: what half a step changes is seen in the moments of particles "
            "that weigh the same; expected no check_step"
        )
    probes = _probe(dynamics, config)
    attributes = {**_attributes(dynamics, config), **(attrs or {})}
    total = sum(config.particle_steps(group) for group in GROUPS)
    with progress_bar("simulate", total, visible=progress, unit="particle-steps") as report:
        where: dict[str, Any] = {"workers": workers, "scheduler": scheduler, "report": report}
        extras = _Extras(dynamics, config, check_step, reference, reference_cells)
        if place is None:
            tree = _in_memory(dynamics, config, attributes, extras, where)
        else:
            _streamed(dynamics, config, attributes, extras, where, place, overwrite, probes)
    if out is None:
        return tree
    if place is None:
        write(tree, out, overwrite=overwrite)
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
        x = np.concatenate(simulate_block(self.dynamics, pilot, "train", 0).x)
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
    blocks: dict[tuple[str, int], Made] = {}

    def done(task: Task, made: Made | None) -> None:
        assert made is not None
        blocks[task.group, task.block] = made

    tasks = [Task(g, b) for g in GROUPS for b in range(config.blocks(g))]
    groups = extras.groups()
    run_tasks(dynamics, config, tasks, done, **where)
    attributes = {**attributes, **extras.attributes()}
    x: dict[str, list[np.ndarray]] = {}
    w: dict[str, list[np.ndarray]] = {}
    grows = "growth" in dynamics.terms
    for g in GROUPS:
        made = [blocks.pop((g, b)) for b in range(config.blocks(g))]
        x[g] = [_joined([m.x[k] for m in made], (0, config.dim)) for k in range(len(config.times))]
        if grows and config.growth_as == "weights":
            each = [[m.weights[k] for m in made if m.weights] for k in range(len(config.times))]
            w[g] = [_joined(parts, (0,)) for parts in each]
        del made
        for k, n in enumerate(config.counts(g)):
            if n and not len(x[g][k]):
                raise PopdynError(
                    f"all {n} cells of the {g} group have died before time {config.times[k]:g}: "
                    "expected a growth that leaves some, more particles, or growth as weights"
                )
    masses = None
    if grows and not config.proportions:
        alive = {g: [float(part.sum(dtype=np.float64)) for part in w[g]] for g in w}
        alive = alive or {g: [float(len(part)) for part in x[g]] for g in x}
        masses = {
            g: [m / n if n else 1.0 for m, n in zip(alive[g], config.counts(g), strict=True)]
            for g in GROUPS
        }
    elif w:
        w = {g: [p / p.mean(dtype=np.float64) if p.any() else p for p in w[g]] for g in w}
    tree = make_tree(
        x["train"], x["test"], config.times, attributes, weights=w or None, masses=masses
    )
    for name, dataset in groups.items():
        tree[name] = xr.DataTree(dataset)
    return tree


def _joined(parts: list[np.ndarray], empty: tuple[int, ...]) -> np.ndarray:
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts) if parts else np.empty(empty, np.float32)


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
            weighted="growth" in dynamics.terms,
            masses="mean" if "growth" in dynamics.terms and not config.proportions else None,
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
    for name in ("noise", "outliers"):
        if value := getattr(config, name):
            out[name] = value
    if "growth" in dynamics.terms:
        out |= {"growth_as": config.growth_as, "proportions": config.proportions}
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
        parts = [drift, drive.growth(x, t), torch.as_tensor(drive.noise(x, t))]
        for part in parts:
            digest.update(part.detach().cpu().numpy().tobytes())
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
