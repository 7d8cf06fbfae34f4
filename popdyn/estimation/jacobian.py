"""Derivatives of moments by the unknowns of the weak form, and what is noise in them."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from popdyn.estimation.flow import Drive, Path, Unknowns
from popdyn.families.features import FeatureMap
from popdyn.families.linear import time_basis
from popdyn.families.mean_fields import influence

__all__ = ["JACOBIAN", "Jacobian", "Sensitivity"]

NUMBERS = 8_000_000  # in one block of gradients
WITNESSES = 2000  # particles that the noise of the Jacobian is estimated from
# The same of a V that is alone and stands still: a tenth of a fit, and the same skill to 0.0003. Of
# a V in time one of three fits then had skill 0.994 for 0.999, another did not settle.
WITNESSES_ALONE = 1000
WITNESSES_PAIRED = 250  # the same where one acts through the others
# Components of particles that its correlation with the residuals is estimated from where β is
# learned: sampled at 2000 particles, that correlation was a third of the variance of β.
LEANING = 40_000
JACOBIAN = 20_000  # particles that it is the mean over
# Dimensions times particles that do for its noise, and eight times that for itself: with a quarter
# of them a sum over 50 components had a skill of 0.81 for 0.99, its regressors were that noisy.
RANKS = 100_000
POPULATION = 300  # particles that stand for the others where one acts through them


@dataclass(frozen=True)
class Jacobian:
    """M of an interval with a sample of the particles' own parts in it.

    Attributes:
        mean: M, ``(q, p)``.
        slopes: ∇f where the witnesses arrive, ``(d, n, q)``. Where g is learned, times their
            shares e^ℓ/E e^ℓ, and with one more row, ∂f/∂ℓ: share times f less its mean.
        moves: ∂Φ/∂θ of all but β, ``(d, n, p')``; where g is learned with the row ∂ℓ/∂θ.
        bend: The witnesses' parts in β's column, ``(n, q)``; None where β is not learned.
        through: What the first of them do through others in W's columns, ``(m, q, e)``, or None.
        interaction: Where W's columns are.
        rows: How many particles M is the mean over.
        log_density: V has −β times this in its first unknowns, see :class:`Unknowns`.
    """

    mean: np.ndarray
    slopes: Tensor
    moves: Tensor
    bend: Tensor | None
    through: Tensor | None
    interaction: slice
    rows: int
    log_density: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0))

    @property
    def witnesses(self) -> int:
        """The number n of witnesses."""
        return int(self.slopes.shape[1])

    def leading(self, count: int) -> Jacobian:
        """Return M of the first test functions alone."""
        cut = (slice(None), slice(count))
        return dataclasses.replace(
            self,
            mean=self.mean[:count],
            slopes=self.slopes[..., :count],
            bend=None if self.bend is None else self.bend[cut],
            through=None if self.through is None else self.through[cut],
        )

    def noise(self, weight: np.ndarray, leverage: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Return E[δMᵀ w δM], and Σ m_iᵀ times the witnesses' leverage for E[δMᵀ P δr]."""
        bias, lean, count = self._bias(weight), self._lean(leverage), len(self.log_density)
        if count:
            bias[:, -1] -= bias[:, :count] @ self.log_density
            bias[-1] -= self.log_density @ bias[:count]
            lean[-1] -= self.log_density @ lean[:count]
        return bias, lean

    def along(self, direction: np.ndarray) -> Tensor:
        """Return what each witness adds to M v of a direction v, centred, ``(p,) → (n, q)``."""
        v = direction.copy()
        if len(self.log_density):
            v[: len(self.log_density)] -= self.log_density * v[-1]
        few = self.witnesses if self.through is None else len(self.through)
        own = torch.from_numpy(v).float()
        moved = self.moves[:, :few] @ own[: self.moves.shape[2]]
        parts = torch.einsum("dnq,dn->nq", self.slopes[:, :few], moved)
        if self.through is not None:
            parts += self.through @ own[self.interaction]
        if self.bend is not None:
            parts += self.bend[:few] * own[-1]
        return parts - parts.mean(0)

    def _lean(self, leverage: Tensor) -> np.ndarray:
        lean = np.zeros(self.mean.shape[1])
        along = torch.einsum("dnq,nq->dn", self.slopes, leverage)
        direct = torch.einsum("dnp,dn->p", self.moves, along)
        lean[: len(direct)] = direct.double().numpy() / self.witnesses
        if self.through is not None:
            few = len(self.through)
            others = torch.einsum("nqe,nq->e", self.through, leverage[:few])
            lean[self.interaction] += others.double().numpy() / few
        if self.bend is not None:
            lean[-1] = float((self.bend * leverage).sum(dtype=torch.float64)) / self.witnesses
        return lean

    def _bias(self, weight: np.ndarray) -> np.ndarray:
        """Return E[δMᵀ w δM] from some of the witnesses: a matrix takes fewer than a vector."""
        few = WITNESSES if self.through is None else len(self.through)
        few = min(self.witnesses, few, RANKS // len(self.slopes))
        slopes, moves = self.slopes[:, :few], self.moves[:, :few]
        more = [x for x in (self.through,) if x is not None]
        if self.bend is not None:
            more.append((self.bend[:few] - self.bend[:few].mean(0))[..., None])
        size, w = self.mean.shape[1], torch.from_numpy(weight).float()
        pulled = slopes @ w
        square = torch.einsum("inq,jnq->nij", pulled, slopes)
        bias = np.zeros((size, size))
        own = slice(0, moves.shape[2])
        weighted = _turned(square, moves)
        bias[own, own] = torch.einsum("dnp,dnr->pr", moves, weighted).double().numpy()
        if more:
            extra, where = torch.cat(more, 2), slice(self.interaction.start, size)
            product = torch.einsum("dnq,nqe->dne", pulled, extra)
            mixed = torch.einsum("dnp,dne->pe", moves, product).double().numpy()
            bias[own, where] += mixed
            bias[where, own] += mixed.T
            flat = torch.einsum("qs,nse->nqe", w, extra)
            bias[where, where] += torch.einsum("nqe,nqg->eg", extra, flat).double().numpy()
        mean = torch.einsum("dnq,dnp->qp", slopes, moves).double().numpy() / few
        bias[own, own] -= few * mean.T @ weight @ mean
        return bias / (few * self.rows)


class Sensitivity:
    """How the means of test functions at the end of an interval follow the unknowns.

    Args:
        unknowns: What is learned.
        tests: The test functions' dictionary.
        projection: Their combinations, ``(m, q)``.
        witnessed: Whether the noise of the Jacobian is asked for.
        massed: Whether the first test function is 1, the equation of the mass.
    """

    def __init__(
        self,
        unknowns: Unknowns,
        tests: FeatureMap,
        projection: Tensor,
        witnessed: bool = True,
        massed: bool = False,
    ) -> None:
        self.unknowns, self.tests, self.projection = unknowns, tests, projection
        self.witnessed, self.massed = witnessed, massed
        self.count = projection.shape[1] + massed

    def through_others(self, weights: Tensor, path: Path, tau: float, rows: int) -> Tensor:
        """Return what each particle does to the mean of f by moving the others, centred."""
        assert self.unknowns.radial is not None
        middle = path.middles[len(path.middles) // 2]
        others = middle[:POPULATION]
        _, gradients = self.tests.gradients(path.end[:POPULATION])
        x = middle[:rows]
        out = influence(self.unknowns.radial, weights, x, others, gradients @ self.projection)
        return (out - out.mean(0)).mul_(-tau)

    def jacobian(
        self, drive: Drive, path: Path, most: int = JACOBIAN, moved: Tensor | None = None
    ) -> Jacobian:
        """Return M of an interval: derivatives of E f∘Φ_θ by the unknowns, ``(q, p)``.

        Args:
            drive: The state.
            path: The run.
            most: It is the mean over at most so many particles.
            moved: f∘Φ less its mean times the particles' shares, ``(n, q)``; for g alone.
        """
        unknowns = self.unknowns
        n, d = path.end.shape
        # A particle's part is a matrix of rank d: the more dimensions, the fewer particles do.
        rows = min(n, most, max(WITNESSES, 8 * RANKS // d))
        noisy = unknowns.diffusivity is None
        needed = WITNESSES_ALONE if unknowns.plain else WITNESSES
        witnesses = min(rows, LEANING // d if noisy else min(needed, RANKS // d))
        witnesses *= self.witnessed
        fields = [self._fields(middle) for middle in path.middles]
        shares, _ = path.shares()
        bend: Tensor | None = None
        total = torch.zeros(self.count, unknowns.size, dtype=torch.float64)
        block = max(256, NUMBERS // (d * (self.count + d)))
        edges = [0, *range(witnesses, rows, block), rows]
        for part in (slice(a, b) for a, b in itertools.pairwise(edges)):
            turns, spread = self._turns(drive, path, part)
            along = self._seen(self.tests.gradient_of(path.end[part], self.projection))
            if unknowns.rates is not None and moved is not None:
                grown = moved[part]
                if self.massed:  # its equation has log E e^ℓ, of which no mean is taken off
                    grown = torch.cat([shares[part, None], grown[:, 1:]], 1)
                along = torch.cat([along.mul_(shares[part, None]), grown[None]])
            if part.stop <= witnesses:
                # Of the witnesses every particle's own part is known, of the others the sum.
                slopes, moves = along, self._moves(path, fields, part, turns)
                own = sum((a.T @ b).double() for a, b in zip(slopes, moves, strict=True))
            else:
                own = self._pulled(path, fields, part, turns, along)
            total[:, : unknowns.interaction.stop] += own
            if spread is not None:
                bent = self.tests.contracted(path.end[part], spread) @ self.projection
                bent = self._seen(bent).mul_(shares[part, None])
                total[:, -1] += bent.sum(0, dtype=torch.float64)
                bend = bent - bent.mean(0) if part.stop <= witnesses else bend
        through = None
        if unknowns.radial is not None:
            weights = torch.from_numpy(unknowns.radial_mixing)
            tau = path.step * len(path.middles)
            through = self.through_others(weights, path, tau, min(witnesses, WITNESSES_PAIRED))
        mean, log_density = (total / rows).numpy(), unknowns.log_density
        if len(log_density):
            mean[:, -1] -= mean[:, : len(log_density)] @ log_density
        own = unknowns.interaction
        return Jacobian(mean, slopes, moves, bend, through, own, rows, log_density)

    def _seen(self, columns: Tensor) -> Tensor:
        """Return columns for the tests, 0 of the one that is 1, ``(..., q') → (..., q)``."""
        return torch.nn.functional.pad(columns, (1, 0)) if self.massed else columns

    def _fields(self, x: Tensor) -> Tensor | None:
        # W may have lost all its functions to the evidence.
        if self.unknowns.fields is None or not self.unknowns.radial_mixing.size:
            return None
        weights = torch.from_numpy(self.unknowns.radial_mixing)
        return self.unknowns.fields.gradients(x, x, weights) * (len(x) / (len(x) - 1))

    def _turns(
        self, drive: Drive, path: Path, part: slice
    ) -> tuple[list[tuple[Tensor, Tensor]], Tensor | None]:
        """Return each step's push P and gain G, ``(n, d, d)``, and ½∂/∂β of the covariance.

        Implicit midpoint steps along the path take ∂Φ to G ∂Φ − P ∂force, P = h (1 + h∇²V/2)⁻¹;
        what W does by way of the others' moves, and what β does to ℓ, is left out: the solution
        does not depend on it, only how fast it is found. Where g is learned ℓ is one more
        component, with the force −g in the middle of the step.
        """
        h, eye = path.step, torch.eye(path.end.shape[1])
        turns = []
        spread: Tensor | None = None
        for middle, t in zip(path.middles, path.times, strict=True):
            bend = (0.5 * h) * drive.bend(middle[part], t)
            size = bend.flatten(1).norm(dim=1).clamp_min(1e-12)
            bend *= (0.75 / size).clamp_max(1.0)[:, None, None]
            inverse = torch.linalg.inv(eye + bend)
            gain = inverse @ (eye - bend)
            if self.unknowns.diffusivity is None:
                fresh = h * inverse @ inverse.mT
                spread = fresh if spread is None else gain @ spread @ gain.mT + fresh
            push = h * inverse
            if self.unknowns.rates is not None:
                push, gain = _grown(drive, middle[part], h, push, gain)
            turns.append((push, gain))
        return turns, spread

    def _moves(
        self,
        path: Path,
        fields: list[Tensor | None],
        part: slice,
        turns: list[tuple[Tensor, Tensor]],
    ) -> Tensor:
        """Return ∂Φ/∂θ for all but β, ``(d, n, p)``, step by step; where g is learned of ℓ too."""
        unknowns, moves = self.unknowns, None
        mixing = torch.from_numpy(unknowns.mixing).float()
        for middle, t, field, (push, gain) in zip(
            path.middles, path.times, fields, turns, strict=True
        ):
            x, columns = middle[part], []
            if unknowns.features is not None:
                slopes = unknowns.features.gradient_of(x, mixing)
                columns = [slopes * b for b in self._time_basis(t, path.step)]
            if unknowns.rates is not None:
                grow = unknowns.rates.columns(x)
                columns = [torch.nn.functional.pad(c, (0, 0, 0, 0, 0, 1)) for c in columns]
                columns.append(torch.cat([grow.new_zeros(x.shape[1], *grow.shape), -grow[None]]))
            if unknowns.streams is not None:
                stream = unknowns.streams.columns(x)
                if unknowns.rates is not None:
                    stream = torch.nn.functional.pad(stream, (0, 0, 0, 0, 0, 1))
                columns.append(stream)
            if field is not None:
                columns.append(field[:, part])
            force = torch.cat(columns, 2) if columns else x.new_zeros(*x.T.shape, 0)
            pushed = _turned(push, force)
            if moves is not None:
                pushed -= _turned(gain, moves)
            moves = pushed.neg_()
        assert moves is not None
        return moves

    def _pulled(
        self,
        path: Path,
        fields: list[Tensor | None],
        part: slice,
        turns: list[tuple[Tensor, Tensor]],
        along: Tensor,
    ) -> Tensor:
        """Return Σ_n ∇f · ∂Φ/∂θ for all but β, ``(q, p)``: the steps backwards, from the end.

        It costs as many columns as there are tests, whatever the number of unknowns.
        """
        unknowns, own = self.unknowns, []
        mixing = torch.from_numpy(unknowns.mixing)
        held = along.new_zeros(unknowns.times, self.count, len(mixing), dtype=torch.float64)
        pair = along.new_zeros(self.count, unknowns.radial_mixing.shape[1], dtype=torch.float64)
        sizes = [part.stop - part.start for part in (unknowns.growth, unknowns.circulation)]
        grow, turn = (along.new_zeros(self.count, size, dtype=torch.float64) for size in sizes)
        dim = path.end.shape[1]
        for i in reversed(range(len(turns))):
            middle, t, field, (push, gain) = path.middles[i], path.times[i], fields[i], turns[i]
            pull = _turned(push.mT, along)
            if unknowns.rates is not None:
                grow += unknowns.rates.pulled(middle[part], pull[dim])
                pull = pull[:dim]
            if unknowns.streams is not None:
                turn -= unknowns.streams.pulled(middle[part], pull)
            if unknowns.features is not None:
                pulled = unknowns.features.pulled(middle[part], pull)
                held -= self._time_basis(t, path.step)[:, None, None] * pulled
            if field is not None:
                for a, b in zip(pull, field[:, part], strict=True):
                    pair -= a.T @ b
            if i > 0:
                along = _turned(gain.mT, along)
        own = [*(held @ mixing), grow, turn, pair]
        return torch.cat(own, 1)

    def _time_basis(self, t: float, h: float) -> Tensor:
        """Return the mean of the polynomials in time over a step around t, exact for cubics.

        Where a step is a good part of the span, their values in its middle miss most of what they
        do, and Gauss–Newton steps would go where the Jacobian does not see.
        """
        nodes = torch.tensor([t - 0.5 * h, t, t + 0.5 * h])
        values = time_basis(nodes, self.unknowns.span, self.unknowns.times)
        return torch.tensor([1.0, 4.0, 1.0]) @ values / 6.0


def _grown(drive: Drive, x: Tensor, h: float, push: Tensor, gain: Tensor) -> tuple[Tensor, Tensor]:
    """Return push and gain with ℓ as one more component, ``(n, d + 1, d + 1)`` each.

    ℓ grows by h·g in the middle of the step, which moves by half of what both ends do.
    """
    d = x.shape[1]
    push, gain = (torch.nn.functional.pad(part, (0, 1, 0, 1)) for part in (push, gain))
    if drive.rate is not None and drive.unknowns.rates is not None:
        slope = (0.5 * h) * drive.unknowns.rates.gradient(x, drive.rate)[:, None]
        push[:, d:, :d] = slope @ push[:, :d, :d]
        gain[:, d:, :d] = slope + slope @ gain[:, :d, :d]
    push[:, d, d], gain[:, d, d] = h, 1.0
    return push, gain


def _turned(matrix: Tensor, rows: Tensor) -> Tensor:
    """Return each particle's matrix times its rows, ``(n, c, d), (d, n, p) → (c, n, p)``."""
    if len(rows) > 3:
        return torch.einsum("nij,jnp->inp", matrix, rows)
    out = rows.new_empty(matrix.shape[1], *rows.shape[1:])
    for i, row in enumerate(out):
        torch.mul(rows[0], matrix[:, i, :1], out=row)
        for j in range(1, len(rows)):
            row.addcmul_(rows[j], matrix[:, i, j, None])
    return out
