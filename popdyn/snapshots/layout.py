"""How a store is cut into chunks, shards and blocks, and the arrays that follow from it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.storage import LocalStore

from popdyn.base.errors import PopdynError

__all__ = ["Block", "Layout", "block_rows", "chunk_file", "create_arrays", "expected_keys"]

# By scripts/bench_store, which measures each choice with the others held: chunks below 1 MiB halve
# the throughput, larger ones make a small piece slow to read; shards keep the files few and are
# what one writer makes; zstd saves 8 % on normals (and nearly all of padding) at level 1, no more
# at 3 or 9, which take longer.
CHUNK_BYTES = 2**21
SHARD_CHUNKS = 8
ZSTD_LEVEL = 1

DIMENSIONS = {"x": ("time", "particle", "component"), "count": ("time",), "time": ("time",)}
FURTHER = {"weight": ("time", "particle"), "mass": ("time",)}
"""Arrays that a store may have: both groups or none."""
DTYPES = {"x": "float32", "count": "int64", "time": "float64", "weight": "float32"}
DTYPES |= {"mass": "float64"}
# No value that data could have: who reads past a lost chunk without popdyn still sees it.
FILL = {"x": float("nan"), "count": -1, "time": float("nan"), "weight": float("nan")}
FILL |= {"mass": float("nan")}
PIECEWISE = ("x", "weight")
"""Arrays of which a block of particles is one file."""


class Block(NamedTuple):
    """Rows ``start`` to ``stop`` of snapshot ``k``: what one writer writes, in one file.

    Example:
        >>> Block("train", 2, 0, 1000)
        Block(group='train', k=2, start=0, stop=1000)
    """

    group: str
    k: int
    start: int
    stop: int


@dataclass(frozen=True)
class Layout:
    """How ``x`` of one group is cut.

    Attributes:
        counts: Particles in each snapshot.
        dimension: d.
        chunk_rows: Particles in a chunk, the smallest piece that can be read.
        block_rows: Particles in a file: a shard of several chunks, or one chunk.
    """

    counts: tuple[int, ...]
    dimension: int
    chunk_rows: int
    block_rows: int

    @classmethod
    def choose(
        cls,
        counts: Sequence[int],
        dimension: int,
        *,
        chunk_rows: int | None = None,
        shard_rows: int | None = None,
    ) -> "Layout":
        """Choose chunks of about 2 MiB, and shards of 8 of them where a snapshot has more.

        Args:
            counts: Particles in each snapshot.
            dimension: d.
            chunk_rows: Particles in a chunk, instead of the choice.
            shard_rows: Particles in a shard, a multiple of ``chunk_rows``.

        Raises:
            PopdynError: On rows below 1, or a shard that no whole number of chunks fills.
        """
        n = max(1, *counts)
        for name, rows in (("chunk_rows", chunk_rows), ("shard_rows", shard_rows)):
            if rows is not None and rows < 1:
                raise PopdynError(f"{name} is {rows}: expected 1 or more")
        chunks = -(-n // max(1, CHUNK_BYTES // (4 * dimension)))
        # Equal pieces, so that the last chunk and shard are not mostly padding.
        shards = -(-chunks // SHARD_CHUNKS)
        per_shard = -(-chunks // shards)
        chunk = min(n, chunk_rows or shard_rows or -(-n // (shards * per_shard)))
        block = shard_rows or (chunk if chunk_rows else chunk * per_shard)
        if block % chunk and block < n:
            raise PopdynError(
                f"shard_rows is {block}: expected a multiple of the {chunk} rows of a chunk"
            )
        return cls(
            tuple(int(c) for c in counts), dimension, chunk, -(-min(block, n) // chunk) * chunk
        )

    @property
    def rows(self) -> int:
        """Particles along the dimension ``particle``: the largest count."""
        return max(self.counts)

    @property
    def shape(self) -> tuple[int, int, int]:
        return len(self.counts), self.rows, self.dimension

    @property
    def sharded(self) -> bool:
        return self.block_rows > self.chunk_rows

    def blocks(self, group: str) -> Iterator[Block]:
        """Yield every block, also those that hold nothing but padding (``stop == start``)."""
        for k, n in enumerate(self.counts):
            for start in range(0, self.rows, self.block_rows):
                yield Block(group, k, start, max(start, min(start + self.block_rows, n)))


def block_rows(particles: int, dimension: int) -> int:
    """Return the particles that one file of a store holds by default.

    Args:
        particles: Particles in a snapshot.
        dimension: Components of a position.

    Example:
        >>> block_rows(10_000, 2), block_rows(10**8, 2)
        (10000, 2083336)
    """
    return Layout.choose([particles], dimension).block_rows


def expected_keys(shape: Sequence[int], pieces: Sequence[int]) -> list[str]:
    """Return the chunk keys of an array, such as ``c/0/1/0``, in order."""
    grid = [-(-n // size) for n, size in zip(shape, pieces, strict=True)]
    return ["/".join(("c", *map(str, index))) for index in np.ndindex(*grid)]


def chunk_file(root: Path, block: Block, layout: Layout, name: str = "x") -> Path:
    """Return the file of a block of ``x``, or of ``weight``."""
    file = root / block.group / name / "c" / str(block.k) / str(block.start // layout.block_rows)
    return file / "0" if name == "x" else file


def create_arrays(
    path: Path, group: str, times: np.ndarray, layout: Layout, further: Sequence[str] = ()
) -> None:
    """Create a group and its arrays; write ``count`` and ``time``, leave the others unwritten.

    Args:
        path: The store.
        group: ``"train"`` or ``"test"``.
        times: Physical times.
        layout: How ``x`` is cut.
        further: Names of ``FURTHER`` to create, too.
    """
    node = zarr.create_group(LocalStore(path), path=group)
    values = {"count": np.array(layout.counts, dtype=np.int64), "time": times}
    k = len(times)
    for name, dims in {**DIMENSIONS, **{n: FURTHER[n] for n in further}}.items():
        shape, chunk, shard = (
            (a, rows, layout.dimension)[: len(dims)]
            for a, rows in ((k, layout.rows), (1, layout.chunk_rows), (1, layout.block_rows))
        )
        array = node.create_array(
            name,
            shape=shape,
            chunks=chunk if name in PIECEWISE else shape,
            shards=shard if name in PIECEWISE and layout.sharded else None,
            dtype=DTYPES[name],
            fill_value=FILL[name],
            dimension_names=dims,
            compressors=[ZstdCodec(level=ZSTD_LEVEL), Crc32cCodec()],
            config={"write_empty_chunks": True},
            attributes={"units": "1"} if name == "time" else {},
        )
        if name in values:
            array[:] = values[name]
