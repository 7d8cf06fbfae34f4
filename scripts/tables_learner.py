"""The learner's tables: skill of a learner over a suite, on fresh particles, with certificates.

Every entry of the suite is simulated in memory with the data seed and fitted with the same training
seed, default settings throughout; the skill is that of the score `skill` on the test group.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time

import numpy as np
import torch

import popdyn
from popdyn.benchmark import load_suite
from popdyn.scores.protocol import Protocol
from popdyn.scores.scoring import gradient_scores


def main() -> None:
    """Print one line for each entry and seed, then the means."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--suite", default="jko15")
    parser.add_argument("--learner", default="ijkonet")
    parser.add_argument("--option", action="append", default=[], help="learner option, k=JSON")
    parser.add_argument("--entries", help="names with commas; all by default")
    parser.add_argument("--particles", type=int, help="instead of the suite's own number")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first", type=int, default=0, help="first seed")
    arguments = parser.parse_args()
    options = {k: json.loads(v) for k, v in (o.split("=", 1) for o in arguments.option)}
    torch.set_num_threads(1)
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, 1 thread used")
    suite = load_suite(arguments.suite)
    wanted = arguments.entries.split(",") if arguments.entries else None
    means = {}
    for entry in suite.entries:
        if wanted and entry.name not in wanted:
            continue
        skills = []
        for seed in range(arguments.first, arguments.first + arguments.seeds):
            settings = dict(entry.simulation)
            if arguments.particles:
                settings["particles"] = arguments.particles
            data = popdyn.simulate(entry.free_energy, **settings, seed=seed)
            begin = time.monotonic()
            fitted = dict(entry.fit) | options
            run = popdyn.fit(data, arguments.learner, seed=seed, **fitted)
            seconds = time.monotonic() - begin
            truth = popdyn.FreeEnergy.from_spec(data.attrs["dynamics"])
            skill = gradient_scores(run.energy, truth, Protocol(data))["potential"]["skill"]
            skills.append(np.nan if skill is None else skill)
            shown = {
                k: round(v, 4) for k, v in run.certificate.items() if isinstance(v, (int, float))
            }
            print(
                f"{entry.name:20s} seed {seed}  skill {skills[-1]:7.3f}  {seconds:5.1f} s  "
                f"{run.word}, converged {run.converged}  {shown}",
                flush=True,
            )
        means[entry.name] = (np.mean(skills), np.std(skills, ddof=1) if len(skills) > 1 else 0.0)
    print(f"\n{arguments.suite}, {arguments.learner}, {arguments.seeds} seeds: mean ± std of skill")
    for name, (mean, std) in means.items():
        print(f"| {name} | {mean:.3f} ± {std:.3f} |")
    kept = [max(m, 0.0) for m, _ in means.values() if np.isfinite(m)]
    print(f"mean of max(skill, 0): {np.mean(kept):.3f} over {len(kept)} entries")


if __name__ == "__main__":
    main()
