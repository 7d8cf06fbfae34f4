"""What acts on populations while they move: the sum of the terms, over all others or in batches."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from popdyn.base.errors import PopdynError
from popdyn.dynamics.dynamics import Dynamics, total
from popdyn.dynamics.pairwise import mean_interaction_gradient

__all__ = ["Drive"]

PAIRS_PER_BLOCK = 1 << 20
BLOCKS = 8  # of rows, at least: within each of them a pair is counted from both sides


class Drive:
    """The dynamics on populations ``(..., n, d)``, one for each leading index.

    With ``partners`` the mean of ∇W over all others is replaced by the mean over that many,
    drawn anew in each step (the random batch method): the population is cut at random into
    groups of ``partners + 1`` that interact among themselves. The force keeps its mean and gains
    a variance of Var[∇W]/partners; over many steps h this acts as a further diffusivity of about
    h·Var[∇W]/(2·partners) for each component, so it vanishes with 1/partners and with the step.
    The cost is n·partners instead of n².

    Args:
        dynamics: What acts.
        partners: Others that act on a particle; all if None.
        generator: Draws the groups.

    Attributes:
        weights: Masses of the particles, ``(..., n)``, with which they act on each other; 1 if
            None.

    References:
        Jin, Li and Liu, Random batch methods for interacting particle systems, J. Comput.
        Phys. 400 (2020).
    """

    def __init__(
        self,
        dynamics: Dynamics,
        *,
        partners: int | None = None,
        generator: Generator | None = None,
    ) -> None:
        self.V, self.W, self.beta = dynamics.energy.V, dynamics.energy.W, dynamics.beta
        self.terms = tuple(dynamics.terms.values())
        # What of the drift is no gradient of the energy, by name.
        self.more = ", ".join(term.label() for term in self.terms if not term.conservative)
        self.partners, self.generator = partners, generator
        self.weights: Tensor | None = None
        self._order: Tensor | None = None

    def begin_step(self, x: Tensor) -> None:
        """Draw the groups of the step to come, the same for all its stages."""
        n = x.shape[-2]
        if self.W is not None and self.partners is not None and self.partners < n - 1:
            where = x.device if self.generator is None else self.generator.device
            order = torch.randperm(n, generator=self.generator, device=where)
            self._order = order.to(x.device)
        else:
            self._order = None

    def drift(self, x: Tensor, t: float | Tensor) -> Tensor:
        """Return everything that moves the particles, ``(..., n, d)`` in new memory."""
        return self.slope(x, t).neg_()

    def slope(self, x: Tensor, t: float | Tensor) -> Tensor:
        """Return minus the drift: of an energy its gradient, without one more pass over memory."""
        out: Tensor | None = None
        for term in self.terms:
            if not term.interacting:
                part = term.slope(x, t)
            elif x.shape[-2] < 2:
                continue
            elif self._order is None:
                part = term.slope(x, t, None, self.weights)
            else:
                part = self._batched(x, self._order)
            if part is not None:
                out = part if out is None else out.add_(part)
        return torch.zeros_like(x) if out is None else out

    def stiffness(self, x: Tensor, t: float | Tensor, tau: float | Tensor) -> float:
        """Return the largest rate at which the drift changes along itself, outliers left out.

        Args:
            x: Some of the particles, ``(..., n, d)``.
            t: Time.
            tau: How far to look, of which a tenth is gone: a number, or ``(..., 1, 1)``.
        """
        slope = self.slope(x, t)
        ahead = x - 0.1 * tau * slope
        moved = (ahead - x).norm(dim=-1)
        change = (self.slope(ahead, t) - slope).norm(dim=-1)
        return float((change / moved.clamp_min(1e-12)).flatten().quantile(0.98))

    def noise(self, x: Tensor, t: float | Tensor) -> float | Tensor:
        """Return β, a number where it is one everywhere, or ``(..., n)``."""
        beta = total(term.noise(x, t) for term in self.terms)
        return 0.0 if beta is None else beta  # type: ignore[no-any-return]

    def spread(self, x: Tensor, t: float | Tensor) -> Tensor:
        """Return √(2β(x, t)), ``(..., n, 1)``: what multiplies dB where β depends on the state."""
        beta = torch.as_tensor(self.noise(x, t), dtype=x.dtype, device=x.device)
        return (2.0 * beta).sqrt().expand(x.shape[:-1]).unsqueeze(-1)

    def growth(self, x: Tensor, t: float | Tensor) -> Tensor:
        """Return the rate of growth, ``(..., n)``."""
        rate = total(term.growth(x, t) for term in self.terms)
        return torch.zeros_like(x[..., 0]) if rate is None else rate

    def gradient(self, x: Tensor, t: float | Tensor) -> Tensor:
        """Return ∇V(x, t) + mean of ∇W(x_i − x_j) over the particles that act on i.

        Raises:
            PopdynError: If there is a drift that is no gradient: ask for ``drift``.
        """
        if self.more:
            raise PopdynError(
                f"the drift is no gradient of an energy ({self.more}): expected a scheme that "
                "takes drive.drift"
            )
        if self.W is None or x.shape[-2] < 2:
            return torch.zeros_like(x) if self.V is None else self.V.gradient(x, t)
        if self._order is None:
            out = mean_interaction_gradient(self.W, x, x, exclude_self=True)
        else:
            out = self._batched(x, self._order)
        return out if self.V is None else out.add_(self.V.gradient(x, t))

    def potential(self, x: Tensor, t: float | Tensor) -> Tensor:
        """Return V(x, t), ``(..., n, d) → (..., n)``."""
        return torch.zeros_like(x[..., 0]) if self.V is None else self.V.value(x, t)

    def pair_energy(self, x: Tensor) -> Tensor:
        """Return ½ Σ_i mean over j ≠ i of W(x_i − x_j), ``(..., n, d) → (...)``.

        Up to the constant W(0): half the sum over i of its mean, the gradient of which in x_i
        is the mean over j ≠ i of ∇W(x_i − x_j).
        """
        n, d = x.shape[-2:]
        total = torch.zeros(x.shape[:-2], dtype=x.dtype, device=x.device)
        if self.W is None or n < 2:
            return total
        size = max(1, min(PAIRS_PER_BLOCK // (n * d), n // BLOCKS))
        for first in range(0, n, size):
            # Each pair once, but for those within a block.
            rows, later = x[..., first : first + size, :], x[..., first + size :, :]
            for others, share in ((rows, 0.5), (later, 1.0)):
                if others.shape[-2] == 0:  # a callable need not take no pairs
                    continue
                pairs = rows[..., :, None, :] - others[..., None, :, :]
                total += share * self.W.value(pairs).sum((-2, -1))
        return total / (n - 1)

    def _batched(self, x: Tensor, order: Tensor) -> Tensor:
        assert self.W is not None
        assert self.partners is not None
        n, size = x.shape[-2], self.partners + 1
        # The last group is filled up from the first; those extra members feel nothing here.
        members = torch.cat([order, order[: -n % size]])
        groups = x[..., members, :].unflatten(-2, (-1, size))
        force = torch.zeros_like(groups)
        mass = (
            None if self.weights is None else self.weights[..., members].unflatten(-1, (-1, size))
        )
        for shift in range(1, size):
            pull = self.W.gradient(groups - groups.roll(shift, -2))
            force += pull if mass is None else pull * mass.roll(shift, -1)[..., None]
        out = torch.empty_like(x)
        out[..., order, :] = force.flatten(-3, -2)[..., :n, :] / self.partners
        return out
