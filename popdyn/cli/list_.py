"""``popdyn list``: what there is to choose."""

from __future__ import annotations

import importlib
from typing import Any

import click
from rich.table import Table

from popdyn.cli.common import emit, json_option, standard_output

__all__ = ["command"]

KINDS = {
    "potentials": "popdyn.energies:POTENTIALS",
    "interactions": "popdyn.energies:INTERACTIONS",
    "schemes": "popdyn.simulation:SCHEMES",
    "learners": "popdyn.learners:LEARNERS",
    "scores": "popdyn.scores:SCORES",
    "suites": "popdyn.benchmark:SUITES",
}


@click.command(name="list")
@click.argument("kind", required=False, type=click.Choice(list(KINDS)))
@json_option
def command(kind: str | None, as_json: bool) -> None:
    """Show what there is to choose, with formula and one line each.

    \b
    Example:
      popdyn list potentials
    """
    kinds = [kind] if kind else list(KINDS)
    found = {name: _entries(name) for name in kinds}
    if as_json:
        emit(found)
        return
    for name, rows in found.items():
        table = Table(title=name, title_justify="left", box=None, pad_edge=False)
        columns = [
            c for c in ("name", "formula", "parameters", "summary") if any(r.get(c) for r in rows)
        ]
        for column in columns:
            table.add_column(column, overflow="fold", no_wrap=column == "name")
        for row in rows:
            table.add_row(*(_text(row.get(c, "")) for c in columns))
        standard_output.print(table)
        standard_output.print()


def _entries(kind: str) -> list[dict[str, Any]]:
    module, _, attribute = KINDS[kind].partition(":")
    registry = getattr(importlib.import_module(module), attribute)
    wanted = ("formula", "parameters", "summary")
    return [
        {"name": name} | {key: getattr(entry, key) for key in wanted if hasattr(entry, key)}
        for name, entry in registry.items()
    ]


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k}={v}" for k, v in value.items())
    return str(value)
