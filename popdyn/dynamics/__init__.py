"""Terms that add up to dynamics, the registries of each, and the free energy of V, W and β."""

from popdyn.dynamics.circulations import CIRCULATIONS
from popdyn.dynamics.diffusions import DIFFUSIONS
from popdyn.dynamics.dynamics import Dynamics, HoldsDynamics, dynamics_of
from popdyn.dynamics.fields import ScalarField
from popdyn.dynamics.free_energy import FreeEnergy
from popdyn.dynamics.growths import GROWTHS
from popdyn.dynamics.interactions import INTERACTIONS
from popdyn.dynamics.potentials import POTENTIALS
from popdyn.dynamics.terms import Functions, Term

__all__ = [
    "CIRCULATIONS",
    "DIFFUSIONS",
    "GROWTHS",
    "INTERACTIONS",
    "POTENTIALS",
    "Dynamics",
    "FreeEnergy",
    "Functions",
    "HoldsDynamics",
    "ScalarField",
    "Term",
    "dynamics_of",
]
