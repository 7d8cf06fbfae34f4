"""What a learner may see of a data set: training particles and their times, never the truth."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from popdyn.base.errors import PopdynError
from popdyn.base.intervals import Intervals
from popdyn.estimation.deconvolution import without_noise
from popdyn.estimation.verdict import Sample
from popdyn.families.models import Scaling
from popdyn.snapshots import counts, dimension, positions, times
from popdyn.snapshots.tree import masses, not_held_out, weights

if TYPE_CHECKING:
    from popdyn.estimation.structure import Structure
    from popdyn.families.units import Units

__all__ = ["TrainingSet"]

VALIDATION_CAP = 4000
# Share of cells that are equal to others, and how often one may stand, by chance or rounding.
REPEATED, OFTEN = 0.01, 10
LEAST_SPREAD = 1e-3  # of weights that are all 1, over their mean squared: no mass is exact
MASS_CHANGES = "the mass changes"
CHANGE = 0.01  # of the mass, from which it is said
MAX_VALUES = 400_000_000  # 1.6 GB of float32; more particles teach nothing that these do not


@dataclass
class TrainingSet:
    """The observed snapshots, each split into particles to fit and particles to validate.

    Attributes:
        times: Times of the observed snapshots, ``(S,)``, increasing within an experiment.
        indices: Their indices in their store.
        fit: Particles to fit, one ``(n_k, d)`` float32 tensor for each snapshot.
        validation: Particles to validate, likewise.
        seed: Seeds the split and the batches.
        units: What positions and times are in, None: as the user's. See ``popdyn.families.units``.
        notes: What has to be said about the cells, in plain words.
        paired: Whether row i is the same particle in all snapshots of each experiment.
        structure: How V is made of the components, where something has told.
        masses: Where the mass was measured: log of that of each snapshot, and its variance,
            ``(K + 1)`` each.
        finer: Whether the moments of many tests are asked, though each has few particles: those of
            few were met by what particles refuse.
        starts: Index of the first snapshot of each experiment; there is one, or several share the
            dynamics, one after the other in the lists.
    """

    times: np.ndarray
    indices: list[int]
    fit: list[Tensor]
    validation: list[Tensor]
    seed: int
    units: Units | None = None
    notes: tuple[str, ...] = ()
    paired: tuple[bool, ...] = (False,)
    structure: Structure | None = None
    masses: tuple[np.ndarray, np.ndarray] | None = None
    starts: tuple[int, ...] = (0,)
    finer: bool = False

    def __post_init__(self) -> None:
        self._orders: dict[int, tuple[int, int, np.ndarray]] = {}
        self._leading: dict[int, TrainingSet] = {}
        self.solved: dict[Any, Any] = {}  # solutions by options, which more than one may ask for
        self.begun: dict[Any, Any] = {}  # their starts, where all particles were asked
        self.near: dict[Any, Any] = {}  # those of more particles of the same data
        # The units that this set, or one with more particles, was fitted in, and the solutions.
        self.found: tuple[Units, dict[Any, Any], Structure | None] | None = None
        self.network: Any = None  # the run of a network that told the structure
        self.own: TrainingSet | None = None  # the same in units of its own, once it was asked

    @classmethod
    def from_data(
        cls,
        data: xr.DataTree,
        hold_out: Sequence[int] = (),
        *,
        validation_fraction: float = 0.2,
        half: bool = False,
        seed: int = 0,
        device: str = "cpu",
        noise: np.ndarray | None = None,
    ) -> TrainingSet:
        """Read the train group of a data set, less the held-out snapshots.

        With ``half`` a random half of each snapshot is taken, without repeats: the estimates of
        many random halves spread around the estimate of the whole as that one does around the
        truth (Politis and Romano, Ann. Stat. 22 (1994): n/m − 1 = 1 for m = n/2).

        Where the noise of the observation is known, ``(d,)``, the particles stand for the law
        without it, see ``popdyn.estimation.deconvolution``.

        Raises:
            PopdynError: On a held-out index that there is not, or when fewer than two snapshots
                or fewer than four particles in one of them are left, or when no snapshot has four
                that differ.
        """
        t = times(data)
        kept = not_held_out(data, hold_out)
        if len(kept) < 2:
            raise PopdynError(
                f"{len(kept)} snapshot(s) left to learn from ({len(t)} in the data, "
                f"{len(set(hold_out))} held out): expected at least 2"
            )
        n = counts(data, "train")
        least = 8 if half else 4
        short = [k for k in kept if n[k] < least]
        if short:
            raise PopdynError(
                f"snapshot {short[0]} has {n[short[0]]} training particles: "
                f"expected at least {least}"
            )
        # A store larger than memory: the order of particles carries no information, so the first
        # of them are as good a sample as any.
        share = max(4, MAX_VALUES // (len(kept) * dimension(data)))
        # A particle that is to validate must not be one to fit at another time.
        paired = data.attrs.get("observation") == "paired" and len(set(n[kept])) == 1
        paired = paired and weights(data, 0, stop=0) is None
        fit, validation, read = [], [], []
        for k in kept:
            cells, told = _read(data, k, share, seed, least)
            read.append(told)
            if noise is not None:
                cells = without_noise(cells, noise, f"snapshot {k}")
            x = torch.from_numpy(cells)
            rng = np.random.default_rng([seed, 0, 0 if paired else k])
            order = torch.from_numpy(rng.permutation(len(x)))
            order = order[: len(x) // 2] if half else order
            held = max(1, min(VALIDATION_CAP, round(validation_fraction * len(order))))
            fit.append(x[order[held:]].to(device))
            validation.append(x[order[:held]].to(device))
        if (most := max(x.different for x in read)) < 4:
            raise PopdynError(
                f"no snapshot has more than {most} different cell(s): expected at least 4 in one"
            )
        notes = (*_told(read), *_told_of_growth(data, read), *_told_of_noise(data, noise))
        paired = paired and len({len(x) for x in fit}) == 1
        total, variance = masses(data), np.array([x.mass_variance for x in read])
        known = None if total is None else (np.log(total[kept]), variance)
        return cls(
            t[kept], kept, fit, validation, seed, notes=notes, paired=(paired,), masses=known
        )

    @classmethod
    def of_all(cls, parts: Mapping[str, TrainingSet]) -> TrainingSet:
        """Return several experiments that share the dynamics as one training set.

        Args:
            parts: Training sets by the names of their experiments.
        """
        sets = list(parts.values())
        if len(sets) == 1:
            return sets[0]
        starts = np.cumsum([0, *(len(x.times) for x in sets[:-1])])
        known = [x.masses for x in sets if x.masses is not None]
        masses = None
        if len(known) == len(sets):
            masses = np.concatenate([m for m, _ in known]), np.concatenate([v for _, v in known])
        return cls(
            np.concatenate([x.times for x in sets]),
            [k for x in sets for k in x.indices],
            [cells for x in sets for cells in x.fit],
            [cells for x in sets for cells in x.validation],
            sets[0].seed,
            notes=tuple(f"{name}: {note}" for name, x in parts.items() for note in x.notes),
            paired=tuple(flag for x in sets for flag in x.paired),
            starts=tuple(int(k) for k in starts),
            masses=masses,
        )

    def experiments(self) -> list[TrainingSet]:
        """Return the training set of each experiment alone, in the same units."""
        if len(self.starts) == 1:
            return [self]
        return [
            dataclasses.replace(
                self,
                times=self.times[own],
                indices=self.indices[own],
                fit=self.fit[own],
                validation=self.validation[own],
                notes=(),
                paired=(flag,),
                starts=(0,),
                masses=self.masses and (self.masses[0][own], self.masses[1][own]),
            )
            for own, flag in zip(self.intervals.experiments, self.paired, strict=True)
        ]

    def split(self, validation_fraction: float, least: int) -> tuple[TrainingSet, list[Tensor]]:
        """Return the set without a fifth of each snapshot, and that fifth.

        Raises:
            PopdynError: If a fifth of the smallest snapshot has fewer than ``least`` particles.
        """
        fit, validation, out = [], [], []
        for x in self.cells:
            away = min(VALIDATION_CAP, len(x) // 5)
            if away < least:
                raise PopdynError(
                    f"a fifth of {len(x)} particles is {away}: expected {least} or more"
                )
            rest = x[: len(x) - away]
            held = max(1, min(VALIDATION_CAP, round(validation_fraction * len(rest))))
            fit.append(rest[held:])
            validation.append(rest[:held])
            out.append(x[len(x) - away :])
        less = dataclasses.replace(self, fit=fit, validation=validation)
        less.found = self.found
        return less, out

    @property
    def unexplained_growth(self) -> list[str]:
        """The notes that are void where growth is learned."""
        return [note for note in self.notes if MASS_CHANGES in note]

    @cached_property
    def turned(self) -> TrainingSet:
        """The same in the directions of its structure; itself if these are the components."""
        if self.structure is None or self.structure.frame is None:
            return self
        frame = torch.from_numpy(self.structure.frame)
        fit, validation = (
            [(x.double() @ frame.to(x.device).T).to(x.dtype) for x in part]
            for part in (self.fit, self.validation)
        )
        own = self.structure.turned()
        return dataclasses.replace(self, fit=fit, validation=validation, structure=own)

    def leading(self, count: int) -> TrainingSet:
        """Return the set with at most so many particles of each snapshot, none to validate.

        Whoever asks for as many gets the same set, with what was solved on it.
        """
        if count not in self._leading:
            fit = [
                torch.cat([x[:count], y[: max(0, count - len(x))]])
                for x, y in zip(self.fit, self.validation, strict=True)
            ]
            none = [x[:0] for x in fit]
            self._leading[count] = dataclasses.replace(self, fit=fit, validation=none)
        return self._leading[count]

    def without(self, k: int) -> TrainingSet:
        """Return the set without snapshot k, which has others of its experiment on either side."""
        others = [j for j in range(len(self.times)) if j != k]
        return dataclasses.replace(
            self,
            times=self.times[others],
            indices=[self.indices[j] for j in others],
            fit=[self.fit[j] for j in others],
            validation=[self.validation[j] for j in others],
            starts=tuple(s - (s > k) for s in self.starts),
            masses=self.masses and (self.masses[0][others], self.masses[1][others]),
        )

    def structured(self, structure: Structure) -> TrainingSet:
        """Take up a structure, and return itself: what was solved without it is forgotten."""
        self.structure, self.solved, self.begun, self._leading = structure, {}, {}, {}
        self.__dict__.pop("turned", None)
        return self

    def sample(self, cells: Iterable[Tensor] | None = None) -> Sample:
        """Return some particles as what dynamics is judged by, all of them if None."""
        snapshots = [x.cpu().numpy() for x in (self.cells if cells is None else cells)]
        return Sample(snapshots, self.times, self.paired, self.starts)

    @property
    def cells(self) -> Iterator[Tensor]:
        """All particles of one snapshot after the other, those to fit first, ``(n_k, d)``."""
        return (torch.cat(pair) for pair in zip(self.fit, self.validation, strict=True))

    @property
    def dim(self) -> int:
        return self.fit[0].shape[1]

    @property
    def intervals(self) -> Intervals:
        """The intervals between neighbouring observed snapshots of an experiment."""
        return Intervals(self.times, self.starts)

    @property
    def device(self) -> torch.device:
        return self.fit[0].device

    def scaling(self, common: bool = False) -> Scaling:
        """Return the standardisation of the particles to fit, and their box.

        With ``common`` all components have the scale of the widest.
        """
        everything = torch.cat(self.fit)
        scale = everything.std(0).clamp_min(1e-6)
        scale = scale.max().expand_as(scale).clone() if common else scale
        horizon = self.intervals.duration
        mean, low, high = everything.mean(0), everything.amin(0), everything.amax(0)
        return Scaling(mean, scale, low, high, horizon).to(self.device)

    def batch_size(self, wanted: int) -> int:
        """Return the largest batch up to ``wanted`` that every snapshot can fill."""
        return min(wanted, min(len(x) for x in self.fit))

    def batches(self, step: int, size: int) -> Tensor:
        """Return one batch of every snapshot for a training step, ``(S, size, d)``.

        Batches are drawn independently for each snapshot. The particles were shuffled when they
        were read, so a batch is a run of them: an epoch starts at a random place and takes its
        runs in random order, which costs the same whatever the number of particles. The order
        follows from seed, snapshot and step alone, so that a resumed run needs no state.
        """
        return torch.stack([self._batch(k, step, size) for k in range(len(self.fit))])

    def pairs(self, step: int, size: int) -> tuple[Tensor, Tensor]:
        """Return the batches that each interval begins and ends with, ``(K, size, d)`` each."""
        batch = self.batches(step, size)
        return batch[self.intervals.before], batch[self.intervals.after]

    def _batch(self, k: int, step: int, size: int) -> Tensor:
        n = len(self.fit[k])
        per_epoch = max(1, n // size)
        epoch, place = divmod(step, per_epoch)
        if self._orders.get(k, (-1,))[0] != epoch:
            rng = np.random.default_rng([self.seed, 1, k, epoch])
            shift = int(rng.integers(n - per_epoch * size + 1))
            self._orders[k] = (epoch, shift, rng.permutation(per_epoch))
        _, shift, order = self._orders[k]
        start = shift + int(order[place]) * size
        return self.fit[k][start : start + size]


@dataclass(frozen=True)
class _Read:
    """What is to be known of one snapshot once it was read.

    Attributes:
        index: Its index in the store.
        stored: How many there are in the store, which may have weights.
        weighted: Whether they have.
        count: How many were left of equal weight, before those that stand again were dropped.
        different: How many of these differ.
        repeated: Whether so many stand again that it has to be said.
        mass_variance: Variance of the log of the total mass.
    """

    index: int
    stored: int
    weighted: bool
    count: int
    different: int
    repeated: bool
    mass_variance: float


def _read(data: xr.DataTree, k: int, most: int, seed: int, least: int) -> tuple[np.ndarray, _Read]:
    """Return particles of equal weight of a snapshot, ``(n, d)``, and what is to be known of it."""
    cells = np.array(positions(data, k, "train", 0, most), dtype=np.float32)
    mass = weights(data, k, "train", 0, most)
    variance, stored = _mass_variance(len(cells), mass), len(cells)
    if mass is not None:
        cells = cells[_thinned(mass, seed, k)]
        if len(cells) < least:
            raise PopdynError(
                f"snapshot {k} has {len(cells)} training particles once each is kept "
                f"with the odds of its weight: expected at least {least}"
            )
    each, count = _repeats(cells), len(cells)
    repeated = bool(len(each) < (1.0 - REPEATED) * count or each.max() >= OFTEN)
    if least <= len(each) < count and np.ptp(each) == 0:
        # The same law, and as many draws as it has: to count them again is to be surer than they
        # are.
        _, first = np.unique(cells, axis=0, return_index=True)
        cells = cells[np.sort(first)]
    return cells, _Read(k, stored, mass is not None, count, len(each), repeated, variance)


def _repeats(x: np.ndarray) -> np.ndarray:
    """Return how often each different row stands."""
    order = x[np.lexsort(x.T)]
    changes = np.flatnonzero((np.diff(order, axis=0) != 0).any(1)) + 1
    return np.diff(np.concatenate([[0], changes, [len(x)]]))


def _thinned(mass: np.ndarray, seed: int, k: int) -> np.ndarray:
    """Return rows that are a sample of equal weight: each kept with the odds of its weight.

    They are independent draws of the weighted law, none twice, as learners expect.
    """
    luck = np.random.default_rng([seed, 2, k]).uniform(size=len(mass))
    return np.flatnonzero(luck * mass.max() < mass)


def _mass_variance(count: int, mass: np.ndarray | None) -> float:
    """Return the variance of the log of a total mass.

    Where it is the mean of weights, that of their mean; else as if cells had been counted.
    """
    if mass is None:
        return 1.0 / count
    weight = mass.astype(np.float64)
    spread = float(weight.var() / weight.mean() ** 2)
    return max(spread, LEAST_SPREAD) / count


def _told_of_growth(data: xr.DataTree, read: Sequence[_Read]) -> list[str]:
    """Return lines about weights that were resampled and masses that no learner asks for."""
    told, kept = [], [x.index for x in read]
    if read[0].weighted:
        left, of = sum(x.count for x in read), sum(x.stored for x in read)
        told.append(
            f"particles have weights: learned from {left} of {of}, each kept with the odds of its "
            "weight, so from proportions"
        )
    total = masses(data)
    if total is not None and (change := float(np.ptp(total[kept]) / total[kept].min())) > CHANGE:
        told.append(
            f"{MASS_CHANGES} by {change:.0%}: what is learned has no growth, and takes the "
            "proportions for those of a population in which nobody is born or dies"
        )
    return told


def _told_of_noise(data: xr.DataTree, noise: np.ndarray | None) -> list[str]:
    """Return a line about noise that the store tells of and nobody else did."""
    known = data.attrs.get("noise", 0.0)
    if noise is not None or not known:
        return []
    return [
        f"positions were observed with noise of standard deviation {known:g}, as the store says, "
        "and are taken as they are: observation_noise tells what is learned to do without it"
    ]


def _told(read: Sequence[_Read]) -> tuple[str, ...]:
    """Return a line about cells that stand several times: of how many snapshots, and the worst."""
    repeated = [x for x in read if x.repeated]
    if not repeated:
        return ()
    worst = max(repeated, key=lambda x: (x.count / x.different, x.index))
    return (
        f"{len(repeated)} of {len(read)} snapshots have cells that stand several times (snapshot "
        f"{worst.index}: {worst.different} different ones of {worst.count}): they count once where "
        "all stand as often, and else as draws of their own, which makes standard errors too small",
    )
