"""The validator: every sentence of datasets/FORMAT.md, held against a store."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from popdyn.base.errors import PopdynError
from popdyn.base.files import MANIFEST, check_manifest, is_litter, read_manifest, unfinished
from popdyn.snapshots.documents import (
    Finding,
    array_findings,
    attribute_findings,
    sized_findings,
)
from popdyn.snapshots.format_1 import check_digests, records_digest
from popdyn.snapshots.layout import DIMENSIONS, FURTHER, PIECEWISE
from popdyn.snapshots.metadata import KIND, ROOT, DamageError, metadata_files, read_document
from popdyn.snapshots.reader import StrictStore, check_chunk, chunk_pieces, key_damage, open_strict
from popdyn.snapshots.rules import RULES
from popdyn.snapshots.tree import FORMAT, GROUPS

__all__ = ["Breach", "validate"]

UNIT = 1e-4
"""How far float32 weights may be from a mean of 1, and more."""


@dataclass(frozen=True)
class Breach:
    """One thing in a store that the page does not allow.

    Attributes:
        node: Path of the node, document or chunk in the store.
        found: What is there.
        expected: The sentence of datasets/FORMAT.md that it breaks.
        rule: Name of that sentence.

    Example:
        >>> import tempfile, popdyn
        >>> popdyn.validate(tempfile.mkdtemp())[0].found
        'there is no zarr.json'
    """

    node: str
    found: str
    expected: str
    rule: str


def validate(path: str | os.PathLike[str]) -> list[Breach]:
    """Hold a store against every sentence of datasets/FORMAT.md.

    All of it is read, a chunk at a time.

    Args:
        path: A store.

    Returns:
        Every breach; empty for a sound store.

    Example:
        >>> validate("nowhere.zarr")[0].found
        'there is no such folder'
    """
    store = Path(path)
    if not (store / ROOT).is_file():
        return [_breach("/", (_what_is_there(store), "root"))]
    check = _Check(store)
    check.run()
    return check.breaches


class _Check:
    """One pass over one store."""

    def __init__(self, store: Path) -> None:
        self.store = store
        self.breaches: list[Breach] = []
        self.documents: dict[str, dict[str, Any]] = {}
        self.arrays: dict[str, zarr.Array] = {}
        self.changed: dict[str, str] = {}

    def run(self) -> None:
        root = self._document(ROOT, "root")
        self._digests()
        self._nodes()
        if root is not None:
            self._root(root)
        for node in [node for node, d in self.documents.items() if "/" in node]:
            self._array(node)
        if root is not None and isinstance(root.get("attributes"), dict):
            shape = self.arrays["train/x"].shape if "train/x" in self.arrays else None
            dimension, intervals = (shape[2], shape[0] - 1) if shape else (None, None)
            self._add(ROOT, sized_findings(root["attributes"], dimension, intervals))
        self._data(root or {})
        # Of a chunk that is missing or damaged by itself there is nothing more to say.
        told = {b.node for b in self.breaches if b.rule in ("chunks", "checksum")}
        for file in sorted(self.changed.keys() - told):
            self._add(file, [(self.changed[file], "digest")])

    def _digests(self) -> None:
        try:
            if not (self.store / MANIFEST).exists() and records_digest(self.store):
                self._add_damages(check_digests(self.store), "digest")
                return
            recorded = check_manifest(self.store, KIND, format=FORMAT)
        except PopdynError as error:
            self._add(MANIFEST, [(str(error).removeprefix(f"'{self.store}' "), "digest")])
        except (OSError, RecursionError) as error:
            self._add(ROOT, [(f"cannot be read ({error})", "digest")])
        else:
            for file, found in recorded:
                if "/c/" in file:
                    self.changed[file] = found
                else:
                    self._add(file, [(found, "digest")])
            digests = read_manifest(self.store, KIND, format=FORMAT)
            for name in {ROOT, *metadata_files(self.store)} - digests.keys():
                self._add(name, [("has no recorded digest", "digest")])

    def _add(self, node: str, findings: Iterable[Finding]) -> None:
        self.breaches += [_breach(node, finding) for finding in findings]

    def _add_damages(self, damages: Iterable[DamageError], rule: str) -> None:
        for damage in damages:
            self._add(damage.node, [(damage.found, rule)])

    def _document(self, name: str, rule: str) -> dict[str, Any] | None:
        try:
            return read_document(self.store, name)
        except DamageError as damage:
            self._add_damages([damage], rule)
            return None

    def _root(self, root: dict[str, Any]) -> None:
        if root.get("zarr_format") != 3 or root.get("node_type") != "group":
            kind = f"zarr_format {root.get('zarr_format')!r}, node_type {root.get('node_type')!r}"
            self._add(ROOT, [(kind, "root")])
        attributes = root.get("attributes")
        if isinstance(attributes, dict):
            self._add(ROOT, attribute_findings(attributes))
        else:
            self._add(ROOT, [("no attributes", rule) for rule in ("format", "complete")])
        consolidated = root.get("consolidated_metadata")
        members = consolidated.get("metadata") if isinstance(consolidated, dict) else None
        if not isinstance(members, dict):
            self._add(ROOT, [("no consolidated metadata", "consolidated")])
            return
        for node in sorted(members.keys() | self.documents.keys()):
            if _bare(members.get(node)) != _bare(self.documents.get(node)):
                self._add(ROOT, [(f"another document for {node}", "consolidated")])

    def _nodes(self) -> None:
        for path in _children(self.store):
            if path.is_dir():
                self._group(path)
            elif path.name not in (ROOT, MANIFEST):
                self._add(path.name, [("a file", "files")])
        for name in GROUPS:
            for node in [name, *(f"{name}/{array}" for array in DIMENSIONS)]:
                if not (self.store / node / ROOT).is_file():
                    self._add(node, [("is missing", "nodes")])
        for array in FURTHER:
            there = [(self.store / name / array / ROOT).is_file() for name in GROUPS]
            if any(there) and not all(there):
                self._add(f"{GROUPS[there.index(False)]}/{array}", [("is missing", "nodes")])

    def _group(self, group: Path) -> None:
        document = self._document(f"{group.name}/{ROOT}", "nodes")
        if document is not None:
            self.documents[group.name] = document
            if document.get("node_type") != "group" or document.get("zarr_format") != 3:
                self._add(group.name, [(f"node_type {document.get('node_type')!r}", "nodes")])
        for path in _children(group):
            node = path.relative_to(self.store).as_posix()
            if path.name == ROOT:
                continue
            if not path.is_dir():
                self._add(node, [("a file", "files")])
                continue
            document = self._document(f"{node}/{ROOT}", "nodes")
            if document is None:
                continue
            self.documents[node] = document
            if document.get("node_type") != "array" or document.get("zarr_format") != 3:
                self._add(node, [(f"node_type {document.get('node_type')!r}", "nodes")])
            elif group.name in GROUPS and path.name not in (*DIMENSIONS, *FURTHER):
                self._add(node, [("a further array", "nodes")])

    def _array(self, node: str) -> None:
        group, _, name = node.partition("/")
        ours = group in GROUPS and name in (*DIMENSIONS, *FURTHER)
        findings = list(array_findings(name, self.documents[node], ours=ours))
        self._add(node, findings)
        try:
            array = open_strict(StrictStore(self.store), node)
        except Exception as error:  # whatever zarr says of a document that it cannot use
            if not findings:
                what = (str(error).splitlines() or [type(error).__name__])[0]
                self._add(node, [(f"zarr cannot open it ({what})", "nodes")])
            return
        if 0 in chunk_pieces(array):  # zarr opens it
            if not findings:
                self._add(node, [("zarr cannot read it (a chunk holds nothing)", "nodes")])
            return
        damages = key_damage(self.store, node, array)
        self._add_damages((d for d in damages if d.found == "is missing"), "chunks")
        self._add_damages((d for d in damages if d.found != "is missing"), "files")
        if not any(rule in (name, "grid") for _, rule in findings):
            self.arrays[node] = array
        if name not in PIECEWISE or not ours:
            for _ in self._files(array):
                pass

    def _files(self, array: zarr.Array) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
        """Yield what each file of an array holds; note those that are damaged."""
        pieces = chunk_pieces(array)
        grid = [-(-n // piece) for n, piece in zip(array.shape, pieces, strict=True)]
        for index in np.ndindex(*grid):
            file = "/".join((array.path, "c", *map(str, index)))
            if not (self.store / file).is_file():
                continue
            try:
                values = check_chunk(self.store, array, index)
            except DamageError as damage:
                self._add_damages([damage], "checksum")
                continue
            if array.shards and (lost := _lost_in_shard(self.store / file, array, index)):
                self._add(file, [(f"inner chunk {lost[0]} is missing", "chunks")])
                continue
            yield index, values

    def _data(self, root: dict[str, Any]) -> None:
        attributes = root.get("attributes")
        paired = isinstance(attributes, dict) and attributes.get("observation") == "paired"
        sizes: dict[str, set[int]] = {"time": set(), "component": set()}
        all_times = {}
        for group in GROUPS:
            found = {n: self.arrays.get(f"{group}/{n}") for n in (*DIMENSIONS, *FURTHER)}
            for name, array in found.items():
                if array is not None:
                    dims = DIMENSIONS.get(name) or FURTHER[name]
                    for dim, size in zip(dims, array.shape, strict=True):
                        sizes.get(dim, set()).add(size)
            count, times = self._values(found["count"]), self._values(found["time"])
            if times is not None:
                all_times[group] = times
                if not np.isfinite(times).all() or (np.diff(times) <= 0).any():
                    self._add(f"{group}/time", [(f"times {_short(times)}", "times")])
            if count is None:
                continue
            if count.min(initial=0 if group == "test" else 1) < (group == "train"):
                self._add(f"{group}/count", [(f"counts {_short(count)}", "counts")])
            if paired and len(set(count.tolist())) > 1:
                self._add(f"{group}/count", [(f"counts {_short(count)}", "observation")])
            for name, rule in (("x", "positions"), ("weight", "weights")):
                if (array := found[name]) is not None:
                    self._rows(group, name, array, count, rule)
            mass = self._values(found["mass"])
            if mass is not None and not ((mass > 0) & (mass < np.inf)).all():
                self._add(f"{group}/mass", [(f"masses {_short(mass)}", "masses")])
        for dim, low in (("time", 1), ("component", 1)):
            if len(sizes[dim]) > 1 or any(size < low for size in sizes[dim]):
                self._add("/", [(f"lengths {sorted(sizes[dim])} of {dim}", "sizes")])
        first, last = (all_times.get(group) for group in GROUPS)
        if first is not None and last is not None and first.tobytes() != last.tobytes():
            self._add("test/time", [(f"times {_short(last)}", "times")])

    def _values(self, array: zarr.Array | None) -> np.ndarray | None:
        if array is None:
            return None
        try:
            return np.asarray(array[...])
        except Exception:  # already noted, file by file
            return None

    def _rows(self, group: str, name: str, x: zarr.Array, count: np.ndarray, rule: str) -> None:
        if x.shape[0] != len(count) or x.shape[1] != count.max(initial=0):
            what = f"shape {x.shape} with counts {_short(count)}"
            self._add(f"{group}/{name}", [(what, "sizes")])
        rows_of_a_file = (x.shards or x.chunks)[1]
        first_sum = 0.0
        for index, values in self._files(x):
            if index[0] >= len(count):
                continue
            first = index[1] * rows_of_a_file
            inside = int(np.clip(count[index[0]] - first, 0, values.shape[1]))
            here, past = values[0, :inside], values[0, inside:]
            bad = ~np.isfinite(here) if name == "x" else ~((here >= 0) & (here < np.inf))
            parts: np.ndarray = np.concatenate([bad, ~np.isnan(past)])
            wrong = np.asarray(parts.reshape(len(parts), -1).any(axis=1))
            if index[0] == 0:
                first_sum += float(np.sum(here, dtype=np.float64))
            if wrong.any():
                row = int(np.argmax(wrong))
                what = f"{values[0, row].tolist()} at row {first + row}, count {count[index[0]]}"
                node = "/".join((x.path, "c", *map(str, index)))
                self._add(node, [(what, rule)])
                first_sum = float(count[0])  # one breach is enough
        mean = first_sum / max(1, count[0])
        if name == "weight" and group == "train" and abs(mean - 1) > UNIT:
            self._add(f"{group}/{name}", [(f"the mean {mean:g} over the first snapshot", rule)])


def _breach(node: str, finding: Finding) -> Breach:
    found, rule = finding
    return Breach(node, found, RULES[rule], rule)


def _what_is_there(store: Path) -> str:
    if not store.exists() and (why := unfinished(store)):
        return why
    return "there is no zarr.json" if store.exists() else "there is no such folder"


def _children(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not is_litter(path.name))


def _bare(document: Any) -> Any:
    # A group's document may carry the empty consolidated metadata that zarr adds to members.
    if isinstance(document, dict):
        return {k: v for k, v in document.items() if k != "consolidated_metadata"}
    return document


def _lost_in_shard(file: Path, array: zarr.Array, index: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Return the inner chunks within the array that a shard's index calls empty."""
    per_shard = [s // c for s, c in zip(array.shards or (), array.chunks, strict=True)]
    size = 16 * int(np.prod(per_shard)) + 4
    with file.open("rb") as stream:
        stream.seek(-size, os.SEEK_END)
        entries = np.frombuffer(stream.read(size - 4), dtype="<u8").reshape(*per_shard, 2)
    lost = []
    for place in np.ndindex(*per_shard):
        starts = [
            (i * n + j) * c
            for i, n, j, c in zip(index, per_shard, place, array.chunks, strict=True)
        ]
        inside = all(start < n for start, n in zip(starts, array.shape, strict=True))
        if inside and entries[place][0] == np.iinfo(np.uint64).max:
            lost.append(place)
    return lost


def _short(values: np.ndarray) -> str:
    listed = ", ".join(f"{v:g}" for v in values[:8])
    return listed + (", …" if len(values) > 8 else "")
