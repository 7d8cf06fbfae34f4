"""A run in words: what was learned, what it is worth, and what to do next."""

from __future__ import annotations

import html
import shlex
from typing import TYPE_CHECKING, Any

from popdyn.estimation.verdict import LEVEL

if TYPE_CHECKING:
    from popdyn.learners.run import Run

__all__ = ["facts_of", "html_of", "next_steps", "notes_of", "words_of"]

PARTS = {"potential": "potential V", "interaction": "interaction W", "diffusion": "diffusivity β"}
SHOWN = 3
"""Notes that an object shows of itself; ``run.notes`` has all."""


def words_of(run: Run) -> dict[str, str]:
    """Return what there is to say of a run, a few words by what they are about; verdict first."""
    found = {}
    if run.verdict is not None:
        found["verdict"] = f"{run.verdict.verdict}: {run.verdict.note}"
    for record in run.certificate.get("experiments", ()):
        tested = record["two_sample"]
        chance = "" if tested is None else f" (p = {max(tested['p_value'], 1e-300):.2g})"
        found[record["data"]] = f"{record['verdict']}{chance}"
    found["learned"] = _learned(run)
    found["β"] = _diffusivity(run)
    if met := _met(run):
        found["met"] = met
    state = "converged" if run.converged else "not converged"
    steps = f", {run.steps} step{'s' * (run.steps != 1)}" if run.steps else ""
    found["took"] = f"{run.seconds:.3g} s{steps}, {state}"
    return found


def notes_of(run: Run) -> list[str]:
    """Return warnings and notes, less what the verdict has said."""
    said = None if run.verdict is None else run.verdict.note
    warnings = [f"warning: {text}" for text in run.certificate.get("warnings", ())]
    return warnings + [f"note: {note}" for note in run.notes if note != said]


def facts_of(run: Run) -> dict[str, tuple[Any, float | None]]:
    """Return values and, where there are, their standard errors, by what they are."""
    verdict, energy = run.verdict, run.energy
    tested = (verdict.two_sample if verdict else None) or {}
    share: tuple[float | None, float | None] = (None, None)
    if verdict is not None:
        share = verdict.explained_share, verdict.explained_share_error
    return {
        "learner": (run.learner, None),
        "model": (run.model, None),
        "learned": (", ".join(run.learned), None),
        "verdict": (run.word, None),
        "explained_share": share,
        "p_value": (tested.get("p_value"), None),
        "diffusivity": (energy.diffusivity, energy.diffusivity_standard_error),
        "converged": (run.converged, None),
        "steps": (run.steps, None),
        "seconds": (run.seconds, None),
    }


def next_steps(run: Run, path: str) -> list[str]:
    """Return command lines or advice for what to do with a run, by its verdict.

    Args:
        run: The run.
        path: Its folder.
    """
    path = shlex.quote(path)
    stores = [record["path"] for record in run.config.get("data", ()) if record["path"]]
    data = shlex.join(stores[:1] or ["STORE"])
    use = [f"popdyn score {path}", f"popdyn plot {path} --out figures"]
    if run.word == "below_noise":
        return [
            f"popdyn inspect {data} says what these snapshots can tell: more particles, or "
            "snapshots farther apart in time, tell more"
        ]
    if run.word == "undetermined" and run.certificate.get("undetermined"):
        return [
            "name what is known (--diffusivity, or fewer parts with --learn), or add snapshots of "
            "a population that starts elsewhere",
            *use,
        ]
    if run.word != "unexplained":
        return use
    alone = run.certificate.get("difference", {}).get("alone")
    if alone and all(p is None or p >= LEVEL for p in alone):
        return [f"train each alone, for their dynamics differ: {shlex.join(stores)}", *use]
    if "between" in run.certificate:
        return [
            "more snapshots between these tell most; where cells divide and die, train again with "
            f"--learn potential,growth; {use[0]} says how far off it is"
        ]
    tries = _tries(run)
    if not tries:
        return use
    either = ", or ".join(tries)
    return [f"train again with {either}; {use[0]} says how far off it is"]


def _tries(run: Run) -> list[str]:
    """Return flags that may explain what a run does not."""
    options = run.config.get("options", {})
    tries = []
    for found in run.certificate.get("beyond", {}).values():
        if found["verdict"] in ("explained", "undetermined"):
            tries.append(f"--learn {','.join(found['learn'])}")
    every = "potential,interaction,diffusion"
    if "learn" in options and set(run.learned) != set(every.split(",")):
        tries.append(f"--learn {every}")
    if run.model == "features" and run.learner == "ijkonet":
        tries.append("--model network")
    if run.model == "network" and "steps" in options:
        tries.append("more --steps")
    if options.get("time_varying") is False:
        tries.append("--time-varying")
    return tries


def html_of(run: Run) -> str:
    """Return the words of a run as HTML, for a notebook, without a figure."""
    rows = [*words_of(run).items(), *(note.split(": ", 1) for note in notes_of(run)[:SHOWN])]
    cells = "".join(
        f"<tr><th style='text-align:left'>{html.escape(name)}</th>"
        f"<td style='text-align:left'>{html.escape(text)}</td></tr>"
        for name, text in rows
    )
    return f"<table>{cells}</table>"


def _learned(run: Run) -> str:
    parts = [PARTS.get(part, part) for part in run.learned]
    what = " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
    held = run.config.get("hold_out")
    less = f", snapshot{'s' * (len(held) > 1)} {', '.join(map(str, held))} not seen" if held else ""
    return f"{what or 'nothing'} ({run.how}{less})"


def _diffusivity(run: Run) -> str:
    energy = run.energy
    if run.dynamics.beta is None:
        return run.dynamics.terms["diffusion"].label()
    if energy.diffusivity_standard_error is not None:
        return f"{energy.diffusivity:.3g} ± {energy.diffusivity_standard_error:.2g}"
    why = ""
    if run.config.get("options", {}).get("diffusivity") is not None:
        why = ", as given"
    elif "between" in run.certificate and run.model == "network":
        why = ", by what predicts snapshots that were left out"
    elif "ladder" in run.certificate:
        why = ", the snapshots ask for none" * ("diffusion" not in run.learned)
    elif run.learned and "diffusion" not in run.learned:
        why = ", not learned"
    return f"{energy.diffusivity:.3g}{why}"


def _met(run: Run) -> str:
    """Return how well the snapshots are met, by the numbers of the verdict."""
    if run.verdict is None or (run.word == "unexplained" and "(p " in run.verdict.note):
        return ""  # the verdict says it
    said, tested = [], run.verdict.two_sample
    share, error = run.verdict.explained_share, run.verdict.explained_share_error
    if share is not None:
        spread = "" if error is None else f" ± {error:.2f}"
        said.append(f"{share:.2f}{spread} of the motion is explained")
    if tested is not None:
        p = tested["p_value"]
        chance = f"p = {p:.2g}" if p > 1e-300 else "p < 1e-300"
        said.append(f"{chance} that predicted and observed particles differ by chance alone")
    return "; ".join(said)
