"""How often β's 90 % interval covers the truth, on exact laws of Ornstein–Uhlenbeck processes.

V = ½|x|², β = ¼, six times, independent cells at each, drawn from the closed form: far from
equilibrium, near it, and at rest, where V and β cannot be told apart and only a wide interval is
right. A draw is fitted by the weak form with V and β learned.

    scripts/tables_coverage --draws 40 --cells 50,500,5000 --dim 1
"""

from __future__ import annotations

import time

import click
import numpy as np
import torch

from popdyn.estimation.options import WeakFormOptions
from popdyn.estimation.training_set import TrainingSet
from popdyn.learners.in_units import fit_in_units
from popdyn.learners.run import Run
from popdyn.learners.training import Workplace
from popdyn.learners.weak_form import fit_weak_form
from popdyn.snapshots import make_tree

BETA = 0.25
TIMES = {"even": [0.0, 0.2, 0.4, 0.6, 0.8, 1.0], "uneven": [0.0, 1e-4, 0.3, 0.6, 0.8, 1.0]}
STARTS = {"far": (2.0, 0.04), "near": (0.5, 0.2), "rest": (0.0, BETA)}
QUANTILE = 1.645


def draw(start: str, spacing: str, cells: list[int], dim: int, seed: int) -> list[np.ndarray]:
    """Return independent cells of the law at each time, ``(n_k, d)``."""
    rng = np.random.default_rng([seed, *cells, dim])
    mean, variance = STARTS[start]
    out = []
    for t, n in zip(TIMES[spacing], cells, strict=True):
        spread = variance * np.exp(-2.0 * t) + BETA * (1.0 - np.exp(-2.0 * t))
        out.append(mean * np.exp(-t) + np.sqrt(spread) * rng.standard_normal((n, dim)))
    return out


def fitted(start: str, spacing: str, cells: list[int], dim: int, seed: int) -> Run:
    """Return the weak form's run on one draw."""
    x = draw(start, spacing, cells, dim, seed)
    data = make_tree(x, [a[:0] for a in x], TIMES[spacing])
    options = WeakFormOptions(learn=("potential", "diffusion"))
    return fit_in_units(fit_weak_form, TrainingSet.from_data(data), options, Workplace())


@click.command()
@click.option("--draws", default=40, show_default=True)
@click.option(
    "--cells", default="50,500,5000", show_default=True, help="At each time; a-b in turn."
)
@click.option("--dim", default=1, show_default=True)
@click.option("--starts", default="far,near,rest", show_default=True)
@click.option("--spacings", default="even,uneven", show_default=True)
def main(draws: int, cells: str, dim: int, starts: str, spacings: str) -> None:
    """Print a Markdown table of the coverage."""
    torch.set_num_threads(1)
    print(
        "| d | cells | start | times | covered | β, mean | scattered by | error, median | χ² | s |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for size in cells.split(","):
        some = [int(n) for n in size.split("-")]
        counts = [some[k % len(some)] for k in range(6)]
        for start in starts.split(","):
            for spacing in spacings.split(","):
                begin, rows = time.process_time(), []
                for seed in range(draws):
                    run = fitted(start, spacing, counts, dim, seed)
                    error = run.energy.diffusivity_standard_error
                    rows.append((run.energy.diffusivity, error, run.certificate["misfit"]))
                beta, error, misfit = np.array(rows, dtype=float).T
                covered = float(np.mean(np.abs(beta - BETA) <= QUANTILE * error))
                seconds = (time.process_time() - begin) / draws
                print(
                    f"| {dim} | {size} | {start} | {spacing} | {covered:.2f} | {beta.mean():.3f} | "
                    f"{beta.std():.3f} | {np.median(error):.3g} | {np.median(misfit):.2f} | "
                    f"{seconds:.1f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
