"""Time stepping, forces, initial laws, observation, and the PDE reference."""

from popdyn.simulation.advance import advance
from popdyn.simulation.initial import INITIAL_LAWS, InitialLaw
from popdyn.simulation.schemes import SCHEMES
from popdyn.simulation.simulate import simulate

__all__ = ["INITIAL_LAWS", "SCHEMES", "InitialLaw", "advance", "simulate"]
