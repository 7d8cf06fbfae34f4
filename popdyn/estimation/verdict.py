"""The verdict: what a fit is worth, from data alone.

Two comparisons are made, and the smaller p-value counts as that of two (Šidák). On *unseen*
particles: what was learned from noise does not carry these. On the fit's *own*: fitting can only
have made them more like what they are compared with, so what even they reject is missing; and they
are several times as many.

Unseen particles cost skill where they are set aside: a fifth less took `flowers` at N = 10 000 from
0.83 to 0.71 (weak form, two draws), `watershed` at N = 1000 from 0.24 to 0.17 (three draws), and
nothing where the motion is far above the noise. So nothing is set aside. A fit that validates has
particles that chose among its states and no more; a fit that learns from all is done once more
without a fifth of each snapshot, which judges that sibling. The run itself is the one fitted to
all. The sibling is not needed, and not made, where the own particles have decided.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from scipy.linalg import LinAlgError

from popdyn.base.errors import PopdynError
from popdyn.base.intervals import Intervals
from popdyn.dynamics import Dynamics, FreeEnergy
from popdyn.estimation.two_sample import LEAST, TAIL, Comparison, carried, compare

__all__ = ["REFUTED", "VERDICTS", "Sample", "Verdict", "judge"]

VERDICTS = {
    "explained": "fresh particles that the learned dynamics carries from each snapshot to the next "
    "cannot be told from those observed there",
    "below_noise": "no motion is clearly above sampling noise",
    "undetermined": "the snapshots are explained, but by more than one dynamics",
    "unexplained": "the learned dynamics does not carry the snapshots into each other",
}
LEVEL = 0.01
REFUTED = 1e-4  # level of the fit's own moments
STILL = 1e-3  # of no motion at all: a V by luck where nothing moves is worse than none
MOST = 10_000  # particles of each snapshot that are compared
MOST_INTERACTING = 4000
FEW = 100  # particles that say whether a force is 0 everywhere


@dataclass(frozen=True)
class Verdict:
    """What a fit is worth.

    Attributes:
        verdict: ``explained``, ``below_noise``, ``undetermined`` or ``unexplained``.
        two_sample: ``statistic``, N(0, 1) under the truth, ``p_value`` and ``particles``.
        explained_share: Share of the motion that is explained, on unseen particles; None where
            there is none above noise, or nobody unseen.
        explained_share_error: Its standard error.
        note: One sentence.

    Example:
        >>> import popdyn
        >>> data = popdyn.simulate(popdyn.FreeEnergy("quadratic"), particles=300, dt=0.3, seed=0)
        >>> popdyn.fit(data, "zero").verdict.verdict
        'unexplained'
    """

    verdict: str
    two_sample: dict[str, float] | None
    explained_share: float | None
    explained_share_error: float | None
    note: str

    def certificate(self) -> dict[str, Any]:
        """Return the entries of a run's certificate."""
        share = {"value": self.explained_share, "standard_error": self.explained_share_error}
        return {"two_sample": self.two_sample, "explained_share": share}


@dataclass(frozen=True)
class Sample:
    """Particles of every observed snapshot.

    Attributes:
        snapshots: One ``(n_k, d)`` for each time.
        times: Times ``(S)``, increasing within an experiment.
        paired: Whether row i is the same particle at all times, of all experiments or of each.
        starts: Index of the first snapshot of each experiment.

    Example:
        >>> x = np.zeros((100, 2))
        >>> sample = Sample([x, x, x], np.array([0.0, 0.1, 0.2]))
        >>> len(sample.snapshots), sample.starts
        (3, (0,))
    """

    snapshots: Sequence[np.ndarray]
    times: np.ndarray
    paired: bool | tuple[bool, ...] = False
    starts: tuple[int, ...] = (0,)

    @property
    def smallest(self) -> int:
        """Particles in the smallest snapshot."""
        return min(len(x) for x in self.snapshots)

    def up_to(self, most: int) -> Sample:
        """Return the first particles of each snapshot: their order carries no information."""
        return dataclasses.replace(self, snapshots=[x[:most] for x in self.snapshots])

    def experiments(self) -> list[Sample]:
        """Return the sample of each experiment alone."""
        flags = np.broadcast_to(self.paired, len(self.starts)).tolist()
        where = Intervals(self.times, self.starts).experiments
        return [
            Sample(self.snapshots[own], self.times[own], flag)
            for own, flag in zip(where, flags, strict=True)
        ]


def judge(
    energy: Dynamics,
    own: Sample | None,
    unseen: Callable[[], tuple[Dynamics, Sample] | None],
    *,
    undetermined: Sequence[str] = (),
    moments: float | None = None,
    seed: int = 0,
) -> Verdict:
    """Return the verdict on an energy.

    Args:
        energy: What was learned.
        own: Particles that it was learned from; None if it was learned from none.
        unseen: Gives an energy and particles that it has not seen: the same energy, or that of a
            fit to fewer; None where there are too few to leave any out. It is called where the
            own particles have not decided.
        undetermined: Pairs of parts, like ``potential, interaction``, that trade with each other.
        moments: The p-value of the fit's own χ², where it has one. Moments see a β or W that is
            missing and that V makes good for long before fresh particles do; but their covariance
            is itself an estimate, so that they have to reject at ``REFUTED``.
        seed: Seeds the noise of what is carried, and the functions that it is compared by.

    Example:
        >>> from popdyn.dynamics import FreeEnergy
        >>> rng, t = np.random.default_rng(0), np.array([0.0, 0.5, 1.0])
        >>> falling = [np.exp(-s) * rng.normal(1, 1, size=(500, 2)) for s in t]
        >>> energy = FreeEnergy("quadratic")
        >>> judge(energy, None, lambda: (energy, Sample(falling, t))).verdict
        'explained'
    """
    try:
        found = _judged(energy, own, unseen, undetermined, seed)
    except (LinAlgError, np.linalg.LinAlgError, PopdynError) as error:
        reason = str(error).splitlines()[0]
        return _verdict("undetermined", None, f"the fit could not be judged ({reason})")
    if moments is not None and moments < REFUTED and found.verdict != "unexplained":
        note = f"{VERDICTS['unexplained']}: the fit's own moments reject it (p = {moments:.1g})"
        found = dataclasses.replace(found, verdict="unexplained", note=note)
    return found


def _judged(
    energy: Dynamics,
    own: Sample | None,
    unseen: Callable[[], tuple[Dynamics, Sample] | None],
    undetermined: Sequence[str],
    seed: int,
) -> Verdict:
    everybody = own
    first: Comparison | None = None
    if own is not None and own.smallest >= LEAST:
        compared = _carried(energy, own, seed)
        first = compared(share=False)
        if _of_two(first.p_value) < LEVEL:
            found = compared(share=True)
            found = dataclasses.replace(found, p_value=_of_two(first.p_value))
            return _rejected(found, "even the particles that it was fitted to")
    left_out = unseen()
    if left_out is None:
        fewest = 0 if own is None else own.smallest
        note = (
            f"too few particles to judge a fit by some that it has not seen: {fewest} in the "
            f"smallest snapshot, expected {5 * LEAST} or more"
        )
        still = own is None or own.smallest < LEAST or _stands_still(own, seed)
        return _verdict("below_noise" if still else "undetermined", first, note)
    judged, sample = left_out
    fresh = _carried(judged, sample, seed)(share=True)
    p = fresh.p_value
    if first is not None:
        p = _of_two(min(p, first.p_value))
    else:
        everybody = sample
    total = dataclasses.replace(fresh, p_value=p)
    if total.p_value < LEVEL:
        return _rejected(total, "particles that it has not seen")
    assert everybody is not None
    if _moves_nothing(energy, everybody) or _stands_still(everybody, seed):
        return _verdict("below_noise", total, VERDICTS["below_noise"])
    if undetermined:
        pairs = "; ".join(pair.replace(", ", " with ", 1) for pair in undetermined)
        return _verdict("undetermined", total, f"{VERDICTS['undetermined']}: {pairs} may trade")
    return _verdict("explained", total, VERDICTS["explained"])


def told_apart(energy: Dynamics, sample: Sample, seed: int = 0) -> bool:
    """Return whether carried particles are told from the next snapshots, at ``LEVEL``.

    Args:
        energy: What was learned.
        sample: Particles, which it may have been learned from.
        seed: Seeds the noise and the functions that are compared.

    Example:
        >>> from popdyn.dynamics import FreeEnergy
        >>> rng, t = np.random.default_rng(0), np.array([0.0, 0.5, 1.0])
        >>> sample = Sample([np.exp(-s) * rng.normal(1, 1, size=(500, 2)) for s in t], t)
        >>> told_apart(FreeEnergy("quadratic"), sample), told_apart(FreeEnergy(), sample)
        (False, True)
    """
    return sample.smallest >= LEAST and _carried(energy, sample, seed)(share=False).p_value < LEVEL


def _of_two(p: float) -> float:
    """Return the p-value of the smaller of two; what is tested twice depends positively."""
    return p * (2.0 - p)


def _carried(energy: Dynamics, sample: Sample, seed: int) -> Callable[..., Comparison]:
    """Carry a sample, and return how it is compared with what comes next: with a share or not."""
    sample = sample.up_to(MOST_INTERACTING if energy.interacting else MOST)
    weights: list[np.ndarray] | None = [] if "growth" in energy.terms else None
    moved = carried(energy, sample.snapshots, sample.times, seed, weights, sample.starts)
    count = sum(len(x) for x in sample.snapshots)
    if not all(np.isfinite(y).all() for y in moved):
        return lambda share: Comparison(TAIL, count)  # no population runs to infinity
    return partial(
        compare,
        sample.snapshots,
        moved,
        sample.times,
        seed=seed,
        paired=sample.paired,
        weights=weights,
        starts=sample.starts,
    )


def _stands_still(sample: Sample, seed: int) -> bool:
    """Whether no motion at all explains the particles: nothing was fitted to any of them."""
    return _carried(FreeEnergy(), sample, seed)(share=False).p_value >= STILL


def _moves_nothing(energy: Dynamics, sample: Sample) -> bool:
    """Whether what was learned is 0: the fit itself found nothing above the noise."""
    starts = zip(sample.snapshots, sample.times, strict=True)
    return energy.beta == 0 and not any(
        np.asarray(energy.drift(x[:FEW], t=float(t))).any() for x, t in starts
    )


def _rejected(found: Comparison, whom: str) -> Verdict:
    share = ""
    if found.share is not None:
        share = f"; {_percent(found.share)} ± {_percent(found.share_error or 0.0)} of the motion is"
        share += " explained"
    p = "< 1e-300" if found.p_value <= TAIL else f"= {found.p_value:.1g}"
    note = f"{VERDICTS['unexplained']}: {whom} reject it (p {p}{share})"
    return _verdict("unexplained", found, note)


def _percent(value: float) -> str:
    return f"{100.0 * value:.0f} %"


def _verdict(word: str, found: Comparison | None, note: str) -> Verdict:
    if found is None:
        return Verdict(word, None, None, None, note)
    numbers = {
        "statistic": found.statistic,
        "p_value": found.p_value,
        "particles": found.particles,
    }
    return Verdict(word, numbers, found.share, found.share_error, note)
