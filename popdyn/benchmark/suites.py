"""The suites that ship with popdyn, and those in a user's own ``suite.toml``."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from popdyn.base.errors import PopdynError
from popdyn.base.options import Options, options_in, read_options
from popdyn.base.registry import lookup
from popdyn.benchmark.suite import Entry, Suite, check_names, entry_from, merged
from popdyn.benchmark.toml_lines import line_of

__all__ = ["SUITES", "load_suite", "read_suite"]

FILE = "suite.toml"


@dataclass(frozen=True)
class SuiteFile(Options):
    """What may stand at the top of a suite file."""

    name: str
    summary: str
    headline: str | None = None
    plane: tuple[int, ...] | None = None
    learners: tuple[str, ...] | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    score: Mapping[str, Any] = field(default_factory=dict)
    entry: tuple[Mapping[str, Any], ...] = ()


def read_suite(path: str | os.PathLike[str]) -> Suite:
    r"""Read a suite file.

    Args:
        path: A ``suite.toml``, or the folder that holds it. At the top ``name``, ``summary``,
            ``headline``, ``plane`` and ``learners``; ``[defaults]`` for all entries; ``[score]``;
            ``[options.LEARNER]``; and ``[[entry]]`` for each population.

    Raises:
        PopdynError: If it cannot be read; names the file, the line and the field.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> file = Path(tempfile.mkdtemp()) / "suite.toml"
        >>> lines = 'name = "mine"', 'summary = "One well."', "[[entry]]", 'name = "q"'
        >>> _ = file.write_text("\n".join([*lines, 'potential = "quadratic"']))
        >>> read_suite(file).entries[0].name
        'q'
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

    @contextmanager
    def located(*tables: tuple[str, int, Mapping[str, Any]]) -> Iterator[None]:
        """Say where a wrong field stands: in the first of the tables that has it."""
        try:
            yield
        except PopdynError as error:
            name = (error.field or "entry").rstrip("_")
            place = next((t for t in tables if name in t[2]), tables[0])
            line = line_of(text, place[0], name, place[1])
            raise PopdynError(f"{file}, line {line}, field '{name}': {error}") from None

    with located(("", 0, document)):
        check_names(document, options_in(SuiteFile))
        top = read_options(SuiteFile, document, "a suite")
    entries: list[Entry] = []
    for index, table in enumerate(top.entry):
        with located(("entry", index, table), ("defaults", 0, top.defaults)):
            entry = entry_from(merged(top.defaults, table))
            if entry.name in {e.name for e in entries}:
                raise PopdynError(f"'{entry.name}' stands there a second time", field="name")
        entries.append(entry)
    score = {"from_" if k == "from" else k: v for k, v in top.score.items()}
    given = {n: getattr(top, n) for n in ("headline", "plane", "learners")}
    given = {name: value for name, value in given.items() if value is not None}
    with located(("", 0, document), ("options", 0, top.options), ("score", 0, top.score)):
        return Suite(
            top.name,
            top.summary,
            tuple(entries),
            options=top.options,
            score=score,
            path=file,
            **given,
        )


def load_suite(suite: str | os.PathLike[str] | Suite) -> Suite:
    """Return a suite by name, or by the path of its file.

    Raises:
        PopdynError: On an unknown name or a wrong file.

    Example:
        >>> suite = load_suite("jko15")
        >>> len(suite.entries), suite.entries[0].name
        (15, 'styblinski_tang')
    """
    if isinstance(suite, Suite):
        return suite
    text = os.fspath(suite)
    if text in SUITES:
        return SUITES[text]
    if text.endswith(".toml") or os.sep in text or Path(text, FILE).is_file():
        return read_suite(text)
    return lookup(SUITES, text, "suite")


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
