"""``popdyn validate``: hold a store against the format, a run or a bench against its digests."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from popdyn.base.errors import PopdynError
from popdyn.base.files import MANIFEST, check_manifest, extra_files, manifest_kind
from popdyn.cli.common import emit, json_option, standard_output
from popdyn.snapshots import validate
from popdyn.snapshots.metadata import ROOT
from popdyn.snapshots.validate import Breach

__all__ = ["command"]

DIGESTS = f"Every file is as {MANIFEST} says."


@click.command(name="validate")
@click.argument("path", metavar="X", type=click.Path())
@json_option
def command(path: str, as_json: bool) -> int:
    """Check X, a store, a run or a bench; list every breach. Exit status 1 if there is one.

    A store is held against datasets/FORMAT.md, a run or a bench against the digests of its
    files.

    \b
    Example:
      popdyn validate st.zarr
      popdyn validate runs/st
    """
    kind, breaches, notes = _checked(path)
    if as_json:
        found = {"valid": not breaches, "breaches": [asdict(b) for b in breaches], "notes": notes}
        emit({kind: path} | found)
    else:
        for breach in breaches:
            standard_output.print(
                f"{path}: {breach.node}: {breach.found}\n    the page says: {breach.expected}"
                if kind == "store"
                else f"{path}: {breach.node} {breach.found}",
                soft_wrap=True,
            )
        for note in notes:
            standard_output.print(f"{path}: note: {note}", soft_wrap=True)
        places = "one place" if len(breaches) == 1 else f"{len(breaches)} places"
        what = f"breaks the format in {places}" if breaches else "is sound"
        standard_output.print(f"{path} {what}", soft_wrap=True)
    return 1 if breaches else 0


def _checked(path: str) -> tuple[str, list[Breach], list[str]]:
    """Return what lies there, what is wrong with it, and what else there is to say."""
    folder = Path(path)
    if (folder / ROOT).exists() or not (folder / MANIFEST).exists():
        return "store", validate(path), []
    kind = manifest_kind(path)
    if kind in FOLDERS:
        return kind, *FOLDERS[kind](path)
    what = "is damaged" if kind is None else f"is that of a {kind}"
    known = ", ".join(("store", *FOLDERS))
    return "folder", [Breach(MANIFEST, what, f"Expected the mark of one of {known}.", "mark")], []


def _run(path: str) -> tuple[list[Breach], list[str]]:
    """Return what is wrong with a run's files, and which of them are not popdyn's."""
    from popdyn.learners import load_run
    from popdyn.learners.run import KIND, RUN_FORMAT

    try:
        found = check_manifest(path, KIND, format=RUN_FORMAT)
        extra = extra_files(path, KIND, format=RUN_FORMAT)
        if not found:
            load_run(path)
    except PopdynError as error:
        return [Breach(MANIFEST, str(error), DIGESTS, "run")], []
    breaches = [Breach(file, what, DIGESTS, "digest") for file, what in found]
    return breaches, [f"{name} is not popdyn's: --overwrite will refuse" for name in extra]


def _bench(path: str) -> tuple[list[Breach], list[str]]:
    """Return what of a bench is missing, changed, or of another cell."""
    from popdyn.benchmark import check_bench

    try:
        found = check_bench(path)
    except PopdynError as error:
        return [Breach(MANIFEST, str(error), DIGESTS, "bench")], []
    return [Breach(file, what, DIGESTS, "digest") for file, what in found], []


FOLDERS = {"bench": _bench, "run": _run}
"""For each kind of folder but a store what checks it: breaches and notes."""
