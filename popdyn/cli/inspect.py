"""``popdyn inspect``: what is in a store, and what can be learned from it."""

from __future__ import annotations

import json
from typing import Any

import click
from rich.progress import Progress
from rich.table import Table

from popdyn.cli.common import console, emit, json_option, standard_output
from popdyn.snapshots import inspect, open_snapshots, times

__all__ = ["command"]

SHORT = {"potential": "V", "interaction": "W", "diffusion": "β"}


@click.command(name="inspect")
@click.argument("store", type=click.Path())
@click.option("--deep", is_flag=True, help="Fit it by each kind of dynamics too (minutes).")
@json_option
def command(store: str, deep: bool, as_json: bool) -> None:
    """Show what is in STORE: sizes, provenance, moments, and what can be learned from it.

    \b
    Example:
      popdyn inspect st.zarr
      popdyn inspect st.zarr --deep
    """
    data = open_snapshots(store)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("reading", total=2 * len(times(data)))
        report: dict[str, Any] = inspect(data, progress=lambda: bar.advance(task))
        if deep:
            from popdyn.learners.deep import KINDS, explained_by  # torch takes its time

            fits = bar.add_task("fitting", total=1 + len(KINDS))
            report["deep"] = explained_by(data, advance=lambda: bar.advance(fits))
    if as_json:
        emit({"store": store, **report})
        return
    for name, value in report["provenance"].items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        standard_output.print(f"{name:<12} {text}", soft_wrap=True)
    standard_output.print()
    standard_output.print(_snapshots(report))
    standard_output.print()
    for note in report["notes"]:
        standard_output.print(f"note: {note}", soft_wrap=True)
    standard_output.print(f"what can be learned: {report['verdict']}", soft_wrap=True)
    if report["reachable_skill"] is not None:
        skill = f"{report['reachable_skill']:.2f}"
        standard_output.print(f"reachable skill of ∇V, by estimate: {skill}")
    if deep:
        standard_output.print()
        standard_output.print(_kinds(report["deep"]))
        for row in report["deep"]["kinds"]:
            if "error" in row:
                said = f"note: {', '.join(row['learn'])}: {row['error']}"
                standard_output.print(said, soft_wrap=True)


def _snapshots(report: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("snapshot", "time", "train", "test", "mean", "std"):
        justify: Any = "right" if name in ("snapshot", "train", "test") else "left"
        table.add_column(name, justify=justify, no_wrap=True)
    particles = report["particles"]
    for k, (time, row) in enumerate(zip(report["times"], report["moments"], strict=True)):
        cells = [str(k), f"{time:g}", str(particles["train"][k]), str(particles["test"][k])]
        table.add_row(*cells, *(_vector(row[name]) for name in ("mean", "std")))
    return table


def _kinds(found: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("learned", "verdict", "explained", "p", "β", "s"):
        right = name in ("p", "β", "s")
        table.add_column(name, justify="right" if right else "left", no_wrap=True)
    for k, row in enumerate([found["chosen"], *found["kinds"]]):
        if "error" in row:
            continue
        learned = ", ".join(SHORT.get(part, part) for part in row["learn"])
        cells = [learned + ", moving" * row["time_varying"] + " (default)" * (k == 0)]
        share, p = row["explained_share"], row["p_value"]
        cells.append(row["verdict"])
        cells.append("–" if share is None else f"{share:.3f} ± {row['standard_error'] or 0:.3f}")
        cells.append("–" if p is None else f"{p:.1g}")
        table.add_row(*cells, f"{row['diffusivity']:.3g}", f"{row['seconds']:.1f}")
    return table


def _vector(values: list[float]) -> str:
    shown = " ".join(f"{v:.3g}" for v in values[:3])
    return shown + (" …" if len(values) > 3 else "")
