"""What a thing holds: digests that are equal where two things mean the same, bit for bit."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["content", "files_below", "run_content", "store_content"]

UNTIMED = ("seconds", "peak_memory_mb", "history", "data", "date_created")
"""What may differ between two runs of one command: clocks, memory, and where they lie."""


def files_below(folder: Path) -> dict[str, tuple[str, str]]:
    """Return kind and digest of everything below a folder, links unfollowed, by relative path."""
    found: dict[str, tuple[str, str]] = {}
    for here, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(here) / name
            key = str(path.relative_to(folder))
            if path.is_symlink():
                found[key] = ("link", os.readlink(path))
            elif path.is_dir():
                found[key] = ("folder", "")
            else:
                found[key] = ("file", hashlib.sha256(path.read_bytes()).hexdigest())
    return found


def store_content(path: str | Path, timed: bool = True) -> str:
    """Return a digest of every array and attribute of a store, read as popdyn reads it."""
    from popdyn.snapshots import counts, open_snapshots, positions, times

    data = open_snapshots(path)
    digest = hashlib.sha256()
    for group in ("train", "test"):
        for k in range(len(times(data))):
            digest.update(np.ascontiguousarray(positions(data, k, group)).tobytes())
        digest.update(np.asarray(counts(data, group)).tobytes())
    data.load()
    for node in data.subtree:
        digest.update(node.path.encode() + _plain(dict(node.attrs), timed).encode())
        for name, variable in sorted(node.dataset.variables.items(), key=lambda item: str(item[0])):
            digest.update(f"{name} {variable.dims} {_plain(dict(variable.attrs), timed)}".encode())
            digest.update(_bytes(variable.values))
    return digest.hexdigest()


def run_content(path: str | Path, timed: bool = True) -> str:
    """Return a digest of a run's energy, at points and in its weights, and of its record."""
    from torch import nn

    from popdyn.learners import load_run

    run = load_run(path)
    energy = run.energy
    digest = hashlib.sha256()
    points = np.random.default_rng(0).normal(size=(64, 2)) * 3
    at = {"t": 0.005} if energy.time_dependent else {}
    for name in ("potential", "potential_gradient"):
        digest.update(np.asarray(getattr(energy, name)(points, **at)).tobytes())
    if energy.W is not None:
        digest.update(np.asarray(energy.interaction_gradient(points)).tobytes())
    for term in (energy.V, energy.W):
        if isinstance(term, nn.Module):
            for key, tensor in sorted(term.state_dict().items()):
                digest.update(key.encode() + tensor.numpy().tobytes())
    numbers = (energy.diffusivity, energy.diffusivity_standard_error)
    record = {"config": run.config, "metrics": run.metrics} | run.summary() | {"beta": numbers}
    digest.update(_plain(record, timed).encode())
    return digest.hexdigest()


def content(path: str | Path, timed: bool = False) -> str:
    """Return a digest of whatever popdyn wrote there.

    Raises:
        PopdynError: If it cannot be read.
    """
    path = Path(path)
    if path.suffix == ".h5ad":
        return _h5ad(path)
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as archive:
            return _digest({name: archive[name].tolist() for name in archive.files})
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    if (path / "results.json").exists() or (path / "suite.json").exists():
        return _bench(path, timed)
    if (path / "zarr.json").exists():
        return store_content(path, timed)
    if (path / "run.json").exists() or (path / "config.json").exists():
        return run_content(path, timed)
    return _folder(path, timed)


def _folder(path: Path, timed: bool) -> str:
    """Return the digest of a folder of figures, of arrays, or of stores."""
    parts = {}
    for entry in sorted(path.iterdir()):
        # The mark is checked by popdyn itself; hidden files are no part of what was asked for.
        if entry.name != "popdyn.json" and not entry.name.startswith("."):
            parts[entry.name] = content(entry, timed)
    return _digest(parts)


def _bench(path: Path, timed: bool) -> str:
    results = json.loads((path / "results.json").read_text())
    parts: dict[str, Any] = {"results": json.loads(_plain(results, timed))}
    for cell in sorted((path / "cells").iterdir()):
        if (cell / "run").is_dir():
            parts[cell.name] = run_content(cell / "run", timed)
    for store in sorted((path / "stores").iterdir()):
        if (store / "zarr.json").exists():
            parts[store.name] = store_content(store, timed)
    return _digest(parts)


def _h5ad(path: Path) -> str:
    import anndata

    adata = anndata.read_h5ad(path)
    parts: dict[str, Any] = {"obs": adata.obs.to_json(), "shape": list(adata.shape)}
    for name, array in adata.obsm.items():
        parts[name] = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
    for name in sorted(adata.uns):
        parts[f"uns {name}"] = hashlib.sha256(repr(adata.uns[name]).encode()).hexdigest()
    if adata.X is not None:
        parts["X"] = hashlib.sha256(repr(adata.X).encode()).hexdigest()
    return _digest(parts)


def _digest(parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _plain(value: Any, timed: bool) -> str:
    def without(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: without(v) for k, v in value.items() if timed or k not in UNTIMED}
        if isinstance(value, (list, tuple)):
            return [without(v) for v in value]
        return value

    return json.dumps(without(value), sort_keys=True, default=str)


def _bytes(values: np.ndarray) -> bytes:
    if values.dtype.kind in "OUT":
        return repr(values.tolist()).encode()
    return np.ascontiguousarray(values).tobytes()
