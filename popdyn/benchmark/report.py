"""``report.html``: one file that needs nothing else, for a screen, a phone and a keyboard."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from popdyn.base.screen import Screen, printable
from popdyn.benchmark import panels, tables
from popdyn.benchmark.cells import Cell, terms_of
from popdyn.benchmark.commands import reproduce
from popdyn.benchmark.folder import report_is_sound
from popdyn.benchmark.suite import Suite
from popdyn.benchmark.variants import learner_of
from popdyn.learners import LEARNERS, Run, load_run
from popdyn.snapshots import counts, dimension, open_snapshots, times

__all__ = ["report_of"]

HERE = Path(__file__).parent


def report_of(
    suite: Suite,
    results: Mapping[str, Any],
    cells: Sequence[Cell],
    folder: Path,
    *,
    command: str,
    progress: bool = False,
) -> str | None:
    """Return the page of a bench, or None if it is there and shows these very results.

    Args:
        suite: The suite.
        results: What ``results.json`` holds.
        cells: The cells that its rows stand for, in the same order.
        folder: Folder of the bench, with its stores and runs.
        command: The command line that makes the page.
        progress: Whether to say on a terminal that figures are being drawn.

    """
    key = _key(results, command)
    if report_is_sound(folder) and key.encode() in (folder / "report.html").read_bytes()[:2000]:
        return None
    console = Screen(stderr=True, quiet=not progress)
    pairs = list(zip(cells, results["rows"], strict=True))
    names = list(dict.fromkeys(cell.entry.name for cell in cells))
    parts = []
    for i, name in enumerate(names, 1):
        with console.status(f"report: figures of {name} ({i} of {len(names)})"):
            parts.append(_entry(suite, [p for p in pairs if p[0].entry.name == name], folder))
    boards = tables.leaderboards(results, suite)
    label = tables.LABELS.get(suite.headline, suite.headline)
    grid = tables.matrix(results, suite.headline, f"{label} by entry and learner")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_shown,
    )
    environment.filters["svg"] = Markup  # drawn here, with every text escaped by matplotlib
    learners = list(dict.fromkeys(cell.learner for cell in cells))
    return environment.get_template("report.html.jinja").render(
        key=key,
        suite=suite,
        style=Markup((HERE / "report.css").read_text(encoding="utf-8")),
        script=Markup((HERE / "report.js").read_text(encoding="utf-8")),
        boards=boards,
        grid=grid,
        headline=label,
        notes=tables.column_notes([*boards, *(part["table"] for part in parts)]),
        learners={name: LEARNERS[learner_of(name)].summary for name in learners},
        options={name: _own_options(cells, name) for name in learners},
        parts=parts,
        seeds=1 + max(cell.seed for cell in cells),
        cells=len(cells),
        failed=sum(row["status"] != "ok" for row in results["rows"]),
        command=command,
        points=cells[0].score["points"],
        machine=_machine(),
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def _key(results: Mapping[str, Any], command: str) -> str:
    """Return a digest of what the page follows from: the same page is not drawn again."""
    digest = hashlib.sha256(json.dumps([results, command, version("popdyn-jko")]).encode())
    for file in sorted(HERE.glob("report.*")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _shown(value: Any) -> Any:
    """Return a value without control characters, what is markup of ours as it is."""
    return printable(value) if type(value) is str else value


def _entry(
    suite: Suite, pairs: Sequence[tuple[Cell, Mapping[str, Any]]], folder: Path
) -> dict[str, Any]:
    """Return what the page shows of one entry."""
    entry = pairs[0][0].entry
    rows = [row for _, row in pairs]
    good = [cell for cell, row in pairs if row["status"] == "ok"]
    seed = min((cell.seed for cell in good), default=None)
    facts, groups = "no data", []
    if seed is not None:
        shown = [cell for cell in good if cell.seed == seed]
        data = open_snapshots(folder / "stores" / f"{shown[0].data}.zarr")
        facts = _facts(data)
        runs = {cell.learner: _run(folder, cell) for cell in shown if cell.learner != "zero"}
        groups = panels.entry_panels(
            entry.name, data, runs, hold_out=entry.hold_out, plane=suite.plane
        )
    table = tables.entry_table(rows, suite.headline, f"Scores of {entry.name}, means over seeds")
    best = _best(table, suite.headline)
    return {
        "name": entry.name,
        "summary": entry.summary,
        "facts": facts,
        "score": best.text,
        "shade": best.shade,
        "table": table,
        "groups": groups,
        "drawn_seed": seed,
        "commands": {c.learner: reproduce(c) for c, _ in pairs if c.seed == (seed or 0)},
        "failures": [
            f"{row['learner']}, seed {row['seed']}: {row['reason']}"
            for row in rows
            if row["status"] != "ok"
        ],
        "terms": list(dict.fromkeys(line for cell, _ in pairs for line in _terms(cell))),
    }


def _terms(cell: Cell) -> list[str]:
    """Return what a learner was asked for, and what it leaves out that the data was made with."""
    told, missing = terms_of(cell)
    left_out = f"; {missing} of the true energy taken for 0" if missing else ""
    return [f"{cell.learner}: {told}{left_out}"] if told else []


def _run(folder: Path, cell: Cell) -> Run:
    return load_run(folder / "cells" / cell.name / "run")


def _facts(data: Any) -> str:
    t, n, m = times(data), counts(data), counts(data, "test")
    energy = data.attrs.get("dynamics")
    parts = [f"{len(t)} snapshots, t = {t[0]:g} … {t[-1]:g}", f"d = {dimension(data)}"]
    parts.append(f"{_span(n)} particles each to learn from, {_span(m)} to test on")
    parts.append(str(data.attrs.get("observation")))
    if energy is not None:
        beta = energy["diffusivity"]
        parts.append(f"β = {beta:g}" if isinstance(beta, float) else f"β = {beta['name']}")
    if data.attrs.get("scheme"):
        parts.append(f"scheme {data.attrs['scheme']}")
    return "; ".join(parts)


def _span(n: Iterable[int]) -> str:
    low, high = min(n), max(n)
    return f"{low}" if low == high else f"{low}–{high}"


def _best(table: tables.Table, headline: str) -> tables.TableCell:
    """Return the best learner's headline score; the zero predictor and the truth do not count."""
    column = next((i for i, (_, name) in enumerate(table.head) if name == headline), None)
    found = [
        cells[column]
        for kind, cells in table.rows
        if column is not None and kind == "learner" and cells[0].text not in ("zero", "oracle")
    ]
    return min(found, key=lambda cell: tables.rank(cell, headline), default=tables.TableCell("–"))


def _own_options(cells: Sequence[Cell], learner: str) -> str:
    """Return the options that a learner was given, where all its cells agree."""
    found = [dict(cell.options) for cell in cells if cell.learner == learner]
    same = {k: v for k, v in found[0].items() if all(o.get(k) == v for o in found)}
    return ", ".join(f"{k} = {v}" for k, v in same.items()) or "defaults"


def _machine() -> str:
    names = ("popdyn-jko", "torch", "numpy")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    system = f"{platform.system()} {platform.machine()}"
    return f"{versions}, Python {platform.python_version()}, {system}"
