"""The weak form: V, W and β at once from how the means of test functions change, in seconds."""

from __future__ import annotations

from typing import Any

from popdyn.estimation.options import WeakFormOptions
from popdyn.estimation.solution import WeakFormSolution
from popdyn.estimation.training_set import TrainingSet
from popdyn.estimation.weak_form import solve_weak_form
from popdyn.learners.registry import learner
from popdyn.learners.run import Run
from popdyn.learners.training import Workplace

__all__ = ["fit_weak_form", "run_of"]


@learner(
    "weak_form",
    "How the means of test functions change: V, W and β in closed form, with error bars.",
    WeakFormOptions,
)
def fit_weak_form(data: TrainingSet, options: WeakFormOptions, place: Workplace) -> Run:
    """Fit a free energy to the training set; see :func:`popdyn.fit`."""
    return run_of(solve_weak_form(data, options))


def run_of(solution: WeakFormSolution) -> Run:
    """Return a solution as a run of the weak form."""
    certificate: dict[str, Any] = {
        "outer_step": solution.outer_step,
        "misfit": solution.misfit,
        "misfit_p_value": solution.p_value,
        "determined": solution.determined,
    }
    if solution.undetermined:
        certificate["undetermined"] = solution.undetermined
    return Run(
        solution.dynamics,
        "weak_form",
        {},
        solution.trace,
        certificate,
        solution.settled,
        len(solution.trace),
        notes=solution.notes,
    )
