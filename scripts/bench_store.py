"""How fast a store is written and read, beside zarr-python alone, and why it is cut as it is."""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.storage import LocalStore

from popdyn.snapshots import StoreWriter, open_snapshots, positions, validate
from popdyn.snapshots.layout import CHUNK_BYTES, SHARD_CHUNKS, ZSTD_LEVEL, Layout

SNAPSHOTS, DIMENSION = 8, 2
ROW_BYTES = 4 * DIMENSION
LIMIT = 0.8


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=1.0, help="size of the store")
    parser.add_argument("--rounds", type=int, default=5, help="repetitions; the best counts")
    parser.add_argument("--folder", help="where to write; a temporary folder without it")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench_store_", dir=arguments.folder))
    try:
        table(folder, min(arguments.gigabytes, 0.25))
        return against_zarr(folder, arguments.gigabytes, arguments.rounds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def against_zarr(folder: Path, gigabytes: float, rounds: int) -> int:
    """Write and read one array through popdyn and through zarr-python, in turns."""
    x = normals(gigabytes)
    layout = Layout.choose([x.shape[1]] * SNAPSHOTS, DIMENSION)
    ours, theirs = folder / "ours.zarr", folder / "theirs.zarr"
    seconds: dict[str, list[tuple[float, float]]] = {}
    for i in range(rounds):
        for path in (ours, theirs):
            shutil.rmtree(path, ignore_errors=True)
        turns = [
            ("write popdyn", write_popdyn, (ours, x)),
            ("write zarr", write_zarr, (theirs, x, layout)),
            ("read popdyn", read_popdyn, (ours,)),
            ("read zarr", read_zarr, (theirs,)),
        ]
        # Who goes first changes: the machine is not the same a second later.
        for j in (0, 1, 2, 3) if i % 2 else (1, 0, 3, 2):
            name, function, values = turns[j]
            seconds.setdefault(name, []).append(clocked(function, *values))
    data = open_snapshots(ours)
    same = all(np.array_equal(positions(data, k), x[k]) for k in range(SNAPSHOTS))
    if not same or validate(ours):
        print("what was read is not what was written", file=sys.stderr)
        return 1
    megabytes = x.nbytes / 1e6
    # The best, not the mean: whatever else the machine does can only add to it.
    print(f"\n{megabytes:.0f} MB, best of {rounds} rounds in turns:\n")
    print(f"{'':<8}{'popdyn MB/s':>14}{'zarr MB/s':>14}{'ratio':>8}{'of CPU time':>14}")
    worst = 1e9
    for what in ("write", "read"):
        (popdyn, busy), (alone, busy_alone) = (
            np.min(seconds[f"{what} {who}"], axis=0) for who in ("popdyn", "zarr")
        )
        worst = min(worst, alone / popdyn)
        print(
            f"{what:<8}{megabytes / popdyn:>14.0f}{megabytes / alone:>14.0f}"
            f"{alone / popdyn:>8.2f}{busy_alone / busy:>14.2f}"
        )
    print(f"\nboth ratios are to be {LIMIT} or more: {'yes' if worst >= LIMIT else 'NO'}")
    return 0 if worst >= LIMIT else 1


def table(folder: Path, gigabytes: float) -> None:
    """Measure choices of chunk, shard and compression on one array of normals."""
    x = normals(gigabytes)
    print(f"{x.nbytes / 1e6:.0f} MB of float32 normals; 'piece': reading 2 000 particles\n")
    head = ("chunk", "shard", "zstd", "write MB/s", "read MB/s", "piece ms", "size", "files")
    print("".join(f"{name:>11}" for name in head))
    for chunk, per_shard, level in choices():
        rows = chunk // ROW_BYTES
        layout = Layout.choose(
            [x.shape[1]] * SNAPSHOTS,
            DIMENSION,
            chunk_rows=rows,
            shard_rows=rows * per_shard if per_shard > 1 else None,
        )
        path = folder / "choice.zarr"
        shutil.rmtree(path, ignore_errors=True)
        written = timed(write_zarr, path, x, layout, level)
        read = timed(read_zarr, path)
        array = zarr.open_array(path, mode="r")
        starts = np.random.default_rng(0).integers(0, x.shape[1] - 2000, size=40)
        piece = statistics.median(timed(read_rows, array, int(s)) for s in starts)
        files = [p for p in path.rglob("*") if p.is_file()]
        size = sum(p.stat().st_size for p in files) / x.nbytes
        ours = (chunk, per_shard, level) == (CHUNK_BYTES, SHARD_CHUNKS, ZSTD_LEVEL)
        cells = (
            f"{chunk / 2**20:g} MiB",
            f"{chunk * per_shard / 2**20:g} MiB" if per_shard > 1 else "none",
            "none" if level is None else str(level),
            f"{x.nbytes / 1e6 / written:.0f}",
            f"{x.nbytes / 1e6 / read:.0f}",
            f"{1e3 * piece:.1f}",
            f"{size:.3f}",
            str(len(files) - 1),
        )
        print("".join(f"{cell:>11}" for cell in cells) + ("  <- format 2" if ours else ""))


def choices() -> Iterator[tuple[int, int, int | None]]:
    """Yield chunk bytes, chunks in a shard, and zstd level: ours, and ours with one changed."""
    for chunk in (2**16, 2**18, 2**20, 2**21, 2**22, 2**24):
        yield chunk, SHARD_CHUNKS, ZSTD_LEVEL
    for per_shard in (1, 4, 32):
        yield CHUNK_BYTES, per_shard, ZSTD_LEVEL
    for level in (None, 0, 3, 9):
        yield CHUNK_BYTES, SHARD_CHUNKS, level


def normals(gigabytes: float) -> np.ndarray:
    n = int(gigabytes * 1e9 / (SNAPSHOTS * ROW_BYTES))
    generator = np.random.default_rng(0)
    return generator.standard_normal(size=(SNAPSHOTS, n, DIMENSION), dtype=np.float32)


def clocked(function: Callable[..., object], *arguments: object) -> tuple[float, float]:
    """Return the seconds of a call by the clock, and of processor time over all threads."""
    busy = time.process_time()
    return timed(function, *arguments), time.process_time() - busy


def timed(function: Callable[..., object], *arguments: object) -> float:
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def write_popdyn(path: Path, x: np.ndarray) -> None:
    n = [x.shape[1]] * SNAPSHOTS
    counts = {"train": n, "test": [0] * SNAPSHOTS}
    with StoreWriter(path, times=range(SNAPSHOTS), counts=counts, dimension=DIMENSION) as writer:
        for block in writer.pending():
            writer.write(block, x[block.k, block.start : block.stop])


def write_zarr(path: Path, x: np.ndarray, layout: Layout, level: int | None = ZSTD_LEVEL) -> None:
    compressors = [Crc32cCodec()] if level is None else [ZstdCodec(level=level), Crc32cCodec()]
    array = zarr.create_array(
        LocalStore(path),
        shape=x.shape,
        chunks=(1, layout.chunk_rows, DIMENSION),
        shards=(1, layout.block_rows, DIMENSION) if layout.sharded else None,
        dtype="float32",
        fill_value=float("nan"),
        compressors=compressors,
        config={"write_empty_chunks": True},
    )
    for k in range(len(x)):
        for start in range(0, x.shape[1], layout.block_rows):
            rows = slice(start, start + layout.block_rows)
            array[k, rows] = x[k, rows]


def read_popdyn(path: Path) -> None:
    data = open_snapshots(path)
    for k in range(SNAPSHOTS):
        positions(data, k)


def read_zarr(path: Path) -> None:
    array = zarr.open_array(path, mode="r")
    for k in range(array.shape[0]):
        array[k]


def read_rows(array: zarr.Array, start: int) -> None:
    array[0, start : start + 2000]


if __name__ == "__main__":
    sys.exit(main())
