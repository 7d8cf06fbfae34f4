"""What growth and circulation are worth when they are learned, and when they are left out.

Five snapshots of N particles; data and fit have the same seed, settings are the defaults but for
what is learned, skills are those of the scores on the test group. Without what the data has, the
verdict should be `unexplained`.

    scripts/tables_dynamics growth --seeds 0,1,2
    scripts/tables_dynamics none circulation --particles 10000
"""

from __future__ import annotations

import time
from typing import Any

import click
import numpy as np
import xarray as xr

import popdyn
from popdyn.dynamics import Dynamics, FreeEnergy
from popdyn.snapshots import positions, times

UNIFORM: dict[str, Any] = {"dt": 0.1}
SHORT: dict[str, Any] = {"dt": 0.02}
BUMP = {"growth": "bump", "growth_params": {"rate": 2.0}}
EDGE = {"growth": "half_space", "growth_params": {"rate": 3.0}}
BOTH = {"growth": "half_space", "growth_params": {"rate": 2.0, "outside": -1.0}}
V, B = ("potential",), ("potential", "diffusion")
GROWING: dict[str, tuple[FreeEnergy, dict[str, Any], dict[str, Any], tuple[str, ...]]] = {
    "double_well, a bump": (FreeEnergy("double_well"), BUMP, UNIFORM, V),
    "styblinski_tang, half a plane": (FreeEnergy("styblinski_tang"), EDGE, SHORT, V),
    "double_well, β = 0.2, births and deaths": (
        FreeEnergy("double_well", diffusivity=0.2),
        BOTH,
        UNIFORM,
        B,
    ),
}
STILL = {
    "double_well": (FreeEnergy("double_well"), {}, UNIFORM, V),
    "styblinski_tang": (FreeEnergy("styblinski_tang"), {}, SHORT, V),
    "double_well, β = 0.2": (FreeEnergy("double_well", diffusivity=0.2), {}, UNIFORM, B),
}
SHARES = {"a third": 1.0 / 3.0, "all": 1.0}


@click.command(help=__doc__)
@click.argument(
    "tables",
    nargs=-1,
    type=click.Choice(["growth", "proportions", "none", "circulation"]),
)
@click.option("--seeds", default="0,1,2", show_default=True)
@click.option("--particles", default=20_000, show_default=True)
@click.option("--learner", default="weak_form", show_default=True)
@click.option("--only", default="", help="Part of the entry's name.")
@click.option("--without/--no-without", default=True, help="Fit without what the data has, too.")
def main(
    tables: tuple[str, ...], seeds: str, particles: int, learner: str, only: str, without: bool
) -> None:
    for table in tables:
        print(f"\n## {table}, N = {particles}, {learner}\n", flush=True)
        for name, (energy, more, how, learn) in _entries(table).items():
            for seed in (int(s) for s in seeds.split(",") if only in name):
                how = how | {"seed": seed, "particles": particles}
                if table == "proportions":
                    how["proportions"] = True
                data = _simulated(energy, more, how)
                part = "circulation" if table == "circulation" else "growth"
                found = _row(data, learner, (*learn, part), seed)
                left = _row(data, learner, learn, seed) if without else ""
                print(f"{name}, seed {seed}: {found}" + (f" | without: {left}" if left else ""))


def _entries(table: str) -> dict[str, Any]:
    if table in ("growth", "proportions"):
        return GROWING
    if table == "none":
        return STILL
    energy = FreeEnergy("double_well", diffusivity=0.2)
    out = {}
    for name, share in SHARES.items():
        plain = _simulated(energy, {}, UNIFORM | {"seed": 0, "particles": 2000})
        x = np.concatenate([positions(plain, k) for k in range(5)])
        rate = share * float(np.sqrt(np.square(energy.potential_gradient(x)).mean()))
        rate /= float(np.sqrt(np.square(x).mean()))
        more = {"circulation": "rotation", "circulation_params": {"rate": rate}}
        out[f"double_well, β = 0.2, turning by {name} ({rate:.2f})"] = energy, more, UNIFORM, B
    return out


def _simulated(energy: FreeEnergy, more: dict[str, Any], how: dict[str, Any]) -> xr.DataTree:
    given = {k: v for k, v in how.items() if k != "dt"}
    moments = [how["dt"] * k for k in range(5)]
    return popdyn.simulate(Dynamics(energy, **more), times=moments, **given)


def _row(data: xr.DataTree, learner: str, learn: tuple[str, ...], seed: int) -> str:
    begin = time.monotonic()
    run = popdyn.fit(data, learner, learn=learn, seed=seed)
    seconds = time.monotonic() - begin
    gradient = popdyn.score(run, data, points=500).to_dict()["gradient"]
    words = [f"V {gradient['potential']['skill']:.4f}", f"force {gradient['force']['skill']:.4f}"]
    growth = gradient.get("growth", {})
    if growth.get("skill") is not None and "growth" in learn:
        words.append(f"g {growth['skill']:.3f} (correlation {growth['correlation']:.3f})")
    elif "growth" in learn:
        words.append(f"|g|/error {_in_errors(run, data)}")
    if "diffusion" in learn:
        error = run.energy.diffusivity_standard_error
        words.append(f"β {run.energy.diffusivity:.3f} ± {error:.3f}")
    share = run.certificate["explained_share"]
    if share["value"] is not None:
        words.append(f"share {share['value']:.2f} ± {share['standard_error'] or 0.0:.2f}")
    p = (run.certificate["two_sample"] or {}).get("p_value", float("nan"))
    words.append(f"{run.word} (p {p:.2g}, moments {run.certificate['misfit_p_value']:.2g})")
    if run.certificate.get("undetermined"):
        words.append(f"open: {', '.join(run.certificate['undetermined'])}")
    return ", ".join([*words, f"{seconds:.0f} s"])


def _in_errors(run: popdyn.Run, data: xr.DataTree) -> str:
    """Return the mean of |g| and the share of places with |g| below two standard errors."""
    x = np.concatenate([positions(data, k, "test")[:1000] for k in range(len(times(data)))])
    g, error = np.abs(run.dynamics.growth(x)), run.dynamics.growth_std(x)
    return f"{g.mean():.3f}/{error.mean():.3f}, within two {np.mean(g <= 2.0 * error):.2f}"


if __name__ == "__main__":
    main()
