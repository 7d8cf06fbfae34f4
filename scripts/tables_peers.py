"""The peers' tables: jkonet_star as published and with held-out couplings, and jkonet.

Every data set is simulated in memory with the data seed and fitted with the same training seed:
unpaired snapshots in continuous time, the initial law, the times and the scheme of `simulate`'s
defaults (for `quadratic` ten times the spacing); the skill is that of the score `skill` on the test
group. `published-shared` has the particles of each snapshot drawn from one population of twice as
many, which all snapshots share: their sampling noise is then common to all in part.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from typing import Any

import numpy as np
import torch
import xarray as xr

import popdyn
from popdyn.scores.protocol import Protocol
from popdyn.scores.scoring import gradient_scores
from popdyn.snapshots import make_tree, positions, times

PUBLISHED = {
    "model": "published",
    "epochs": 100,
    "early_stop": False,
    "debias": False,
    "density": "mixture",
}
FIVE = ("wavy_plateau", "styblinski_tang", "zigzag_ridge", "friedman", "flowers")
TABLES: dict[str, tuple[str, tuple[str, ...], dict[str, Any]]] = {
    "published": ("jkonet_star", FIVE, PUBLISHED),
    "published-stopped": ("jkonet_star", FIVE, PUBLISHED | {"early_stop": True}),
    "published-shared": ("jkonet_star", FIVE, PUBLISHED),
    "default": ("jkonet_star", FIVE, {}),
    "jkonet": ("jkonet", ("styblinski_tang", "quadratic"), {}),
}
# With the default spacing of 0.01 a quadratic moves no particle farther than sampling noise does.
SPACING = {"quadratic": 0.1}


def simulated(potential: str, particles: int, seed: int, shared: bool) -> xr.DataTree:
    """Return the data of a seed: unpaired, or drawn from a population that all snapshots share."""
    data = popdyn.simulate(
        popdyn.FreeEnergy(potential),
        particles=2 * particles if shared else particles,
        test_particles=10_000,
        dt=SPACING.get(potential, 0.01),
        paired=shared,
        seed=seed,
    )
    if not shared:
        return data
    rng = np.random.default_rng(seed)
    snapshots = range(len(times(data)))
    train = [rng.permutation(positions(data, k, "train"))[:particles] for k in snapshots]
    test = [positions(data, k, "test") for k in snapshots]
    return make_tree(train, test, times(data), {"dynamics": data.attrs["dynamics"]})


def main() -> None:
    """Print one line for each fit, then one table for each setting."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", default=",".join(TABLES), help="names with commas")
    parser.add_argument("--potentials", help="names with commas; the table's own by default")
    parser.add_argument("--particles", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first", type=int, default=0, help="first seed")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, 1 thread used")
    for name in arguments.tables.split(","):
        learner, potentials, options = TABLES[name]
        if arguments.potentials:
            potentials = tuple(arguments.potentials.split(","))
        given = ", ".join(f"{k}={v}" for k, v in options.items()) or "default options"
        print(f"\n{name}: {learner}, N = {arguments.particles}, {given}")
        rows = []
        for potential in potentials:
            skills, seconds = [], []
            for seed in range(arguments.first, arguments.first + arguments.seeds):
                shared = name == "published-shared"
                data = simulated(potential, arguments.particles, seed, shared)
                begin = time.monotonic()
                run = popdyn.fit(data, learner, seed=seed, **options)
                seconds.append(time.monotonic() - begin)
                truth = popdyn.FreeEnergy.from_spec(data.attrs["dynamics"])
                scores = gradient_scores(run.energy, truth, Protocol(data))
                skills.append(scores["potential"]["skill"])
                shown = {
                    k: round(v, 4)
                    for k, v in run.certificate.items()
                    if isinstance(v, (int, float))
                }
                print(
                    f"  {potential:16s} seed {seed}  skill {skills[-1]:7.3f}  "
                    f"{seconds[-1]:5.1f} s  converged {run.converged}  {shown}",
                    flush=True,
                )
            spread = np.std(skills, ddof=1) if len(skills) > 1 else 0.0
            rows.append(
                f"| {potential} | {np.mean(skills):.3f} ± {spread:.3f} | {np.mean(seconds):.1f} |"
            )
        print("| potential | skill | seconds |\n|---|---|---|", *rows, sep="\n", flush=True)


if __name__ == "__main__":
    main()
