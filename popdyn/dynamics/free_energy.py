"""The free energy J(ρ) = ∫V dρ + ½∬W(x−y) dρdρ + β∫ρ log ρ: truth and estimate alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

from popdyn.base.errors import PopdynError
from popdyn.base.plain import plain_numbers
from popdyn.base.registry import lookup
from popdyn.dynamics.fields import CallableField, NamedField, RadialField, ScalarField, Time
from popdyn.dynamics.interactions import INTERACTIONS, SymmetrisedField
from popdyn.dynamics.pairwise import mean_interaction_gradient
from popdyn.dynamics.potentials import POTENTIALS

__all__ = ["FreeEnergy"]

Array = np.ndarray | Tensor
TermLike = str | Callable[..., Tensor] | ScalarField | None


class FreeEnergy:
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
        potential: TermLike = None,
        interaction: TermLike = None,
        diffusivity: float = 0.0,
        *,
        potential_params: Mapping[str, Any] | None = None,
        interaction_params: Mapping[str, Any] | None = None,
    ) -> None:
        if not (isinstance(diffusivity, Real) and 0 <= diffusivity < math.inf):
            raise PopdynError(f"diffusivity is {diffusivity!r}: expected a finite number ≥ 0")
        self.V: ScalarField | None = _potential_term(potential, potential_params or {})
        self.W: ScalarField | None = _interaction_term(interaction, interaction_params or {})
        self.diffusivity: float = float(diffusivity)
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
        """Return V(x, t), ``(n, d) → (n)``; ``t`` is required where V depends on time."""
        return _apply(
            x, lambda y: _zero(y) if self.V is None else self.V.value(y, _time(self.V, t, y))
        )

    @overload
    def potential_gradient(self, x: np.ndarray, t: Time = None) -> np.ndarray: ...
    @overload
    def potential_gradient(self, x: Tensor, t: Time = None) -> Tensor: ...
    def potential_gradient(self, x: Array, t: Time = None) -> Array:
        """Return ∇V(x, t), ``(n, d) → (n, d)``; ``t`` is required where V depends on time."""
        return _apply(
            x,
            lambda y: (
                torch.zeros_like(y) if self.V is None else self.V.gradient(y, _time(self.V, t, y))
            ),
        )

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
        return _apply(x, lambda y: term.gradient_std(y, _time(term, t, y)))

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

        def force(y: Tensor) -> Tensor:
            others = y if population is None else _tensor(population).to(y)
            if others.shape[-1] != y.shape[-1]:
                raise PopdynError(
                    f"the population has dimension {others.shape[-1]}: expected {y.shape[-1]} "
                    "as in x"
                )
            out = (
                torch.zeros_like(y) if self.V is None else -self.V.gradient(y, _time(self.V, t, y))
            )
            if self.W is None:
                return out
            return out - mean_interaction_gradient(
                self.W, y, others, exclude_self=population is None
            )

        return _apply(x, force)

    def _interaction(self, z: Tensor) -> Tensor:
        if self.W is None:
            return _zero(z)
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


def _potential_term(term: TermLike, params: Mapping[str, Any]) -> ScalarField | None:
    if isinstance(term, str):
        return NamedField(lookup(POTENTIALS, term, "potential"), params)
    return _unnamed(term, params, "potential")


def _interaction_term(term: TermLike, params: Mapping[str, Any]) -> ScalarField | None:
    if isinstance(term, str):
        return _named_interaction(term, params)
    out = _unnamed(term, params, "interaction")
    if out is not None and out.time_dependent:
        raise PopdynError(
            f"the interaction '{out.label()}' depends on time: expected none that does"
        )
    return out


def _named_interaction(
    name: str, params: Mapping[str, Any], symmetrised: bool = False
) -> ScalarField:
    if name in POTENTIALS and (symmetrised or name not in INTERACTIONS):
        return SymmetrisedField(POTENTIALS[name], params)
    return RadialField(lookup({**POTENTIALS, **INTERACTIONS}, name, "interaction"), params)


def _unnamed(term: Any, params: Mapping[str, Any], kind: str) -> ScalarField | None:
    if params:
        raise PopdynError(
            f"{kind} parameters {', '.join(params)} were given without a named {kind}"
        )
    if term is None or isinstance(term, ScalarField):
        return term
    if callable(term):
        return CallableField(term)
    raise PopdynError(f"the {kind} is {term!r}: expected a name, a callable or None")


def _tensor(x: Any) -> Tensor:
    """Return an array as a tensor of floats that shares its memory where that can be."""
    if not isinstance(x, Tensor):
        array = np.ascontiguousarray(x)
        x = torch.from_numpy(array if array.flags.writeable else array.copy())
    return x if x.is_floating_point() else x.double()


def _time(term: ScalarField, t: Any, x: Tensor) -> Time:
    if term.time_dependent:
        t = term.time(t)
    # In float64: what depends on time rounds its difference to a time of its own.
    return torch.as_tensor(t).to(x.device, torch.float64) if isinstance(t, np.ndarray) else t


def _zero(x: Tensor) -> Tensor:
    return torch.zeros_like(x[..., 0])


def _apply(x: Array, function: Callable[[Tensor], Tensor]) -> Array:
    out = function(_tensor(x))
    return out if isinstance(x, Tensor) else out.detach().numpy()
