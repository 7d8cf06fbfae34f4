"""A potential."""

from popdyn.dynamics.fields import entry_of, squared_norm
from popdyn.dynamics.potentials import POTENTIALS


@entry_of(POTENTIALS, "depth·√(1 + |x|²)")
def round_well(x, depth=1.0):
    """A bowl in the middle, a cone far away."""
    return depth * (1.0 + squared_norm(x)).sqrt()
