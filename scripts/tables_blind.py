"""What default training says of systems drawn by a stated law, and how much of the force is right.

The law. A kind is drawn: `sum` (each component in a bowl a x²/2, a ~ U(0.5, 2), plus
b cos(c x + φ), b ~ U(0.3, 1.5), c ~ U(1, 2.5)), `coupled` (a sum plus k sin(1.5 xᵢ) cos(1.5 xᵢ₊₁),
k ~ U(1, 2)), `turned` (a sum in directions of a random rotation), `narrow` (a sum plus 0.3 cos(8 x)
in each component) or `flat` (a sum times 0.02). W is none (1/2), gaussian_attraction or
gaussian_repulsion with strength U(1, 4); β is 0 (1/2) or U(0.02, 0.5); d is 1 … 6 (2 … 6 where
components are coupled or turned); N is log-uniform on 500 … 20 000 (at most 4000 with W); five
intervals of mean length U(0.05, 0.2), even or (1/2) uneven by factors U(0.3, 1.7);
x₀ ~ N(m, 1.5² I), m ~ N(0, I).

`--law wide` has populations that begin narrow and far out, and go far: x₀ ~ N(m, s² I), m ~
N(0, 4 I), s log-uniform on 0.1 … 1.5; 2 … 6 intervals of mean length U(0.05, 0.5), uneven by
factors U(0.3, 1.7).

`--told` fits with the parts that there are, by the weak form, in place of the default.

Of systems called `explained` with a force skill below 0.8 the table gives the best skill of fits
that are told the parts of the truth (features, and a network for V alone).

    scripts/tables_blind --systems 40 --seed 20261126 --out blind.jsonl
"""

from __future__ import annotations

import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
import xarray as xr

import popdyn

KINDS = ("sum", "coupled", "turned", "narrow", "flat")
LOW = 0.8  # skill below which it is asked what the data allows


def draw(seed: int, number: int) -> tuple[dict[str, Any], popdyn.FreeEnergy, dict[str, Any]]:
    """Return what a system is in words, its energy and the settings of its data."""
    rng = np.random.default_rng([seed, number])
    kind = KINDS[rng.integers(len(KINDS))]
    dim = int(rng.integers(2 if kind in ("coupled", "turned") else 1, 7))
    a, b, c, phase = (
        torch.from_numpy(rng.uniform(low, high, dim))
        for low, high in ((0.5, 2.0), (0.3, 1.5), (1.0, 2.5), (0.0, 6.3))
    )
    k = float(rng.uniform(1.0, 2.0))
    turn = torch.from_numpy(np.linalg.qr(rng.standard_normal((dim, dim)))[0])

    def potential(x: torch.Tensor) -> torch.Tensor:
        u = x @ turn.to(x).T if kind == "turned" else x
        out = (0.5 * a.to(x) * u**2 + b.to(x) * torch.cos(c.to(x) * u + phase.to(x))).sum(-1)
        if kind == "coupled":
            out = out + k * (torch.sin(1.5 * u[..., :-1]) * torch.cos(1.5 * u[..., 1:])).sum(-1)
        if kind == "narrow":
            out = out + 0.3 * torch.cos(8.0 * u).sum(-1)
        return 0.02 * out if kind == "flat" else out

    W = (None, None, "gaussian_attraction", "gaussian_repulsion")[rng.integers(4)]
    strength = float(rng.uniform(1.0, 4.0))
    beta = float(rng.uniform(0.02, 0.5)) if rng.random() < 0.5 else 0.0
    particles = round(500 * 40 ** rng.random())
    particles = min(particles, 4000) if W else particles
    gaps = float(rng.uniform(0.05, 0.2)) * np.ones(5)
    uneven = rng.random() < 0.5
    if uneven:
        gaps *= rng.uniform(0.3, 1.7, 5)
    times = np.concatenate([[0.0], np.cumsum(gaps)])
    mean = rng.standard_normal(dim)
    energy = popdyn.FreeEnergy(
        potential, W, beta, interaction_params={"strength": strength} if W else None
    )
    settings = {
        "dim": dim,
        "particles": particles,
        "test_particles": 1000,
        "times": times.tolist(),
        "initial": "gaussian",
        "initial_params": {"mean": mean.tolist(), "std": 1.5},
        "seed": int(rng.integers(2**31)),
    }
    words = {"number": number, "kind": kind, "d": dim, "W": W, "β": round(beta, 3), "N": particles}
    return (
        words | {"uneven": bool(uneven), "mean_gap": round(float(gaps.mean()), 3)},
        energy,
        settings,
    )


def widened(seed: int, number: int, words: dict[str, Any], settings: dict[str, Any]) -> None:
    """Change a system's start and its times to those of the wide law."""
    rng = np.random.default_rng([seed, number, 7])
    count = int(rng.integers(2, 7))
    gaps = rng.uniform(0.05, 0.5) * rng.uniform(0.3, 1.7, count)
    settings["times"] = np.concatenate([[0.0], np.cumsum(gaps)]).tolist()
    mean = 2.0 * rng.standard_normal(words["d"])
    std = float(np.exp(rng.uniform(np.log(0.1), np.log(1.5))))
    settings["initial_params"] = {"mean": mean.tolist(), "std": std}
    words |= {"uneven": True, "mean_gap": round(float(gaps.mean()), 3), "std": round(std, 3)}


def force_skill(energy: popdyn.FreeEnergy, data: xr.DataTree, truth: popdyn.FreeEnergy) -> float:
    found = popdyn.score(energy, data, truth=truth, points=50)
    return float(found["gradient"]["force"]["skill"])


def judged(seed: int, number: int, law: str, told: bool, most: int) -> dict[str, Any]:
    words, truth, settings = draw(seed, number)
    if law == "wide":
        widened(seed, number, words, settings)
    words["N"] = settings["particles"] = min(settings["particles"], most)
    data = popdyn.simulate(truth, **settings)
    begin = time.process_time()
    run = popdyn.fit(data, "weak_form", learn=parts_of(words)) if told else popdyn.fit(data)
    seconds = time.process_time() - begin
    skill = force_skill(run.energy, data, truth)
    row = words | {
        "learned": run.certificate.get("learn"),
        "verdict": run.word,
        "skill": round(skill, 4),
        "β̂": round(float(run.energy.diffusivity), 4),
        "seconds": round(seconds, 1),
    }
    if run.word == "explained" and skill < LOW:
        row["allowed"] = round(max(skill, *_told(data, truth, words)), 4)
    return row


def parts_of(words: dict[str, Any]) -> list[str]:
    return ["potential"] + ["interaction"] * bool(words["W"]) + ["diffusion"] * (words["β"] > 0)


def _told(data: xr.DataTree, truth: popdyn.FreeEnergy, words: dict[str, Any]) -> list[float]:
    """Return the skills of fits that know which parts there are."""
    parts = parts_of(words)
    fits: list[Callable[[], popdyn.Run]] = [
        lambda: popdyn.fit(data, "weak_form", learn=parts),
        lambda: popdyn.fit(data, model="network", learn=("potential",), diffusivity=words["β"]),
    ]
    return [force_skill(fit().energy, data, truth) for fit in fits]


def table(rows: list[dict[str, Any]]) -> str:
    """Return Markdown: how many of each kind have which verdict, and the skills."""
    by_kind: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_kind[row["kind"]].append(row)
    lines = ["| kind | systems | " + " | ".join(WORDS) + " | skill, median | lowest explained |"]
    lines.append("|---" * (len(WORDS) + 4) + "|")
    for kind, own in [*by_kind.items(), ("all", rows)]:
        words = Counter(row["verdict"] for row in own)
        explained = [row["skill"] for row in own if row["verdict"] == "explained"]
        cells = [kind, len(own), *(words[w] for w in WORDS)]
        cells += [f"{np.median([row['skill'] for row in own]):.3f}"]
        cells += [f"{min(explained):.3f}" if explained else "–"]
        lines.append("| " + " | ".join(str(c) for c in cells) + " |")
    return "\n".join(lines)


WORDS = ("explained", "below_noise", "undetermined", "unexplained")


@click.command()
@click.option("--systems", default=40, show_default=True)
@click.option("--first", default=0, show_default=True, help="Number of the first system.")
@click.option("--seed", default=20261126, show_default=True, help="A fresh one for each choice.")
@click.option("--law", type=click.Choice(["calm", "wide"]), default="calm", show_default=True)
@click.option("--told", is_flag=True, help="Fit the parts that there are.")
@click.option("--most", default=20_000, show_default=True, help="Particles, at most.")
@click.option("--most-dim", default=6, show_default=True, help="Others are left out.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="JSON lines; goes on.")
def main(
    systems: int, first: int, seed: int, law: str, told: bool, most: int, most_dim: int, out: Path
) -> None:
    """Judge systems that no choice has seen."""
    torch.set_num_threads(1)
    rows = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    done = {row["number"] for row in rows}
    for number in range(first, first + systems):
        if number in done or draw(seed, number)[0]["d"] > most_dim:
            continue
        rows.append(judged(seed, number, law, told, most))
        with out.open("a") as file:
            file.write(json.dumps(rows[-1], ensure_ascii=False) + "\n")
        click.echo(json.dumps(rows[-1], ensure_ascii=False), err=True)
    click.echo(table(rows))


if __name__ == "__main__":
    main()
