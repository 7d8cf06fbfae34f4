"""What the two-sample verdict says of true dynamics (calibration) and of wrong ones (power).

`calibration`: the true dynamics of systems with V, W and β carries fresh draws; how often the test
rejects at the 1 % level, and mean and standard deviation of its statistic, N(0, 1) if all is well.
`power`: fits that miss something, with their skill of the total force on the test group.

    scripts/tables_verdict calibration --draws 40 --particles 500,2000,4000/500
    scripts/tables_verdict power --draws 2
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import click
import numpy as np
import torch
import xarray as xr

import popdyn
from popdyn.dynamics import FreeEnergy
from popdyn.estimation import carried, compare
from popdyn.snapshots import make_tree, positions, times

REJECTED = 2.3263  # z at the 1 % level


def coupled(x: torch.Tensor) -> torch.Tensor:
    """Neighbouring components tied to each other by waves, in a bowl."""
    waves = torch.sin(1.5 * x[..., :-1]) * torch.cos(1.5 * x[..., 1:])
    return 2.0 * waves.sum(-1) + 0.5 * x.square().sum(-1)


GAUSSIAN: dict[str, Any] = {"dt": 0.1, "initial": "gaussian"}
UNEVEN: dict[str, Any] = {"times": [0.0, 0.01, 0.3, 0.35, 0.8], "initial": "gaussian"}

TRUE: dict[str, tuple[FreeEnergy, dict[str, Any]]] = {
    "styblinski_tang, d = 2": (FreeEnergy("styblinski_tang"), {}),
    "flowers, d = 2": (FreeEnergy("flowers"), {}),
    "friedman, d = 10": (FreeEnergy("friedman"), {"dim": 10}),
    "double_well, β = 0.2, d = 2": (FreeEnergy("double_well", diffusivity=0.2), GAUSSIAN),
    "OU, β = 0.3, d = 1, uneven times": (
        FreeEnergy("quadratic", diffusivity=0.3),
        UNEVEN | {"dim": 1},
    ),
    "OU, β = 0.3, d = 5": (FreeEnergy("quadratic", diffusivity=0.3), GAUSSIAN | {"dim": 5}),
    "OU at rest, β = 1, d = 3": (FreeEnergy("quadratic", diffusivity=1.0), GAUSSIAN | {"dim": 3}),
    "coupled waves, d = 5": (FreeEnergy(coupled), {"dim": 5, "dt": 0.05}),
    "moving_well, d = 2": (FreeEnergy("moving_well"), {"dt": 0.1}),
    "muller_brown, β = 0.1, d = 2": (FreeEnergy("muller_brown", diffusivity=0.1), {}),
    "double_well, repulsion, β = 0.1, d = 2": (
        FreeEnergy("double_well", "gaussian_repulsion", 0.1, interaction_params={"strength": 3.0}),
        GAUSSIAN | {"step": 0.02},
    ),
    "double_well, springs, β = 0.2, d = 2": (
        FreeEnergy("double_well", "quadratic", 0.2, interaction_params={"strength": 2.0}),
        GAUSSIAN | {"step": 0.02},
    ),
    "bowl, attraction, β = 0.1, d = 3": (
        FreeEnergy("quadratic", "gaussian_attraction", 0.1, interaction_params={"strength": 5.0}),
        GAUSSIAN | {"step": 0.02, "dim": 3},
    ),
}


@click.group()
def main() -> None:
    """Tables of the verdict."""
    torch.set_num_threads(1)


@main.command()
@click.option("--draws", default=40, show_default=True)
@click.option("--first-seed", default=0, show_default=True)
@click.option("--particles", default="500,2000,4000/500", show_default=True, help="a/b: in turn.")
@click.option("--most-interacting", default=2000, show_default=True, help="Particles with W.")
def calibration(draws: int, first_seed: int, particles: str, most_interacting: int) -> None:
    """How often true dynamics is rejected."""
    print("| system | particles | rejected at 1 % | at 10 % | mean z | sd z |")
    print("|---|---|---|---|---|---|")
    everything = []
    for name, (energy, options) in TRUE.items():
        for given in particles.split(","):
            counts = [int(n) for n in given.split("/")]
            if energy.W is not None:
                counts = [min(n, most_interacting) for n in counts]
            length = len(options.get("times", range(options.get("snapshots", 6))))
            each = [counts[k % len(counts)] for k in range(length)]
            z = []
            for seed in range(first_seed, first_seed + draws):
                data = popdyn.simulate(
                    energy, particles=each, test_particles=0, seed=seed, **options
                )
                t = times(data)
                x = [positions(data, k) for k in range(len(t))]
                moved = carried(energy, x, t, seed)
                z.append(compare(x, moved, t, seed=seed, share=False).statistic)
            everything += z
            print(_row(name, "/".join(map(str, counts)), np.array(z)), flush=True)
    print(_row("all", "", np.array(everything)))


def _row(name: str, counts: str, z: np.ndarray) -> str:
    rejected, tenth = (z > REJECTED).sum(), (z > 1.2816).mean()
    share = f"{rejected} of {len(z)} ({100 * rejected / len(z):.1f} %)"
    return f"| {name} | {counts} | {share} | {100 * tenth:.0f} % | {z.mean():.2f} | {z.std():.2f} |"


Drift = Callable[[torch.Tensor], torch.Tensor]


def run_by_hand(
    drift: Drift, beta: float, particles: int, seed: int, rate: Drift | None = None
) -> xr.DataTree:
    """Return snapshots 0.1 apart of what no energy drives; ``rate`` is that of growth."""
    generator = torch.Generator().manual_seed(seed)
    groups = []
    for _ in range(2):
        snapshots = []
        for k in range(6):
            x = torch.randn(2 * particles, 2, generator=generator) + torch.tensor([1.0, 0.5])
            log_mass = torch.zeros(len(x))
            for _ in range(40 * k):
                log_mass += 0.0025 * (torch.zeros(len(x)) if rate is None else rate(x))
                noise = torch.randn(x.shape, generator=generator)
                x = x + 0.0025 * drift(x) + (2 * beta * 0.0025) ** 0.5 * noise
            chosen = torch.multinomial(log_mass.exp(), particles, generator=generator)
            snapshots.append(x[chosen].numpy())
        groups.append(snapshots)
    return make_tree(groups[0], groups[1], [0.1 * k for k in range(6)])


def bowl(x: torch.Tensor) -> torch.Tensor:
    """−∇V of a bowl that is not round."""
    return -x * torch.tensor([1.0, 3.0])


def turning(x: torch.Tensor) -> torch.Tensor:
    """The bowl, and a circulation a third as large: no gradient."""
    return bowl(x) + 0.75 * torch.stack([x[:, 1], -x[:, 0]], 1)


def doubling(x: torch.Tensor) -> torch.Tensor:
    """The growth that doubles one half of a population over the whole time."""
    return 2.0 * np.log(2.0) * (x[:, 0] > 0.8)


PARTS = ("potential", "diffusion")
DIFFUSING = FreeEnergy("styblinski_tang", diffusivity=2.0)
REPELLING = FreeEnergy(
    "quadratic", "gaussian_repulsion", 0.05, interaction_params={"strength": 6.0}
)
CASES: dict[str, tuple[FreeEnergy | None, Any, str, dict[str, Any]]] = {
    "in the class: styblinski_tang": (
        FreeEnergy("styblinski_tang"),
        {"particles": 4000},
        "ijkonet",
        {},
    ),
    "in the class: V and β": (DIFFUSING, {"particles": 4000}, "ijkonet", {"learn": PARTS}),
    "β missing": (DIFFUSING, {"particles": 4000}, "ijkonet", {"model": "features"}),
    "W missing": (
        REPELLING,
        GAUSSIAN | {"particles": 4000, "step": 0.02},
        "ijkonet",
        {"model": "features"},
    ),
    "time missing (moving_well)": (
        FreeEnergy("moving_well"),
        {"particles": 4000, "dt": 0.1},
        "ijkonet",
        {"model": "features"},
    ),
    "coupled waves, d = 5, features": (
        FreeEnergy(coupled),
        {"particles": 4000, "dim": 5, "dt": 0.05},
        "ijkonet",
        {"model": "features"},
    ),
    "coupled waves, d = 10, features": (
        FreeEnergy(coupled),
        {"particles": 4000, "dim": 10, "dt": 0.05},
        "ijkonet",
        {"model": "features"},
    ),
    "circulation, a third": (None, (turning, 0.1, None), "ijkonet", {"learn": PARTS}),
    "growth, a half doubles": (None, (bowl, 0.1, doubling), "ijkonet", {"learn": PARTS}),
    "in the class: the bowl": (None, (bowl, 0.1, None), "ijkonet", {"learn": PARTS}),
    "a network after 50 steps": (
        FreeEnergy("styblinski_tang"),
        {"particles": 4000},
        "ijkonet",
        {"model": "network", "steps": 50},
    ),
    "jkonet_star, wavy_plateau": (
        FreeEnergy("wavy_plateau"),
        {"particles": 4000},
        "jkonet_star",
        {},
    ),
}


@main.command()
@click.option("--draws", default=2, show_default=True)
@click.option("--first-seed", default=0, show_default=True)
@click.option("--case", "cases", multiple=True, help="Part of a name; all if none is given.")
def power(draws: int, first_seed: int, cases: tuple[str, ...]) -> None:
    """What is said of fits that miss something."""
    print("| fit | force skill | verdict | z | explained share | s |")
    print("|---|---|---|---|---|---|")
    for name, (energy, made, learner, options) in CASES.items():
        if cases and not any(part in name for part in cases):
            continue
        for seed in range(first_seed, first_seed + draws):
            if isinstance(made, tuple):
                data = run_by_hand(made[0], made[1], 4000, seed, made[2])
            else:
                assert energy is not None
                data = popdyn.simulate(energy, seed=seed, **made)
            begin = time.monotonic()
            run = popdyn.fit(data, learner, seed=seed, **options)
            seconds = time.monotonic() - begin
            skill = _skill(run.energy, energy, made, data)
            verdict = run.verdict
            share = (
                "–"
                if verdict.explained_share is None
                else (f"{verdict.explained_share:.2f} ± {verdict.explained_share_error:.2f}")
            )
            print(
                f"| {name} | {skill:.3f} | {verdict.verdict} | "
                f"{verdict.two_sample['statistic']:.1f} | {share} | {seconds:.0f} |",
                flush=True,
            )
    for kind in ("wrong potential", "zero"):
        if cases and not any(part in kind for part in cases):
            continue
        _without_fit(kind, draws, first_seed)


def _without_fit(kind: str, draws: int, first_seed: int) -> None:
    """Print how often another potential of the registry, or none, is told from the true one."""
    names = ["styblinski_tang", "bohachevsky", "wavy_plateau", "double_exp", "quadratic"]
    for name in names:
        other = names[(names.index(name) + 1) % len(names)]
        wrong = FreeEnergy(other) if kind == "wrong potential" else FreeEnergy()
        for seed in range(first_seed, first_seed + draws):
            data = popdyn.simulate(FreeEnergy(name), particles=4000, seed=seed)
            t = times(data)
            x = [positions(data, k) for k in range(len(t))]
            found = compare(x, carried(wrong, x, t, seed), t, seed=seed)
            skill = _skill(wrong, FreeEnergy(name), {}, data)
            word = "rejected" if found.statistic > REJECTED else "not rejected"
            share = "–" if found.share is None else f"{found.share:.2f} ± {found.share_error:.2f}"
            told = f"{other} for {name}" if kind == "wrong potential" else f"nothing for {name}"
            print(f"| {told} | {skill:.3f} | {word} | {found.statistic:.1f} | {share} | – |")


def _skill(learned: FreeEnergy, energy: FreeEnergy | None, made: Any, data: xr.DataTree) -> float:
    """Return the skill of the total drift on test particles."""
    wrong = there = 0.0
    for k, t in list(enumerate(times(data)))[1:]:
        x = positions(data, k, "test")[:2000]
        if energy is None:
            true = made[0](torch.from_numpy(x)).numpy()
        else:
            true = energy.force(x, x, float(t))
        wrong += float(np.square(learned.force(x, x, float(t)) - true).sum())
        there += float(np.square(true).sum())
    return 1.0 - wrong / there


if __name__ == "__main__":
    main()
