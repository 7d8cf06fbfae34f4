"""Writing a store: streamed, resumable, in blocks of any order and from any process."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import xarray as xr
import zarr
from numpy.typing import ArrayLike
from zarr.storage import LocalStore

from popdyn.base.errors import PopdynError
from popdyn.base.files import Target, write_json
from popdyn.snapshots.blocks import BlockWriter, block_sound
from popdyn.snapshots.extras import write_extra
from popdyn.snapshots.layout import Block, Layout, chunk_file, create_arrays
from popdyn.snapshots.metadata import KIND, consolidate
from popdyn.snapshots.reader import store_files
from popdyn.snapshots.tree import FORMAT, GROUPS, check_masses, check_times, root_attributes

__all__ = ["StoreWriter", "store_target"]

BEGUN = "begun.json"
# What may differ between the process that began a store and the one that resumes it.
_VOLATILE = ("history", "complete")


class StoreWriter:
    """Write a store beside its final name, block by block, and rename it when all is there.

    A process that dies leaves ``<name>.popdyn`` behind; the next writer with the same
    configuration keeps the blocks that are whole and asks only for the others.

    Args:
        path: Final name of the store.
        times: Physical times ``(K + 1)``, dimensionless.
        counts: For ``train`` and ``test`` the particles in each snapshot.
        dimension: d.
        attrs: Root attributes beside or instead of the defaults.
        overwrite: Replace an existing store, at the final rename and not before.
        reads: What is read meanwhile and never replaced.
        resume: Keep the blocks of an unfinished store with the same configuration.
        fingerprint: What else decides the bits, such as a digest of a callable's source.
        chunk_rows: Particles in a chunk, instead of the choice of :meth:`Layout.choose`.
        shard_rows: Particles in a shard, likewise.
        weighted: Whether the particles have weights.
        masses: For both groups the total mass of each snapshot, where it was measured; ``mean``:
            what the weights come to, as a mean.

    Attributes:
        attrs: Root attributes; what is added before the end is written with them.
        block_rows: For each group the particles in a block: block i of a snapshot holds rows
            ``i * block_rows`` up to the next block or the count.

    Raises:
        PopdynError: If the store exists, another process writes it, or an unfinished one was
            begun with another configuration.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.zarr"
        >>> counts = {"train": [3, 2], "test": [0, 0]}
        >>> with StoreWriter(path, times=[0, 1], counts=counts, dimension=2) as writer:
        ...     for block in writer.pending():
        ...         writer.write(block, np.zeros((block.stop - block.start, 2)))
        >>> path.is_dir()
        True
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        times: ArrayLike,
        counts: Mapping[str, Sequence[int] | np.ndarray],
        dimension: int,
        attrs: Mapping[str, Any] | None = None,
        overwrite: bool = False,
        reads: Iterable[str | os.PathLike[str] | None] = (),
        resume: bool = True,
        fingerprint: str | None = None,
        chunk_rows: int | None = None,
        shard_rows: int | None = None,
        weighted: bool = False,
        masses: Mapping[str, Any] | Literal["mean"] | None = None,
    ) -> None:
        self._target = store_target(path, overwrite=overwrite, keep=resume, reads=reads)
        self.path, self.store = self._target.path, self._target.place
        self.times = check_times(times)
        self.attrs = root_attributes({**(attrs or {}), "popdyn_format": FORMAT})
        self.overwrite = overwrite
        _check_counts(counts, len(self.times), dimension)
        self.layouts = {
            group: Layout.choose(
                [int(n) for n in counts[group]],
                dimension,
                chunk_rows=chunk_rows,
                shard_rows=shard_rows,
            )
            for group in GROUPS
        }
        self.block_rows = {group: layout.block_rows for group, layout in self.layouts.items()}
        self.weighted, self.masses = weighted, masses
        self._configuration = self._configure(fingerprint)

    def forget(self) -> None:
        """Leave nothing behind to resume when the block ends with an error."""
        self._target.keep = False

    @property
    def workers(self) -> BlockWriter:
        """What to send to the processes that write blocks while this one holds the lock."""
        return BlockWriter(self.store.absolute(), self.layouts, self.weighted)

    def pending(self) -> list[Block]:
        """Return the blocks that are still to be written, in order."""
        return [b for b in self._missing() if b.stop > b.start]

    def write(self, block: Block, x: ArrayLike, weights: ArrayLike | None = None) -> None:
        """Write one block in this process, as :meth:`BlockWriter.write` does in another."""
        self.workers.write(block, x, weights)

    def write_group(self, name: str, dataset: xr.Dataset) -> None:
        """Write a further group beside ``train`` and ``test``, whole, in place of an old one."""
        if name in GROUPS:
            raise PopdynError(f"group '{name}' was given: expected a name beside train and test")
        write_extra(self.store, name, dataset)

    def finish(self) -> None:
        """Write the padding and the metadata; with the end of the block the store has its name.

        Raises:
            PopdynError: If a block was not written.
        """
        if left := self.pending():
            raise PopdynError(
                f"{self.path}: {len(left)} blocks are not written, the first {left[0]}: "
                "expected all before the store is finished"
            )
        for block in self._missing():
            self.workers.write(block, np.empty((0, self.layouts[block.group].dimension)))
        self._write_masses()
        _sweep(self.store)
        self.attrs["complete"] = True
        (self.store / BEGUN).unlink(missing_ok=True)
        consolidate(self.store, self.attrs)

    def __enter__(self) -> Self:
        self._target.__enter__()
        try:
            self._begin()
        except BaseException as error:
            self._target.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self.finish()
        except BaseException as late:
            self._target.__exit__(type(late), late, late.__traceback__)
            raise
        self._target.__exit__(kind, error, traceback)

    def _begin(self) -> None:
        if self._resumable():
            _sweep(self.store)
            for block in self._blocks():
                for name, file in self._files(block):
                    if file.exists() and not block_sound(self.store, block, self.layouts, name):
                        file.unlink()
            return
        self._target.drop()
        root = {**self.attrs, "complete": False}
        zarr.create_group(LocalStore(self.store), attributes=root)
        for group, layout in self.layouts.items():
            further = (["weight"] if self.weighted else []) + (["mass"] if self.masses else [])
            create_arrays(self.store, group, self.times, layout, further)
        write_json(self.store / BEGUN, self._configuration)

    def _resumable(self) -> bool:
        try:
            begun = json.loads((self.store / BEGUN).read_text("utf-8"))
        except (OSError, ValueError):
            # Nothing there, or a process died before the first block.
            return False
        if begun == self._configuration:
            return True
        if self.overwrite:
            return False
        name = next(
            key
            for key in [*self._configuration, *begun]
            if begun.get(key) != self._configuration.get(key)
        )
        raise PopdynError(
            f"{self.path} was begun with {name} {_brief(begun.get(name))}, this is "
            f"{_brief(self._configuration.get(name))}: expected the same command (it resumes), "
            "or --overwrite"
        )

    def _configure(self, fingerprint: str | None) -> dict[str, Any]:
        attrs = {key: value for key, value in self.attrs.items() if key not in _VOLATILE}
        first = self.layouts["train"]
        configuration = {
            **attrs,
            "times": self.times.tolist(),
            "dimension": first.dimension,
            **{f"{name} particles": layout.counts for name, layout in self.layouts.items()},
            "chunk rows": [layout.chunk_rows for layout in self.layouts.values()],
            "block rows": [layout.block_rows for layout in self.layouts.values()],
            "weights": self.weighted,
            "masses": self.masses is not None,
            "fingerprint": fingerprint,
        }
        for key, value in configuration.items():
            try:
                json.dumps(value, allow_nan=False)
            except (TypeError, ValueError) as error:
                raise PopdynError(f"attribute '{key}' is no JSON ({error})") from None
        # Through JSON, so that what is read back compares equal.
        return dict(json.loads(json.dumps(configuration)))

    def _blocks(self) -> list[Block]:
        return [b for group, layout in self.layouts.items() for b in layout.blocks(group)]

    def _files(self, block: Block) -> list[tuple[str, Path]]:
        """Return the files of a block, by the array that each is of."""
        layout = self.layouts[block.group]
        names = ("x", "weight") if self.weighted else ("x",)
        return [(name, chunk_file(self.store, block, layout, name)) for name in names]

    def _missing(self) -> list[Block]:
        return [b for b in self._blocks() if not all(f.exists() for _, f in self._files(b))]

    def _write_masses(self) -> None:
        if self.masses is None:
            return
        root = LocalStore(self.store)
        for group, layout in self.layouts.items():
            array = zarr.open_array(root, path=f"{group}/mass", mode="r+")
            if self.masses == "mean":
                weight = zarr.open_array(root, path=f"{group}/weight", mode="r")
                total = [0.0] * len(layout.counts)
                for b in layout.blocks(group):
                    rows = np.asarray(weight[b.k, b.start : b.stop], np.float64)
                    total[b.k] += float(rows.sum())
                # A snapshot of nobody weighs what it would: nothing is known of it.
                found = [w / n if n else 1.0 for w, n in zip(total, layout.counts, strict=True)]
            else:
                found = self.masses[group]
            array[:] = check_masses(found, len(layout.counts), group)


def _check_counts(counts: Mapping[str, Any], snapshots: int, dimension: int) -> None:
    if dimension < 1:
        raise PopdynError(f"the dimension is {dimension}: expected 1 or more")
    for group in GROUPS:
        n = np.asarray(counts[group])
        if n.shape != (snapshots,):
            raise PopdynError(
                f"{group} counts have shape {n.shape}: expected one for each of {snapshots} times"
            )
        if n.min() < (group == "train"):
            raise PopdynError(f"{group} snapshot {int(n.argmin())} has {n.min()} particles")


def store_target(
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    keep: bool = False,
    reads: Iterable[str | os.PathLike[str] | None] = (),
) -> Target:
    """Return the target of a store, which says whether it may be written there."""
    return Target(path, KIND, overwrite=overwrite, keep=keep, reads=reads, owned=store_files)


def _sweep(store: Path) -> None:
    """Remove what a killed process left half-written."""
    for pattern in ("*.partial", ".popdyn-*"):
        for file in store.rglob(pattern):
            file.unlink(missing_ok=True)


def _brief(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "…"
