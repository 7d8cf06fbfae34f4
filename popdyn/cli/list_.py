"""``popdyn list``: what there is to choose."""

from __future__ import annotations

import importlib
from collections import ChainMap
from collections.abc import Mapping
from typing import Any

import click
from rich.table import Table

from popdyn.base.errors import PopdynError
from popdyn.base.options import options_in
from popdyn.base.registry import lookup
from popdyn.base.screen import Screen
from popdyn.cli.common import console, emit, json_option, standard_output

__all__ = ["KINDS", "command", "registry_of"]

KINDS = {
    "potentials": "popdyn.dynamics:POTENTIALS",
    "interactions": "popdyn.dynamics:INTERACTIONS",
    "circulations": "popdyn.dynamics:CIRCULATIONS",
    "growths": "popdyn.dynamics:GROWTHS",
    "diffusions": "popdyn.dynamics:DIFFUSIONS",
    "initial": "popdyn.simulation:INITIAL_LAWS",
    "schemes": "popdyn.simulation:SCHEMES",
    "learners": "popdyn.learners:LEARNERS",
    "scores": "popdyn.scores:SCORES",
    "suites": "popdyn.benchmark:SUITES",
    "formats": "popdyn.snapshots.formats:FORMATS",
    "figures": "popdyn.plots:FIGURES",
}
SINGULAR = {"initial": "initial law", "diffusions": "diffusivity"}
TEXTS = ("formula", "minimised_by", "bias", "avoid")
FACTS = (*TEXTS, "suffixes", "parameters", "options", "learners", "summary")
PIPE_WIDTH = 200


@click.command(name="list")
@click.argument("kind", required=False, metavar=f"[{'|'.join(KINDS)}]")
@click.argument("name", required=False)
@json_option
def command(kind: str | None, name: str | None, as_json: bool) -> None:
    """Show what there is to choose, a line each; of NAME its formula, parameters and options.

    NAME alone is looked for among all of them.

    \b
    Example:
      popdyn list potentials
      popdyn list potentials styblinski_tang
      popdyn list ijkonet
    """
    if kind is not None and kind not in KINDS:
        if name is not None:
            _there(KINDS, kind, "kind")
        kind, name = None, kind
    found = {}
    registries = {each: registry_of(each) for each in ([kind] if kind else KINDS)}
    for registry in registries.values():
        len(registry)  # what is broken is known once all are loaded
        for reason in getattr(registry, "broken", {}).values():
            console.print(f"warning: {reason}", soft_wrap=True)
    if name is not None and kind is None:
        everything = ChainMap(*(dict(registry) for registry in registries.values()), KINDS)
        broken = (getattr(registry, "broken", {}) for registry in registries.values())
        if not any(name in reasons for reasons in broken):
            _there(everything, name, "name")
        registries = {each: r for each, r in registries.items() if name in r}
    for each, registry in registries.items():
        if name is not None:
            registry = {name: lookup(registry, name, SINGULAR.get(each, each[:-1]))}
        found[each] = [_facts(key, entry) for key, entry in registry.items()]
    if as_json:
        emit(found)
    elif name is not None:
        for each, entries in found.items():
            _show(entries[0], SINGULAR.get(each, each[:-1]))
    else:
        # A pipe has no width of its own: a summary would be cut there.
        wide = standard_output.is_terminal
        screen = standard_output if wide else Screen(width=PIPE_WIDTH)
        for each, entries in found.items():
            table = Table(title=each, title_justify="left", box=None, pad_edge=False)
            widest = max(len(entry["name"]) for entry in entries)
            table.add_column("name", no_wrap=True, min_width=widest)
            table.add_column("summary", no_wrap=True, overflow="ellipsis")
            for entry in entries:
                table.add_row(entry["name"], entry.get("summary", ""))
            screen.print(table)
            screen.print()


def _there(registry: Mapping[str, Any], name: str, kind: str) -> None:
    """Raise wrong usage where a name is not there."""
    try:
        lookup(registry, name, kind)
    except PopdynError as error:
        raise click.UsageError(str(error)) from None


def registry_of(kind: str) -> Mapping[str, Any]:
    """Return the entries of a kind."""
    module, _, attribute = KINDS[kind].partition(":")
    return getattr(importlib.import_module(module), attribute)  # type: ignore[no-any-return]


def _facts(name: str, entry: Any) -> dict[str, Any]:
    facts = {key: getattr(entry, key) for key in FACTS if hasattr(entry, key)}
    if isinstance(facts.get("options"), type):
        facts["options"] = {
            option.name: {
                "default": option.default,
                "meaning": option.meaning.replace("``", ""),
                "expected": option.expected,
            }
            for option in options_in(facts["options"]).values()
        }
    if hasattr(entry, "entries"):
        facts["entries"] = {each.name: each.summary for each in entry.entries}
    return {"name": name} | facts


def _show(facts: dict[str, Any], kind: str) -> None:
    """Print one entry: its texts, then its parameters and options, a line each."""

    def say(text: str) -> None:
        standard_output.print(text, soft_wrap=True)

    say(f"{facts['name']} ({kind}): {facts.get('summary', '')}")
    for key in TEXTS:
        if facts.get(key):
            say(f"  {key.replace('_', ' ')}: {facts[key]}")
    for key in ("suffixes", "learners"):
        if facts.get(key):
            say(f"  {key}: {', '.join(part or 'a folder' for part in facts[key])}")
    for key in ("parameters", "options", "entries"):
        if facts.get(key):
            say(f"{key}:")
        for name, value in (facts.get(key) or {}).items():
            if key == "entries":
                say(f"  {name}" + (f": {value}" if value else ""))
            elif key == "options" and set(value) == {"default", "meaning", "expected"}:
                meaning = value["meaning"].replace("None:", "If not given:")
                expected = f"  [{value['expected']}]" if value["expected"] else ""
                say(f"  {name} = {_written(value['default'])}: {meaning}{expected}")
            else:
                say(f"  {name} = {_written(value)}")


def _written(value: Any) -> str:
    """Return a value as a person writes it."""
    if isinstance(value, (tuple, list)):
        return ",".join(map(_written, value))
    if value is None:
        return "not given"
    return str(value).lower() if isinstance(value, bool) else str(value)
