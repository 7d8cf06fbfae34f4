"""Potentials V, interactions W, and the FreeEnergy that sums them."""

from popdyn.dynamics.fields import ScalarField
from popdyn.dynamics.free_energy import FreeEnergy
from popdyn.dynamics.interactions import INTERACTIONS
from popdyn.dynamics.potentials import POTENTIALS

__all__ = ["INTERACTIONS", "POTENTIALS", "FreeEnergy", "ScalarField"]
