"""``popdyn simulate``: snapshots of a chosen energy, written to a store."""

from __future__ import annotations

import shlex
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from popdyn.base.options import flags
from popdyn.cli.common import (
    Name,
    NumberOrName,
    console,
    emit,
    json_option,
    out_option,
    overwrite_option,
    param_option,
    seed_option,
)
from popdyn.dynamics import Dynamics, FreeEnergy
from popdyn.simulation import SimulationOptions, configure, run_simulation
from popdyn.snapshots.tree import GROUPS

__all__ = ["command"]

# Numerical over true diffusivity of the reference solution, from which a person is told.
MUCH = 0.05


@click.command(name="simulate")
@click.option(
    "--potential",
    type=Name("potential", "popdyn.dynamics:POTENTIALS"),
    help="A name of `popdyn list potentials`.",
)
@click.option(
    "--interaction",
    type=Name("interaction", "popdyn.dynamics:POTENTIALS", "popdyn.dynamics:INTERACTIONS"),
    help="A name of `popdyn list interactions`, or a potential's.",
)
@click.option(
    "--diffusivity",
    type=NumberOrName("diffusivity", "popdyn.dynamics:DIFFUSIONS"),
    default=0.0,
    show_default=True,
    help="β, or a name of `popdyn list diffusions`: β(x), in Itô's sense.",
)
@click.option(
    "--circulation",
    type=Name("circulation", "popdyn.dynamics:CIRCULATIONS"),
    help="A drift that is no gradient, a name of `popdyn list circulations`.",
)
@click.option(
    "--growth",
    type=Name("growth", "popdyn.dynamics:GROWTHS"),
    help="Births less deaths, a name of `popdyn list growths`.",
)
@click.option(
    "--initial",
    default="uniform",
    show_default=True,
    help="Initial law, a name of `popdyn list initial`, or a .npy file.",
)
@click.option("--check-step", is_flag=True, help="Estimate the bias that the step leaves.")
@click.option("--reference", is_flag=True, help="Solve the Fokker–Planck equation, too.")
@click.option("--reference-cells", type=click.IntRange(min=2), help="Cells along each axis.")
@click.option(
    "--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Local processes."
)
@click.option("--scheduler", metavar="ADDRESS", help="A Dask scheduler instead.")
@click.option("--suite", metavar="NAME", help="A whole suite instead, into the folder --out.")
@click.option("--entry", multiple=True, help="With --suite: this entry alone; may be given again.")
@param_option("--potential-param", "potential")
@param_option("--interaction-param", "interaction")
@param_option("--diffusivity-param", "diffusivity")
@param_option("--circulation-param", "circulation")
@param_option("--growth-param", "growth")
@param_option("--initial-param", "initial law")
@seed_option
@out_option("The store")
@overwrite_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    suite: str | None,
    entry: tuple[str, ...],
    potential: str | None,
    interaction: str | None,
    diffusivity: float | str,
    circulation: str | None,
    growth: str | None,
    potential_param: dict[str, Any],
    interaction_param: dict[str, Any],
    diffusivity_param: dict[str, Any],
    circulation_param: dict[str, Any],
    growth_param: dict[str, Any],
    check_step: bool,
    reference: bool,
    reference_cells: int | None,
    workers: int,
    scheduler: str | None,
    initial_param: dict[str, Any],
    out: str,
    overwrite: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Simulate snapshots of particles that follow a free energy, that turn, grow and die.

    \b
    Example:
      popdyn simulate --potential styblinski_tang --out st.zarr
      popdyn simulate --potential quadratic --interaction gaussian_repulsion \\
          --interaction-param scale=3 --diffusivity 0.2 --times 0,0.1,0.4 --out both.zarr
      popdyn simulate --potential double_well --circulation rotation --circulation-param rate=2 \\
          --growth half_space --growth-param rate=3 --diffusivity 0.1 --out cells.zarr
      popdyn simulate --suite jko15 --out data
    """
    if suite is not None:
        _simulate_suite(ctx, suite, entry, out, overwrite, options["seed"], as_json)
        return
    if entry:
        raise click.UsageError("--entry names an entry of a suite: expected --suite")
    if not (potential or interaction or diffusivity or circulation or growth):
        raise click.UsageError(
            "nothing moves: expected --potential, --interaction, --diffusivity, --circulation or "
            "--growth"
        )
    named = diffusivity if isinstance(diffusivity, str) else None
    energy = FreeEnergy(
        potential,
        interaction,
        0.0 if isinstance(diffusivity, str) else diffusivity,
        potential_params=potential_param,
        interaction_params=interaction_param,
    )
    more: dict[str, Any] = {
        "diffusivity": named,
        "circulation": circulation,
        "growth": growth,
        "diffusivity_params": diffusivity_param,
        "circulation_params": circulation_param,
        "growth_params": growth_param,
    }
    dynamics = Dynamics(energy, **more) if any(more.values()) else energy
    given = {name: value for name, value in options.items() if value is not None}
    config = configure(initial_params=initial_param, **given)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    began = time.perf_counter()
    data = run_simulation(
        dynamics,
        config,
        check_step=check_step,
        reference=reference,
        reference_cells=reference_cells,
        workers=workers,
        scheduler=scheduler,
        out=out,
        overwrite=overwrite,
        progress=True,
        attrs={"history": f"{now} popdyn {shlex.join(sys.argv[1:])}"},
    )
    seconds = time.perf_counter() - began
    if note := data.attrs["initial"].get("note"):
        console.print(f"note: {note}", soft_wrap=True)
    if reference and energy.diffusivity > 0:
        added = data["reference"].attrs["numerical_diffusivity"]
        if added > MUCH * energy.diffusivity:
            console.print(
                f"the reference's grid adds about {added:.2g} to the diffusivity "
                f"{energy.diffusivity:g}: more --reference-cells make it smaller",
                soft_wrap=True,
            )
    steps = sum(config.particle_steps(group) for group in GROUPS)
    if as_json:
        emit(
            {
                "out": out,
                "particles": list(config.train),
                "test_particles": list(config.test),
                "dim": config.dim,
                "times": list(config.times),
                "scheme": config.scheme,
                "step": config.steps,
                "seconds": seconds,
                "particle_steps": steps,
                "particle_steps_per_second": steps / seconds,
            }
        )
        return
    console.print(
        f"{out}: {len(config.times)} snapshots, {_span(config.train)} particles each "
        f"({_span(config.test)} for testing), dimension {config.dim}; "
        f"{steps:.3g} particle-steps in {seconds:.1f} s",
        soft_wrap=True,
    )


# Before --check-step: what is simulated comes first.
command.params[4:4] = flags(SimulationOptions, less=("seed",))


def _simulate_suite(
    ctx: click.Context,
    suite: str,
    entries: tuple[str, ...],
    out: str,
    overwrite: bool,
    seed: int,
    as_json: bool,
) -> None:
    from popdyn.benchmark import make_suite  # the rooms above are slow to load

    own = ("suite", "entry", "out", "overwrite", "seed", "as_json")
    for name in ctx.params:
        given = ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
        if given and name not in own:
            flag = name.replace("_", "-")
            raise click.UsageError(f"--{flag} beside --suite: the suite says what is simulated")

    def report(path: Path, made: bool) -> None:
        console.print(f"{path}" + ("" if made else ": there already"))

    paths = make_suite(
        suite, out, seed=seed, entries=entries, overwrite=overwrite, progress=True, report=report
    )
    if as_json:
        emit({"suite": suite, "seed": seed, "stores": [str(path) for path in paths]})


def _span(counts: tuple[int, ...]) -> str:
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low} to {high}"
