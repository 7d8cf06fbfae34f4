"""What simulation and training cost on each device, and whether they find the same.

Every row is run on one thread of the CPU or on the named device, after a small simulation and a
small fit there. Skills and moments say that both do the same work: the random numbers differ.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from typing import Any

import torch

import popdyn
from popdyn.benchmark import load_suite
from popdyn.scores.protocol import Protocol
from popdyn.scores.scoring import gradient_scores
from popdyn.snapshots import positions

ALL = ("potential", "interaction", "diffusion")
# Learner, its options, the suite and the entry of the data.
FITS: dict[str, tuple[str, dict[str, Any], tuple[str, str]]] = {
    "weak_form": ("weak_form", {}, ("jko15", "styblinski_tang")),
    "simulate, features": ("ijkonet", {}, ("jko15", "styblinski_tang")),
    "simulate, network": (
        "ijkonet",
        {"model": "network", "steps": 400},
        ("jko15", "styblinski_tang"),
    ),
    "network": ("ijkonet", {"inner": "network", "steps": 200}, ("jko15", "styblinski_tang")),
    "proximal": ("ijkonet", {"inner": "proximal", "steps": 200}, ("jko15", "styblinski_tang")),
    "jkonet_star, network": (
        "jkonet_star",
        {"model": "network", "epochs": 20},
        ("jko15", "zigzag_ridge"),
    ),
    "network, d = 50": (
        "ijkonet",
        {"inner": "network", "steps": 100},
        ("highdim", "styblinski_tang-50"),
    ),
    "network, V, W and β": (
        "ijkonet",
        {"inner": "network", "steps": 50, "learn": ALL},
        ("joint", "wells-repulsion"),
    ),
}
# Suite, entry and particles of each snapshot.
SIMULATIONS = {
    "V, 10⁶ particles": ("jko15", "styblinski_tang", 1_000_000),
    "V, d = 50, 10⁵ particles": ("highdim", "mixture-50", 100_000),
    "V, W and β, all pairs, 2·10⁴": ("joint", "wells-repulsion", 20_000),
}


def main() -> None:
    """Print one line for each device and task."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", default="cpu,cuda", help="names with commas")
    parser.add_argument("--tasks", help="names with semicolons; all by default")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, {platform.processor() or platform.machine()}", end="")
    print(f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else "", flush=True)
    wanted = arguments.tasks.split("; ") if arguments.tasks else [*SIMULATIONS, *FITS]
    unknown = [name for name in wanted if name not in SIMULATIONS | FITS]
    if unknown:
        parser.error(f"no task {unknown}: expected {[*SIMULATIONS, *FITS]}")
    for device in arguments.devices.split(","):
        small = popdyn.simulate(popdyn.FreeEnergy("quadratic"), particles=100, device=device)
        popdyn.fit(small, inner="network", steps=2, device=device)
        for name in wanted:
            task = simulated if name in SIMULATIONS else fitted
            seconds, found = measured(task, name, device)
            print(f"{device:6s} {name:30s} {seconds:7.1f} s  {found}", flush=True)


def measured(task: Callable[[str, str], str], name: str, device: str) -> tuple[float, str]:
    """Run a task and return its seconds, and what it found or why it failed."""
    begin = time.monotonic()
    try:
        found = task(name, device)
    except Exception as error:  # a device that cannot do one task is to be seen, not to end all
        found = f"{type(error).__name__}: {str(error).splitlines()[0]}"
    return time.monotonic() - begin, found


def simulated(name: str, device: str) -> str:
    """Simulate, and return the last snapshot's mean and spread."""
    suite, entry_name, particles = SIMULATIONS[name]
    entry = load_suite(suite).entry(entry_name)
    settings = dict(entry.simulation) | {"particles": particles, "test_particles": 0}
    data = popdyn.simulate(entry.free_energy, **settings, seed=0, device=device)
    last = positions(data, entry.simulation.get("snapshots", 6) - 1, "train")
    return f"mean {last.mean():.4f}, spread {last.std():.4f}"


def fitted(name: str, device: str) -> str:
    """Fit, and return the skill; the seconds of the fit alone are among what it says."""
    learner, options, (suite, entry_name) = FITS[name]
    entry = load_suite(suite).entry(entry_name)
    data = popdyn.simulate(entry.free_energy, **dict(entry.simulation), seed=0)
    run = popdyn.fit(data, learner, seed=0, device=device, **dict(entry.fit) | options)
    truth = popdyn.FreeEnergy.from_spec(data.attrs["dynamics"])
    scores = gradient_scores(run.energy, truth, Protocol(data))
    residual = run.certificate.get("inner_residual", float("nan"))
    skill = scores["potential"]["skill"]
    return f"fit {run.seconds:.1f} s, skill {skill:.3f}, residual {residual:.3f}"


if __name__ == "__main__":
    main()
