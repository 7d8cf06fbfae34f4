"""What each kind of dynamics would explain of a data set: every rung that ``learn=auto`` knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

from popdyn.base.errors import PopdynError
from popdyn.estimation.ladder import RUNGS
from popdyn.learners.fit import fit
from popdyn.learners.run import Run

__all__ = ["KINDS", "explained_by"]

KINDS: tuple[tuple[tuple[str, ...], bool], ...] = (
    *((parts, False) for parts in RUNGS),
    (("potential",), True),
    (("potential", "growth"), False),
    (("potential", "circulation"), False),
)
"""The parts that are tried, and whether V moves."""


def explained_by(
    data: xr.DataTree, seed: int = 0, advance: Callable[[], object] = lambda: None
) -> dict[str, Any]:
    """Fit a data set by its default and by each kind of dynamics, and judge every fit.

    The kinds are solved for by the weak form.

    Args:
        data: A data set.
        seed: See ``popdyn.fit``.
        advance: Called after each fit; there are ``len(KINDS) + 1``.

    Returns:
        ``chosen``, the default fit, and ``kinds``, one record each: ``learn``, ``time_varying``,
        ``verdict``, ``p_value``, ``explained_share`` and its ``standard_error``, ``diffusivity``,
        ``seconds``; what could not be fitted has ``error`` in place of all but the first two.

    Example:
        >>> import popdyn
        >>> data = popdyn.simulate(popdyn.FreeEnergy("quadratic"), particles=200, dim=1, dt=0.3)
        >>> found = explained_by(data)
        >>> found["chosen"]["learn"], found["kinds"][0]["verdict"]
        (['potential'], 'explained')
    """
    chosen = fit(data, seed=seed)
    advance()
    kinds = []
    for learn, moves in KINDS:
        asked: dict[str, Any] = {"learn": list(learn), "time_varying": moves}
        try:
            run = fit(data, "weak_form", learn=learn, time_varying=moves, seed=seed)
            kinds.append(asked | _of(run))
        except (PopdynError, np.linalg.LinAlgError) as error:
            kinds.append(asked | {"error": str(error).splitlines()[0]})
        advance()
    moves = bool(chosen.certificate.get("time_varying"))
    return {
        "chosen": {"learn": chosen.learned, "time_varying": moves} | _of(chosen),
        "kinds": kinds,
    }


def _of(run: Run) -> dict[str, Any]:
    tested = run.certificate["two_sample"] or {}
    share = run.certificate["explained_share"]
    return {
        "verdict": run.word,
        "p_value": tested.get("p_value"),
        "explained_share": share["value"],
        "standard_error": share["standard_error"],
        "diffusivity": run.energy.diffusivity,
        "seconds": run.seconds,
    }
