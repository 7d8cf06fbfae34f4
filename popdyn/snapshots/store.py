"""Writing a tree to a store."""

import os
from collections.abc import Iterable

import xarray as xr

from popdyn.snapshots.tree import GROUPS, counts, dimension, masses, positions, times, weights
from popdyn.snapshots.writer import StoreWriter

__all__ = ["write"]


def write(
    data: xr.DataTree,
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    reads: Iterable[str | os.PathLike[str] | None] = (),
    chunk_rows: int | None = None,
    shard_rows: int | None = None,
) -> None:
    """Write a tree to a store, a block at a time.

    Args:
        data: A tree in memory, or a store opened lazily.
        path: Name of the store.
        overwrite: Replace an existing store, once the new one is whole.
        reads: What the data was read from, which is never replaced.
        chunk_rows: Particles in a chunk; about 2 MiB of them if None.
        shard_rows: Particles in a shard; 8 chunks where a snapshot has more, if None.

    Raises:
        PopdynError: If the path may not be written, see :class:`popdyn.base.files.Target`.

    Example:
        >>> import tempfile, popdyn
        >>> path = tempfile.mkdtemp() + "/q.zarr"
        >>> popdyn.write(popdyn.simulate(popdyn.FreeEnergy("quadratic"), particles=50), path)
        >>> popdyn.validate(path)
        []
    """
    total = masses(data)
    with StoreWriter(
        path,
        times=times(data),
        counts={group: counts(data, group) for group in GROUPS},
        dimension=dimension(data),
        attrs={str(key): value for key, value in data.attrs.items()},
        overwrite=overwrite,
        reads=reads,
        resume=False,
        chunk_rows=chunk_rows,
        shard_rows=shard_rows,
        weighted=weights(data, 0, stop=0) is not None,
        masses=None if total is None else {group: masses(data, group) for group in GROUPS},
    ) as writer:
        for block in writer.pending():
            x = positions(data, block.k, block.group, block.start, block.stop)
            w = weights(data, block.k, block.group, block.start, block.stop)
            writer.write(block, x, w)
        for name, node in data.children.items():
            if name not in GROUPS:
                writer.write_group(name, node.to_dataset())
