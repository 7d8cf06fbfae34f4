"""The tables of joint recovery: V, W and β from unpaired snapshots, on fresh particles.

Data and training have the same seed, settings are the defaults, and skills are those of the scores
on the test group. Every table prints the hardware, the seeds and the seconds of each fit.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

import popdyn
from popdyn.benchmark import load_suite
from popdyn.dynamics.potentials.benchmark import styblinski_tang
from popdyn.estimation.density import score_matching
from popdyn.scores.protocol import Protocol
from popdyn.scores.scoring import gradient_scores
from popdyn.snapshots import positions, times

ALL = ("potential", "interaction", "diffusion")
SUBSETS = {
    "V": ("potential",),
    "V+U": ("potential", "diffusion"),
    "V+W": ("potential", "interaction"),
    "W+U": ("interaction", "diffusion"),
    "all": ALL,
}
COVERED = (
    ("joint", "wells-repulsion"),
    ("joint", "bowl-repulsion"),
    ("interaction", "wells-attraction"),
    ("diffusion", "styblinski_tang-0.2"),
    ("diffusion", "muller_brown-0.1"),
    ("diffusion", "double_well-0.2"),
)
STORES = Path("tables_joint_stores")  # the data of a seed is made once
Row = dict[str, Any]


def fitted(
    energy: popdyn.FreeEnergy,
    settings: Mapping[str, Any],
    seed: int,
    learner: str = "ijkonet",
    **options: Any,
) -> tuple[popdyn.learners.Run, xr.DataTree, Row]:
    """Simulate, fit and score one row."""
    data = simulated(energy, settings, seed)
    run, row = scored(energy, data, seed, learner, **options)
    return run, data, row


def scored(
    energy: popdyn.FreeEnergy, data: xr.DataTree, seed: int, learner: str, **options: Any
) -> tuple[popdyn.learners.Run, Row]:
    """Fit and score one row."""
    begin = time.monotonic()
    run = popdyn.fit(data, learner, seed=seed, **options)
    seconds = time.monotonic() - begin
    scores = gradient_scores(run.energy, energy, Protocol(data))
    row: Row = {
        "V": _skill(scores, "potential", "skill"),
        "V mod gauge": _skill(scores, "potential", "skill_modulo_gauge"),
        "W": _skill(scores, "interaction", "skill"),
        "W mod gauge": _skill(scores, "interaction", "skill_modulo_gauge"),
        "force": _skill(scores, "force", "skill"),
        "β": run.energy.diffusivity,
        "± β": run.energy.diffusivity_standard_error,
        "residual": run.certificate.get("inner_residual"),
        "misfit": run.certificate.get("misfit"),
        "seconds": seconds,
        "verdict": run.word,
    }
    return run, row


def simulated(energy: popdyn.FreeEnergy, settings: Mapping[str, Any], seed: int) -> xr.DataTree:
    """Return the data of a seed: from its store if there is one, for tables share many."""
    made = {"energy": energy.spec(), "settings": dict(settings), "seed": seed}
    name = hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()[:16]
    store = STORES / f"{name}.zarr"
    if not store.exists():
        STORES.mkdir(parents=True, exist_ok=True)
        popdyn.simulate(energy, **settings, seed=seed, out=store)
    return popdyn.open_snapshots(store)


def turned(arguments: argparse.Namespace) -> None:
    """The joint entry, and the same turned by 0.6 rad: no component is special any more."""
    particles = (arguments.particles or [10_000])[0]
    energy, settings = reference(particles)
    c, s = np.cos(0.6), np.sin(0.6)
    there = np.array([[c, -s], [s, c]])
    back = torch.from_numpy(there.T)
    params = settings["initial_params"]
    moved = settings | {"initial_params": params | {"mean": list(there @ params["mean"])}}
    own = load_suite("joint").entry("wells-repulsion").energy
    other = popdyn.FreeEnergy(
        lambda x: own["potential_params"]["scale"] * styblinski_tang(x @ back.to(x).T),
        own["interaction"],
        own["diffusivity"],
        interaction_params=own["interaction_params"],
    )
    for name, truth, at in (("as it is", energy, settings), ("turned", other, moved)):
        for seed in range(arguments.seeds):
            data = popdyn.simulate(truth, **at, seed=seed)
            row = scored(truth, data, seed, arguments.learner, learn=ALL)[1]
            show(f"{arguments.learner}, {name}, N {particles} seed {seed}", row)


def _skill(scores: Mapping[str, Any], part: str, name: str) -> float | None:
    return scores.get(part, {}).get(name)


def show(name: str, row: Mapping[str, Any]) -> None:
    """Print one row, leaving out what is not defined."""
    parts = [f"{k} {v:.4g}" for k, v in row.items() if isinstance(v, float) and np.isfinite(v)]
    parts += [f"{k} {v}" for k, v in row.items() if isinstance(v, str)]
    print(f"{name:44s} " + "  ".join(parts), flush=True)


def summary(name: str, rows: Sequence[Row]) -> None:
    """Print mean ± standard deviation over the seeds."""
    cells = []
    for key in rows[0]:
        values = [r[key] for r in rows if isinstance(r[key], float)]
        if values:
            spread = f" ± {np.std(values, ddof=1):.2g}" if len(values) > 1 else ""
            cells.append(f"{key} {np.mean(values):.4g}{spread}")
    print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def reference(
    particles: int, name: str = "wells-repulsion", suite: str = "joint"
) -> tuple[Any, dict[str, Any]]:
    """Return the true energy of an entry, and its settings."""
    entry = load_suite(suite).entry(name)
    return entry.free_energy, dict(entry.simulation) | {"particles": particles}


def recovery(arguments: argparse.Namespace) -> None:
    """Skills and β of the joint entry by N."""
    table = {}
    for particles in arguments.particles or (50_000, 20_000, 10_000):
        energy, settings = reference(particles, arguments.entry)
        rows = []
        for seed in range(arguments.seeds):
            rows.append(fitted(energy, settings, seed, learn=ALL)[2])
            show(f"{arguments.entry} N {particles} seed {seed}", rows[-1])
        table[f"{arguments.entry}, N = {particles}"] = rows
    print()
    for name, rows in table.items():
        summary(name, rows)


def attenuation(arguments: argparse.Namespace) -> None:
    """The mean of β̂ over many seeds: within two standard errors of the truth? And its intervals?"""
    particles = (arguments.particles or [10_000])[0]
    energy, settings = reference(particles, arguments.entry, arguments.suite)
    energies = load_suite(arguments.suite).entry(arguments.entry).fit["learn"]
    rows = []
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        rows.append(fitted(energy, settings, seed, arguments.learner, learn=energies)[2])
        pull = (rows[-1]["β"] - energy.diffusivity) / rows[-1]["± β"]
        show(f"N {particles} seed {seed}", rows[-1] | {"pull": pull})
    beta = np.array([r["β"] for r in rows])
    own = np.array([r["± β"] for r in rows])
    mean, error = beta.mean(), beta.std(ddof=1) / np.sqrt(len(beta)) if len(beta) > 1 else np.nan
    pulls = (beta - energy.diffusivity) / own
    summary(f"N = {particles}, {len(beta)} seeds", rows)
    print(
        f"β̂ {mean:.4f} ± {error:.4f} (standard error of the mean), true {energy.diffusivity}: off "
        f"by {(mean - energy.diffusivity) / error:.2f} of them; spread {beta.std():.4f}, own "
        f"standard errors {own.mean():.4f}; largest pull {np.abs(pulls).max():.2f}; 90 % intervals "
        f"cover {np.mean(np.abs(pulls) <= 1.645):.2f}"
    )


def ablation(arguments: argparse.Namespace) -> None:
    """Every subset of the energies learned, on data with all three and on data without one."""
    particles = (arguments.particles or [10_000])[0]
    whole, settings = reference(particles)
    spec = whole.spec()
    lacking = {
        "all three": {},
        "no W": {"interaction": None},
        "no β": {"diffusivity": 0.0},
        "no V": {"potential": None},
    }
    force: dict[tuple[str, str], list[float]] = {}
    for name, change in lacking.items():
        if arguments.data and name not in arguments.data.split(","):
            continue
        energy = popdyn.FreeEnergy.from_spec(spec | change)
        for seed in range(arguments.seeds):
            for subset, energies in SUBSETS.items():
                if arguments.learned and subset not in arguments.learned.split(","):
                    continue
                run, data, row = fitted(energy, settings, seed, learn=energies)
                row |= sizes(run.energy, energy, data)
                show(f"data {name}, learned {subset}, seed {seed}", row)
                force.setdefault((name, subset), []).append(row["force"])
    print(f"\nforce skill, N = {particles}: mean, and difference to 'all' ± its standard error")
    for (name, subset), values in force.items():
        gap = np.array(force.get((name, "all"), np.nan)) - values
        error = gap.std(ddof=1) / np.sqrt(len(gap)) if len(gap) > 1 else np.nan
        print(f"| {name} | {subset} | {np.mean(values):.4f} | {gap.mean():+.4f} ± {error:.4f} |")


def sizes(energy: popdyn.FreeEnergy, truth: popdyn.FreeEnergy, data: xr.DataTree) -> Row:
    """Return root mean squares over that of the true force: the learned forces and −β∇log ρ.

    The last is what noise does to the population. A fit without β to data with noise has it in its
    force, and if it explains the data its force skill is 1 less the square of that number.
    """
    parts: dict[str, list[float]] = {"V": [], "W": [], "true": [], "noise": []}
    for k in range(1, len(times(data))):
        x = positions(data, k, "test")[:1000]
        none = np.zeros_like(x)
        V = energy.potential_gradient(x)
        total = energy.force(x, x)
        parts["V"].append(float((V**2).mean()))
        parts["W"].append(float(((none - total - V) ** 2).mean()))
        parts["true"].append(float((truth.force(x, x) ** 2).mean()))
        at = torch.from_numpy(x)
        score = score_matching(torch.from_numpy(positions(data, k, "train")), 0)(at)
        parts["noise"].append(truth.diffusivity**2 * float(score.square().mean()))
    rms = {name: float(np.sqrt(np.mean(v))) for name, v in parts.items()}
    return {f"size {name}": rms[name] / rms["true"] for name in ("V", "W", "noise")}


def suite(arguments: argparse.Namespace) -> None:
    """Skills and β over a suite, beside the reachable skill."""
    chosen = load_suite(arguments.suite)
    table = {}
    for entry in chosen.entries:
        if arguments.entries and entry.name not in arguments.entries.split(","):
            continue
        settings = dict(entry.simulation)
        if arguments.particles:
            settings["particles"] = arguments.particles[0]
        rows = []
        for seed in range(arguments.seeds):
            _, data, row = fitted(entry.free_energy, settings, seed, **dict(entry.fit))
            reachable = popdyn.inspect(data)["reachable_skill"]
            row |= {"reachable": reachable, "true β": entry.free_energy.diffusivity}
            show(f"{entry.name} N {settings['particles']} seed {seed}", row)
            rows.append(row)
        table[entry.name] = rows
    print()
    for name, rows in table.items():
        summary(name, rows)


def coverage(arguments: argparse.Namespace) -> None:
    """Share of test particles at which the ensemble's nominal 90 % band covers the truth."""
    for suite_name, name in COVERED:
        if arguments.entries and name not in arguments.entries.split(","):
            continue
        entry = load_suite(suite_name).entry(name)
        settings = dict(entry.simulation)
        if arguments.particles:
            settings["particles"] = arguments.particles[0]
        for seed in range(arguments.first, arguments.first + arguments.seeds):
            run, data, row = fitted(
                entry.free_energy, settings, seed, ensemble=arguments.members, **dict(entry.fit)
            )
            row |= covered(run.energy, entry.free_energy, data)
            show(f"{name} N {settings['particles']} S {arguments.members} seed {seed}", row)


def covered(energy: popdyn.FreeEnergy, truth: popdyn.FreeEnergy, data: xr.DataTree) -> Row:
    """Return the shares for ∇V at the test particles and for ∇W at their differences."""
    V, W = [], []
    for k in range(1, len(times(data))):
        x = positions(data, k, "test")[:2000]
        V.append(
            np.abs(energy.potential_gradient(x) - truth.potential_gradient(x))
            <= energy.V.band_factor() * energy.potential_gradient_std(x)
        )
        if energy.W is not None:
            z = x - np.roll(x, 1, axis=0)
            W.append(
                np.abs(energy.interaction_gradient(z) - truth.interaction_gradient(z))
                <= energy.W.band_factor() * energy.interaction_gradient_std(z)
            )
    shares = {"coverage ∇V": float(np.mean(V))}
    return shares | ({"coverage ∇W": float(np.mean(W))} if W else {})


def network(arguments: argparse.Namespace) -> None:
    """The paper's adversary with all three energies, its certificate, and what its seed gives."""
    particles = (arguments.particles or [10_000])[0]
    energy, settings = reference(particles)
    variants: dict[str, dict[str, Any]] = {
        "simulate": {},
        "network": {"inner": "network"},
        "network, unseeded": {"inner": "network", "seeded": False},
        "network, β by entropies": {"inner": "network", "entropy_gradient": True},
        "simulate, network": {"model": "network"},
    }
    for name, options in variants.items():
        if arguments.variants and name not in arguments.variants.split("; "):
            continue
        if options and arguments.steps:
            options = options | {"steps": arguments.steps}
        rows = []
        for seed in range(arguments.seeds):
            run, _, row = fitted(energy, settings, seed, learn=ALL, **options)
            numbers = {k: v for k, v in run.certificate.items() if isinstance(v, float)}
            show(f"{name} N {particles} seed {seed}", row | {"gap": numbers.get("gap")})
            for note in run.notes:
                print(f"    {note}")
            rows.append(row)
        summary(name, rows)


TABLES = {
    "recovery": (recovery, 3),
    "attenuation": (attenuation, 20),
    "ablation": (ablation, 3),
    "suite": (suite, 3),
    "coverage": (coverage, 3),
    "network": (network, 3),
    "turned": (turned, 1),
}


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    tables = parser.add_subparsers(dest="table", required=True)
    for name, (function, seeds) in TABLES.items():
        own = tables.add_parser(name, help=(function.__doc__ or "").strip())
        own.add_argument("--seeds", type=int, default=seeds)
        own.add_argument("--particles", type=int, nargs="+", help="instead of the usual number")
        if name == "recovery":
            own.add_argument("--entry", default="wells-repulsion", help="of the joint suite")
        if name == "attenuation":
            own.add_argument("--first", type=int, default=0, help="first seed")
            own.add_argument("--suite", default="joint")
            own.add_argument("--entry", default="wells-repulsion")
            own.add_argument("--learner", default="ijkonet")
        if name == "turned":
            own.add_argument("--learner", default="ijkonet")
        if name == "ablation":
            own.add_argument("--data", help="of 'all three,no W,no β,no V'; all by default")
            own.add_argument("--learned", help=f"of {','.join(SUBSETS)}; all by default")
        if name == "suite":
            own.add_argument("--suite", default="interaction")
        if name in ("suite", "coverage"):
            own.add_argument("--entries", help="names with commas; all by default")
        if name == "coverage":
            own.add_argument("--members", type=int, default=8)
            own.add_argument("--first", type=int, default=0, help="first seed")
        if name == "network":
            own.add_argument("--steps", type=int)
            own.add_argument("--variants", help="names with '; ' between; all by default")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    machine = platform.processor() or platform.machine()
    print(f"{machine}, {os.cpu_count()} cores, 1 thread used ({arguments.table})")
    TABLES[arguments.table][0](arguments)


if __name__ == "__main__":
    main()
