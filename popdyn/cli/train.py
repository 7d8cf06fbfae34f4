"""``popdyn train``: learn the energy back from a store."""

from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path
from typing import Any

import click
import torch
from threadpoolctl import threadpool_limits

from popdyn.cli.common import (
    NumberList,
    console,
    emit,
    json_option,
    out_option,
    overwrite_option,
    seed_option,
)
from popdyn.errors import PopdynError
from popdyn.learners import LEARNERS, fit
from popdyn.learners.inner import INNERS
from popdyn.snapshots import open_snapshots

__all__ = ["command"]

COMMON = {"hold_out", "ensemble", "workers", "seed", "device"}


@click.command(name="train")
@click.argument("store", type=click.Path())
@out_option("Run folder")
@click.option("--learner", type=click.Choice(list(LEARNERS)), help="Learner.  [default: ijkonet]")
@click.option(
    "--inner",
    type=click.Choice(list(INNERS)),
    help="Inner solver of iJKOnet.",
)
@click.option("--energies", metavar="LIST", help="Any of potential,interaction,diffusion.")
@click.option("--diffusivity", type=click.FloatRange(0), help="β if it is known and not learned.")
@click.option("--time-varying", is_flag=True, default=None, help="Learn V(x, t).")
@click.option("--hold-out", type=NumberList(int), help="Snapshots not looked at, indices from 0.")
@click.option("--steps", type=click.IntRange(1), help="Training steps.")
@click.option("--batch", type=click.IntRange(2), help="Particles of each snapshot in a step.")
@click.option(
    "--learning-rate", type=click.FloatRange(0, min_open=True), help="Peak learning rate."
)
@click.option(
    "--first-order",
    is_flag=True,
    default=None,
    help="No second-order recovery after a JKO-based fit.",
)
@click.option(
    "--option", "extra", multiple=True, metavar="K=V", help="Any other option of the learner."
)
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False),
    help="TOML file with options; the line wins.",
)
@click.option(
    "--ensemble",
    type=click.IntRange(1),
    help="Members, each on its own half of the particles.  [default: 1]",
)
@click.option(
    "--workers",
    type=click.IntRange(1),
    help="Processes that fit the members of an ensemble.  [default: 1, this one]",
)
@click.option("--device", help="torch device.  [default: cpu]")
@click.option(
    "--threads",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="CPU threads; runs are equal bit for bit only where it is.",
)
@click.option("--resume", is_flag=True, help="Go on from the run's last checkpoint.")
@seed_option
@overwrite_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    store: str,
    out: str,
    seed: int,
    config: str | None,
    extra: tuple[str, ...],
    threads: int,
    resume: bool,
    overwrite: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Learn the energy behind the snapshots of STORE.

    \b
    Example:
      popdyn train st.zarr --out runs/st
      popdyn train eb5.zarr --out runs/eb5 --hold-out 1,3 --time-varying
    """
    options = _from_file(config) if config else {}
    options |= {name: value for name, value in given.items() if value is not None}
    options |= _pairs(extra)
    if (
        ctx.get_parameter_source("seed") is click.core.ParameterSource.COMMANDLINE
        or "seed" not in options
    ):
        options["seed"] = seed
    torch.set_num_threads(threads)
    with threadpool_limits(threads):  # NumPy's own threads
        run = fit(
            open_snapshots(store),
            options.pop("learner", "ijkonet"),
            out=out,
            overwrite=overwrite,
            resume=resume,
            progress=True,
            source=store,
            **options,
        )
    if as_json:
        emit({"run": str(Path(out))} | run.summary())
        return
    state = "converged" if run.converged else "not converged"
    facts = ", ".join(
        f"{k} {_short(v)}" for k, v in run.certificate.items() if isinstance(v, (int, float))
    )
    verdict = run.verdict
    if verdict is not None:
        console.print(f"{verdict.verdict}: {verdict.note}")
        share, error = verdict.explained_share, verdict.explained_share_error
        if share is not None and error is not None:
            console.print(f"explained share of the motion: {share:.2f} ± {error:.2f}")
    console.print(
        f"{out}: {run.learner}, {run.steps} steps in {run.seconds:.1f} s, {state}"
        + (f" ({facts})" if facts else ""),
    )
    for warning in run.certificate.get("warnings", ()):
        console.print(f"warning: {warning}")
    for note in run.notes:
        if verdict is not None and note == verdict.note:
            continue
        console.print(f"note: {note}")


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _pairs(extra: tuple[str, ...]) -> dict[str, Any]:
    out = {}
    for pair in extra:
        key, sign, text = pair.partition("=")
        if not sign:
            raise click.BadParameter(f"'{pair}': expected name=value", param_hint="--option")
        try:
            out[key.replace("-", "_")] = tomllib.loads(f"v = {text}")["v"]
        except tomllib.TOMLDecodeError:
            out[key.replace("-", "_")] = text
    return out


def _from_file(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            options = {k.replace("-", "_"): v for k, v in tomllib.load(file).items()}
    except tomllib.TOMLDecodeError as error:
        raise PopdynError(f"'{path}' is no TOML: {error}") from None
    known = {f.name for entry in LEARNERS.values() for f in dataclasses.fields(entry.options)}
    for name in options:
        if name not in known | COMMON | {"learner"}:
            raise PopdynError(f"'{path}' has the key '{name}', which no learner has as an option")
    return options
