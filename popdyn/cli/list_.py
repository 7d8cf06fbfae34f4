"""``popdyn list``: what there is to choose."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click
from rich.table import Table

from popdyn.base.options import options_in
from popdyn.base.registry import lookup
from popdyn.cli.common import console, emit, json_option, standard_output

__all__ = ["command"]

KINDS = {
    "potentials": "popdyn.dynamics:POTENTIALS",
    "interactions": "popdyn.dynamics:INTERACTIONS",
    "initial": "popdyn.simulation:INITIAL_LAWS",
    "schemes": "popdyn.simulation:SCHEMES",
    "learners": "popdyn.learners:LEARNERS",
    "scores": "popdyn.scores:SCORES",
    "suites": "popdyn.benchmark:SUITES",
    "formats": "popdyn.snapshots.formats:FORMATS",
}
SINGULAR = {"initial": "initial law"}
FACTS = ("formula", "suffixes", "parameters", "options", "summary")


@click.command(name="list")
@click.argument("kind", required=False, type=click.Choice(list(KINDS)))
@click.argument("name", required=False)
@json_option
def command(kind: str | None, name: str | None, as_json: bool) -> None:
    """Show what there is to choose, a line each; of NAME its formula, parameters and options.

    \b
    Example:
      popdyn list potentials
      popdyn list potentials styblinski_tang
      popdyn list initial
    """
    found = {}
    for each in [kind] if kind else KINDS:
        registry = _registry(each)
        if name is not None:
            registry = {name: lookup(registry, name, SINGULAR.get(each, each[:-1]))}
        found[each] = [_facts(key, entry) for key, entry in registry.items()]
        for reason in getattr(registry, "broken", {}).values():
            console.print(f"warning: {reason}", soft_wrap=True)
    if as_json:
        emit(found)
    elif name is not None:
        for entries in found.values():
            _show(entries[0])
    else:
        for each, entries in found.items():
            table = Table(title=each, title_justify="left", box=None, pad_edge=False)
            widest = max(len(entry["name"]) for entry in entries)
            table.add_column("name", no_wrap=True, min_width=widest)
            table.add_column("summary", no_wrap=True, overflow="ellipsis")
            for entry in entries:
                table.add_row(entry["name"], entry.get("summary", ""))
            standard_output.print(table)
            standard_output.print()


def _registry(kind: str) -> Mapping[str, Any]:
    module, _, attribute = KINDS[kind].partition(":")
    return getattr(importlib.import_module(module), attribute)  # type: ignore[no-any-return]


def _facts(name: str, entry: Any) -> dict[str, Any]:
    facts = {key: getattr(entry, key) for key in FACTS if hasattr(entry, key)}
    if isinstance(facts.get("options"), type):
        facts["options"] = {
            option.name: {"default": option.default, "meaning": option.meaning}
            for option in options_in(facts["options"]).values()
        }
    return {"name": name} | facts


def _show(facts: dict[str, Any]) -> None:
    """Print one entry: its texts, then its parameters and options, a line each."""
    standard_output.print(f"{facts['name']}: {facts.get('summary', '')}", soft_wrap=True)
    if facts.get("formula"):
        standard_output.print(f"  {facts['formula']}", soft_wrap=True)
    if facts.get("parameters"):
        standard_output.print("parameters:")
    for key, value in facts.get("parameters", {}).items():
        standard_output.print(f"  {key} = {value}", soft_wrap=True)
    if facts.get("options"):
        standard_output.print("options:")
    for key, value in facts.get("options", {}).items():
        if {"default", "meaning"} == set(value):  # of a learner; a suite's are values
            value = f"{value['default']}: {value['meaning'].replace('``', '')}"
        standard_output.print(f"  {key} = {value}", soft_wrap=True)
