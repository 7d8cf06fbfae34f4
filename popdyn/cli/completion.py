"""Shell completion that answers at once: from a file of what there is, not from the rooms.

The commands and their values come from modules that import torch, which takes seconds.
``completion.json`` holds what they say; ``scripts/completion`` writes it anew and a test compares.
Names of plug-ins are those of their entry points.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem, shell_complete

__all__ = ["complete", "described"]

FILE = Path(__file__).with_name("completion.json")
DEVICES = ("cpu", "cuda")
Parameter = dict[str, Any]
"""``names``, or ``argument``; ``flag``, ``many``, ``help``; what it may be: ``values``, or
``by_kind`` those of each kind; ``groups`` of entry points that add to them; ``path``, a file's
name, too; ``list``, several with commas."""


def complete(instruction: str) -> int:
    """Answer what a shell asks by ``_POPDYN_COMPLETE``; return the exit status."""
    found = json.loads(FILE.read_text(encoding="utf-8"))
    return shell_complete(_Group(found), {}, "popdyn", "_POPDYN_COMPLETE", instruction)


class _Values(click.ParamType):
    """The values that a parameter may have."""

    name = "value"

    def __init__(self, parameter: Parameter) -> None:
        self.parameter = parameter

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        before, comma, last = "", "", incomplete
        if self.parameter.get("list"):
            before, comma, last = incomplete.rpartition(",")
        kind = ctx.params.get("kind", "")
        values = list(self.parameter.get("values", self.parameter.get("by_kind", {}).get(kind, ())))
        for group in self.parameter.get("groups", [f"popdyn.{kind}"] if kind else []):
            values += sorted({point.name for point in entry_points(group=group)} - set(values))
        taken = before.split(",")
        items = [
            CompletionItem(f"{before}{comma}{value}")
            for value in values
            if value.startswith(last) and value not in taken
        ]
        if self.parameter.get("path"):
            items.append(CompletionItem(incomplete, type="file"))
        return items


class _Command(click.Command):
    """A command with the parameters of its description; ``train`` has those of its learner, too."""

    def __init__(self, name: str, found: Mapping[str, Any]) -> None:
        super().__init__(name, params=[_made(p) for p in found["params"]])
        self.learners: Mapping[str, list[Parameter]] = found.get("learners", {})
        self.default = found.get("default", "")

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta["learner"] = _after("--learner", args) or self.default
        return super().parse_args(ctx, args)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        own = self.learners.get(ctx.meta.get("learner", self.default), [])
        return [*super().get_params(ctx), *(_made(p) for p in own)]


class _Group(click.Group):
    def __init__(self, found: Mapping[str, Any]) -> None:
        super().__init__("popdyn", params=[_made(p) for p in found["params"]])
        self.found = found["commands"]

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.found)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in self.found:
            return None
        command = _Command(name, self.found[name])
        command.short_help = self.found[name]["help"]
        return command


def _made(parameter: Parameter) -> click.Parameter:
    kind, many = _Values(parameter), parameter.get("many", False)
    if "argument" in parameter:
        nargs = -1 if many else 1
        return click.Argument([parameter["argument"]], type=kind, required=False, nargs=nargs)
    names, text = parameter["names"], parameter.get("help", "")
    if parameter.get("flag"):
        return click.Option(names, is_flag=True, multiple=many, help=text)
    return click.Option(names, type=kind, multiple=many, help=text)


def _after(flag: str, args: Iterable[str]) -> str:
    words = list(args)
    for i, word in enumerate(words):
        if word == flag:
            return "".join(words[i + 1 : i + 2])
        if word.startswith(f"{flag}="):
            return word.partition("=")[2]
    return ""


def described() -> dict[str, Any]:
    """Return what the file holds, from the commands themselves: it imports all rooms."""
    from popdyn.cli import COMMANDS, SUMMARIES, group
    from popdyn.learners import LEARNERS

    top = click.Context(group, info_name="popdyn")
    commands: dict[str, Any] = {}
    for name in COMMANDS:
        command = group.get_command(top, name)
        assert command is not None
        ctx = click.Context(command, info_name=name, parent=top)
        found: dict[str, Any] = {"help": SUMMARIES[name]}
        if name == "train":
            from popdyn.cli.train import DEFAULT_LEARNER

            own = len(command.params)
            learners = {}
            for learner in sorted(LEARNERS):
                ctx.meta["learner"] = learner
                learners[learner] = [_described(p, ctx) for p in command.get_params(ctx)[own + 1 :]]
            found |= {"default": DEFAULT_LEARNER, "learners": learners}
        params = [*command.params, command.get_help_option(ctx)]
        found["params"] = [_described(p, ctx) for p in params if p is not None]
        commands[name] = found
    return {
        "commands": commands,
        "params": [_described(p, top) for p in [*group.params, group.get_help_option(top)] if p],
    }


def _described(param: click.Parameter, ctx: click.Context) -> Parameter:
    out: Parameter = {}
    if isinstance(param, click.Option):
        out["names"] = [*param.opts, *param.secondary_opts]
        if param.help:
            out["help"] = param.help.partition("  [")[0].partition(". ")[0]
        if param.is_flag:
            out["flag"] = True
    else:
        out["argument"] = param.name
    if param.multiple if isinstance(param, click.Option) else param.nargs == -1:
        out["many"] = True
    return out | ({} if out.get("flag") else _values(param, ctx))


def _values(param: click.Parameter, ctx: click.Context) -> dict[str, Any]:
    """Return what a parameter may be."""
    from popdyn.cli.list_ import KINDS, registry_of

    kind, where = param.type, (ctx.info_name, param.name)
    by_kind = {each: sorted(registry_of(each)) for each in KINDS}
    if where == ("list", "kind"):
        names = dict.fromkeys([*KINDS, *itertools.chain(*by_kind.values())])
        return {"values": list(names), "groups": [f"popdyn.{each}" for each in KINDS]}
    if where == ("list", "name"):
        return {"by_kind": by_kind}
    if where in (("bench", "suite"), ("simulate", "suite")):
        return {"values": by_kind["suites"], "path": where[0] == "bench"}
    if where == ("bench", "learners"):
        return {"values": by_kind["learners"], "groups": ["popdyn.learners"], "list": True}
    if where == ("simulate", "initial"):
        return {"values": by_kind["initial"], "groups": ["popdyn.initial"], "path": True}
    if where == ("train", "device"):
        return {"values": list(DEVICES)}
    if isinstance(kind, click.Path):
        return {"path": True}
    if isinstance(kind, click.Choice):
        return {"values": list(kind.choices)}
    option = getattr(kind, "option", None)  # of an options class
    one_of = getattr(kind if option is None else option, "one_of", None)
    if one_of is not None:
        return {"values": sorted(one_of.entries), "groups": one_of.groups}
    if option is not None and option.choices:
        return {"values": list(option.choices), "list": option.several}
    return {}


if __name__ == "__main__":
    text = json.dumps(described(), ensure_ascii=False, indent=1, sort_keys=True)
    FILE.write_text(f"{text}\n", encoding="utf-8")
    print(f"{FILE}: {FILE.stat().st_size} bytes", file=sys.stderr)
