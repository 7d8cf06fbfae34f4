"""``popdyn train``: learn the energy back from a store."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import click
import torch
from threadpoolctl import threadpool_limits

from popdyn.base.errors import PopdynError
from popdyn.base.options import flags, options_in
from popdyn.cli.common import (
    Name,
    NumberList,
    console,
    emit,
    json_option,
    out_option,
    overwrite_option,
    seed_option,
)
from popdyn.learners import LEARNERS, fit
from popdyn.learners.words import next_steps, notes_of, words_of

__all__ = ["command"]

DEFAULT_LEARNER = "ijkonet"
COMMON = ("hold_out", "ensemble", "workers", "seed", "device", "observation_noise")


class LearnerCommand(click.Command):
    """A command whose flags are its own and those of the learner that the line names."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta["learner"] = _named(args)
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            name = error.option_name.removeprefix("--").removeprefix("no-").replace("-", "_")
            others = [k for k, v in LEARNERS.items() if name in options_in(v.options)]
            if not others:
                raise
            raise click.UsageError(
                f"learner '{ctx.meta['learner']}' has no option {error.option_name}: "
                f"{', '.join(others)} {'have' if len(others) > 1 else 'has'}",
                ctx,
            ) from None

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        learner = LEARNERS.get(ctx.meta.get("learner", DEFAULT_LEARNER))
        return [*super().get_params(ctx), *(flags(learner.options) if learner else ())]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        name = ctx.meta.get("learner", DEFAULT_LEARNER)
        params = [p for p in self.get_params(ctx) if isinstance(p, click.Option)]
        records = [p.get_help_record(ctx) for p in params]
        count = len(flags(LEARNERS[name].options)) if name in LEARNERS else 0
        own = len(records) - count
        for title, part in (
            ("Options", records[:own]),
            (f"Options of {name} (--help --learner NAME shows another's)", records[own:]),
        ):
            with formatter.section(title):
                formatter.write_dl([record for record in part if record] or [("none", "")])


def _named(args: list[str]) -> str:
    """Return the learner of a line that is not yet parsed: its own, or that of its file."""
    found = {"--learner": "", "--config": ""}
    for i, word in enumerate(args):
        flag, sign, value = word.partition("=")
        if flag in found:
            found[flag] = value if sign else "".join(args[i + 1 : i + 2])
    name = found["--learner"]
    if not name and Path(found["--config"]).is_file():
        name = _from_file(found["--config"]).get("learner", "")
    return name or DEFAULT_LEARNER


@click.command(name="train", cls=LearnerCommand)
@click.argument("stores", nargs=-1, required=True, metavar="STORE…", type=click.Path())
@out_option("Run folder")
@click.option(
    "--learner",
    type=Name("learner", "popdyn.learners:LEARNERS"),
    help=f"A name of `popdyn list learners`.  [default: {DEFAULT_LEARNER}]",
)
@click.option(
    "--hold-out",
    type=NumberList(int),
    help="Snapshots not looked at, indices from 0; of several stores those that have such a one.",
)
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False),
    help="TOML file with options; the line wins.",
)
@click.option(
    "--ensemble",
    type=click.IntRange(1),
    help="Members, each on its own half of the particles.  [default: 1, or 3 networks where "
    "--learn auto finds that nothing that stands still meets the snapshots]",
)
@click.option(
    "--workers",
    type=click.IntRange(1),
    help="Processes that fit the members of an ensemble.  [default: 1, this one]",
)
@click.option("--device", help="torch device.  [default: cpu]")
@click.option(
    "--observation-noise",
    type=NumberList(float),
    help="Standard deviation of the noise that positions of the store were observed with: one "
    "number, or one for each component.",
)
@click.option(
    "--threads",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="CPU threads; runs are equal bit for bit only where it is.",
)
@click.option("--verbose", is_flag=True, help="Print the certificate's numbers, too.")
@click.option("--resume", is_flag=True, help="Go on from the run's last checkpoint.")
@seed_option
@overwrite_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    stores: tuple[str, ...],
    out: str,
    seed: int,
    config: str | None,
    threads: int,
    verbose: bool,
    resume: bool,
    overwrite: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Learn the energy behind the snapshots of STORE; several share one dynamics.

    Several experiments may start elsewhere, and have times and sizes of their own. Each gets a
    verdict, and where their dynamics differ that is said.

    \b
    Example:
      popdyn train st.zarr --out runs/st
      popdyn train control.zarr treated.zarr --out runs/both
      popdyn train eb5.zarr --out runs/eb5 --hold-out 1,3 --time-varying
      popdyn train st.zarr --out runs/wf --learner weak_form --learn potential,diffusion
    """
    options = _from_file(config) if config else {}
    options |= {name: value for name, value in given.items() if value is not None}
    if (
        ctx.get_parameter_source("seed") is click.core.ParameterSource.COMMANDLINE
        or "seed" not in options
    ):
        options["seed"] = seed
    torch.set_num_threads(threads)
    with threadpool_limits(threads):  # NumPy's own threads
        run = fit(
            list(stores),
            options.pop("learner", DEFAULT_LEARNER),
            out=out,
            overwrite=overwrite,
            resume=resume,
            progress=True,
            **options,
        )
    if as_json:
        emit({"run": str(Path(out))} | run.summary())
        return
    for name, text in {**words_of(run), "run": str(Path(out))}.items():
        console.print(text if name == "verdict" else f"{name}: {text}", soft_wrap=True)
    if verbose:
        for name, value in run.certificate.items():
            console.print(f"{name}: {_short(value)}", soft_wrap=True)
    for note in notes_of(run):
        console.print(note, soft_wrap=True)
    for step in next_steps(run, out):
        console.print(f"next: {step}", soft_wrap=True)


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_short(part)}" for name, part in value.items())
    if isinstance(value, list):
        return "; ".join(map(_short, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _from_file(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            options = {k.replace("-", "_"): v for k, v in tomllib.load(file).items()}
    except tomllib.TOMLDecodeError as error:
        raise PopdynError(f"'{path}' is no TOML: {error}") from None
    known = {name for entry in LEARNERS.values() for name in options_in(entry.options)}
    for name in options:
        if name not in {*known, *COMMON, "learner"}:
            raise PopdynError(f"'{path}' has the key '{name}', which no learner has as an option")
    return options
