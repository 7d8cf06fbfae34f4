"""Ensembles: members fitted to random halves of the particles, their mean and their spread."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from popdyn.energies import FreeEnergy
from popdyn.energies.terms import Time
from popdyn.learners.models import MODELS, LearnedTerm, module_of, rebuild
from popdyn.learners.run import Run
from popdyn.learners.training import Workplace
from popdyn.learners.training_set import TrainingSet

__all__ = ["MeanTerm", "fit_ensemble"]


class MeanTerm(LearnedTerm):
    """The mean of several learned terms, with their spread.

    Args:
        members: The terms, all of one kind.
    """

    def __init__(self, members: list[LearnedTerm]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.time_dependent = members[0].time_dependent

    def value(self, x: Tensor, t: Time = None) -> Tensor:
        return torch.stack([m.value(x, t) for m in self.members]).mean(0)  # type: ignore[operator]

    def gradients(self, x: Tensor, t: Time = None) -> Tensor:
        """Return each member's gradient, ``(S, ..., d)``."""
        return torch.stack([m.gradient(x, t) for m in self.members])  # type: ignore[operator]

    def gradient(self, x: Tensor, t: Time = None) -> Tensor:
        return self.gradients(x, t).mean(0)

    def gradient_std(self, x: Tensor, t: Time = None) -> Tensor:
        """Return the members' standard deviation of each component, ``(..., d) → (..., d)``."""
        return self.gradients(x, t).std(0)

    def config(self) -> dict[str, Any]:
        return {"members": [module_of(m) for m in self.members]}  # type: ignore[arg-type]

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> MeanTerm:
        return cls([rebuild(member) for member in config["members"]])


MODELS["MeanTerm"] = MeanTerm.from_config


def fit_ensemble(
    fit_one: Callable[..., Run],
    training: Callable[[int], TrainingSet],
    options: Any,
    members: int,
    seed: int,
) -> Run:
    """Fit the members in processes of their own, one thread each, and return their mean.

    Args:
        fit_one: A learner's ``(training set, options, workplace) → Run``.
        training: Gives the training set of a member's seed: a random half of the particles.
        options: The learner's options.
        members: Number of members S.
        seed: Member i has the i-th child of this seed.
    """
    children = np.random.SeedSequence([seed, 7]).generate_state(members)
    tasks = [(fit_one, training(int(s)), options) for s in children]
    # A fresh interpreter for each: torch's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    workers = min(members, len(os.sched_getaffinity(0)))
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        runs = list(pool.map(_fit_member, tasks))
    V = _mean([r.energy.V for r in runs])
    W = _mean([r.energy.W for r in runs])
    beta = np.array([r.energy.diffusivity for r in runs])
    energy = FreeEnergy(V, W, float(beta.mean()))
    errors = [r.energy.diffusivity_standard_error for r in runs]
    if errors[0] is not None:
        energy.diffusivity_standard_error = float(beta.std(ddof=1))
    first = runs[0]
    certificate: dict[str, Any] = {
        key: max(r.certificate[key] for r in runs)
        for key in first.certificate
        if key.endswith("residual")
    }
    certificate["members"] = [r.certificate for r in runs]
    notes = list(dict.fromkeys(note for r in runs for note in r.notes))
    return Run(
        energy,
        first.learner,
        {},
        [{"member": i, **m} for i, r in enumerate(runs) for m in r.metrics],
        certificate,
        all(r.converged for r in runs),
        sum(r.steps for r in runs),
        0.0,
        notes,
    )


def _fit_member(task: tuple[Callable[..., Run], TrainingSet, Any]) -> Run:
    torch.set_num_threads(1)
    fit_one, data, options = task
    return fit_one(data, options, Workplace())


def _mean(terms: list[Any]) -> LearnedTerm | None:
    return None if terms[0] is None else MeanTerm(terms)
