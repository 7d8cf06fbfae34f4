"""Ensembles: members fitted to random halves of the particles, their mean and its standard error.

A member's estimate differs from that of all particles by as much as that one differs from the
truth: a half without repeats has twice the variance, of which it shares one half with the whole. So
the members' standard deviation s is the standard error of a fit to all particles, and their mean is
off by s·√(1 + 1/S). Members linear in features know their own standard error, which is that of a
half; it is taken instead, for what a population shares halves cannot draw again, and which groups
of functions a half finds makes their spread larger than the error of their mean. Either knows the
noise of sampling and not the bias of a model.

References:
    Politis and Romano, Ann. Stat. 22 (1994) 2031.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import numpy as np
import torch
from scipy.stats import norm
from scipy.stats import t as student
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from popdyn.allocation import keep_freed_memory
from popdyn.energies import FreeEnergy
from popdyn.energies.terms import RadialKernel, Time
from popdyn.learners.models import MODELS, LearnedTerm, module_of, rebuild
from popdyn.learners.run import Run
from popdyn.learners.training import Workplace
from popdyn.learners.training_set import TrainingSet

__all__ = ["MeanKernel", "MeanTerm", "fit_ensemble"]


Task = tuple[Callable[..., Run], TrainingSet, Any]


class MeanTerm(LearnedTerm):
    """The mean of several learned terms, with its standard error.

    Args:
        members: The terms, all of one kind.
    """

    def __init__(self, members: list[LearnedTerm]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.time_dependent = members[0].time_dependent

    def values(self, x: Tensor, t: Time = None) -> Tensor:
        """Return each member's value, ``(S, ...)``."""
        return torch.stack([m.value(x, t) for m in self.members])  # type: ignore[operator]

    def value(self, x: Tensor, t: Time = None) -> Tensor:
        return self.values(x, t).mean(0)

    def gradients(self, x: Tensor, t: Time = None) -> Tensor:
        """Return each member's gradient, ``(S, ..., d)``."""
        return torch.stack([m.gradient(x, t) for m in self.members])  # type: ignore[operator]

    def gradient(self, x: Tensor, t: Time = None) -> Tensor:
        return self.gradients(x, t).mean(0)

    @property
    def own_errors(self) -> bool:
        """Whether all members know their own standard error."""
        return all(hasattr(m, "gradient_error") for m in self.members)

    def gradient_std(self, x: Tensor, t: Time = None) -> Tensor:
        """Return the standard error of each component of the gradient, ``(..., d) → (..., d)``.

        It is what the members say of themselves, if they do: a half's variance is twice that of the
        whole. Otherwise it is their standard deviation.
        """
        if not self.own_errors:
            return self.gradients(x, t).std(0)
        own = torch.stack([m.gradient_error(x, t) for m in self.members])  # type: ignore[operator]
        return (0.5 * own.square().mean(0)).sqrt()

    def band_factor(self, level: float = 0.9) -> float:
        """Return what the standard error is multiplied by for a nominal band around the mean.

        √(1 + 1/S) times the quantile of a normal distribution, or where the standard error is the
        spread of S members that of Student's with S − 1 degrees of freedom.
        """
        count, tail = len(self.members), 0.5 + 0.5 * level
        quantile = norm.ppf(tail) if self.own_errors else student.ppf(tail, count - 1)
        return float(quantile) * math.sqrt(1.0 + 1.0 / count)

    def config(self) -> dict[str, Any]:
        return {"members": [module_of(m) for m in self.members]}  # type: ignore[arg-type]

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> MeanTerm:
        return cls([rebuild(member) for member in config["members"]])


class MeanKernel(MeanTerm, RadialKernel):
    """The mean of radial kernels, itself one: forces need no gradient for each pair."""

    @property
    def length(self) -> float:  # type: ignore[override]
        """The smallest length in the kernels."""
        return min(float(m.length) for m in self.members)  # type: ignore[arg-type]

    def slope(self, s: Tensor) -> Tensor:
        total = torch.zeros_like(s)
        for member in self.members:
            total += member.slope(s.clone())  # type: ignore[operator]
        return total / len(self.members)


MODELS.update({cls.__name__: cls.from_config for cls in (MeanKernel, MeanTerm)})


def fit_ensemble(
    fit_one: Callable[..., Run],
    training: Callable[[int], TrainingSet],
    options: Any,
    members: int,
    seed: int,
) -> Run:
    """Fit the members, one thread each, on all cores at once, and return their mean.

    This process takes one after the other, and so does a process of its own for every further core
    once it is up: no member waits, and a training set exists only while it is used.

    Args:
        fit_one: A learner's ``(training set, options, workplace) → Run``.
        training: Gives the training set of a member's seed: a random half of the particles.
        options: The learner's options.
        members: Number of members S.
        seed: Member i has the i-th child of this seed.
    """
    children = np.random.SeedSequence([seed, 7]).generate_state(members)
    runs = _fit_all(fit_one, training, options, [int(c) for c in children])
    V = _mean([r.energy.V for r in runs])
    W = _mean([r.energy.W for r in runs])
    beta = np.array([r.energy.diffusivity for r in runs])
    energy = FreeEnergy(V, W, float(beta.mean()))
    errors = [r.energy.diffusivity_standard_error for r in runs]
    if None not in errors:
        # A member knows its own error, that of a half; at the boundary β = 0 the spread says less.
        own = math.sqrt(0.5 * float(np.mean(np.square(np.array(errors, dtype=np.float64)))))
        spread = float(beta.std(ddof=1)) * math.sqrt(1.0 + 1.0 / members)
        energy.diffusivity_standard_error = max(spread, own)
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


def _fit_all(
    fit_one: Callable[..., Run],
    training: Callable[[int], TrainingSet],
    options: Any,
    seeds: list[int],
) -> list[Run]:
    """Return the members' runs, in their order, whoever fitted them."""
    waiting = deque(enumerate(seeds))
    members: list[Future[Run]] = [Future() for _ in seeds]

    def work(fit: Callable[[Task], Run]) -> None:
        while True:
            try:
                i, seed = waiting.popleft()
            except IndexError:
                return
            try:
                members[i].set_result(fit((fit_one, training(seed), options)))
            except BaseException as error:
                waiting.clear()  # nobody begins another
                members[i].set_exception(error)

    # A process that others started has its share of the cores already, as a cell of a bench has.
    alone = multiprocessing.parent_process() is not None
    helpers = 0 if alone else min(len(seeds), len(os.sched_getaffinity(0))) - 1
    # A fresh interpreter for each: torch's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(helpers, mp_context=context) if helpers > 0 else None

    def help_out(pool: ProcessPoolExecutor) -> None:
        # Short fits are done before a process has begun: it takes a member only when it is ready.
        with contextlib.suppress(CancelledError, BrokenProcessPool):
            pool.submit(_ready).result()
            work(lambda task: pool.submit(_fit_member, task).result())

    if pool is not None:
        for _ in range(helpers):
            threading.Thread(target=help_out, args=(pool,), daemon=True).start()
    own = torch.get_num_threads()
    try:
        work(_fit_member)
        failed = [m for m in members if m.done() and m.exception() is not None]
        return [member.result() for member in failed or members]
    finally:
        torch.set_num_threads(own)
        waiting.clear()
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)


def _ready() -> None:
    """Do nothing, in a process that has come up."""


def _fit_member(task: Task) -> Run:
    keep_freed_memory()
    torch.set_num_threads(1)
    fit_one, data, options = task
    with threadpool_limits(1):  # NumPy's own threads: the same bits wherever a member is fitted
        return fit_one(data, options, Workplace())


def _mean(terms: list[Any]) -> LearnedTerm | None:
    if terms[0] is None:
        return None
    radial = all(isinstance(term, RadialKernel) for term in terms)
    return MeanKernel(terms) if radial else MeanTerm(terms)
