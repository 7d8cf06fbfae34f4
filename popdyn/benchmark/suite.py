"""Suites: which populations are simulated or imported, and how what is learned is scored."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from popdyn.base.errors import PopdynError, blaming
from popdyn.base.options import Bounds, Options, options_in, read_options
from popdyn.base.registry import lookup
from popdyn.benchmark.variants import learner_of, options_in_name
from popdyn.dynamics import Dynamics, FreeEnergy
from popdyn.dynamics.fields import NamedField
from popdyn.learners import LEARNERS
from popdyn.learners.registry import OF_FIT
from popdyn.scores.protocol import parse_points
from popdyn.simulation import SimulationOptions, configure
from popdyn.snapshots.cells import ImportOptions

__all__ = ["Entry", "Suite", "check_names", "entry_from", "merged"]


@dataclass(frozen=True)
class EnergyOptions(Options):
    """Keywords of ``FreeEnergy`` and of ``Dynamics``, as far as a file can give them."""

    potential: str | None = None
    potential_params: Mapping[str, Any] | None = None
    interaction: str | None = None
    interaction_params: Mapping[str, Any] | None = None
    diffusivity: Annotated[float, Bounds(ge=0)] = 0.0
    growth: str | None = None
    growth_params: Mapping[str, Any] | None = None
    circulation: str | None = None
    circulation_params: Mapping[str, Any] | None = None


@dataclass(frozen=True, eq=False)
class SourceOptions(ImportOptions):
    """Cells of a file: where it is, where it comes from, how it is read."""

    file: str = field(kw_only=True)
    origin: str = ""


@dataclass(frozen=True)
class ScoreOptions(Options):
    """Keywords of ``score``."""

    points: Any = 2000
    from_: Literal["previous", "first"] = "previous"

    def check(self) -> None:
        with blaming("points"):
            parse_points(self.points)


DATA_VARIABLE = "POPDYN_DATA"  # a folder with the files of imported entries
MORE = ("growth", "circulation")
ENERGY = tuple(options_in(EnergyOptions))
SOURCE = tuple(n for n in options_in(SourceOptions) if n != "seed")
SIMULATION = tuple(n for n in options_in(SimulationOptions) if n not in ("seed", "device"))


@dataclass(frozen=True)
class Entry(Options):
    """One population of a suite: simulated from a known energy, or imported from a file.

    Attributes:
        name: Name within the suite; letters, digits, ``_``, ``-`` and ``.``.
        summary: One line on what it is, or what is hard about it.
        group: Entries of one group are averaged together; all of the suite if empty.
        energy: Keywords of ``FreeEnergy``, and ``growth`` and ``circulation`` of ``Dynamics``.
        simulation: Keywords of ``simulate``.
        source: For real data: ``file``, in the folder that ``POPDYN_DATA`` names if it is there;
            its ``origin``, a few words; and keywords of ``import_data``.
        starts: Further experiments with the same energy, which a learner sees beside the first:
            of each the keywords of ``simulate`` that differ.
        hold_out: Indices of the snapshots that no learner sees, of each experiment.
        fit: Options for every learner that has them, such as ``learn``.

    Raises:
        PopdynError: On a value that no simulation or import could use; ``field`` names it.

    Example:
        >>> entry = Entry("quiet", energy={"potential": "double_well"})
        >>> entry.free_energy.V.label()
        'double_well'
    """

    name: str
    summary: str = ""
    group: str = ""
    energy: Mapping[str, Any] = field(default_factory=dict)
    simulation: Mapping[str, Any] = field(default_factory=dict)
    source: Mapping[str, Any] | None = None
    starts: tuple[Mapping[str, Any], ...] = ()
    hold_out: tuple[int, ...] = ()
    fit: Mapping[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        _check_name(self.name)
        if self.fit:
            known = [n for each in LEARNERS.values() for n in options_in(each.options)]
            check_names(self.fit, [*known, *OF_FIT])
        last = float("inf")
        if self.source is not None:
            check_names(self.source, SOURCE)
            read_options(SourceOptions, self.source, "an import")
            for name in (*self.energy, *self.simulation, *["starts"] * len(self.starts)):
                raise PopdynError(f"{name} is given: an imported entry has none", field=name)
        else:
            last = self._check_simulation()
        for k in self.hold_out:
            if not 0 <= k <= last:
                expected = f"indices up to {last}" if k > 0 else "indices from 0"
                raise PopdynError(f"hold_out has {k}: expected {expected}", field="hold_out")

    def _check_simulation(self) -> int:
        """Check what is simulated, and return the index of the last snapshot."""
        check_names(self.energy, ENERGY)
        check_names(self.simulation, SIMULATION)
        EnergyOptions(**self.energy)
        for term in ("potential", "interaction"):
            given = {k: v for k, v in self.energy.items() if k.startswith(term)}
            name: dict[str, Any] = {term: given.get(term)}
            with blaming(term):
                FreeEnergy(**name)
            with blaming(f"{term}_params"):
                FreeEnergy(**given)
        for term in MORE:
            given = {k: v for k, v in self.energy.items() if k.startswith(term)}
            name = {term: given.get(term)}
            with blaming(term):
                Dynamics(self.free_energy, **name)
            with blaming(f"{term}_params"):
                Dynamics(self.free_energy, **given)
        config = configure(**self.simulation)
        config.check(self.dynamics)
        for part in (self.free_energy.V, self.free_energy.W):
            if isinstance(part, NamedField) and config.dim < part.entry.min_dim:
                wanted = f"{part.label()} needs {part.entry.min_dim} or more"
                raise PopdynError(f"dim is {config.dim}: {wanted}", field="dim")
        with blaming("starts"):
            for start in self.starts:
                check_names(start, SIMULATION)
            list(self.experiments)  # each is checked as it is made
        return len(config.times) - 1

    @property
    def experiments(self) -> tuple[Entry, ...]:
        """Each experiment as an entry of its own, the first one first."""
        if not self.starts:
            return (self,)
        own = [self.simulation, *(merged(self.simulation, start) for start in self.starts)]
        return tuple(dataclasses.replace(self, simulation=x, starts=()) for x in own)

    @property
    def free_energy(self) -> FreeEnergy:
        """The true energy; that of an imported entry is unknown, and asking for it a mistake."""
        if self.source is not None:
            raise PopdynError(f"entry '{self.name}' is imported: its energy is not known")
        return FreeEnergy(**{k: v for k, v in self.energy.items() if not k.startswith(MORE)})

    @property
    def dynamics(self) -> Dynamics:
        """The true dynamics: the energy itself where there is no more."""
        more = {k: v for k, v in self.energy.items() if k.startswith(MORE)}
        return Dynamics(self.free_energy, **more) if more else self.free_energy

    @property
    def file(self) -> Path:
        """Where the cells of an imported entry are: the folder that ``POPDYN_DATA`` names wins."""
        assert self.source is not None
        file = Path(self.source["file"])
        given = Path(os.environ.get(DATA_VARIABLE) or "") / file
        return given if given.exists() else file

    @property
    def reading(self) -> dict[str, Any]:
        """Keywords of ``import_data`` of an imported entry."""
        return {k: v for k, v in (self.source or {}).items() if k not in ("file", "origin")}

    def table(self) -> dict[str, Any]:
        """Return the entry as a table of a suite file; :func:`entry_from` reads it."""
        out: dict[str, Any] = {"name": self.name, **self.energy, **self.simulation}
        out |= {"summary": self.summary, "group": self.group, "fit": dict(self.fit)}
        out |= {"starts": list(map(dict, self.starts))} if self.starts else {}
        out["hold_out"] = list(self.hold_out)
        return out if self.source is None else out | {"import": dict(self.source)}


@dataclass(frozen=True)
class Suite(Options):
    """A named list of entries.

    Attributes:
        name: Name of the suite.
        summary: One line on what it asks.
        entries: What is simulated or imported.
        headline: The score that the leaderboard is ordered by, as a dotted path into the scores,
            such as ``gradient.potential.skill``; a list of numbers stands for its mean.
        plane: Components that figures show, counted from 1; None for popdyn's own choice.
        learners: Learners, or variants of them, that run if none are named.
        options: Options of single learners, by name.
        score: Keywords of ``score``: ``points`` and ``from_``.
        path: The file that it was read from.
        packaged: Whether it ships with popdyn, so that its name is enough.

    Raises:
        PopdynError: On a wrong field, which ``field`` names.

    Example:
        >>> suite = Suite("mine", "One well.", (Entry("well", energy={"potential": "quadratic"}),))
        >>> suite.headline
        'gradient.potential.skill'
    """

    name: str
    summary: str
    entries: tuple[Entry, ...]
    headline: str = "gradient.potential.skill"
    plane: Annotated[tuple[int, ...] | None, Bounds(ge=1, length=2, what="components")] = None
    learners: tuple[str, ...] = ("zero", "ijkonet")
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    score: Mapping[str, Any] = field(default_factory=dict)
    path: Path | None = None
    packaged: bool = False

    def check(self) -> None:
        _check_name(self.name)
        if not self.entries:
            raise PopdynError("found none: expected at least one [[entry]]", field="entry")
        for name in (*self.learners, *self.options):
            with blaming("learners" if name in self.learners else name):
                lookup(LEARNERS, learner_of(name), "learner")
                options_in_name(name)
        for name, options in self.options.items():
            if not isinstance(options, Mapping):
                raise PopdynError(f"{name} is {options!r}: expected a table", field=name)
        read_options(ScoreOptions, self.score, "a score")

    def entry(self, name: str) -> Entry:
        """Return the entry of that name.

        Raises:
            PopdynError: If there is none; names the nearest.
        """
        return lookup({e.name: e for e in self.entries}, name, f"entry of suite '{self.name}'")


def merged(defaults: Mapping[str, Any], table: Mapping[str, Any]) -> dict[str, Any]:
    """Return a table over its defaults; ``times`` replaces ``snapshots`` and ``dt``."""
    replaced = {"times": ("snapshots", "dt"), "initial": ("initial_params",)}
    for name in ("potential", "interaction"):
        replaced[name] = (f"{name}_params",)
    dropped = {old for new, olds in replaced.items() if new in table for old in olds}
    kept = {k: v for k, v in defaults.items() if k not in dropped}
    for key in ("fit", "import"):
        if isinstance(kept.get(key), dict) and isinstance(table.get(key), dict):
            table = {**table, key: {**kept[key], **table[key]}}
    return {**kept, **table}


def entry_from(table: Mapping[str, Any]) -> Entry:
    """Return the entry that a table of a suite file means.

    Raises:
        PopdynError: On an unknown field or a wrong value, which ``field`` names.
    """
    own = [name for name in options_in(Entry) if name not in ("energy", "simulation", "source")]
    check_names(table, (*own, "import", *ENERGY, *SIMULATION))
    return read_options(
        Entry,
        {k: table[k] for k in own if k in table}
        | {"energy": {k: table[k] for k in ENERGY if k in table}}
        | {"simulation": {k: table[k] for k in SIMULATION if k in table}}
        | {"source": table.get("import")},
        "an entry",
    )


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*", name):
        raise PopdynError(f"name is '{name}': expected letters, digits, _, - and .", field="name")


def check_names(table: Mapping[str, Any], known: Iterable[str]) -> None:
    """Refuse a field that is not known; names the nearest."""
    for name in table:
        with blaming(name):
            lookup(dict.fromkeys(known), name, "field")
