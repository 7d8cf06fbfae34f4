"""What is compared with what: the times that count, and the particles on either side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import xarray as xr

from popdyn.base.errors import PopdynError
from popdyn.snapshots import counts, positions, times

__all__ = ["Protocol", "parse_points"]

MAX_ROWS = 200_000
# Sets these streams apart from those of a simulation or a fit with the same seed.
ENTROPY = 0x5C07E5
PURPOSES = {"sample": 0, "halves": 1, "noise": 2, "pairs": 3, "bootstrap": 4, "subsample": 5}

Role = Literal["start", "target"]


def parse_points(points: int | str) -> int | None:
    """Return the number of points a side, None for all of them.

    Raises:
        PopdynError: Unless ``points`` is ``"all"`` or a whole number of at least 2.
    """
    if points == "all":
        return None
    if isinstance(points, bool) or not isinstance(points, int | np.integer) or points < 2:
        raise PopdynError(f"points is {points!r}: expected a whole number of at least 2, or 'all'")
    return int(points)


@dataclass
class Protocol:
    """How distribution scores are taken on a data set.

    Without ``hold_out`` the test group is used, at all times after the first. With it, the
    held-out snapshots alone are targets, each predicted from the nearest earlier observed one,
    and a snapshot is all its cells, train and test group together: nothing of a held-out
    snapshot was seen in training. A paired store keeps the same particles at all times: there
    predictions start from one half of them and are compared with the other, or a particle would
    be compared with itself.

    Args:
        data: The snapshots.
        hold_out: Indices of held-out snapshots.
        points: Particles a side, None for all.
        from_: ``"previous"`` or ``"first"``: the observed snapshot that predictions start from.
        seed: Seeds every random choice.
        units: ``"store"``, or ``"original"`` to undo the standardisation of an imported store.

    Raises:
        PopdynError: On an unknown option, an index that there is not, a held-out snapshot with
            nothing observed before it, or an empty test group without ``hold_out``.
    """

    data: xr.DataTree
    hold_out: Sequence[int] = ()
    points: int | None = 2000
    from_: str = "previous"
    seed: int = 0
    units: str = "store"
    _cache: dict[tuple[object, ...], np.ndarray] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.from_ not in ("previous", "first"):
            raise PopdynError(f"from_ is '{self.from_}': expected previous or first")
        if self.units not in ("store", "original"):
            raise PopdynError(f"units is '{self.units}': expected store or original")
        if self.units == "original" and self._standardisation is None:
            raise PopdynError("units is 'original': expected a store imported with standardisation")
        self.times = times(self.data)
        last = len(self.times) - 1
        self.hold_out = tuple(sorted(set(self.hold_out)))
        for k in self.hold_out:
            if not 0 <= k <= last:
                raise PopdynError(f"hold-out index {k}: expected 0 to {last}")
        self.groups = ("train", "test") if self.hold_out else ("test",)
        self.targets = list(self.hold_out or range(1, last + 1))
        self.observed = [k for k in range(last + 1) if k not in self.hold_out]
        if not self.observed or min(self.targets) < self.observed[0]:
            raise PopdynError(
                f"snapshot {min(self.targets)} is held out: expected an observed one before it "
                "to predict it from"
            )
        if not self.hold_out and not self.has_test_group():
            raise PopdynError(
                "the test group is empty: scores need test particles (simulate "
                "--test-particles, import --test-fraction) or held-out snapshots"
            )

    def has_test_group(self) -> bool:
        """Whether every snapshot has test particles."""
        return bool((counts(self.data, "test") > 0).all())

    def rng(self, purpose: str, *keys: int) -> np.random.Generator:
        """Return the random stream of a purpose."""
        return np.random.default_rng(self._sequence(purpose, *keys))

    def torch_seed(self, purpose: str, *keys: int) -> int:
        """Return a seed for torch's generator."""
        return int(self._sequence(purpose, *keys).generate_state(1, np.uint64)[0])

    def start_of(self, k: int) -> int:
        """Return the observed snapshot that target k is predicted from."""
        return self.observed[0] if self.from_ == "first" else self.before(k)

    def before(self, k: int) -> int:
        """Return the nearest earlier observed snapshot."""
        return max(j for j in self.observed if j < k)

    def after(self, k: int) -> int | None:
        """Return the nearest later observed snapshot, None if there is none."""
        return min((j for j in self.observed if j > k), default=None)

    def sample(self, k: int, role: Role) -> np.ndarray:
        """Return the particles of snapshot k to start from or to compare with, ``(n, d)``."""

        def draw() -> np.ndarray:
            pool = self._pool(k)
            if self.paired:
                order = self._order(len(pool), 0)
                half = (len(pool) + 1) // 2
                mine = order[:half] if role == "start" else order[half:]
            else:
                mine = self._order(len(pool), k)
            if len(mine) == 0:
                raise PopdynError(
                    f"snapshot {k} of the paired data has {len(pool)} particle(s) to score with: "
                    "expected at least 2, one half to start from and one to compare with"
                )
            return pool[mine[: self.points]]

        return self._cached(("sample", k, role if self.paired else None), draw)

    def halves(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return two disjoint random halves of snapshot k, of at most ``points`` each."""
        pool = self._pool(k)
        order = self.rng("halves", k).permutation(len(pool))
        half = len(pool) // 2
        n = half if self.points is None else min(half, self.points)
        return pool[order[:n]], pool[order[half : half + n]]

    @property
    def paired(self) -> bool:
        """Whether row i is the same particle at all times."""
        return self.data.attrs.get("observation") == "paired"

    def to_units(self, x: np.ndarray) -> np.ndarray:
        """Return positions ``(n, d)`` of the store in the chosen units, float64."""
        x = np.asarray(x, np.float64)
        record = self._standardisation
        if self.units == "store" or record is None:
            return x
        return x * np.asarray(record["scale"], np.float64) + np.asarray(record["mean"], np.float64)

    @property
    def _standardisation(self) -> dict[str, list[float]] | None:
        record = self.data.attrs.get("standardize")
        return record if isinstance(record, dict) else None

    def _pool(self, k: int) -> np.ndarray:
        """Return up to 200 000 particles of each group: their order carries no information."""
        return self._cached(
            ("pool", k),
            lambda: np.concatenate(
                [positions(self.data, k, group, 0, MAX_ROWS) for group in self.groups]
            ),
        )

    def _order(self, n: int, k: int) -> np.ndarray:
        return self.rng("sample", k).permutation(n)

    def _cached(self, key: tuple[object, ...], make: Callable[[], np.ndarray]) -> np.ndarray:
        if key not in self._cache:
            self._cache[key] = make()
        return self._cache[key]

    def _sequence(self, purpose: str, *keys: int) -> np.random.SeedSequence:
        return np.random.SeedSequence([self.seed, ENTROPY], spawn_key=(PURPOSES[purpose], *keys))
