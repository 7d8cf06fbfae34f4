"""The registry of potentials V(x, t): a module of this folder enters its own."""

from popdyn.base.registry import Registry
from popdyn.dynamics.fields import Entry

__all__ = ["POTENTIALS"]

POTENTIALS: Registry[Entry] = Registry("popdyn.potentials", "potential", __name__)
