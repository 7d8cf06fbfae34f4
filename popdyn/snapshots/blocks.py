"""One block of particles, one file: written whole or not at all, from any process."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import zarr
from numpy.typing import ArrayLike
from zarr.storage import LocalStore

from popdyn.base.errors import PopdynError
from popdyn.snapshots.layout import Block, Layout, chunk_file
from popdyn.snapshots.tree import check_finite

__all__ = ["BlockWriter", "block_sound"]


@dataclass(frozen=True)
class BlockWriter:
    """What a worker process needs to write blocks: small, and it pickles.

    Attributes:
        path: The unfinished store.
        layouts: How ``x`` of each group is cut.
    """

    path: Path
    layouts: Mapping[str, Layout]

    def write(self, block: Block, x: ArrayLike) -> None:
        """Write one block; it appears whole or not at all.

        Args:
            block: One of :meth:`StoreWriter.pending`.
            x: Its positions, ``(block.stop - block.start, d)``.

        Raises:
            PopdynError: If the shape is another one, or a position is not finite.
        """
        layout = self.layouts[block.group]
        rows = np.asarray(x, dtype=np.float32)
        expected = (block.stop - block.start, layout.dimension)
        where = f"{block.group} snapshot {block.k} from row {block.start}"
        if rows.shape != expected:
            raise PopdynError(f"{where} has shape {rows.shape}: expected {expected}")
        check_finite(rows, where, block.start)
        end = min(block.start + layout.block_rows, layout.rows)
        if block.stop < end:
            padded = np.full((end - block.start, layout.dimension), np.nan, dtype=np.float32)
            padded[: len(rows)] = rows
            rows = padded
        # Without the old file there is nothing to read and merge, were it even readable.
        chunk_file(self.path, block, layout).unlink(missing_ok=True)
        array = zarr.open_array(LocalStore(self.path), path=f"{block.group}/x", mode="r+")
        # Not through open_array, which forgets it (zarr-python issue 2931).
        array = array.with_config({"write_empty_chunks": True})
        array[block.k, block.start : end] = rows


def block_sound(store: Path, block: Block, layouts: Mapping[str, Layout]) -> bool:
    """Return whether a block that is there can be read back whole."""
    array = zarr.open_array(LocalStore(store, read_only=True), path=f"{block.group}/x", mode="r")
    try:
        # Every piece is decoded, and its checksum compared, on the way.
        array[block.k, block.start : block.start + layouts[block.group].block_rows]
    except Exception:  # whatever a decoder says of damaged bytes
        return False
    return True
