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

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.special import ndtri, stdtrit
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from popdyn.base.host import usual_torch
from popdyn.base.processes import run_all
from popdyn.dynamics import FreeEnergy
from popdyn.dynamics.fields import RadialKernel, Time
from popdyn.estimation.training_set import TrainingSet
from popdyn.families.models import LearnedTerm, module_of, rebuild
from popdyn.learners.run import Run
from popdyn.learners.training import Workplace

__all__ = ["MeanKernel", "MeanTerm", "fit_ensemble"]


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
        return all(hasattr(m, "gradient_std") for m in self.members)

    def gradient_std(self, x: Tensor, t: Time = None) -> Tensor:
        """Return the standard error of each component of the gradient, ``(..., d) → (..., d)``.

        It is what the members say of themselves, if they do: a half's variance is twice that of the
        whole. Otherwise it is their standard deviation.
        """
        if not self.own_errors:
            return self.gradients(x, t).std(0)
        own = torch.stack([m.gradient_std(x, t) for m in self.members])  # type: ignore[operator]
        return (0.5 * own.square().mean(0)).sqrt()

    def value_std(self, x: Tensor, reference: Tensor, t: Time = None) -> Tensor:
        """Return the standard error of V(x) less its mean over a reference, ``(n, d) → (n)``."""
        if self.own_errors:
            own = torch.stack([m.value_std(x, reference, t) for m in self.members])  # type: ignore[operator]
            return (0.5 * own.square().mean(0)).sqrt()
        return (self.values(x, t) - self.values(reference, t).mean(1, keepdim=True)).std(0)

    def band_factor(self, level: float = 0.9) -> float:
        """Return what the standard error is multiplied by for a nominal band around the mean.

        √(1 + 1/S) times the quantile of a normal distribution, or where the standard error is the
        spread of S members that of Student's with S − 1 degrees of freedom.
        """
        count, tail = len(self.members), 0.5 + 0.5 * level
        quantile = ndtri(tail) if self.own_errors else stdtrit(count - 1, tail)
        return float(quantile) * math.sqrt(1.0 + 1.0 / count)

    def label(self) -> str:
        first: Any = self.members[0]
        return f"mean of {len(self.members)}, the first: {first.label()}"

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


def fit_ensemble(
    fit_one: Callable[..., Run],
    training: Callable[[int], TrainingSet],
    options: Any,
    members: int,
    seed: int,
    workers: int = 1,
) -> Run:
    """Fit the members, one thread each, and return their mean.

    A training set exists only while it is used.

    Args:
        fit_one: A learner's ``(training set, options, workplace) → Run``.
        training: Gives the training set of a member's seed: a random half of the particles.
        options: The learner's options.
        members: Number of members S.
        seed: Member i has the i-th child of this seed.
        workers: Processes that fit; 1 is this one.
    """
    children = np.random.SeedSequence([seed, 7]).generate_state(members)
    tasks = ((fit_one, training(int(child)), options) for child in children)
    fitted = dict(run_all(_fit_member, tasks, workers))
    runs = [fitted[i] for i in range(members)]
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


def _fit_member(fit_one: Callable[..., Run], data: TrainingSet, options: Any) -> Run:
    # One thread, of NumPy's too: the same bits wherever a member is fitted.
    with usual_torch(threads=1), threadpool_limits(1):
        return fit_one(data, options, Workplace())


def _mean(terms: list[Any]) -> LearnedTerm | None:
    if terms[0] is None:
        return None
    radial = all(isinstance(term, RadialKernel) for term in terms)
    return MeanKernel(terms) if radial else MeanTerm(terms)
