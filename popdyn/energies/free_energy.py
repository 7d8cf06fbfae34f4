"""The free energy J(ρ) = ∫V dρ + ½∬W(x−y) dρdρ + β∫ρ log ρ: truth and estimate alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

from popdyn.energies.interactions import INTERACTIONS, SymmetrisedTerm
from popdyn.energies.pairwise import mean_interaction_gradient
from popdyn.energies.potentials import POTENTIALS
from popdyn.energies.terms import CallableTerm, NamedTerm, RadialTerm, Term, Time
from popdyn.errors import PopdynError
from popdyn.registry import lookup

__all__ = ["FreeEnergy"]

Array = np.ndarray | Tensor
TermLike = str | Callable[..., Tensor] | Term | None


class FreeEnergy:
    """A potential V, an interaction W and a diffusivity β; what is None or 0 is absent.

    Args:
        potential: A name of ``POTENTIALS``, a callable on torch tensors ``(..., d) → (...)``
            (with a second argument ``t`` if it depends on time), or None.
        interaction: A name of ``INTERACTIONS`` or ``POTENTIALS`` (symmetrised), an even
            callable, or None.
        diffusivity: β ≥ 0, dimensionless; it multiplies Δρ.
        potential_params: Parameters of a named potential.
        interaction_params: Parameters of a named interaction.

    Raises:
        PopdynError: On an unknown name or parameter, or a negative or non-finite diffusivity.

    References:
        Jordan, Kinderlehrer and Otto, SIAM J. Math. Anal. 29 (1998).

    Example:
        >>> energy = FreeEnergy(potential="quadratic", diffusivity=0.1)
        >>> energy.potential_gradient(np.array([[1.0, 2.0]]))
        array([[1., 2.]])
    """

    def __init__(
        self,
        potential: TermLike = None,
        interaction: TermLike = None,
        diffusivity: float = 0.0,
        *,
        potential_params: Mapping[str, Any] | None = None,
        interaction_params: Mapping[str, Any] | None = None,
    ) -> None:
        if not (math.isfinite(diffusivity) and diffusivity >= 0):
            raise PopdynError(f"diffusivity is {diffusivity}: expected a finite number ≥ 0")
        self.V = _potential_term(potential, potential_params or {})
        self.W = _interaction_term(interaction, interaction_params or {})
        self.diffusivity = float(diffusivity)
        self.diffusivity_standard_error: float | None = None  # of a learned β

    @property
    def time_dependent(self) -> bool:
        """Whether the potential depends on time."""
        return self.V is not None and self.V.time_dependent

    @overload
    def potential(self, x: np.ndarray, t: Time = None) -> np.ndarray: ...
    @overload
    def potential(self, x: Tensor, t: Time = None) -> Tensor: ...
    def potential(self, x: Array, t: Time = None) -> Array:
        """Return V(x, t), ``(n, d) → (n)``."""
        return _apply(x, lambda y: _zero(y) if self.V is None else self.V.value(y, t))

    @overload
    def potential_gradient(self, x: np.ndarray, t: Time = None) -> np.ndarray: ...
    @overload
    def potential_gradient(self, x: Tensor, t: Time = None) -> Tensor: ...
    def potential_gradient(self, x: Array, t: Time = None) -> Array:
        """Return ∇V(x, t), ``(n, d) → (n, d)``."""
        return _apply(x, lambda y: torch.zeros_like(y) if self.V is None else self.V.gradient(y, t))

    @overload
    def interaction(self, z: np.ndarray) -> np.ndarray: ...
    @overload
    def interaction(self, z: Tensor) -> Tensor: ...
    def interaction(self, z: Array) -> Array:
        """Return W(z) − W(0), ``(n, d) → (n)``."""
        return _apply(z, self._interaction)

    @overload
    def interaction_gradient(self, z: np.ndarray) -> np.ndarray: ...
    @overload
    def interaction_gradient(self, z: Tensor) -> Tensor: ...
    def interaction_gradient(self, z: Array) -> Array:
        """Return ∇W(z), ``(n, d) → (n, d)``."""
        return _apply(z, lambda y: torch.zeros_like(y) if self.W is None else self.W.gradient(y))

    def force(self, x: Array, population: Array | None = None, t: Time = None) -> Array:
        """Return −∇V(x, t) − mean over y of ∇W(x − y), y in the population.

        Args:
            x: Where the force acts, ``(n, d)``.
            population: The particles that exert it, ``(m, d)``; ``x`` itself if None.
            t: Time, for a potential that depends on it.

        Raises:
            PopdynError: If the population has another dimension than ``x``.
        """
        others = _tensor(x if population is None else population)
        if others.shape[-1] != x.shape[-1]:
            raise PopdynError(
                f"the population has dimension {others.shape[-1]}: expected {x.shape[-1]} as in x"
            )

        def force(y: Tensor) -> Tensor:
            out = torch.zeros_like(y) if self.V is None else -self.V.gradient(y, t)
            if self.W is not None:
                out = out - mean_interaction_gradient(self.W, y, others.to(y))
            return out

        return _apply(x, force)

    def _interaction(self, z: Tensor) -> Tensor:
        if self.W is None:
            return _zero(z)
        return self.W.value(z) - self.W.value(torch.zeros_like(z[:1]))

    def spec(self) -> dict[str, Any] | None:
        """Return the JSON that rebuilds the energy, or None if a part is a callable."""
        V, W = (None if term is None else term.spec() for term in (self.V, self.W))
        if (self.V is not None and V is None) or (self.W is not None and W is None):
            return None
        return {"potential": V, "interaction": W, "diffusivity": self.diffusivity}

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> FreeEnergy:
        """Rebuild an energy from what :meth:`spec` gave.

        Raises:
            PopdynError: On an unknown name or parameter.
        """
        V, W = spec.get("potential"), spec.get("interaction")
        return cls(
            V and V["name"],
            W and W["name"],
            spec.get("diffusivity", 0.0),
            potential_params=V and V.get("params"),
            interaction_params=W and W.get("params"),
        )

    def __repr__(self) -> str:
        V, W = ("0" if term is None else term.label() for term in (self.V, self.W))
        return f"FreeEnergy(V={V}, W={W}, diffusivity={self.diffusivity:g})"


def _potential_term(term: TermLike, params: Mapping[str, Any]) -> Term | None:
    if isinstance(term, str):
        return NamedTerm(lookup(POTENTIALS, term, "potential"), params)
    return _unnamed(term, params, "potential")


def _interaction_term(term: TermLike, params: Mapping[str, Any]) -> Term | None:
    if isinstance(term, str):
        if term in POTENTIALS and term not in INTERACTIONS:
            return SymmetrisedTerm(POTENTIALS[term], params)
        return RadialTerm(lookup(INTERACTIONS, term, "interaction"), params)
    return _unnamed(term, params, "interaction")


def _unnamed(term: Any, params: Mapping[str, Any], kind: str) -> Term | None:
    if params:
        raise PopdynError(
            f"{kind} parameters {', '.join(params)} were given without a named {kind}"
        )
    if term is None or isinstance(term, Term):
        return term
    if callable(term):
        return CallableTerm(term)
    raise PopdynError(f"{kind} is {type(term).__name__}: expected a name, a callable or None")


def _tensor(x: Array) -> Tensor:
    return x if isinstance(x, Tensor) else torch.from_numpy(np.ascontiguousarray(x))


def _zero(x: Tensor) -> Tensor:
    return torch.zeros_like(x[..., 0])


def _apply(x: Array, function: Callable[[Tensor], Tensor]) -> Array:
    if isinstance(x, Tensor):
        return function(x)
    x = np.asarray(x)
    if not np.issubdtype(x.dtype, np.floating):
        x = x.astype(np.float64)
    return function(_tensor(x)).detach().numpy()
