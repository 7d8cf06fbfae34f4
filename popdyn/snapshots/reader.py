"""Opening a store: lazily, and never a fill value where a chunk is lost or damaged."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from xarray.backends import BackendArray
from xarray.core import indexing
from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore

from popdyn.errors import PopdynError
from popdyn.snapshots.layout import expected_keys
from popdyn.snapshots.metadata import (
    DIGEST,
    ROOT,
    DamageError,
    check_digests,
    read_document,
    records_digest,
)
from popdyn.snapshots.tree import FORMAT, GROUPS

__all__ = [
    "StrictStore",
    "check_chunk",
    "chunk_pieces",
    "key_damage",
    "open_snapshots",
    "open_strict",
    "present_keys",
]


class StrictStore(LocalStore):
    """A folder whose missing chunks are errors instead of fill values."""

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        buffer = await super().get(key, prototype, byte_range)
        if "/c/" in key and buffer is None:
            raise DamageError(self.root, key, "is missing", "every chunk")
        if "/c/" in key and not len(buffer or ()):
            # The sharding codec takes an empty file for a shard of fill values.
            raise DamageError(self.root, key, "is empty", "a chunk with its checksum")
        return buffer


class _Array(BackendArray):
    """One array of a store for xarray: reads on demand, names the chunk that is damaged."""

    def __init__(self, store: Path, name: str) -> None:
        self.store, self.name = store, name
        self.array = open_strict(store, name)
        self.shape, self.dtype = self.array.shape, self.array.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.BASIC, self._read
        )

    def _read(self, key: tuple[int | slice, ...]) -> np.ndarray:
        try:
            return np.asarray(self.array[key])
        except PopdynError:
            raise
        except Exception as error:  # whatever a decoder says of damaged bytes
            for index in _touched(self.array, key):
                check_chunk(self.store, self.array, index)
            what = f"cannot be read ({_line(error)})"
            raise DamageError(self.store, self.name, what, "sound chunks") from error


def open_snapshots(path: str | os.PathLike[str]) -> xr.DataTree:
    """Open a store; positions are read when they are asked for.

    The metadata is compared with its digest, and the chunks present with those expected, at
    once; a chunk's checksum when it is read.

    Args:
        path: A store of format 1.

    Returns:
        The tree, as :func:`popdyn.snapshots.make_tree` lays it out.

    Raises:
        PopdynError: If there is no finished store of format 1, or it is damaged; names the
            array and the chunk.
    """
    store = Path(path)
    attributes = _finished(store)
    document = read_document(store, ROOT)
    names = document["consolidated_metadata"]["metadata"]
    datasets: dict[str, xr.Dataset] = {}
    for group in [name for name in names if "/" not in name]:
        arrays = [n.removeprefix(f"{group}/") for n in names if n.startswith(f"{group}/")]
        datasets[group] = _dataset(store, group, arrays, names[group].get("attributes", {}))
    attributes.pop(DIGEST)
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs=attributes), **datasets})


def open_strict(store: Path, name: str) -> zarr.Array:
    """Open one array, its lost chunks errors."""
    return zarr.open_array(StrictStore(store, read_only=True), path=name, mode="r")


def key_damage(store: Path, name: str, array: zarr.Array) -> list[DamageError]:
    """Return what is wrong with the files of an array: missing ones and strange ones."""
    expected = set(expected_keys(array.shape, chunk_pieces(array)))
    present = present_keys(store / name)
    missing = [
        DamageError(store, f"{name}/{k}", "is missing", "every chunk") for k in expected - present
    ]
    strange = [
        DamageError(store, f"{name}/{k}", "is there", "only the chunks of the array's grid")
        for k in present - expected
    ]
    return sorted(missing + strange, key=lambda damage: damage.node)


def present_keys(folder: Path) -> set[str]:
    """Return the files below an array's folder but its metadata, relative to it."""
    keys, stack = set(), [folder]
    while stack:
        with os.scandir(stack.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    stack.append(Path(entry.path))
                else:
                    keys.add(Path(entry.path).relative_to(folder).as_posix())
    return keys - {ROOT}


def chunk_pieces(array: zarr.Array) -> tuple[int, ...]:
    """Return the shape of what one file of an array holds: a shard, or a chunk."""
    return array.shards or array.chunks


def check_chunk(store: Path, array: zarr.Array, index: tuple[int, ...]) -> np.ndarray:
    """Read one file of an array whole, checksums compared.

    Args:
        store: Root folder.
        array: The array, over a :class:`StrictStore`.
        index: Place of the file in the array's grid.

    Raises:
        DamageError: Names the array and the chunk, and what is wrong.
    """
    pieces = chunk_pieces(array)
    where = tuple(
        slice(i * p, min((i + 1) * p, n))
        for i, p, n in zip(index, pieces, array.shape, strict=True)
    )
    try:
        return np.asarray(array[where])
    except PopdynError:
        raise
    except Exception as error:  # whatever a decoder says of damaged bytes
        node = "/".join((array.path, "c", *map(str, index)))
        what = f"is damaged ({_line(error)})"
        raise DamageError(store, node, what, "a chunk with its checksum") from error


def _finished(store: Path) -> dict[str, Any]:
    """Return the root attributes of a store that is whole by its metadata and its keys."""
    partial = store.with_name(store.name + ".partial")
    if store.name.endswith(".partial") or store.parent.name.endswith(".partial"):
        raise PopdynError(f"{store} is unfinished: the command that began it resumes it")
    if not (store / ROOT).is_file():
        if not store.exists() and partial.exists():
            raise PopdynError(
                f"{store} is unfinished ({partial.name}): the command that began it resumes it"
            )
        what = "is no store" if store.exists() else "does not exist"
        raise PopdynError(f"{store} {what}: expected a folder written by popdyn")
    document = read_document(store, ROOT)
    if records_digest(store):
        # First of all, so that a damaged attribute is not taken at its word.
        for damage in check_digests(store):
            raise damage
    attributes = document.get("attributes")
    if not isinstance(attributes, dict) or "popdyn_format" not in attributes:
        raise PopdynError(f"{store} is no snapshot store: expected the attribute popdyn_format")
    if attributes["popdyn_format"] != FORMAT:
        found = attributes["popdyn_format"]
        raise PopdynError(f"{store} has format {found}: expected {FORMAT}")
    if attributes.get("complete") is not True or "consolidated_metadata" not in document:
        raise PopdynError(f"{store} is unfinished: expected a store that is complete")
    if DIGEST not in attributes:
        raise DamageError(store, ROOT, "has no digest", f"the attribute {DIGEST}")
    return attributes


def _dataset(store: Path, group: str, names: list[str], attrs: dict[str, Any]) -> xr.Dataset:
    variables = {}
    for name in names:
        path = f"{group}/{name}"
        array = _Array(store, path)
        for damage in key_damage(store, path, array.array):
            raise damage
        metadata = array.array.metadata
        dims = [str(dim) for dim in getattr(metadata, "dimension_names", None) or ()]

        whole = indexing.BasicIndexer(tuple(slice(None) for _ in dims))
        large = name == "x" and group in GROUPS
        lazy = indexing.LazilyIndexedArray(array) if large else array[whole]
        variables[name] = xr.Variable(dims, lazy, attrs=dict(array.array.attrs))
    coordinates = {name: v for name, v in variables.items() if v.dims == (name,)}
    rest = {name: v for name, v in variables.items() if name not in coordinates}
    return xr.Dataset(rest, coords=coordinates, attrs=attrs)


def _touched(array: zarr.Array, key: tuple[int | slice, ...]) -> Iterator[tuple[int, ...]]:
    ranges = []
    for k, n, piece in zip(key, array.shape, chunk_pieces(array), strict=True):
        rows = range(*k.indices(n)) if isinstance(k, slice) else range(int(k), int(k) + 1)
        low, high = (min(rows), max(rows)) if len(rows) else (0, -1)
        ranges.append(range(low // piece, high // piece + 1))
    for offset in np.ndindex(*(len(r) for r in ranges)):
        yield tuple(r[i] for r, i in zip(ranges, offset, strict=True))


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
