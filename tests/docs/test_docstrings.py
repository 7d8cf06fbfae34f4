"""Every public name says what it is, and shows it in an example that the doctests run."""

import functools
import importlib
import inspect

import pytest

from tests.docs.rooms import ROOMS


def public():
    for room in ROOMS:
        module = importlib.import_module(room)
        for name in module.__all__:
            thing = getattr(module, name)
            # A figure by name is ``figure_of``, whose docstring it has.
            thing = thing.func if isinstance(thing, functools.partial) else thing
            if inspect.isclass(thing) or inspect.isfunction(thing):
                yield pytest.param(thing, id=f"{room}.{name}")


PUBLIC = list(public())


@pytest.mark.parametrize("thing", PUBLIC)
def test_it_has_a_docstring_with_an_example(thing):
    text = inspect.getdoc(thing) or ""
    assert "Example:" in text
    assert ">>> " in text


@pytest.mark.parametrize("thing", PUBLIC)
def test_arguments_are_explained_where_there_are_several(thing):
    if not inspect.isfunction(thing):
        return
    arguments = inspect.signature(thing).parameters
    if len(arguments) > 1:
        text = inspect.getdoc(thing)
        assert "Args:" in text or "arguments" in text
