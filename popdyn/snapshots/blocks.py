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
from popdyn.snapshots.tree import check_finite, check_weights

__all__ = ["BlockWriter", "block_sound"]


@dataclass(frozen=True)
class BlockWriter:
    """What a worker process needs to write blocks: small, and it pickles.

    Attributes:
        path: The unfinished store.
        layouts: How ``x`` of each group is cut.
        weighted: Whether the particles have weights.

    Example:
        >>> import pickle
        >>> from pathlib import Path
        >>> writer = BlockWriter(Path("store"), {"train": Layout.choose([10, 10], 2)})
        >>> pickle.loads(pickle.dumps(writer)) == writer
        True
    """

    path: Path
    layouts: Mapping[str, Layout]
    weighted: bool = False

    def write(self, block: Block, x: ArrayLike, weights: ArrayLike | None = None) -> None:
        """Write one block; it appears whole or not at all.

        Args:
            block: One of :meth:`StoreWriter.pending`.
            x: Its positions, ``(block.stop - block.start, d)``.
            weights: The weights of its particles, where particles have weights.

        Raises:
            PopdynError: If a shape is another one, a position is not finite, or a weight is
                negative or not finite.
        """
        layout = self.layouts[block.group]
        rows = np.asarray(x, dtype=np.float32)
        expected = (block.stop - block.start, layout.dimension)
        where = f"{block.group} snapshot {block.k} from row {block.start}"
        if rows.shape != expected:
            raise PopdynError(f"{where} has shape {rows.shape}: expected {expected}")
        check_finite(rows, where, block.start)
        if self.weighted:
            given = np.ones(len(rows)) if weights is None else np.asarray(weights)
            mass = given.astype(np.float32)
            check_weights(mass, len(rows), where, block.start)
            # Before the positions, which say that the block is there.
            self._put("weight", block, mass)
        self._put("x", block, rows)

    def _put(self, name: str, block: Block, rows: np.ndarray) -> None:
        layout = self.layouts[block.group]
        end = min(block.start + layout.block_rows, layout.rows)
        if block.stop < end:
            padded = np.full((end - block.start, *rows.shape[1:]), np.nan, dtype=np.float32)
            padded[: len(rows)] = rows
            rows = padded
        # Without the old file there is nothing to read and merge, were it even readable.
        chunk_file(self.path, block, layout, name).unlink(missing_ok=True)
        array = zarr.open_array(LocalStore(self.path), path=f"{block.group}/{name}", mode="r+")
        # Not through open_array, which forgets it (zarr-python issue 2931).
        array = array.with_config({"write_empty_chunks": True})
        array[block.k, block.start : end] = rows


def block_sound(store: Path, block: Block, layouts: Mapping[str, Layout], name: str = "x") -> bool:
    """Return whether a block that is there can be read back whole."""
    root = LocalStore(store, read_only=True)
    array = zarr.open_array(root, path=f"{block.group}/{name}", mode="r")
    try:
        # Every piece is decoded, and its checksum compared, on the way.
        array[block.k, block.start : block.start + layouts[block.group].block_rows]
    except Exception:  # whatever a decoder says of damaged bytes
        return False
    return True
