"""The free energy J(ρ) = ∫V dρ + ½∬W(x−y) dρdρ + β∫ρ log ρ: truth and estimate alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from numbers import Real
from types import MappingProxyType
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

from popdyn.base.errors import PopdynError
from popdyn.base.plain import plain_numbers
from popdyn.base.registry import lookup
from popdyn.dynamics.arrays import Array, apply_to, time_for
from popdyn.dynamics.dynamics import Dynamics
from popdyn.dynamics.fields import NamedField, RadialField, ScalarField, Time, unnamed
from popdyn.dynamics.interactions import INTERACTIONS, SymmetrisedField
from popdyn.dynamics.potentials import POTENTIALS
from popdyn.dynamics.terms import Diffusion, Interaction, Potential, Term

__all__ = ["FreeEnergy"]

FieldLike = str | Callable[..., Tensor] | ScalarField | None


class FreeEnergy(Dynamics):
    """A potential V, an interaction W and a diffusivity β; what is None or 0 is absent.

    A name in both registries (``quadratic``) means the interaction where an interaction is asked
    for. Positions are float arrays of either library, and the answer comes in the same one; V and
    W are summed in the precision of the positions.

    Args:
        potential: A name of ``POTENTIALS``, a callable on torch tensors ``(..., d) → (...)``
            (with a second argument ``t`` if it depends on time), or None.
        interaction: A name of ``INTERACTIONS`` or ``POTENTIALS`` (symmetrised), an even
            callable, or None.
        diffusivity: β ≥ 0, dimensionless; it multiplies Δρ.
        potential_params: Parameters of a named potential; ``scale`` multiplies any of them.
        interaction_params: Parameters of a named interaction.

    Raises:
        PopdynError: On an unknown name, an unknown or wrong parameter, or a negative or non-finite
            diffusivity.

    References:
        Jordan, Kinderlehrer and Otto, SIAM J. Math. Anal. 29 (1998).

    Example:
        >>> energy = FreeEnergy(potential="quadratic", diffusivity=0.1)
        >>> energy.potential_gradient(np.array([[1.0, 2.0]]))
        array([[1., 2.]])
    """

    @plain_numbers()
    def __init__(
        self,
        potential: FieldLike = None,
        interaction: FieldLike = None,
        diffusivity: float = 0.0,
        *,
        potential_params: Mapping[str, Any] | None = None,
        interaction_params: Mapping[str, Any] | None = None,
    ) -> None:
        if not (isinstance(diffusivity, Real) and 0 <= diffusivity < math.inf):
            raise PopdynError(f"diffusivity is {diffusivity!r}: expected a finite number ≥ 0")
        self._more: dict[str, Term] = {}  # a gradient flow has no other terms
        self.V: ScalarField | None = _potential_term(potential, potential_params or {})
        self.W: ScalarField | None = _interaction_term(interaction, interaction_params or {})
        self.diffusivity: float = float(diffusivity)
        self.diffusivity_standard_error: float | None = None  # of a learned β

    @property
    def energy(self) -> FreeEnergy:
        """The energy itself: it is its own gradient-flow face."""
        return self

    @property
    def terms(self) -> Mapping[str, Term]:
        """The terms by part, in the order in which they are summed."""
        terms: list[Term] = []
        if self.V is not None:
            terms.append(Potential(self.V))
        if self.W is not None:
            terms.append(Interaction(self.W))
        if self.diffusivity > 0:
            terms.append(Diffusion(self.diffusivity))
        return MappingProxyType({term.part: term for term in terms})

    @overload
    def potential(self, x: np.ndarray, t: Time = None) -> np.ndarray: ...
    @overload
    def potential(self, x: Tensor, t: Time = None) -> Tensor: ...
    def potential(self, x: Array, t: Time = None) -> Array:
        """Return V(x, t), ``(n, d) → (n)``; ``t`` is required where V depends on time."""

        def value(y: Tensor) -> Tensor:
            if self.V is None:
                return torch.zeros_like(y[..., 0])
            return self.V.value(y, time_for(self.V, t, y))

        return apply_to(x, value)  # type: ignore[no-any-return]

    @overload
    def potential_gradient(self, x: np.ndarray, t: Time = None) -> np.ndarray: ...
    @overload
    def potential_gradient(self, x: Tensor, t: Time = None) -> Tensor: ...
    def potential_gradient(self, x: Array, t: Time = None) -> Array:
        """Return ∇V(x, t), ``(n, d) → (n, d)``; ``t`` is required where V depends on time."""

        def gradient(y: Tensor) -> Tensor:
            if self.V is None:
                return torch.zeros_like(y)
            return self.V.gradient(y, time_for(self.V, t, y))

        return apply_to(x, gradient)  # type: ignore[no-any-return]

    @overload
    def interaction(self, z: np.ndarray) -> np.ndarray: ...
    @overload
    def interaction(self, z: Tensor) -> Tensor: ...
    def interaction(self, z: Array) -> Array:
        """Return W(z) − W(0), ``(n, d) → (n)``."""
        return apply_to(z, self._interaction)

    @overload
    def interaction_gradient(self, z: np.ndarray) -> np.ndarray: ...
    @overload
    def interaction_gradient(self, z: Tensor) -> Tensor: ...
    def interaction_gradient(self, z: Array) -> Array:
        """Return ∇W(z), ``(n, d) → (n, d)``."""
        return apply_to(z, lambda y: torch.zeros_like(y) if self.W is None else self.W.gradient(y))

    def potential_gradient_std(self, x: Array, t: Time = None) -> Array:
        """Return the standard error of ∇V, ``(n, d) → (n, d)``.

        It is what a fit linear in features says of itself, and of an ensemble's networks their
        spread.

        Raises:
            PopdynError: If the potential does not know it: of a single network, or not learned.
        """
        return self._apply_std(self.V, "potential", x, t)

    def interaction_gradient_std(self, z: Array) -> Array:
        """Return the standard error of ∇W, ``(n, d) → (n, d)``.

        It is what a fit linear in features says of itself, and of an ensemble's networks their
        spread.

        Raises:
            PopdynError: If the interaction does not know it: of a single network, or not learned.
        """
        return self._apply_std(self.W, "interaction", z, None)

    @staticmethod
    def _apply_std(term: Any, name: str, x: Array, t: Time) -> Array:
        if not hasattr(term, "gradient_std"):
            raise PopdynError(
                f"the {name} is no estimate that knows its standard error: expected one that is "
                "linear in features, or an ensemble (--ensemble 2 or more)"
            )
        return apply_to(x, lambda y: term.gradient_std(y, time_for(term, t, y)))

    @overload
    def force(
        self, x: np.ndarray, population: Array | None = None, t: Time = None
    ) -> np.ndarray: ...
    @overload
    def force(self, x: Tensor, population: Array | None = None, t: Time = None) -> Tensor: ...
    def force(self, x: Array, population: Array | None = None, t: Time = None) -> Array:
        """Return −∇V(x, t) − mean over y of ∇W(x − y), y in the population.

        Args:
            x: Where the force acts, ``(n, d)``.
            population: The particles that exert it, ``(m, d)``. If None, ``x`` itself: then a
                particle does not act on itself, and the mean is over the ``n − 1`` others.
            t: Time, required for a potential that depends on it.

        Returns:
            ``(n, d)``, without a graph.

        Raises:
            PopdynError: If the population has another dimension than ``x``, or no time is given
                to a potential that depends on it.
        """

        return self.drift(x, population, t)

    def _interaction(self, z: Tensor) -> Tensor:
        if self.W is None:
            return torch.zeros_like(z[..., 0])
        return self.W.value(z) - self.W.value(z.new_zeros(1, z.shape[-1]))[0]

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
        if more := [name for name in ("growth", "circulation") if spec.get(name)] or (
            ["diffusivity"] if isinstance(spec.get("diffusivity"), Mapping) else []
        ):
            raise PopdynError(f"there is a {more[0]}: expected a free energy, no more than V, W, β")
        potential, interaction = spec.get("potential"), spec.get("interaction")
        for name, part in (("potential", potential), ("interaction", interaction)):
            if part is not None and not (isinstance(part, Mapping) and "name" in part):
                raise PopdynError(
                    f"the {name} of an energy is {part!r}: expected its name and params"
                )
        V = potential and NamedField(
            lookup(POTENTIALS, potential["name"], "potential"), potential.get("params", {})
        )
        W = interaction and _named_interaction(
            interaction["name"],
            interaction.get("params", {}),
            interaction.get("symmetrised", False),
        )
        return cls(V, W, spec.get("diffusivity", 0.0))

    def __repr__(self) -> str:
        V, W = ("0" if term is None else term.label() for term in (self.V, self.W))
        return f"FreeEnergy(V={V}, W={W}, diffusivity={self.diffusivity:g})"

    def __str__(self) -> str:
        lines = []
        for symbol, term in (("V", self.V), ("W", self.W)):
            formula = getattr(getattr(term, "entry", None), "formula", "")
            label = "0" if term is None else term.label()
            lines.append(f"{symbol}  {label}" + (f" = {formula}" if formula else ""))
        error = self.diffusivity_standard_error
        spread = "" if error is None else f" ± {error:.2g}"
        return "\n".join([*lines, f"β  {self.diffusivity:.4g}{spread}"])


def _potential_term(term: FieldLike, params: Mapping[str, Any]) -> ScalarField | None:
    if isinstance(term, str):
        return NamedField(lookup(POTENTIALS, term, "potential"), params)
    return unnamed(term, params, "potential")


def _interaction_term(term: FieldLike, params: Mapping[str, Any]) -> ScalarField | None:
    if isinstance(term, str):
        return _named_interaction(term, params)
    out = unnamed(term, params, "interaction")
    return None if out is None else _static(out)


def _static(W: ScalarField) -> ScalarField:
    if W.time_dependent:
        raise PopdynError(f"the interaction '{W.label()}' depends on time: expected none that does")
    return W


def _named_interaction(
    name: str, params: Mapping[str, Any], symmetrised: bool = False
) -> ScalarField:
    if name in POTENTIALS and (symmetrised or name not in INTERACTIONS):
        return SymmetrisedField(POTENTIALS[name], params)
    entry = lookup({**POTENTIALS, **INTERACTIONS}, name, "interaction")
    return _static(RadialField(entry, params) if entry.radial else NamedField(entry, params))
