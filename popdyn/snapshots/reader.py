"""Opening a store: lazily, and never a fill value where a chunk is lost or damaged."""

import asyncio
import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
import xarray as xr
import zarr
from xarray.backends import BackendArray
from xarray.core import indexing
from zarr.abc.store import (
    ByteRequest,
    OffsetByteRequest,
    RangeByteRequest,
)
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype
from zarr.storage import LocalStore

from popdyn.base.errors import PopdynError
from popdyn.base.files import MANIFEST, digest_of, files_below, read_manifest, unfinished
from popdyn.snapshots.format_1 import DIGEST, check_digests, records_digest
from popdyn.snapshots.layout import PIECEWISE, expected_keys
from popdyn.snapshots.metadata import KIND, ROOT, DamageError, metadata_files, read_document
from popdyn.snapshots.tree import FORMAT, GROUPS

__all__ = [
    "StrictStore",
    "check_chunk",
    "chunk_pieces",
    "document_damage",
    "key_damage",
    "open_snapshots",
    "open_strict",
    "opened",
    "present_keys",
    "store_files",
    "was_replaced",
]


class StrictStore(LocalStore):
    """A folder whose chunks are read as they were written, or not at all.

    A missing chunk is an error instead of fill values. Where digests are given, a chunk is
    compared with its own when it is first touched, and again when its file is another one.

    Args:
        root: The store.
        digests: For each file its SHA-256, as it was when the store was opened.
        read_only: As for every store of zarr.
    """

    def __init__(
        self,
        root: Path | str,
        *,
        digests: Mapping[str, str] | None = None,
        read_only: bool = True,
    ) -> None:
        super().__init__(root, read_only=read_only)
        self.digests = digests
        self._seen: dict[str, tuple[int, int, int]] = {}

    def with_read_only(self, read_only: bool = False) -> Self:
        return type(self)(self.root, digests=self.digests, read_only=read_only)

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        if "/c/" not in key:
            return await super().get(key, prototype, byte_range)
        return await asyncio.to_thread(self._chunk, key, prototype, byte_range)

    def get_sync(
        self,
        key: str,
        *,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        if "/c/" not in key:
            return super().get_sync(key, prototype=prototype, byte_range=byte_range)
        return self._chunk(key, prototype, byte_range)

    def _chunk(
        self, key: str, prototype: BufferPrototype | None, byte_range: ByteRequest | None
    ) -> Buffer:
        try:
            with (self.root / key).open("rb") as stream:
                content = self._content(key, stream, byte_range)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise self._damage(key, "is missing", "every chunk") from None
        return (prototype or default_buffer_prototype()).buffer.from_bytes(content)

    def _content(self, key: str, stream: BinaryIO, byte_range: ByteRequest | None) -> bytes:
        # From one open file, so that what was compared is what is returned.
        status = os.fstat(stream.fileno())
        if not status.st_size:
            # The sharding codec takes an empty file for a shard of fill values.
            raise self._damage(key, "is empty", "a chunk with its checksum")
        low, high = _bounds(byte_range, status.st_size)
        identity = status.st_ino, status.st_size, status.st_mtime_ns
        if self.digests is None or self._seen.get(key) == identity:
            stream.seek(low)
            return stream.read(high - low)
        whole = stream.read()
        found, recorded = hashlib.sha256(whole).hexdigest(), self.digests.get(key, "none")
        if found != recorded:
            what = f"is damaged (digest {found[:12]}…)"
            raise self._damage(key, what, f"{recorded[:12]}… as written")
        self._seen[key] = identity
        return whole[low:high]

    def _damage(self, key: str, found: str, expected: str) -> PopdynError:
        if self.digests is not None and was_replaced(self.root, self.digests):
            return PopdynError(f"{self.root} was replaced while it was read: open it again")
        return DamageError(self.root, key, found, expected)


def was_replaced(store: Path, digests: Mapping[str, str]) -> bool:
    """Return whether a store is another one than when its digests were read."""
    try:
        return read_manifest(store, KIND, format=FORMAT) != digests
    except (PopdynError, OSError):
        return not store.exists()


def _bounds(byte_range: ByteRequest | None, size: int) -> tuple[int, int]:
    if byte_range is None:
        return 0, size
    if isinstance(byte_range, RangeByteRequest):
        return byte_range.start, min(byte_range.end, size)
    if isinstance(byte_range, OffsetByteRequest):
        return byte_range.offset, size
    return max(0, size - byte_range.suffix), size


class _Array(BackendArray):
    """One array of a store for xarray: reads on demand, names the chunk that is damaged."""

    def __init__(self, store: StrictStore, name: str) -> None:
        self.store, self.name = store.root, name
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

    The metadata is compared with its digests, and the chunks present with those expected, at
    once; a chunk with its digest when it is first touched. A store that is replaced while the
    tree is in use is noticed then.

    Args:
        path: A store of format 2 or 1.

    Returns:
        The tree, as :func:`popdyn.snapshots.make_tree` lays it out.

    Raises:
        PopdynError: If there is no finished store, or it is damaged; names the array and the
            chunk.

    Example:
        >>> import tempfile, popdyn
        >>> path = tempfile.mkdtemp() + "/q.zarr"
        >>> popdyn.write(popdyn.simulate(popdyn.FreeEnergy("quadratic"), particles=50), path)
        >>> data = popdyn.open_snapshots(path)
        >>> data["train"]["x"].dims
        ('time', 'particle', 'component')
    """
    folder = Path(path)
    attributes, digests = _finished(folder)
    store = StrictStore(folder, digests=digests)
    names = read_document(folder, ROOT)["consolidated_metadata"]["metadata"]
    datasets: dict[str, xr.Dataset] = {}
    for group in [name for name in names if "/" not in name]:
        arrays = [n.removeprefix(f"{group}/") for n in names if n.startswith(f"{group}/")]
        datasets[group] = _dataset(store, group, arrays, names[group].get("attributes", {}))
    attributes.pop(DIGEST, None)
    if attributes["popdyn_format"] == 1:
        attributes["dynamics"] = attributes.pop("energy", None)
    attributes["popdyn_format"] = FORMAT  # the tree is the same, whatever it was read from
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs=attributes), **datasets})


def opened(data: xr.DataTree | str | os.PathLike[str]) -> xr.DataTree:
    """Return a data set as it is, and that of a path opened.

    Raises:
        PopdynError: If it is neither, or no store lies there.

    Example:
        >>> import popdyn
        >>> data = popdyn.simulate(popdyn.FreeEnergy("quadratic"), particles=50, snapshots=3)
        >>> opened(data) is data
        True
    """
    if isinstance(data, (str, os.PathLike)):
        return open_snapshots(data)
    if not isinstance(data, xr.DataTree):
        raise PopdynError(
            f"the data is {type(data).__name__}: expected a data set, as open_snapshots or "
            "from_arrays gives it, or the path of a store"
        )
    return data


def open_strict(store: StrictStore, name: str) -> zarr.Array:
    """Open one array, its lost chunks errors."""
    return zarr.open_array(store, path=name, mode="r")


def document_damage(store: Path, digests: Mapping[str, str]) -> list[DamageError]:
    """Return what is wrong with the metadata documents of a store of format 2."""
    damages = []
    recorded = {name for name in digests if Path(name).name == ROOT}
    present = {ROOT, *metadata_files(store)}
    for name in sorted(recorded | present):
        if name not in recorded:
            what = "has no recorded digest"
            damages.append(DamageError(store, name, what, "no further metadata"))
        elif name not in present:
            damages.append(DamageError(store, name, "is missing", "a metadata file"))
        elif (digest := digest_of(store / name)) != digests[name]:
            expected = f"{digests[name][:12]}… as written"
            damages.append(DamageError(store, name, f"has the digest {digest[:12]}…", expected))
    return damages


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
    return files_below(folder) - {ROOT}


def store_files(store: Path) -> set[str]:
    """Return the files that popdyn wrote in a store, relative to it; what may be replaced.

    Raises:
        PopdynError: If it is no finished store of popdyn's.
    """
    if (store / MANIFEST).exists() or not (store / ROOT).is_file() or not records_digest(store):
        return {*read_manifest(store, KIND, format=FORMAT), MANIFEST}
    documents = [ROOT, *metadata_files(store)]
    files = set(documents)
    for name in documents:
        if read_document(store, name).get("node_type") == "array":
            node = name.removesuffix(f"/{ROOT}")
            array = open_strict(StrictStore(store), node)
            files |= {f"{node}/{key}" for key in expected_keys(array.shape, chunk_pieces(array))}
    return files


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


def _finished(store: Path) -> tuple[dict[str, Any], dict[str, str] | None]:
    """Return root attributes and digests of a store that is whole by its metadata and its keys."""
    if not (store / ROOT).is_file():
        if not store.exists() and (why := unfinished(store)):
            raise PopdynError(f"{store} does not exist: {why}")
        what = "is no store" if store.exists() else "does not exist"
        raise PopdynError(f"{store} {what}: expected a folder written by popdyn")
    digests = None
    # First of all, so that a damaged attribute is not taken at its word.
    if (store / MANIFEST).exists():
        digests = read_manifest(store, KIND, format=FORMAT)
        damages = document_damage(store, digests)
    else:
        damages = check_digests(store) if records_digest(store) else []
    for damage in damages:
        if digests is not None and was_replaced(store, digests):
            raise PopdynError(f"{store} was replaced while it was read: open it again")
        raise damage
    document = read_document(store, ROOT)
    attributes = document.get("attributes")
    if not isinstance(attributes, dict) or "popdyn_format" not in attributes:
        raise PopdynError(f"{store} is no snapshot store: expected the attribute popdyn_format")
    if attributes["popdyn_format"] not in (1, FORMAT):
        found = attributes["popdyn_format"]
        raise PopdynError(f"{store} has format {found}: expected {FORMAT}, or 1")
    if attributes.get("complete") is not True or "consolidated_metadata" not in document:
        raise PopdynError(f"{store} is unfinished: expected a store that is complete")
    if digests is None and DIGEST not in attributes:
        raise DamageError(store, MANIFEST, "is missing", "the digests of all files")
    return attributes, digests


def _dataset(store: StrictStore, group: str, names: list[str], attrs: dict[str, Any]) -> xr.Dataset:
    variables = {}
    for name in names:
        path = f"{group}/{name}"
        array = _Array(store, path)
        for damage in key_damage(store.root, path, array.array):
            raise damage
        metadata = array.array.metadata
        dims = [str(dim) for dim in getattr(metadata, "dimension_names", None) or ()]

        whole = indexing.BasicIndexer(tuple(slice(None) for _ in dims))
        large = name in PIECEWISE and group in GROUPS
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
