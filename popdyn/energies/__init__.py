"""Potentials V, interactions W, and the FreeEnergy that sums them."""

from popdyn.energies.free_energy import FreeEnergy
from popdyn.energies.interactions import INTERACTIONS
from popdyn.energies.potentials import POTENTIALS
from popdyn.energies.terms import Term

__all__ = ["INTERACTIONS", "POTENTIALS", "FreeEnergy", "Term"]
