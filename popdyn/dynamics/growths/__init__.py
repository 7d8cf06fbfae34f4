"""The registry of growths g(x, t), births less deaths: a module of this folder enters its own."""

from popdyn.base.registry import Registry
from popdyn.dynamics.fields import Entry

__all__ = ["GROWTHS"]

GROWTHS: Registry[Entry] = Registry("popdyn.growths", "growth", __name__)
