"""The registry of circulations, by their stream functions: a module of this folder enters its own.

A circulation is the drift b = A∇ψ of a stream function ψ(x, t), A antisymmetric: in the plane of
two components i and j, b_i = −∂_jψ and b_j = ∂_iψ. It has no divergence.
"""

from popdyn.base.registry import Registry
from popdyn.dynamics.fields import Entry

__all__ = ["CIRCULATIONS"]

CIRCULATIONS: Registry[Entry] = Registry("popdyn.circulations", "circulation", __name__)
