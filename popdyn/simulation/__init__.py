"""Time stepping, forces, initial laws, observation, and the PDE reference."""

from popdyn.simulation.advance import advance
from popdyn.simulation.config import SimulationConfig
from popdyn.simulation.fokker_planck import fokker_planck
from popdyn.simulation.initial import INITIAL_LAWS, InitialLaw
from popdyn.simulation.landscape import Landscape, landscape
from popdyn.simulation.options import SimulationOptions
from popdyn.simulation.output import run_simulation
from popdyn.simulation.predict import predict
from popdyn.simulation.schemes import SCHEMES
from popdyn.simulation.simulate import configure, simulate

__all__ = [
    "INITIAL_LAWS",
    "SCHEMES",
    "InitialLaw",
    "Landscape",
    "SimulationConfig",
    "SimulationOptions",
    "advance",
    "configure",
    "fokker_planck",
    "landscape",
    "predict",
    "run_simulation",
    "simulate",
]
