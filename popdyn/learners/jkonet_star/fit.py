"""JKOnet*: least squares on the first-order condition of a JKO step, over optimal couplings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from popdyn.dynamics import FreeEnergy
from popdyn.estimation.couplings import couple
from popdyn.estimation.density import DENSITIES
from popdyn.estimation.training_set import TrainingSet
from popdyn.families.models import set_mean_zero
from popdyn.learners.jkonet_star.linear import Dictionary, choose_ridges, mean_of, solve
from popdyn.learners.jkonet_star.options import JKOnetStarOptions
from popdyn.learners.jkonet_star.problem import Halves, Scored, StarProblem
from popdyn.learners.registry import learner
from popdyn.learners.run import Run
from popdyn.learners.training import Workplace, interrupts_held, train

__all__ = ["fit_jkonet_star"]

Coupler = Callable[[Sequence[Tensor]], Scored]


@learner(
    "jkonet_star",
    "First-order condition over optimal couplings (Terpin et al. 2024): V, W and β.",
    JKOnetStarOptions,
)
def fit_jkonet_star(data: TrainingSet, options: JKOnetStarOptions, place: Workplace) -> Run:
    """Fit a free energy to the training set; see :func:`popdyn.fit`.

    Minimises Σ_k τ_k² E|(y − x)/τ_k + ∇V(y) + ∇W∗ρ_{k+1}(y) + β∇log ρ_{k+1}(y)|² over the exact
    coupling of each snapshot with the next.

    Raises:
        PopdynError: If a coupling does not converge.

    References:
        Terpin, Lanzetti, Gadea and Dörfler, arXiv:2406.12616.
    """
    most = options.particles
    snapshots = [x[:most] for x in data.cells]
    density = DENSITIES[options.density]
    # No pair ends in the first snapshot, all of whose particles may be in one place.
    ends = data.intervals.after if options.noisy else ()
    later = {int(k): density(snapshots[k], data.seed) for k in ends}

    def couplings(parts: Sequence[Tensor]) -> Scored:
        """Return the couplings of some particles, with ∇log ρ of all of them at the ends."""
        pairs = couple(
            parts, data.intervals, options.block, data.seed, options.iterations, options.debiased
        )
        if not later:
            return pairs, None
        scores = torch.empty_like(pairs.ends)
        for k, score in later.items():
            own = pairs.snapshots == k
            scores[own] = score(pairs.ends[own])
        return pairs, scores

    fit_model = _fit_linear if options.model == "features" else _fit_network
    run = fit_model(data, options, place, snapshots, couplings)
    V: Any = run.energy.V
    if V is not None:
        set_mean_zero(V, snapshots, [float(t) for t in data.times])
    return run


def _fit_linear(
    data: TrainingSet,
    options: JKOnetStarOptions,
    place: Workplace,
    snapshots: list[Tensor],
    couplings: Coupler,
) -> Run:
    learned = options.learn
    times = 1 + min(options.degree, data.intervals.distinct - 2) if options.time_varying else 1
    learns_beta = "diffusion" in learned and options.diffusivity is None
    known = options.diffusivity or 0.0
    dictionary = Dictionary(
        data, snapshots, "potential" in learned, "interaction" in learned, learns_beta, times
    )
    names = dict.fromkeys(name for name in dictionary.groups if name != "β")
    certificate: dict[str, Any] = {}
    if options.early_stop:
        rounds = [
            [dictionary.normal(*couplings(part), known) for part in parts]
            for parts in _parted(snapshots, options.block, options.folds, data.seed)
        ]
        ridges, certificate["held_out"] = choose_ridges(rounds, dictionary.groups)
        # Blocks that fit into a part are the same kind of blocks as those of all particles.
        smallest = min(len(x) for x in snapshots)
        whole = 0 < options.block <= smallest // len(rounds[0])
        normal = mean_of(rounds[0]) if whole else dictionary.normal(*couplings(snapshots), known)
    else:
        ridges = dict.fromkeys(names, options.ridge)
        normal = dictionary.normal(*couplings(snapshots), known)
    V, W, beta = dictionary.energies(solve(normal, dictionary.groups, ridges))
    for term in (V, W):
        if term is not None:
            term.requires_grad_(False).to(data.device)
    certificate["ridges"] = {name: r for name, r in ridges.items() if np.isfinite(r)}
    energy = FreeEnergy(V, W, known if beta is None else beta)
    return Run(energy, "jkonet_star", {}, [], certificate, steps=1)


def _parted(
    snapshots: Sequence[Tensor], block: int, wanted: int, seed: int
) -> list[list[list[Tensor]]]:
    """Part the particles of all snapshots at random, in halves or about as many blocks as they are.

    They are parted anew until there are about as many parts as ``wanted``. Halves of a small
    sample, not fifths: how far a plan's noise moves particles grows as fewer are coupled.

    Returns:
        For each way to part them the snapshots of each part.
    """
    smallest = min(len(x) for x in snapshots)
    count = min(max(2, -(-smallest // block) if block else 2), wanted)
    rounds = []
    for r in range(max(1, round(wanted / count))):
        rng = np.random.default_rng([seed, 10, r])
        cuts = [np.array_split(rng.permutation(len(x)), count) for x in snapshots]
        rounds.append(
            [[x[cut[i]] for x, cut in zip(snapshots, cuts, strict=True)] for i in range(count)]
        )
    return rounds


def _fit_network(
    data: TrainingSet,
    options: JKOnetStarOptions,
    place: Workplace,
    snapshots: list[Tensor],
    couplings: Coupler,
) -> Run:
    certificate: dict[str, Any] = {}
    metrics: list[dict[str, float]] = []
    notes = []
    pairs = couplings(snapshots)
    with interrupts_held():
        problem = StarProblem(data, options, snapshots, pairs)
    every = problem.steps_per_epoch
    steps, done, stopped = options.epochs * every, 0, True
    if options.early_stop:
        halves = [couplings(part) for part in _parted(snapshots, 0, 2, data.seed)[0]]
        with interrupts_held():
            trial = Halves(data, options, snapshots, halves)
        first = train(trial, steps, every, place)
        metrics, done = first.metrics, first.steps
        stopped = first.best_step < first.steps
        steps = first.best_step
        certificate = {"held_out": first.best_criterion, "best_epoch": -(-steps // every)}
        place = Workplace(progress=place.progress)  # the checkpoint is the first part's
        if not stopped:
            notes.append(
                f"the last of {options.epochs} epochs is the best on held-out couplings: more may "
                "be better"
            )
    history = train(problem, steps, every, place)
    energy = FreeEnergy(problem.V, problem.W, float(problem.beta().detach()))
    for term in (problem.V, problem.W):
        if term is not None:
            term.requires_grad_(False)
    return Run(
        energy,
        "jkonet_star",
        {},
        metrics or history.metrics,
        certificate,
        stopped,
        done + history.steps,
        notes=notes,
    )
