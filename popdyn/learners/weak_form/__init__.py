"""The weak form: V, W and β at once from how the means of test functions change, in seconds."""

from popdyn.learners.weak_form.solve import (
    FITS,
    WeakFormSolution,
    fit_weak_form,
    run_of,
    solve_weak_form,
)

__all__ = ["FITS", "WeakFormSolution", "fit_weak_form", "run_of", "solve_weak_form"]
