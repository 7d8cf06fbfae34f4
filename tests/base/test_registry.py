"""Registries: whose an entry is, and what is said of one that is wrong."""

from collections.abc import Callable
from dataclasses import dataclass

import cloudpickle
import pytest

from popdyn.base.errors import PopdynError
from popdyn.base.registry import Registry, lookup


@dataclass(frozen=True)
class Entry:
    """An entry with a function."""

    name: str
    function: Callable[[float], float]


def inverse(x: float) -> float:
    """Return 1/x."""
    return 1 / x


def entered(module: str) -> Registry[Entry]:
    registry: Registry[Entry] = Registry("popdyn.of_nobody", "thing")
    registry.enter("inverse", Entry("inverse", inverse), module)
    return registry


def test_what_a_plugin_raises_names_it_and_what_popdyn_raises_does_not():
    with pytest.raises(PopdynError, match="plug-in 'other', thing 'inverse': ZeroDivisionError"):
        entered("other.things")["inverse"].function(0)
    assert entered("other.things")["inverse"].function(2) == 0.5
    with pytest.raises(ZeroDivisionError):
        entered("popdyn.things")["inverse"].function(0)


def test_a_class_of_a_plugin_says_whose_its_methods_are():
    class Thing:
        def __init__(self, x):
            self.x = x

        def inverse(self):
            return 1 / self.x

    registry: Registry[type] = Registry("popdyn.of_nobody", "term")
    registry.enter("Thing", Thing, "other.things")
    assert Thing(2).inverse() == 0.5
    with pytest.raises(PopdynError, match="plug-in 'other', term 'Thing': ZeroDivisionError"):
        Thing(0).inverse()


def test_a_guarded_entry_goes_to_another_process():
    entry = cloudpickle.loads(cloudpickle.dumps(entered("other.things")["inverse"]))
    assert entry.function(4) == 0.25
    with pytest.raises(PopdynError, match="plug-in 'other'"):
        entry.function(0)


def test_a_name_is_taken_once_by_each_package():
    registry = entered("popdyn.things")
    registry.enter("inverse", Entry("inverse", abs), "popdyn.later")
    assert registry["inverse"].function is abs
    with pytest.raises(PopdynError, match="thing 'inverse' of 'other' is there already"):
        registry.enter("inverse", Entry("inverse", inverse), "other.things")


def test_a_wrong_name_is_answered_with_the_near_ones():
    registry = entered("popdyn.things")
    with pytest.raises(PopdynError, match="unknown thing 'invers': did you mean inverse"):
        lookup(registry, "invers", "thing")
    with pytest.raises(PopdynError, match="unknown thing 'x': expected one of inverse"):
        lookup(registry, "x", "thing")
