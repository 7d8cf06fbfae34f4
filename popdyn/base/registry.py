"""Named entries, of this package and of others, and the one look-up that explains a wrong name."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import importlib
import inspect
import pkgutil
import types
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from popdyn.base.errors import PopdynError

__all__ = ["Registry", "lookup", "summary_of"]

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """The entries of one kind, in the order in which they were entered.

    A new entry is a file: every module of the registry's own packages is imported when somebody
    looks in first, and its decorators enter what they decorate. Another package adds entries in
    the same way and names each by an entry point of the group. A plug-in that cannot be imported
    leaves the others alone: whoever asks for its entry is told why. What an entry of a plug-in
    raises names the plug-in.

    Args:
        group: Entry point group, such as ``popdyn.potentials``.
        kind: What an entry is called in an error, such as ``potential``.
        homes: Packages whose modules enter popdyn's own entries.

    Example:
        >>> rooms = Registry("popdyn.rooms", "room")
        >>> rooms.enter("attic", "under the roof")
        >>> list(rooms)
        ['attic']
    """

    def __init__(self, group: str, kind: str, *homes: str) -> None:
        self.group, self.kind, self.homes = group, kind, homes
        self.broken: dict[str, str] = {}
        self._entries: dict[str, T] = {}
        self._owners: dict[str, str] = {}
        self._begun = False

    def enter(self, name: str, entry: T, module: str = "popdyn") -> None:
        """Add an entry.

        Args:
            name: Its key.
            entry: The entry: a dataclass, or a class.
            module: The module that brings it.

        Raises:
            PopdynError: If there is one of that name from another package.
        """
        owner = module.partition(".")[0]
        if self._owners.get(name, owner) != owner:
            raise PopdynError(
                f"{self.kind} '{name}' of '{owner}' is there already, from "
                f"'{self._owners[name]}': expected another name"
            )
        self._owners[name] = owner
        # What a person enters in a session of his own is no plug-in: nothing is wrapped.
        foreign = owner not in ("popdyn", "__main__")
        whose = f"plug-in '{owner}', {self.kind} '{name}'"
        self._entries[name] = _guarded(entry, whose) if foreign else entry

    def owner(self, name: str) -> str | None:
        """Return the package that brings an entry, None where there is no such entry."""
        return self._owners.get(name) if name in self else None

    def remove(self, name: str) -> None:
        """Forget an entry."""
        del self._entries[name], self._owners[name]

    def __getitem__(self, name: str) -> T:
        return self._loaded()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._loaded())

    def __len__(self) -> int:
        return len(self._loaded())

    def _loaded(self) -> dict[str, T]:
        if self._begun:
            return self._entries
        self._begun = True  # a module that looks in while it is imported sees what is there so far
        try:
            for home in self.homes:
                package = importlib.import_module(home)
                for module in sorted(m.name for m in pkgutil.iter_modules(package.__path__)):
                    importlib.import_module(f"{home}.{module}")
        except BaseException:
            self._begun = False
            raise
        for point in entry_points(group=self.group):
            self._load(point)
        return self._entries

    def _load(self, point: EntryPoint) -> None:
        package = point.dist.name if point.dist else point.module
        try:
            point.load()
            if point.name not in self._entries:
                raise PopdynError(f"'{point.value}' enters no such {self.kind}")
        except Exception as error:
            kind = "" if isinstance(error, PopdynError) else f"{type(error).__name__}: "
            reason = kind + " ".join(str(error).split())
            self.broken[point.name] = (
                f"{self.kind} '{point.name}' of the plug-in '{package}' cannot be loaded: {reason}"
            )


def lookup(registry: Mapping[str, T], name: str, kind: str) -> T:
    """Return ``registry[name]``.

    Args:
        registry: The named entries; of several registries their ``ChainMap``.
        name: The name asked for.
        kind: What an entry is called in the error, such as ``"potential"``.

    Raises:
        PopdynError: If there is no such entry; names the nearest ones, or all of them.

    Example:
        >>> lookup({"flat": 0}, "flat", "potential")
        0
    """
    if name in registry:
        return registry[name]
    for each in registry.maps if isinstance(registry, ChainMap) else (registry,):
        if isinstance(each, Registry) and name in each.broken:
            raise PopdynError(each.broken[name])
    near = difflib.get_close_matches(name, registry, n=3, cutoff=0.5)
    hint = (
        f"did you mean {' or '.join(near)}?" if near else f"expected one of {', '.join(registry)}"
    )
    raise PopdynError(f"unknown {kind} '{name}': {hint}")


def summary_of(function: Callable[..., Any]) -> str:
    """Return the first line of a function's docstring."""
    return (inspect.getdoc(function) or "").partition("\n")[0]


def _guarded(entry: Any, whose: str) -> Any:
    """Return an entry whose functions, or a class whose methods, say whose they are."""
    if isinstance(entry, type):
        for name, value in list(vars(entry).items()):
            if inspect.isfunction(value) and not name.startswith("_"):
                setattr(entry, name, _Guarded(value, whose))
    if isinstance(entry, type) or not dataclasses.is_dataclass(entry):
        return entry
    functions = {
        f.name: _Guarded(value, whose)
        for f in dataclasses.fields(entry)
        if f.init and inspect.isroutine(value := getattr(entry, f.name))
    }
    return dataclasses.replace(entry, **functions)  # type: ignore[type-var]


class _Guarded:
    """A function of a plug-in: what it raises says whose it is."""

    def __init__(self, function: Callable[..., Any], whose: str) -> None:
        functools.update_wrapper(self, function)
        self.whose = whose

    def __get__(self, owner: Any, kind: Any = None) -> Any:
        return self if owner is None else types.MethodType(self, owner)

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        try:
            return self.__wrapped__(*args, **keywords)  # type: ignore[attr-defined]
        except Exception as error:
            if isinstance(error, PopdynError) and "plug-in '" in str(error):
                raise
            kind = "" if isinstance(error, PopdynError) else f"{type(error).__name__}: "
            raise PopdynError(f"{self.whose}: {kind}{error}") from error
