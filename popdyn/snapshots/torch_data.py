"""Snapshots as a data set of torch's: minibatches for a model of one's own."""

from __future__ import annotations

import os

import numpy as np
import torch
import xarray as xr
from torch import Tensor
from torch.utils.data import Dataset

from popdyn.base.errors import PopdynError
from popdyn.base.plain import indices, plain_numbers
from popdyn.snapshots.reader import opened
from popdyn.snapshots.tree import counts, not_held_out, positions, times

__all__ = ["SnapshotBatches", "torch_dataset"]


class SnapshotBatches(Dataset[Tensor]):
    """Minibatches of all snapshots; see :func:`torch_dataset`.

    Attributes:
        times: The time of each snapshot, ``(K + 1)`` float64.
        snapshots: All particles, one ``(n_k, d)`` float32 each.
        batch: Particles of each snapshot in an item.
    """

    def __init__(
        self, snapshots: list[Tensor], times: np.ndarray, batch: int, length: int, seed: int
    ) -> None:
        self.snapshots = snapshots
        self.times = torch.from_numpy(times)
        self.batch, self._length, self._seed = batch, length, seed

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Tensor:
        """Return minibatch ``index``, ``(K + 1, batch, d)`` float32."""
        if not -self._length <= index < self._length:
            raise IndexError(f"minibatch {index}: expected 0 to {self._length - 1}")
        rows = []
        for k, x in enumerate(self.snapshots):
            rng = np.random.default_rng([self._seed, 2, k, index % self._length])
            chosen = rng.choice(len(x), self.batch, replace=False)
            rows.append(x[torch.from_numpy(chosen)])
        return torch.stack(rows)


@plain_numbers(whole=("batch", "batches", "seed"))
def torch_dataset(
    data: xr.DataTree | str | os.PathLike[str],
    *,
    batch: int = 256,
    batches: int = 1000,
    group: str = "train",
    hold_out: int | tuple[int, ...] = (),
    seed: int = 0,
) -> SnapshotBatches:
    """Return minibatches of a data set for ``torch.utils.data.DataLoader``.

    Item i is a tensor ``(K + 1, batch, d)`` float32: from each of the K + 1 snapshots ``batch``
    particles without repeats, drawn for each snapshot on its own, so that row j of one has nothing
    to do with row j of the next. It follows from seed, snapshot and i alone: the same in every
    worker, in any order. Give the loader ``batch_size=None``; one with ``batch_size=B`` puts B
    items together, ``(B, K + 1, batch, d)``.

    Args:
        data: A data set, or the path of a store. All its particles are read into memory.
        batch: Particles of each snapshot in an item.
        batches: Number of items, all different: the length of an epoch.
        group: ``"train"`` or ``"test"``.
        hold_out: Index of a snapshot that is left out, from 0, or several.
        seed: Seed of the draws.

    Returns:
        The data set; ``times`` ``(K + 1)`` float64 are the times of its snapshots, and
        ``snapshots`` all particles of each.

    Raises:
        PopdynError: If a snapshot has fewer particles than ``batch``, or on a group or an index
            that there is not.

    Example:
        >>> from torch.utils.data import DataLoader
        >>> from popdyn.snapshots.memory import from_arrays
        >>> rng = np.random.default_rng(0)
        >>> data = from_arrays([rng.normal(size=(100, 2)) for _ in range(3)], [0, 1, 2])
        >>> for x in DataLoader(torch_dataset(data, batch=64, batches=10), batch_size=None):
        ...     before, after = x[:-1], x[1:]
        >>> before.shape
        torch.Size([2, 64, 2])
    """
    tree = opened(data)
    n = counts(tree, group)
    kept = not_held_out(tree, indices(hold_out, "hold_out"))
    if not kept:
        raise PopdynError("all snapshots are held out: expected one or more to draw from")
    for name, value in (("batch", batch), ("batches", batches)):
        if value is None or value < 1:
            raise PopdynError(f"{name} is {value}: expected 1 or more", field=name)
    least = min(kept, key=lambda k: int(n[k]))
    if batch > n[least]:
        raise PopdynError(
            f"batch is {batch} and snapshot {least} has {n[least]} {group} particles: expected "
            "that many or fewer",
            field="batch",
        )
    snapshots = [torch.from_numpy(np.array(positions(tree, k, group))) for k in kept]
    return SnapshotBatches(snapshots, times(tree)[kept], batch, batches, seed)
