"""What acts on a population, a class each: terms of L f = b·∇f + βΔf + g f that add up."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from popdyn.base.errors import PopdynError
from popdyn.dynamics.fields import ScalarField, Time, takes_time
from popdyn.dynamics.pairwise import mean_interaction_gradient

__all__ = [
    "Circulation",
    "Diffusion",
    "Drift",
    "Functions",
    "Growth",
    "Interaction",
    "Potential",
    "StateDiffusion",
    "Term",
]


@dataclass(frozen=True)
class Functions:
    """Test functions at n positions.

    Attributes:
        values: f, ``(n, q)``.
        gradients: ∇f, ``(n, q, d)``.
        laplacians: Δf, ``(n, q)``.

    Example:
        >>> import torch
        >>> x = torch.ones(5, 2)
        >>> f = Functions((x**2).sum(1)[:, None], 2 * x[:, None], torch.full((5, 1), 4.0))
        >>> f.values.shape, f.gradients.shape
        (torch.Size([5, 1]), torch.Size([5, 1, 2]))
    """

    values: Tensor
    gradients: Tensor
    laplacians: Tensor


class Term:
    """One thing that physics adds to ∂ₜρ = L*ρ, L f = b·∇f + βΔf + g f.

    A subclass says what it adds to the drift b, to the noise β and to the growth g; what it says
    nothing of it leaves alone. The parts of all terms are summed. Positions have shape
    ``(..., n, d)``, a time is a number or a tensor that broadcasts against ``x[..., 0]``.

    Attributes:
        part: What the term is a part of, such as ``potential``; key of ``Dynamics.terms``.
        conservative: Whether its drift, if it has one, is a gradient of an energy's.
        beta: β where it is one number, always and everywhere; None where ``noise`` has to be asked.

    Example:
        >>> from popdyn.dynamics import Dynamics, FreeEnergy
        >>> turning = Dynamics(FreeEnergy("quadratic"), circulation="rotation")
        >>> {part: term.conservative for part, term in turning.terms.items()}
        {'potential': True, 'circulation': False}
    """

    part: ClassVar[str] = ""
    conservative: ClassVar[bool] = False
    beta: float | None = 0.0

    @property
    def time_dependent(self) -> bool:
        """Whether anything of the term depends on time."""
        return False

    @property
    def interacting(self) -> bool:
        """Whether the drift depends on the other particles."""
        return False

    def time(self, t: Time) -> float | Tensor:
        """Return the time at which a term that depends on it is asked for.

        Raises:
            PopdynError: If there is none: no time is guessed.
        """
        if t is None:
            raise PopdynError(f"'{self.label()}' depends on time, and none was given: expected t")
        return t

    def drift(
        self,
        x: Tensor,
        t: Time = None,
        others: Tensor | None = None,
        weights: Tensor | None = None,
    ) -> Tensor | None:
        """Return the drift b, ``(..., n, d)`` in new memory without a graph; None where it is 0.

        Args:
            x: Positions.
            t: Time.
            others: The population that acts on ``x``, ``(..., m, d)``. None: ``x`` itself, of
                which a particle does not act on itself.
            weights: Masses of the others, ``(..., m)``; 1 if None.
        """
        return None

    def slope(
        self,
        x: Tensor,
        t: Time = None,
        others: Tensor | None = None,
        weights: Tensor | None = None,
    ) -> Tensor | None:
        """Return −b, which what has a gradient gives without a pass over memory; as ``drift``."""
        drift = self.drift(x, t, others, weights)
        return None if drift is None else _negative(drift)

    def noise(self, x: Tensor, t: Time = None) -> float | Tensor | None:
        """Return β ≥ 0, a number or ``(..., n)``; None where it is 0. Itô: Δ(βρ) in ∂ₜρ."""
        return self.beta or None

    def growth(self, x: Tensor, t: Time = None) -> Tensor | None:
        """Return the rate g, ``(..., n)`` in 1/time; None where it is 0."""
        return None

    def generator(
        self, f: Functions, x: Tensor, t: Time = None, others: Tensor | None = None
    ) -> Tensor:
        """Return what the term adds to L f, ``(n, q)``, from the three."""
        out = torch.zeros_like(f.values)
        drift, noise, growth = self.drift(x, t, others), self.noise(x, t), self.growth(x, t)
        if drift is not None:
            out = out + (f.gradients @ drift[..., None])[..., 0]
        if noise is not None:
            beta = noise[..., None] if isinstance(noise, Tensor) else noise
            out = out + beta * f.laplacians
        return out if growth is None else out + growth[..., None] * f.values

    def spec(self) -> Any:
        """Return the JSON that rebuilds the term, or None where nothing could."""
        return None

    def label(self) -> str:
        """Return what a person would call the term."""
        return type(self).__name__


class FieldTerm(Term):
    """A term made of one scalar function of position, and of time."""

    def __init__(self, field: ScalarField) -> None:
        self.field = field

    @property
    def time_dependent(self) -> bool:
        return self.field.time_dependent

    def at(self, t: Time) -> Time:
        """Return the time, which must be there where the field depends on it."""
        return self.time(t) if self.time_dependent else t

    def spec(self) -> Mapping[str, Any] | None:
        return self.field.spec()

    def label(self) -> str:
        return self.field.label()


class Potential(FieldTerm):
    """A potential V(x, t): the drift −∇V."""

    part = "potential"
    conservative = True

    def drift(
        self,
        x: Tensor,
        t: Time = None,
        others: Tensor | None = None,
        weights: Tensor | None = None,
    ) -> Tensor | None:
        return _negative(self.field.gradient(x, self.at(t)))

    def slope(
        self,
        x: Tensor,
        t: Time = None,
        others: Tensor | None = None,
        weights: Tensor | None = None,
    ) -> Tensor | None:
        return self.field.gradient(x, self.at(t))


class Interaction(FieldTerm):
    """An even kernel W(z): the drift −∇W∗ρ, the mean over the others of −∇W(x − y)."""

    part = "interaction"
    conservative = True

    @property
    def interacting(self) -> bool:
        return True

    def drift(
        self,
        x: Tensor,
        t: Time = None,
        others: Tensor | None = None,
        weights: Tensor | None = None,
    ) -> Tensor | None:
        return _negative(self.slope(x, t, others, weights))

    def slope(
        self,
        x: Tensor,
        t: Time = None,
        others: Tensor | None = None,
        weights: Tensor | None = None,
    ) -> Tensor:
        population = x if others is None else others
        return mean_interaction_gradient(
            self.field, x, population, exclude_self=others is None, weights=weights
        )


class Diffusion(Term):
    """A constant diffusivity β: βΔρ in ∂ₜρ, √(2β) dB in dX."""

    part = "diffusion"
    conservative = True

    def __init__(self, beta: float) -> None:
        self.beta: float = beta

    def spec(self) -> float:
        return self.beta

    def label(self) -> str:
        return f"{self.beta:g}"


class StateDiffusion(FieldTerm):
    """A diffusivity β(x, t), isotropic, in Itô's sense: Δ(βρ) in ∂ₜρ, √(2β(X)) dB in dX."""

    part = "diffusion"
    conservative = True
    beta = None

    def noise(self, x: Tensor, t: Time = None) -> float | Tensor | None:
        beta = self.field.value(x, self.at(t))
        if not (beta >= 0).all():  # not a number is not ≥ 0 either
            lowest = float(beta.detach().nan_to_num(nan=-math.inf).min())
            raise PopdynError(
                f"the diffusivity '{self.label()}' is {lowest:g} somewhere: expected numbers ≥ 0"
            )
        return beta


class Growth(FieldTerm):
    """A rate of growth g(x, t), births less deaths: gρ in ∂ₜρ."""

    part = "growth"
    conservative = True

    def growth(self, x: Tensor, t: Time = None) -> Tensor | None:
        with torch.no_grad():
            return self.field.value(x, self.at(t))


class Circulation(FieldTerm):
    """The drift A∇ψ of a stream function ψ(x, t), A antisymmetric: it has no divergence.

    In the plane of two components i and j: b_i = −∂_jψ, b_j = ∂_iψ.

    Args:
        field: ψ; one that has a ``matrix`` says what A is.
        plane: The two components, counted from 1, of a ψ that does not.

    Raises:
        PopdynError: If the plane is not two different components; when called, if positions have
            fewer.
    """

    part = "circulation"

    def __init__(self, field: ScalarField, plane: Sequence[float] = (1, 2)) -> None:
        super().__init__(field)
        numbers = list(plane) if isinstance(plane, Sequence) else [plane]
        if len(numbers) != 2 or any(k != int(k) or k < 1 for k in numbers) or len(set(numbers)) < 2:
            raise PopdynError(
                f"the plane of '{field.label()}' is {numbers}: expected two different components, "
                "counted from 1"
            )
        self.plane = int(numbers[0]) - 1, int(numbers[1]) - 1
        self.matrix: Tensor | None = getattr(field, "matrix", None)

    def drift(
        self,
        x: Tensor,
        t: Time = None,
        others: Tensor | None = None,
        weights: Tensor | None = None,
    ) -> Tensor | None:
        if self.matrix is not None:
            return self.field.gradient(x, self.at(t)) @ self.matrix.to(x).T
        i, j = self.plane
        if max(i, j) >= x.shape[-1]:
            raise PopdynError(
                f"'{self.label()}' turns in the plane of components {i + 1} and {j + 1}: expected "
                f"components up to {x.shape[-1]}, the dimension"
            )
        gradient = self.field.gradient(x, self.at(t))
        out = torch.zeros_like(gradient)
        out[..., i], out[..., j] = -gradient[..., j], gradient[..., i]
        return out


class Drift(Term):
    """A drift of the user's own that need be no gradient: a callable b(x) or b(x, t).

    Args:
        function: On torch tensors, ``(n, d) → (n, d)``; with an argument named ``t`` it is taken
            as time dependent.
    """

    part = "circulation"

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self.function = function
        self._timed = takes_time(function)

    @property
    def time_dependent(self) -> bool:
        return self._timed

    def drift(
        self,
        x: Tensor,
        t: Time = None,
        others: Tensor | None = None,
        weights: Tensor | None = None,
    ) -> Tensor | None:
        flat = x.reshape(-1, x.shape[-1])
        with torch.no_grad():
            if self.time_dependent:
                if isinstance(t, Tensor) and t.ndim:
                    t = t.to(x).expand(x.shape[:-1]).reshape(-1)
                out = self.function(flat, t=self.time(t))
            else:
                out = self.function(flat)
        if not isinstance(out, Tensor) or out.shape != flat.shape:
            found = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
            raise PopdynError(
                f"the callable '{self.label()}' returned {found} for positions of shape "
                f"{tuple(flat.shape)}: expected a tensor of the same shape"
            )
        # A function may return what it was given.
        return out.reshape(x.shape).clone()

    def label(self) -> str:
        return getattr(self.function, "__name__", type(self.function).__name__)


def _negative(gradient: Tensor) -> Tensor:
    return gradient.neg() if gradient.requires_grad else gradient.neg_()
