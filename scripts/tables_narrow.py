"""What is found of a population that begins narrow and goes far: V and β of one component.

`quadratic`, β = 0.5, x₀ ~ N(3, 0.3²), times 0, 0.2, 0.4, 0.8: neighbours hardly overlap.

    scripts/tables_narrow --draws 30                 # V and β told, by the weak form
    scripts/tables_narrow --draws 16 --default       # as popdyn.fit does it
"""

from __future__ import annotations

from collections import Counter

import click
import numpy as np
import torch

import popdyn
from popdyn.estimation.options import WeakFormOptions
from popdyn.estimation.training_set import TrainingSet
from popdyn.learners.in_units import fit_in_units
from popdyn.learners.training import Workplace
from popdyn.learners.weak_form import fit_weak_form

BETA = 0.5
QUANTILE = 1.645


def fitted(seed: int, particles: int, default: bool) -> tuple[popdyn.Run, float]:
    """Return the fit of one draw, and its force skill."""
    data = popdyn.simulate(
        popdyn.FreeEnergy("quadratic", None, BETA),
        dim=1,
        particles=particles,
        test_particles=1000,
        times=[0, 0.2, 0.4, 0.8],
        initial="gaussian",
        initial_params={"mean": [3.0], "std": 0.3},
        seed=seed,
    )
    told = WeakFormOptions(("potential", "diffusion"))
    if default:
        run = popdyn.fit(data)
    else:
        run = fit_in_units(fit_weak_form, TrainingSet.from_data(data), told, Workplace())
    truth = popdyn.FreeEnergy("quadratic", None, BETA)
    scores = popdyn.score(run.energy, data, truth=truth, points=50)
    return run, float(scores["gradient"]["force"]["skill"])


@click.command()
@click.option("--draws", default=30, show_default=True)
@click.option("--first-seed", default=0, show_default=True)
@click.option("--particles", default=1500, show_default=True)
@click.option("--default", "default", is_flag=True, help="What is to be learned is not told.")
def main(draws: int, first_seed: int, particles: int, default: bool) -> None:
    """Print a row of a Markdown table."""
    torch.set_num_threads(1)
    rows, skills, words = [], [], Counter[str]()
    for seed in range(first_seed, first_seed + draws):
        run, skill = fitted(seed, particles, default)
        error = run.energy.diffusivity_standard_error or 0.0
        rows.append((run.energy.diffusivity, error, run.converged))
        skills.append(skill)
        words[f"{run.word} with {', '.join(run.certificate.get('learn', ('V, β told',)))}"] += 1
    beta, error, settled = np.array(rows, dtype=float).T
    covered = float(np.mean(np.abs(beta - BETA) <= QUANTILE * error))
    print(
        "| draws | settled | β, mean | scattered by | error, median | 90 % covers | lowest skill |"
    )
    print("|---|---|---|---|---|---|---|")
    print(
        f"| {draws} | {settled.mean():.2f} | {beta.mean():.3f} | {beta.std():.3f} | "
        f"{np.median(error):.3f} | {covered:.2f} | {min(skills):.3f} |"
    )
    if default:
        print("\n" + "; ".join(f"{count} {what}" for what, count in words.items()))


if __name__ == "__main__":
    main()
