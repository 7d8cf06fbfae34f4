"""What would explain snapshots that no gradient flow explains: growth, or a circulation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from popdyn.base.errors import PopdynError
from popdyn.estimation import Sample, Verdict, judge
from popdyn.estimation.levels import MOST_TURNED
from popdyn.estimation.options import WeakFormOptions
from popdyn.estimation.training_set import TrainingSet
from popdyn.learners.in_units import fit_in_units
from popdyn.learners.run import Run
from popdyn.learners.training import Workplace
from popdyn.learners.weak_form import fit_weak_form

__all__ = ["beyond_energy"]

BEYOND = ("growth", "circulation")


def beyond_energy(
    run: Run, diffusivity: float | None, less: TrainingSet, left_out: Sample, seed: int
) -> str | None:
    """Try a growth and a circulation beside what was learned, and return a note that names them.

    Each is fitted to some of the particles and judged by the others; ``run.certificate`` gets what
    was found as ``beyond``. Neither is learned unless it is asked for.

    Args:
        run: A fit that is not explained, or that only a V that moves explains.
        diffusivity: β where it is known.
        less: Particles to fit.
        left_out: Particles to judge by.
        seed: Seeds the noise of what is carried.

    Returns:
        The note; None where neither explains.
    """
    if run.certificate["explained_share"]["value"] is None:  # no motion above noise to explain
        return None
    found: dict[str, Any] = {}
    for part in BEYOND:
        learn = _beside(run.learned, part, diffusivity is not None)
        if part in run.learned or (part == "circulation" and not 2 <= less.dim <= MOST_TURNED):
            continue
        options = WeakFormOptions(learn, diffusivity)  # type: ignore[arg-type]
        try:
            tried = fit_in_units(fit_weak_form, less, options, Workplace())
        except PopdynError:
            continue
        trades = tuple(tried.certificate.get("undetermined", ()))
        moments = tried.certificate["misfit_p_value"]
        verdict = _judged(tried, left_out, trades, moments, seed)
        found[part] = {"learn": list(learn), "verdict": verdict.verdict} | verdict.certificate()
    if not found:
        return None
    run.certificate["beyond"] = found
    good = {k: v for k, v in found.items() if v["verdict"] in ("explained", "undetermined")}
    if not good:
        return None
    before = _share(run.certificate["explained_share"])
    also = "; ".join(f"with {k} {_share(v['explained_share'])}" for k, v in good.items())
    told = " or ".join(f"--learn {','.join(v['learn'])}" for v in good.values())
    what = "a potential that moves" if run.certificate.get("time_varying") else "a gradient flow"
    return (
        f"{what} explains {before} of the motion; {also}, and carried particles cannot be told "
        f"from those observed: {told}"
    )


def _judged(
    tried: Run, left_out: Sample, trades: Sequence[str], moments: float, seed: int
) -> Verdict:
    return judge(
        tried.dynamics,
        None,
        lambda: (tried.dynamics, left_out),
        undetermined=trades,
        moments=moments,
        seed=seed,
    )


def _beside(learned: Sequence[str], part: str, known: bool) -> tuple[str, ...]:
    """Return what is learned beside a part: growth can't be with an interaction."""
    drop = {"interaction"} if part == "growth" else set()
    drop |= {"diffusion"} if known else set()
    kept = [p for p in dict.fromkeys(("potential", *learned)) if p not in drop]
    return (*kept, part)


def _share(share: dict[str, float | None]) -> str:
    value, error = share["value"], share["standard_error"]
    if value is None:
        return "an unknown share"
    return f"{100 * value:.0f} ± {100 * (error or 0.0):.0f} %"
