"""The suites that ship with popdyn, and those in a user's own ``suite.toml``."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from popdyn.base.errors import PopdynError
from popdyn.base.registry import lookup
from popdyn.benchmark.suite import Entry, FieldError, Suite, entry_from
from popdyn.benchmark.toml_lines import line_of

__all__ = ["SUITES", "load_suite", "read_suite"]

FILE = "suite.toml"
TOP = ("name", "summary", "headline", "plane", "learners", "defaults", "options", "score", "entry")


def read_suite(path: str | os.PathLike[str]) -> Suite:
    """Read a suite file.

    Args:
        path: A ``suite.toml``, or the folder that holds it. At the top ``name``, ``summary``,
            ``headline``, ``plane`` and ``learners``; ``[defaults]`` for all entries; ``[score]``;
            ``[options.LEARNER]``; and ``[[entry]]`` for each population.

    Raises:
        PopdynError: If it cannot be read; names the file, the line and the field.
    """
    file = Path(path)
    file = file / FILE if file.is_dir() else file
    try:
        text = file.read_text(encoding="utf-8")
        document = tomllib.loads(text)
    except OSError as error:
        raise PopdynError(f"suite file '{file}': {error.strerror}") from None
    except ValueError as error:  # no TOML, or no UTF-8
        raise PopdynError(f"suite file '{file}' is no TOML: {error}") from None
    try:
        return _suite(document, text, file)
    except FieldError as error:
        raise _located(error, file, line_of(text, "", error.name)) from None


def load_suite(suite: str | os.PathLike[str] | Suite) -> Suite:
    """Return a suite by name, or by the path of its file.

    Raises:
        PopdynError: On an unknown name or a wrong file.
    """
    if isinstance(suite, Suite):
        return suite
    text = os.fspath(suite)
    if text in SUITES:
        return SUITES[text]
    if text.endswith(".toml") or os.sep in text or Path(text, FILE).is_file():
        return read_suite(text)
    return lookup(SUITES, text, "suite")


def _suite(document: Mapping[str, Any], text: str, file: Path) -> Suite:
    for key, value in document.items():
        if key not in TOP:
            raise FieldError(key, f"unknown field, expected one of {', '.join(TOP)}")
        if key in ("defaults", "options", "score") and not isinstance(value, dict):
            raise FieldError(key, f"found {value!r}, expected a table")
    for name, value in document.get("options", {}).items():
        if not isinstance(value, dict):
            raise _at(text, file, "options", name, f"found {value!r}, expected a table")
    for key in ("name", "summary"):
        if key not in document:
            raise FieldError(key, "found none, expected text")
    learners = document.get("learners", list(Suite.learners))
    if not isinstance(learners, list) or not all(isinstance(n, str) for n in learners):
        raise FieldError("learners", f"found {learners!r}, expected a list of names")
    tables = document.get("entry", [])
    if not isinstance(tables, list) or not all(isinstance(t, dict) for t in tables):
        raise FieldError("entry", f"found {tables!r}, expected [[entry]] tables")
    defaults = document.get("defaults", {})
    entries: list[Entry] = []
    for index, table in enumerate(tables):
        try:
            entry = entry_from(_merged(defaults, table))
            if entry.name in {e.name for e in entries}:
                raise FieldError("name", f"found '{entry.name}' a second time")
        except FieldError as error:
            blamed = "entry" if error.name in table or error.name not in defaults else "defaults"
            at = index if blamed == "entry" else 0
            raise _located(error, file, line_of(text, blamed, error.name, at)) from None
        entries.append(entry)
    score = {"from_" if k == "from" else k: v for k, v in document.get("score", {}).items()}
    own = {k: document[k] for k in ("name", "summary", "headline") if k in document}
    plane = document.get("plane")
    if plane is not None and not isinstance(plane, list):
        raise FieldError("plane", f"found {plane!r}, expected two components such as [1, 2]")
    try:
        return Suite(
            **own,
            entries=tuple(entries),
            plane=None if plane is None else tuple(plane),
            learners=tuple(learners),
            options=document.get("options", {}),
            score=score,
            path=file,
        )
    except FieldError as error:
        for table in ("options", "score"):
            if error.name in document.get(table, {}):
                raise _located(error, file, line_of(text, table, error.name)) from None
        raise


def _merged(defaults: Mapping[str, Any], table: Mapping[str, Any]) -> dict[str, Any]:
    """Return the table over the defaults; ``times`` replaces ``snapshots`` and ``dt``."""
    replaced = {"times": ("snapshots", "dt"), "initial": ("initial_params",)}
    for name in ("potential", "interaction"):
        replaced[name] = (f"{name}_params",)
    dropped = {old for new, olds in replaced.items() if new in table for old in olds}
    kept = {k: v for k, v in defaults.items() if k not in dropped}
    for key in ("fit", "import"):
        if isinstance(kept.get(key), dict) and isinstance(table.get(key), dict):
            table = {**table, key: {**kept[key], **table[key]}}
    return {**kept, **table}


def _located(error: FieldError, file: Path, line: int) -> PopdynError:
    return PopdynError(f"{file}, line {line}, {error}")


def _at(text: str, file: Path, table: str, name: str, message: str) -> PopdynError:
    return _located(FieldError(name, message), file, line_of(text, table, name))


def _packaged() -> dict[str, Suite]:
    package = Path(str(files("popdyn")))
    # In a wheel the suites lie inside the package, in a checkout beside it.
    for folder in (package / "datasets", package.parent / "datasets"):
        if folder.is_dir():
            found = sorted(folder.glob(f"*/{FILE}"))
            suites = (replace(read_suite(file), packaged=True) for file in found)
            return {suite.name: suite for suite in suites}
    return {}


SUITES: dict[str, Suite] = _packaged()
