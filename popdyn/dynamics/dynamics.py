"""Dynamics: terms that add up to ∂ₜρ = L*ρ, L f = b·∇f + βΔf + g f."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from popdyn.base.errors import PopdynError
from popdyn.base.registry import Registry, lookup
from popdyn.dynamics.arrays import Array, apply_to, as_time, tensor
from popdyn.dynamics.circulations import CIRCULATIONS
from popdyn.dynamics.diffusions import DIFFUSIONS
from popdyn.dynamics.fields import Entry, LevelField, NamedField, ScalarField, Time, unnamed
from popdyn.dynamics.growths import GROWTHS
from popdyn.dynamics.terms import (
    Circulation,
    Drift,
    Functions,
    Growth,
    StateDiffusion,
    Term,
)

if TYPE_CHECKING:
    from popdyn.dynamics.free_energy import FreeEnergy

__all__ = ["Dynamics", "HoldsDynamics", "dynamics_of", "total"]

KEYWORDS = {"diffusion": "diffusivity"}
"""What a part is called as a keyword, where it is not its name."""

FieldLike = str | Callable[..., Tensor] | ScalarField | None


class Dynamics:
    """What acts on a population: a free energy, and what is more than a gradient flow.

    Nothing of it changes once it is made. A :class:`FreeEnergy` is a Dynamics, too: whoever takes
    dynamics takes an energy.

    Args:
        energy: A ``FreeEnergy``, or the potential alone, as a name or a callable; None: no energy.
        growth: Rate of births less deaths: a name of ``GROWTHS``, a callable on torch tensors
            ``(n, d) → (n)`` (with a second argument ``t`` if it depends on time), or None.
        circulation: A drift that is no gradient: a name of ``CIRCULATIONS``, a callable
            ``(n, d) → (n, d)`` (or of ``t``, too), or None.
        diffusivity: β(x) where it depends on the state: a name of ``DIFFUSIONS`` or a callable
            ``(n, d) → (n)``; None: that of the energy. In Itô's sense.
        growth_params: Parameters of a named growth; ``scale`` multiplies any of them.
        circulation_params: Parameters of a named circulation.
        diffusivity_params: Parameters of a named diffusivity.

    Attributes:
        energy: The gradient-flow face: V, W and β where that is one number.
        terms: The terms by part, in the order in which they are summed.

    Raises:
        PopdynError: On an unknown name, an unknown or wrong parameter, a β(x) beside a β of the
            energy, or a circulation along the levels of a potential that there is not.

    Example:
        >>> import numpy as np
        >>> from popdyn.dynamics import FreeEnergy
        >>> turning = Dynamics(FreeEnergy("quadratic"), circulation="rotation")
        >>> turning.drift(np.array([[1.0, 2.0]]))
        array([[-3., -1.]])
    """

    def __init__(
        self,
        energy: Dynamics | str | Callable[..., Tensor] | None = None,
        *,
        growth: FieldLike = None,
        circulation: FieldLike = None,
        diffusivity: FieldLike = None,
        growth_params: Mapping[str, Any] | None = None,
        circulation_params: Mapping[str, Any] | None = None,
        diffusivity_params: Mapping[str, Any] | None = None,
    ) -> None:
        from popdyn.dynamics.free_energy import FreeEnergy  # which is a Dynamics itself

        if isinstance(energy, Dynamics) and not isinstance(energy, FreeEnergy):
            raise PopdynError(f"the energy is {energy!r}: expected a FreeEnergy, which it has")
        self._energy = energy if isinstance(energy, FreeEnergy) else FreeEnergy(energy)
        beta = _field(diffusivity, DIFFUSIONS, diffusivity_params or {}, "diffusivity")
        if beta is not None and self._energy.diffusivity > 0:
            raise PopdynError(
                f"the diffusivity is '{beta.label()}' beside the energy's "
                f"{self._energy.diffusivity:g}: expected one of them"
            )
        rate = _field(growth, GROWTHS, growth_params or {}, "growth")
        more = [
            None if beta is None else StateDiffusion(beta),
            _circulation(circulation, circulation_params or {}, self._energy.V),
            None if rate is None else Growth(rate),
        ]
        self._more = {term.part: term for term in more if term is not None}

    @property
    def energy(self) -> FreeEnergy:
        return self._energy

    @property
    def terms(self) -> Mapping[str, Term]:
        return MappingProxyType({**self.energy.terms, **self._more})

    @property
    def time_dependent(self) -> bool:
        """Whether any term depends on time."""
        return any(term.time_dependent for term in self.terms.values())

    @property
    def interacting(self) -> bool:
        """Whether the particles of a population act on each other."""
        return any(term.interacting for term in self.terms.values())

    @property
    def beta(self) -> float | None:
        """β where it is one number, always and everywhere; None where ``noise`` has to be asked."""
        each = [term.beta for term in self.terms.values()]
        return None if None in each else sum(beta for beta in each if beta is not None)

    def drift(self, x: Array, population: Array | None = None, t: Time = None) -> Any:
        """Return everything that moves a particle, circulation included.

        Args:
            x: Where the drift acts, ``(n, d)``.
            population: The particles that exert it, ``(m, d)``. If None, ``x`` itself: then a
                particle does not act on itself, and the mean is over the ``n − 1`` others.
            t: Time, required where a term depends on it.

        Returns:
            ``(n, d)``, without a graph.

        Raises:
            PopdynError: If the population has another dimension than ``x``, or no time is given
                to a term that depends on it.
        """

        def drift(y: Tensor) -> Tensor:
            others = None if population is None else tensor(population).to(y)
            if others is not None and others.shape[-1] != y.shape[-1]:
                raise PopdynError(
                    f"the population has dimension {others.shape[-1]}: expected {y.shape[-1]} "
                    "as in x"
                )
            parts = (term.drift(y, as_time(t, y), others) for term in self.terms.values())
            out = total(parts)
            return torch.zeros_like(y) if out is None else out

        return apply_to(x, drift)

    def noise(self, x: Array, t: Time = None) -> Any:
        """Return β at the positions, ``(n, d) → (n)``; √(2β) dB in dX, in Itô's sense."""

        def noise(y: Tensor) -> Tensor:
            parts = (term.noise(y, as_time(t, y)) for term in self.terms.values())
            out = total(parts)
            return torch.zeros_like(y[..., 0]) + (0.0 if out is None else out)

        return apply_to(x, noise)

    def growth(self, x: Array, t: Time = None) -> Any:
        """Return the rate of growth g, ``(n, d) → (n)`` in 1/time; 0 where nothing grows."""

        def growth(y: Tensor) -> Tensor:
            parts = (term.growth(y, as_time(t, y)) for term in self.terms.values())
            out = total(parts)
            return torch.zeros_like(y[..., 0]) if out is None else out

        return apply_to(x, growth)

    def growth_std(self, x: Array, t: Time = None) -> Any:
        """Return the standard error of g, ``(n, d) → (n)``.

        Raises:
            PopdynError: If the growth does not know it: it was not learned.
        """
        field: Any = getattr(self.terms.get("growth"), "field", None)
        if not hasattr(field, "value_std"):
            raise PopdynError(
                "the growth is no estimate that knows its standard error: expected one that was "
                "learned"
            )
        return apply_to(x, lambda y: field.value_std(y, t))

    def generator(
        self, f: Functions, x: Tensor, t: Time = None, others: Tensor | None = None
    ) -> Tensor:
        """Return L f of the test functions at the positions, ``(n, q)``."""
        parts = (term.generator(f, x, as_time(t, x), others) for term in self.terms.values())
        out = total(parts)
        return torch.zeros_like(f.values) if out is None else out

    def spec(self) -> dict[str, Any] | None:
        """Return the JSON that rebuilds the dynamics, or None if a part is a callable."""
        energy, more = self.energy.spec(), self.more_spec()
        return None if energy is None or more is None else energy | more

    def more_spec(self) -> dict[str, Any] | None:
        """Return the JSON of what is more than the energy, by keyword; None if no JSON can."""
        specs = self.more_specs()
        return None if None in specs.values() else specs

    def more_specs(self) -> dict[str, Any]:
        """Return the JSON of each part that is more than the energy, None where none can."""
        specs = {KEYWORDS.get(part, part): term.spec() for part, term in self._more.items()}
        return {key: None if spec is None else dict(spec) for key, spec in specs.items()}

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> Dynamics:
        """Rebuild dynamics from what :meth:`spec` gave; of a gradient flow its ``FreeEnergy``.

        Raises:
            PopdynError: On an unknown name or parameter.
        """
        from popdyn.dynamics.free_energy import FreeEnergy

        more = {key: spec[key] for key in ("growth", "circulation") if spec.get(key) is not None}
        if isinstance(spec.get("diffusivity"), Mapping):
            more["diffusivity"] = spec["diffusivity"]
        energy = FreeEnergy.from_spec({k: v for k, v in spec.items() if k not in more})
        return Dynamics.with_spec(energy, more)

    @staticmethod
    def with_spec(energy: FreeEnergy, more: Mapping[str, Any]) -> Dynamics:
        """Return an energy with what :meth:`more_spec` gave, or with fields; itself if nothing.

        Raises:
            PopdynError: On an unknown name or parameter.
        """
        keywords: dict[str, Any] = {}
        for key, part in more.items():
            if isinstance(part, ScalarField):
                keywords[key] = part
                continue
            if not (isinstance(part, Mapping) and "name" in part):
                raise PopdynError(
                    f"the {key} of the dynamics is {part!r}: expected its name and params"
                )
            keywords |= {key: part["name"], f"{key}_params": part.get("params", {})}
        return Dynamics(energy, **keywords) if more else energy

    def __repr__(self) -> str:
        more = (f", {KEYWORDS.get(p, p)}={term.label()}" for p, term in self._more.items())
        return f"Dynamics({self.energy!r}{''.join(more)})"

    def __str__(self) -> str:
        lines = [str(self.energy), *(f"{p}  {term.label()}" for p, term in self._more.items())]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        plots = importlib.import_module("popdyn.plots")  # which draws with what is defined here
        return str(plots.energy_html(self))


class HoldsDynamics(Protocol):
    """What was learned and holds its dynamics: a run.

    Example:
        >>> import popdyn
        >>> data = popdyn.simulate(popdyn.FreeEnergy("quadratic"), particles=50, snapshots=3)
        >>> run: HoldsDynamics = popdyn.fit(data, "zero")
        >>> run.dynamics.energy.diffusivity
        0.0
    """

    dynamics: Dynamics


def dynamics_of(given: Dynamics | HoldsDynamics, to: str) -> Dynamics:
    """Return dynamics, of a run those that it learned.

    Args:
        given: Either.
        to: What it was given to, for the error.

    Raises:
        PopdynError: If it is neither.

    Example:
        >>> from popdyn.dynamics import FreeEnergy
        >>> dynamics_of(FreeEnergy("quadratic"), to="predict").energy.diffusivity
        0.0
    """
    found = given if isinstance(given, Dynamics) else getattr(given, "dynamics", None)
    if not isinstance(found, Dynamics):
        raise PopdynError(f"{to} was given {type(given).__name__}: expected a run or an energy")
    return found


def total(parts: Iterable[Any]) -> Any:
    """Return the sum of the parts that are not None; None if all are."""
    out = None
    for part in parts:
        if part is not None:
            out = part if out is None else out + part
    return out


def _field(
    value: FieldLike, registry: Registry[Entry], params: Mapping[str, Any], kind: str
) -> ScalarField | None:
    if isinstance(value, str):
        return NamedField(lookup(registry, value, kind), params)
    return unnamed(value, params, kind)


def _circulation(value: FieldLike, params: Mapping[str, Any], V: ScalarField | None) -> Term | None:
    if not isinstance(value, str):
        if callable(value) and not params and not isinstance(value, ScalarField):
            return Drift(value)
        field = unnamed(value, params, "circulation")
        return None if field is None else Circulation(field)
    entry = lookup(CIRCULATIONS, value, "circulation")
    if entry.of_potential and V is None:
        raise PopdynError(f"the circulation '{value}' turns a potential's gradient: expected one")
    named = LevelField(entry, params, V) if entry.of_potential else NamedField(entry, params)
    return Circulation(named, named.params["plane"])
