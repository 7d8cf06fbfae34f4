"""Suites: which populations are simulated or imported, and how what is learned is scored."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from popdyn.base.errors import PopdynError
from popdyn.base.options import options_in
from popdyn.base.registry import lookup
from popdyn.dynamics import INTERACTIONS, POTENTIALS, FreeEnergy
from popdyn.dynamics.fields import NamedField
from popdyn.learners import LEARNERS
from popdyn.simulation import SimulationOptions, configure
from popdyn.snapshots.cells import ImportOptions

__all__ = ["Entry", "FieldError", "Suite", "entry_from"]

ENERGY = ("potential", "potential_params", "interaction", "interaction_params", "diffusivity")
SIMULATION = tuple(n for n in options_in(SimulationOptions) if n not in ("seed", "device"))
SOURCE = ("file", "environment", *(n for n in options_in(ImportOptions) if n != "seed"))
SCORE = ("points", "from_")


class FieldError(PopdynError):
    """A value of a suite that is not what is expected.

    Attributes:
        name: The field.
    """

    def __init__(self, name: str, message: str) -> None:
        super().__init__(f"field '{name}': {message}")
        self.name = name


@dataclass(frozen=True)
class Entry:
    """One population of a suite: simulated from a known energy, or imported from a file.

    Attributes:
        name: Name within the suite; letters, digits, ``_``, ``-`` and ``.``.
        summary: One line on what it is, or what is hard about it.
        group: Entries of one group are averaged together; all of the suite if empty.
        energy: Keywords of ``FreeEnergy``.
        simulation: Keywords of ``simulate``.
        source: For real data: ``file``, the ``environment`` variable that may name another
            path, and keywords of ``import_data``.
        hold_out: Indices of the snapshots that no learner sees.
        fit: Options for every learner that has them, such as ``learn``.

    Raises:
        FieldError: On a value that no simulation or import could use.
    """

    name: str
    summary: str = ""
    group: str = ""
    energy: Mapping[str, Any] = field(default_factory=dict)
    simulation: Mapping[str, Any] = field(default_factory=dict)
    source: Mapping[str, Any] | None = None
    hold_out: tuple[int, ...] = ()
    fit: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_name(self.name)
        for name in ("summary", "group"):
            if not isinstance(getattr(self, name), str):
                raise FieldError(name, f"found {getattr(self, name)!r}, expected text")
        if not all(type(k) is int and k >= 0 for k in self.hold_out):
            raise FieldError("hold_out", f"found {self.hold_out}, expected indices from 0")
        if self.source is None:
            self._check_simulation()
        else:
            self._check_source(self.source)

    def _check_simulation(self) -> None:
        _check_keys(self.energy, ENERGY)
        _check_keys(self.simulation, SIMULATION)
        for term, registry in (("potential", POTENTIALS), ("interaction", INTERACTIONS)):
            given = {k: v for k, v in self.energy.items() if k in (term, f"{term}_params")}
            value = given.get(term)
            if value is not None and not isinstance(value, str):
                raise FieldError(term, f"found {value!r}, expected a name of {term}s")
            known = value is None or value in registry or value in POTENTIALS
            _attempt(f"{term}_params" if known and len(given) == 2 else term, FreeEnergy, **given)
        if "diffusivity" in self.energy:
            value = self.energy["diffusivity"]
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise FieldError("diffusivity", f"found {value!r}, expected a number ≥ 0")
            _attempt("diffusivity", FreeEnergy, diffusivity=value)
        config = _attempt(tuple(self.simulation), configure, **self.simulation)
        _attempt((*self.simulation, *self.energy), config.check, self.free_energy)
        for part in (self.free_energy.V, self.free_energy.W):
            if isinstance(part, NamedField) and config.dim < part.entry.min_dim:
                least = part.entry.min_dim
                raise FieldError("dim", f"found {config.dim}, but {part.label()} needs {least}")
        self._check_hold_out(len(config.times))

    def _check_source(self, source: Mapping[str, Any]) -> None:
        for name in ("energy", "simulation"):
            if getattr(self, name):
                first = next(iter(getattr(self, name)))
                raise FieldError(first, "an imported entry has no energy and no simulation")
        _check_keys(source, SOURCE)
        for name in ("file", "environment"):
            if name == "file" and name not in source:
                raise FieldError("import", "found no 'file', expected the path of the cells")
            if not isinstance(source.get(name, ""), str):
                raise FieldError(name, f"found {source[name]!r}, expected text")
        options = {k: v for k, v in source.items() if k not in ("file", "environment")}
        _attempt(tuple(options), ImportOptions, **options)

    def _check_hold_out(self, snapshots: int) -> None:
        if self.hold_out and max(self.hold_out) >= snapshots:
            found, last = max(self.hold_out), snapshots - 1
            raise FieldError("hold_out", f"found {found}, expected indices up to {last}")

    @property
    def free_energy(self) -> FreeEnergy:
        """The true energy; that of an imported entry is unknown, and asking for it a mistake."""
        if self.source is not None:
            raise PopdynError(f"entry '{self.name}' is imported: its energy is not known")
        return FreeEnergy(**self.energy)

    @property
    def file(self) -> Path:
        """Where the cells of an imported entry are: the environment variable wins."""
        assert self.source is not None
        return Path(os.environ.get(self.source.get("environment", ""), "") or self.source["file"])

    def table(self) -> dict[str, Any]:
        """Return the entry as a table of a suite file; :func:`entry_from` reads it."""
        out: dict[str, Any] = {"name": self.name, **self.energy, **self.simulation}
        out |= {"summary": self.summary, "group": self.group, "fit": dict(self.fit)}
        out["hold_out"] = list(self.hold_out)
        return out if self.source is None else out | {"import": dict(self.source)}


@dataclass(frozen=True)
class Suite:
    """A named list of entries.

    Attributes:
        name: Name of the suite.
        summary: One line on what it asks.
        entries: What is simulated or imported.
        headline: The score that the leaderboard is ordered by, as a dotted path into the scores,
            such as ``gradient.potential.skill``; a list of numbers stands for its mean.
        plane: Components that figures show, counted from 1; None for popdyn's own choice.
        learners: Learners that run if none are named.
        options: Options of single learners, by name.
        score: Keywords of ``score``: ``points`` and ``from_``.
        path: The file that it was read from.
        packaged: Whether it ships with popdyn, so that its name is enough.

    Raises:
        FieldError: On a wrong field.
    """

    name: str
    summary: str
    entries: tuple[Entry, ...]
    headline: str = "gradient.potential.skill"
    plane: tuple[int, ...] | None = None
    learners: tuple[str, ...] = ("zero", "ijkonet")
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    score: Mapping[str, Any] = field(default_factory=dict)
    path: Path | None = None
    packaged: bool = False

    def __post_init__(self) -> None:
        _check_name(self.name)
        for name in ("summary", "headline"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value:
                raise FieldError(name, f"found {value!r}, expected text")
        if not self.entries:
            raise FieldError("entry", "found none, expected at least one [[entry]]")
        for name in (*self.learners, *self.options):
            _attempt(
                "learners" if name in self.learners else name, lookup, LEARNERS, name, "learner"
            )
        if self.plane is not None and not (
            len(self.plane) == 2 and all(type(i) is int and i > 0 for i in self.plane)
        ):
            raise FieldError("plane", f"found {self.plane}, expected two components from 1")
        _check_keys(self.score, SCORE)
        points = self.score.get("points", 2000)
        if points != "all" and (type(points) is not int or points < 2):
            raise FieldError("points", f"found {points!r}, expected a whole number ≥ 2 or 'all'")
        if self.score.get("from_", "previous") not in ("previous", "first"):
            raise FieldError("from", f"found {self.score['from_']!r}, expected previous or first")

    def entry(self, name: str) -> Entry:
        """Return the entry of that name.

        Raises:
            PopdynError: If there is none; names the nearest.
        """
        return lookup({e.name: e for e in self.entries}, name, f"entry of suite '{self.name}'")


def entry_from(table: Mapping[str, Any]) -> Entry:
    """Return the entry that a table of a suite file means.

    Raises:
        FieldError: On an unknown field or a wrong value.
    """
    known = (*(f.name for f in fields(Entry)), "import", *ENERGY, *SIMULATION)
    known = tuple(k for k in known if k not in ("energy", "simulation", "source"))
    _check_keys(table, known)
    if "name" not in table:
        raise FieldError("name", "found none, expected the entry's name")
    for name in ("import", "fit", "potential_params", "interaction_params", "initial_params"):
        if not isinstance(table.get(name, {}), Mapping):
            raise FieldError(name, f"found {table[name]!r}, expected a table")
    hold_out = table.get("hold_out", [])
    if not isinstance(hold_out, (list, tuple)):
        raise FieldError("hold_out", f"found {hold_out!r}, expected a list of indices")
    own = ("name", "summary", "group", "fit")
    return Entry(
        **{k: table[k] for k in own if k in table},
        energy={k: table[k] for k in ENERGY if k in table},
        simulation={k: table[k] for k in SIMULATION if k in table},
        source=table.get("import"),
        hold_out=tuple(hold_out),
    )


def _check_name(name: Any) -> None:
    allowed = isinstance(name, str) and name and not name.startswith(".")
    if not allowed or not all(c.isascii() and (c.isalnum() or c in "_-.") for c in name):
        raise FieldError("name", f"found {name!r}, expected letters, digits, _, - and .")


def _check_keys(table: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for key in table:
        if key not in known:
            _attempt(key, lookup, dict.fromkeys(known), key, "field")


def _attempt(names: str | tuple[str, ...], function: Any, *args: Any, **keywords: Any) -> Any:
    """Call; an error is laid to the field, of several to the one that it names, or the first."""
    try:
        return function(*args, **keywords)
    except (PopdynError, TypeError, ValueError) as error:
        fields = (names,) if isinstance(names, str) else (*names, "entry")
        blamed = getattr(error, "field", None)
        raise FieldError(blamed if blamed in fields else fields[0], str(error)) from None
