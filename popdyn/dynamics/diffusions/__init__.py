"""The registry of diffusivities β(x): a module of this folder enters its own.

Isotropic, ≥ 0, in Itô's sense: dX = b dt + √(2β(X)) dB, so that ∂ₜρ = −∇·(bρ) + Δ(βρ).
"""

from popdyn.base.registry import Registry
from popdyn.dynamics.fields import Entry

__all__ = ["DIFFUSIONS"]

DIFFUSIONS: Registry[Entry] = Registry("popdyn.diffusions", "diffusivity", __name__)
