"""Options as annotated dataclasses: one reader for Python, TOML, JSON and the command line.

A field's type is what its value is, ``Annotated[int, Bounds(ge=1)]`` what it may be, and its line
among the class's ``Attributes`` what it means. Checks, flags and help all come from these three.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import math
import operator
import re
import types
import typing
from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

import click

from popdyn.base.errors import PopdynError
from popdyn.base.plain import plain
from popdyn.base.registry import Registry, lookup

__all__ = [
    "Bounds",
    "Off",
    "OneOf",
    "Option",
    "Options",
    "flags",
    "options_in",
    "read_options",
]

WORDS: dict[type[Any], str] = {
    int: "a whole number",
    float: "a finite number",
    bool: "true or false",
    str: "a word",
    dict: "a table",
}
PLURAL = {int: "whole numbers", float: "finite numbers", str: "words", dict: "tables"}


@dataclass(frozen=True)
class Bounds:
    """What a number, or each of several, may be.

    Attributes:
        ge, gt, le, lt: Least and largest value, themselves allowed or not.
        length: How many numbers there are, where they are several.
        what: What several numbers are called.
    """

    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    length: int | None = None
    what: str = "numbers"

    def allow(self, value: float) -> bool:
        """Return whether a number is within them."""
        low = (self.ge is None or value >= self.ge) and (self.gt is None or value > self.gt)
        return (
            low and (self.le is None or value <= self.le) and (self.lt is None or value < self.lt)
        )

    def expected(self, kind: type[Any], found: float = math.nan) -> str:
        """Return what is expected, in words; of a whole number the side that was passed."""
        low, high = self.gt if self.ge is None else self.ge, self.lt if self.le is None else self.le
        if low is not None and high is not None:
            if kind is int:
                return f"{high:g} or fewer" if found > high else f"{low:g} or more"
            if self.ge is not None and self.lt is not None:
                return f"{low:g} or more, below {high:g}"
            return f"between {low:g} and {high:g}"
        if self.gt is not None:
            return f"a number > {self.gt:g}"
        if self.ge is not None:
            return f"{self.ge:g} or more" if kind is int else f"a finite number ≥ {self.ge:g}"
        return f"{'at most' if self.le is not None else 'less than'} {high:g}"


@dataclass(frozen=True)
class OneOf:
    """A name of a registry, which is looked into when a value is read.

    Attributes:
        registry: ``module:attribute`` of the registry, or several.
        kind: What an entry is called.
    """

    kind: str
    registries: tuple[str, ...]

    @property
    def entries(self) -> Mapping[str, Any]:
        """The entries of all, those of the last one first."""
        return ChainMap(*reversed(self._found()))

    @property
    def groups(self) -> list[str]:
        """The entry point groups by which other packages add entries."""
        return [each.group for each in self._found() if isinstance(each, Registry)]

    def _found(self) -> list[Any]:
        paths = (path.partition(":") for path in self.registries)
        return [getattr(importlib.import_module(module), of) for module, _, of in paths]


@dataclass(frozen=True)
class Off:
    """What the flag of a truth value is called that turns it off; ``--no-NAME`` otherwise.

    Attributes:
        name: The flag, without dashes.
    """

    name: str


@dataclass(frozen=True)
class Option:
    """One option: what it is, what it may be, and what it means.

    Attributes:
        name: Name of the field.
        kind: ``int``, ``float``, ``bool``, ``str``, ``dict`` for a table, or ``object`` for what
            only Python can give.
        several: Whether it is a tuple of them.
        single: Whether a tuple may also be a single one, which stays one.
        optional: Whether it may be None.
        choices: The words that it may be; any if empty.
        bounds: Of a number.
        one_of: The registry that a word is looked up in.
        off: The flag that turns it off.
        default: Its default; ``dataclasses.MISSING`` if it has to be given.
        meaning: What it means, in a sentence.
    """

    name: str
    kind: type[Any]
    several: bool
    single: bool
    optional: bool
    choices: tuple[str, ...]
    bounds: Bounds | None
    one_of: OneOf | None
    off: str
    default: Any
    meaning: str

    def read(self, value: Any) -> Any:
        """Return a value as the field's type has it.

        Raises:
            PopdynError: If it is of another type, not finite, or not what the option may be.
        """
        if self.kind is object or (value is None and self.optional):
            return value
        value = plain(value.tolist() if hasattr(value, "dtype") and value.ndim else value)
        if not self.several or (self.single and not isinstance(value, (str, list, tuple))):
            found = _plain(value, self.kind)
            if found is None:
                expected = f"{WORDS[self.kind]}{', or a list of them' if self.several else ''}"
                raise self.wrong(f"{self.name} is {value!r}", expected)
            self._check(found)
            return found
        parts = value.split(",") if isinstance(value, str) else value
        if not isinstance(parts, (list, tuple)):
            parts = [None]
        several = tuple(_plain(_parsed(part, self.kind), self.kind) for part in parts)
        if None in several:
            raise self.wrong(
                f"{self.name} is {value!r}", f"{PLURAL[self.kind]} with commas between them"
            )
        if self.choices:
            if not several or not set(several) <= set(self.choices):
                raise self.wrong(
                    f"{self.name} '{','.join(several)}'", f"some of {', '.join(self.choices)}"
                )
        elif self.bounds is not None:
            many = f"{self.bounds.length or ''} {self.bounds.what}".strip()
            right = bool(several) and self.bounds.length in (None, len(several))
            if not right or not all(map(self.bounds.allow, several)):
                worst = next((v for v in several if not self.bounds.allow(v)), math.nan)
                allowed = self.bounds.expected(self.kind, worst)
                raise self.wrong(f"{self.name} is {several}", f"{many} of {allowed}")
        return several

    def _check(self, value: Any) -> None:
        if self.choices and value not in self.choices:
            raise self.wrong(f"{self.name} is '{value}'", _spoken(self.choices))
        if self.bounds is not None and not self.bounds.allow(value):
            raise self.wrong(f"{self.name} is {value}", self.bounds.expected(self.kind, value))
        if self.one_of is not None:
            try:
                lookup(self.one_of.entries, value, self.one_of.kind)
            except PopdynError as error:
                raise PopdynError(str(error), field=self.name) from None

    def wrong(self, found: str, expected: str) -> PopdynError:
        """Return the error that says what was found and what was expected."""
        return PopdynError(f"{found}: expected {expected}", field=self.name)

    def read_text(self, text: str) -> Any:
        """Return the value that a text means, such as that of a flag."""
        several = self.read(text.strip("[]") if self.several else _parsed(text, self.kind))
        return several[0] if self.single and len(several) == 1 else several

    @property
    def expected(self) -> str:
        """What it may be, in words; empty where its type says all."""
        if self.choices:
            return f"{'some' if self.several else 'one'} of {', '.join(self.choices)}"
        if self.one_of is not None:
            return f"one of {', '.join(self.one_of.entries)}"
        return "" if self.bounds is None else self.bounds.expected(self.kind)

    @property
    def text(self) -> str:
        """The default as a person would write it; empty where there is none."""
        if self.default is None or self.default is dataclasses.MISSING:
            return ""
        if isinstance(self.default, tuple):
            return ",".join(map(str, self.default))
        return f"{self.default:g}" if self.kind is float else str(self.default).lower()


@dataclass(frozen=True)
class Options:
    """A set of options: subclasses are frozen dataclasses whose fields have defaults.

    Values are read, and checked each for itself, when one is made; ``check`` then looks at how
    they go together.

    Raises:
        PopdynError: On a value that its option may not have; ``field`` names the option.
    """

    def __post_init__(self) -> None:
        for name, option in options_in(type(self)).items():
            object.__setattr__(self, name, option.read(getattr(self, name)))
        self.check()

    def check(self) -> None:
        """Raise PopdynError where options do not go together."""


O = TypeVar("O", bound=Options)  # noqa: E741 - the type of a set of options


def options_in(kind: type[Any]) -> dict[str, Option]:
    """Return the options of a class, by name."""
    hints, meanings = typing.get_type_hints(kind, include_extras=True), _meanings(kind)
    found = {}
    for field in dataclasses.fields(kind):
        hint, extras = hints[field.name], ()
        if typing.get_origin(hint) is Annotated:
            hint, *extras = typing.get_args(hint)  # type: ignore[assignment]
        union = typing.get_origin(hint) in (types.UnionType, typing.Union)
        optional = union and type(None) in typing.get_args(hint)
        if optional:
            inside = [part for part in typing.get_args(hint) if part is not type(None)]
            hint = functools.reduce(operator.or_, inside)
        parts = typing.get_args(hint) if typing.get_origin(hint) is types.UnionType else (hint,)
        tuples = [part for part in parts if typing.get_origin(part) is tuple]
        single = len(parts) == 2 and len(tuples) == 1 and typing.get_args(tuples[0])[0] in parts
        several = single or typing.get_origin(hint) is tuple
        hint = tuples[0] if single else hint
        of = typing.get_args(hint)[0] if several else hint
        choices = typing.get_args(of) if typing.get_origin(of) is Literal else ()
        of = str if choices else dict if typing.get_origin(of) is Mapping else of
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        found[field.name] = Option(
            field.name,
            of if of in WORDS else object,
            several,
            single,
            optional,
            choices,
            _first(extras, Bounds),
            _first(extras, OneOf),
            off.name if (off := _first(extras, Off)) else f"no-{field.name.replace('_', '-')}",
            default,
            meanings.get(field.name, ""),
        )
    return found


def read_options(kind: type[O], given: Mapping[str, Any], whose: str) -> O:
    """Return options with what was given filled in.

    Raises:
        PopdynError: On an unknown option, one that is missing, or a value that the options refuse.

    Example:
        >>> from popdyn.learners import LEARNERS
        >>> read_options(LEARNERS["weak_form"].options, {"tests": 100}, "learner").tests
        100
    """
    known = options_in(kind)
    for name in given:
        if name not in known:
            expected = f"expected one of {', '.join(known)}" if known else "it has none"
            raise PopdynError(f"{whose} has no option '{name}': {expected}", field=name)
    for name, option in known.items():
        if option.default is dataclasses.MISSING and name not in given:
            raise option.wrong(f"{name} is none", WORDS.get(option.kind, "one"))
    return kind(**given)


def flags(kind: type[Any], less: Sequence[str] = ()) -> list[click.Option]:
    """Return a click flag for each option that a line can give, its meaning as its help.

    What is not given is None: the defaults are those of the class.

    Args:
        kind: The class.
        less: Options that have no flag.
    """
    found = (o for o in options_in(kind).values() if o.name not in less)
    return [_flag(option) for option in found if option.kind not in (dict, object)]


def _spoken(choices: Sequence[str]) -> str:
    """Return what may be chosen, in words."""
    return " or ".join(choices) if len(choices) < 3 else f"one of {', '.join(choices)}"


class _Value(click.ParamType):
    def __init__(self, option: Option) -> None:
        self.option = option
        plain = {int: "integer", float: "number", str: "word"}[option.kind]
        self.name = f"{plain},…" if option.several else plain

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str | None:
        one_of = self.option.one_of
        choices = self.option.choices if one_of is None else tuple(one_of.entries)
        if choices:
            return f"[{'|'.join(choices)}]{',…' if self.option.several else ''}"
        return self.name.upper()

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        try:
            return self.option.read_text(value) if isinstance(value, str) else value
        except PopdynError as error:
            self.fail(str(error), param, ctx)


def _flag(option: Option) -> click.Option:
    words = option.name.replace("_", "-")
    meaning = option.meaning.replace("None:", "If not given:").replace("``", "")
    facts = f"default: {option.text}" if option.text else ""
    if option.bounds is not None:
        facts = "; ".join(filter(None, [facts, option.bounds.expected(option.kind)]))
    shown = f"{meaning}  [{facts}]" if facts else meaning
    if option.kind is bool:
        names = [f"--{words}/--{option.off}", option.name]
        return click.Option(names, default=None, help=shown)
    return click.Option([f"--{words}", option.name], type=_Value(option), help=shown)


def _meanings(kind: type[Any]) -> dict[str, str]:
    """Return what the lines among the ``Attributes`` of a class and its bases say."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        text = inspect.cleandoc(base.__doc__ or "")
        section = re.search(r"^Attributes:\n((?:(?: {4}.*)?\n?)*)", text, re.MULTILINE)
        for line in re.findall(r"^ {4}(\S.*(?:\n {8}.*)*)", section[1] if section else "", re.M):
            names, _, meaning = line.partition(": ")
            for name in names.split(", "):
                found[name] = " ".join(meaning.split())
    return found


def _first(extras: Sequence[Any], kind: type[Any]) -> Any:
    return next((extra for extra in extras if isinstance(extra, kind)), None)


def _parsed(part: Any, kind: type[Any]) -> Any:
    """Return a number or a truth value that stands in a text; the text where it is none."""
    if not isinstance(part, str):
        return part
    text = part.strip()
    try:
        read: Callable[[str], Any] = {"true": True, "false": False}.__getitem__
        return text if kind is str else read(text.lower()) if kind is bool else kind(text)
    except (KeyError, ValueError):
        return text


def _plain(value: Any, kind: type[Any]) -> Any:
    """Return the value as one of a type, or None where it is none."""
    if kind is int and isinstance(value, float) and value.is_integer():
        value = int(value)
    if kind is float and isinstance(value, int):  # false is 0 here, as everywhere in Python
        value = float(value) if abs(value) < 2**1000 else math.inf
    if kind is dict and isinstance(value, Mapping):
        return dict(value)
    if type(value) is not kind:
        return None
    return None if kind is float and not math.isfinite(value) else value
