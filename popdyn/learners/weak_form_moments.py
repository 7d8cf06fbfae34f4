"""Moment equations E_{k+1} f = E_k f∘Φ_θ of all intervals, linearised, with their exact noise."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

from popdyn.learners.features import FeatureMap
from popdyn.learners.weak_form_fields import influence
from popdyn.learners.weak_form_model import Drive, Path, Unknowns
from popdyn.learners.weak_form_noise import SharedNoise, covariance
from popdyn.learners.weak_form_terms import time_basis

__all__ = ["Equations", "Jacobian", "Linearised", "MomentEquations", "quadrature"]

NUMBERS = 8_000_000  # in one block of gradients
SAMPLE = 1000  # particles that a linear function of f is fitted to
WITNESSES = 2000  # particles that the noise of the Jacobian is estimated from
WITNESSES_PAIRED = 250  # the same where one acts through the others
# Components of particles that its correlation with the residuals is estimated from where β is
# learned: sampled at 2000 particles, that correlation was a third of the variance of β.
LEANING = 40_000
JACOBIAN = 20_000  # particles that it is the mean over
# Dimensions times particles that do for its noise, and eight times that for itself: with a quarter
# of them a sum over 50 components had a skill of 0.81 for 0.99, its regressors were that noisy.
RANKS = 100_000
POPULATION = 300  # particles that stand for the others where one acts through them


@dataclass
class Equations:
    """The moment equations at a state θ.

    Attributes:
        theta: The state.
        residuals: E_{k+1} f − E_k f∘Φ_θ, ``(K, q)``.
        covariance: Its covariance as the diagonal and upper blocks, ``(K, q, q)``, ``(K−1, q, q)``.
        paths: The runs.
        moved: f∘Φ_θ with what a particle does through the others, centred, ``(n_k, q)`` each.
    """

    theta: np.ndarray
    residuals: np.ndarray
    covariance: tuple[np.ndarray, np.ndarray]
    paths: list[Path]
    moved: list[Tensor]

    def __post_init__(self) -> None:
        self.inverse, self.half, self.back = _tridiagonal(self.covariance)

    def misfit(self, residuals: np.ndarray) -> float:
        """Return rᵀ C⁻¹ r of residuals, ``(K, q)``, with the noise of this state."""
        return float(np.square(self.half(residuals[..., None])).sum())


@dataclass(frozen=True)
class Linearised:
    """The weighted normal equations, A θ = b with noise of covariance ``spread``.

    Attributes:
        matrix: A, free of the bias that noisy regressors have.
        right: b, likewise.
        spread: The covariance of b − A θ at the truth.
        misfit: rᵀ C⁻¹ r.
        score: Mᵀ C⁻¹ r, from which the misfit after a step follows.
        count: Number of moment equations.
    """

    matrix: np.ndarray
    right: np.ndarray
    spread: np.ndarray
    misfit: float
    score: np.ndarray
    count: int

    def misfit_after(self, step: np.ndarray) -> float:
        """Return rᵀ C⁻¹ r after a step, to first order."""
        return float(self.misfit - 2.0 * step @ self.score + step @ self.spread @ step)

    def dispersed(self, factor: float) -> Linearised:
        """Return the same equations with noise of a larger variance."""
        return dataclasses.replace(
            self,
            matrix=self.matrix / factor,
            right=self.right / factor,
            spread=self.spread / factor,
        )


class MomentEquations:
    """Test functions on a set of snapshots.

    Args:
        unknowns: What is learned.
        tests: The test functions' dictionary.
        weights: Combinations of it, each as large as it is thought to matter, ``(m, p)``.
        snapshots: Particles, ``(n_k, d)`` float32 each.
        times: t_k, ``(K + 1,)``.
        count: Largest number q of test functions: the leading principal components of the
            dictionary over all snapshots.
        seed: Seeds the noise of the runs.
        correct: Whether the bias of noisy regressors is taken off.
    """

    def __init__(
        self,
        unknowns: Unknowns,
        tests: FeatureMap,
        weights: np.ndarray,
        snapshots: Sequence[Tensor],
        times: np.ndarray,
        count: int,
        seed: int,
        correct: bool = True,
    ) -> None:
        self.unknowns, self.tests, self.snapshots, self.times = unknowns, tests, snapshots, times
        self.seed, self.correct = seed, correct
        values = [tests.values(x) for x in snapshots]
        pooled = sum(covariance(v - v.mean(0), v - v.mean(0)) for v in values) / len(values)
        strengths, vectors = np.linalg.eigh(weights.T @ pooled @ weights)
        kept = np.flatnonzero(strengths > 1e-7 * strengths[-1])[::-1][:count]
        combined = vectors[:, kept] / np.sqrt(strengths[kept])
        self.projection = torch.from_numpy(weights @ combined).float()
        self.count = len(kept)
        self.observed, self.means = [], []
        for v in values:
            own = v @ self.projection
            mean = own.mean(0, dtype=torch.float64)
            self.means.append(mean)
            self.observed.append(own - mean.float())
        self.cuts = [(1, 1)] * (len(snapshots) - 1)
        self.spreads = [covariance(f, f) for f in self.observed]

    def evaluate(self, theta: np.ndarray) -> Equations:
        """Run every snapshot for its interval under θ and compare with the next one."""
        drive = Drive(self.unknowns, theta)
        paths, moved, residuals = [], [], []
        shared = SharedNoise(self.spreads)
        for k, tau in enumerate(np.diff(self.times)):
            start = float(self.times[k])
            # Never fewer steps than before: with another number of them the noise is another, and
            # states that ask for two numbers in turns would never settle.
            wanted = drive.steps(self.snapshots[k], start, float(tau))
            self.cuts[k] = (max(wanted[0], self.cuts[k][0]), max(wanted[1], self.cuts[k][1]))
            seed = [self.seed, 3, k]
            path = drive.run(self.snapshots[k], start, float(tau), seed, self.cuts[k])
            values = self.tests.values(path.end) @ self.projection
            mean = values.mean(0, dtype=torch.float64)
            residuals.append((self.means[k + 1] - mean).numpy())
            values -= mean.float()
            if drive.pulled:
                # As a linear function of f∘Φ itself, fitted to a sample.
                through = self._through_others(drive.kernel, path, float(tau), SAMPLE)[..., 0]
                sample = values[:SAMPLE].double()
                gram = sample.T @ sample
                gram.diagonal().mul_(1.0 + 1e-3)
                alone = covariance(values, values)
                values += values @ torch.linalg.solve(gram, sample.T @ through.double()).float()
                shared.follow(k, self.observed[k], values, alone)
            paths.append(path)
            moved.append(values)
        noise = self._covariance(moved, shared)
        return Equations(theta, np.stack(residuals), noise, paths, moved)

    def _through_others(self, weights: Tensor, path: Path, tau: float, rows: int) -> Tensor:
        """Return what each particle does to the mean of f by moving the others, centred."""
        assert self.unknowns.radial is not None
        middle = path.middles[len(path.middles) // 2]
        others = middle[:POPULATION]
        _, gradients = self.tests.gradients(path.end[:POPULATION])
        x = middle[:rows]
        out = influence(self.unknowns.radial, weights, x, others, gradients @ self.projection)
        return (out - out.mean(0)).mul_(-tau)

    def _covariance(
        self, moved: list[Tensor], shared: SharedNoise
    ) -> tuple[np.ndarray, np.ndarray]:
        K, q = len(moved), self.count
        diagonal, upper = np.zeros((K, q, q)), np.zeros((K - 1, q, q))
        for k in range(K):
            here, ahead = len(moved[k]), len(self.observed[k + 1])
            diagonal[k] = (covariance(moved[k], moved[k]) + shared.carried(k)) / here
            diagonal[k] += (self.spreads[k + 1] + shared.excess[k + 1]) / ahead
            diagonal[k][np.diag_indices(q)] *= 1.0 + 1e-5
            if k > 0:
                both = covariance(self.observed[k], moved[k]) + shared.excess[k] @ shared.gain[k]
                upper[k - 1] = -both / here
        return diagonal, upper

    def jacobians(self, at: Equations) -> list[Jacobian]:
        """Return M of each interval at a state: the derivatives of E_k f∘Φ_θ by the unknowns."""
        # At the zero state nothing moves: M from the snapshots around the interval instead.
        drive = Drive(self.unknowns, at.theta)
        if drive.driven or drive.beta > 0:
            return [self._part(at, k, None) for k in range(len(at.paths))]
        last = len(at.paths) - 1
        ends = [self._part(at, min(k, last), k) for k in range(last + 2)]
        rates = np.stack([end.mean / at.paths[min(k, last)].step for k, end in enumerate(ends)])
        means = np.tensordot(quadrature(self.times), rates, 1)
        return [dataclasses.replace(end, mean=m) for m, end in zip(means, ends, strict=False)]

    def linearise(
        self, at: Equations, parts: Sequence[Jacobian], prior: np.ndarray | None = None
    ) -> Linearised:
        """Return the normal equations of generalised least squares around a state.

        The Jacobian M is a sample mean too. Its noise would add B = E[δMᵀC⁻¹δM] to MᵀC⁻¹M and
        correlate it with the residuals; both are computed from the particles and taken off, which
        leaves the sum over pairs of different particles: the mean over all ways to split the
        sample in a regressor's and an instrument's half. What is left has the covariance MᵀC⁻¹M.
        C is a sample covariance and leans with the residuals as well where the particles are
        skewed. Both correlations are with that part of a particle's noise which the estimate does
        not follow: P = C⁻¹ − C⁻¹M(MᵀC⁻¹M + R)⁻¹MᵀC⁻¹, R the prior's precision.

        Args:
            at: The state.
            parts: Its Jacobians.
            prior: R, ``(p,)``; None where it is not known yet, and C⁻¹ stands for P.

        References:
            Newey and Smith, Econometrica 72 (2004) 219: the terms B_G and B_Ω of the bias.
        """
        jacobian = np.stack([part.mean for part in parts])
        M, r = at.half(jacobian), at.half(at.residuals[..., None])[:, 0]
        raw, score = M.T @ M, M.T @ r
        bias, leaning, tilt = np.zeros_like(raw), np.zeros_like(score), np.zeros_like(at.residuals)
        pull, known = at.back(M), np.zeros_like(raw)
        if prior is not None:
            use = np.flatnonzero(np.isfinite(prior))
            square = np.ix_(use, use)
            known[square] = np.linalg.inv(raw[square] + np.diag(prior[use]))
        for k in range(len(self.snapshots) if self.correct else 0):
            part = parts[min(k, len(parts) - 1)]
            leverage = self._leverages(at, k, part.witnesses, pull, known, tilt)
            if k < len(parts):
                noise, lean = part.noise(at.inverse[0][k], leverage)
                bias += noise
                leaning += lean
        matrix = raw - bias
        right = score - leaning + np.einsum("kqp,kq->p", pull, tilt) + matrix @ at.theta
        return Linearised(matrix, right, raw, float(r @ r), score, at.residuals.size)

    def _leverages(
        self,
        at: Equations,
        k: int,
        witnesses: int,
        pull: np.ndarray,
        known: np.ndarray,
        tilt: np.ndarray,
    ) -> Tensor:
        """Return P u_i in interval k for the first particles of snapshot k, and add to the tilt.

        u_i is what a particle puts in the residuals: by where it is in those of the interval
        before, ``+f/n``, by where it goes in those of its own, ``−f∘Φ/n``. The tilt is
        E[δC P δr] = Σ u_i (u_iᵀ P u_i), ``(K, q)``.
        """
        here, n = [], len(self.observed[k])
        if k > 0:
            here.append((k - 1, self.observed[k][:witnesses] / n))
        if k < len(at.moved):
            here.append((k, at.moved[k][:witnesses] / -n))
        here = [(j, u - u.mean(0)) for j, u in here]
        out, share = [], here[0][1].new_zeros(len(here[0][1]))
        for j, u in here:
            Pu = torch.zeros_like(u)
            for i, v in here:
                block = at.inverse[0][j] if i == j else at.inverse[1][min(i, j)]
                block = (block.T if i > j else block) - pull[i] @ known @ pull[j].T
                Pu += v @ torch.from_numpy(block).float()
            out.append(Pu)
            share += (u * Pu).sum(1)
        for j, u in here:
            tilt[j] += n * ((share - share.mean()) @ u).double().numpy() / len(u)
        return out[-1]

    def _part(self, at: Equations, k: int, still: int | None) -> Jacobian:
        """Return M of an interval: derivatives of E_k f∘Φ_θ by the unknowns, ``(q, p)``."""
        unknowns, drive = self.unknowns, Drive(self.unknowns, at.theta)
        path = at.paths[k]
        if still is not None:
            x = self.snapshots[still]
            path = Path(x, [x], path.times, path.step)
        n, d = path.end.shape
        # A particle's part is a matrix of rank d: the more dimensions, the fewer particles do.
        rows = min(n, JACOBIAN, max(WITNESSES, 8 * RANKS // d))
        noisy = unknowns.diffusivity is None
        witnesses = min(rows, LEANING // d if noisy else min(WITNESSES, RANKS // d))
        fields = [self._fields(middle) for middle in path.middles]
        bend: Tensor | None = None
        total = torch.zeros(self.count, unknowns.size, dtype=torch.float64)
        block = max(256, NUMBERS // (d * (self.count + d)))
        edges = [0, *range(witnesses, rows, block), rows]
        for part in (slice(a, b) for a, b in itertools.pairwise(edges)):
            turns, spread = self._turns(drive, path, part)
            along = self.tests.gradient_of(path.end[part], self.projection)
            if part.start == 0:
                # Of the witnesses every particle's own part is known, of the others the sum.
                slopes, moves = along, self._moves(path, fields, part, turns)
                own = sum((a.T @ b).double() for a, b in zip(slopes, moves, strict=True))
            else:
                own = self._pulled(path, fields, part, turns, along)
            total[:, : unknowns.interaction.stop] += own
            if spread is not None:
                bent = self.tests.contracted(path.end[part], spread) @ self.projection
                total[:, -1] += bent.sum(0, dtype=torch.float64)
                bend = bent - bent.mean(0) if part.start == 0 else bend
        through = None
        if unknowns.radial is not None:
            weights = torch.from_numpy(unknowns.radial_mixing)
            tau = path.step * len(path.middles)
            through = self._through_others(weights, path, tau, min(witnesses, WITNESSES_PAIRED))
        mean = (total / rows).numpy()
        return Jacobian(mean, slopes, moves, bend, through, unknowns.interaction, rows)

    def _fields(self, x: Tensor) -> Tensor | None:
        if self.unknowns.fields is None:
            return None
        weights = torch.from_numpy(self.unknowns.radial_mixing)
        return self.unknowns.fields.gradients(x, x, weights) * (len(x) / (len(x) - 1))

    def _turns(
        self, drive: Drive, path: Path, part: slice
    ) -> tuple[list[tuple[Tensor, Tensor]], Tensor | None]:
        """Return each step's push P and gain G, ``(n, d, d)``, and ½∂/∂β of the covariance.

        Implicit midpoint steps along the path take ∂Φ to G ∂Φ − P ∂force, P = h (1 + h∇²V/2)⁻¹;
        what W does by way of the others' moves is left out: the solution does not depend on it,
        only how fast it is found.
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
            turns.append((h * inverse, gain))
        return turns, spread

    def _moves(
        self,
        path: Path,
        fields: list[Tensor | None],
        part: slice,
        turns: list[tuple[Tensor, Tensor]],
    ) -> Tensor:
        """Return ∂Φ/∂θ for V and W, ``(d, n, p)``, step by step."""
        unknowns, moves = self.unknowns, None
        mixing = torch.from_numpy(unknowns.mixing).float()
        for middle, t, field, (push, gain) in zip(
            path.middles, path.times, fields, turns, strict=True
        ):
            x, columns = middle[part], []
            if unknowns.features is not None:
                slopes = unknowns.features.gradient_of(x, mixing)
                columns = [slopes * b for b in self._time_basis(t, path.step)]
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
        """Return Σ_n ∇f · ∂Φ/∂θ for V and W, ``(q, p)``: the steps backwards, from ∇f at the end.

        It costs as many columns as there are tests, whatever the number of unknowns.
        """
        unknowns, own = self.unknowns, []
        mixing = torch.from_numpy(unknowns.mixing)
        held = along.new_zeros(unknowns.times, self.count, len(mixing), dtype=torch.float64)
        pair = along.new_zeros(self.count, unknowns.radial_mixing.shape[1], dtype=torch.float64)
        for i in reversed(range(len(turns))):
            middle, t, field, (push, gain) = path.middles[i], path.times[i], fields[i], turns[i]
            pull = _turned(push.mT, along)
            if unknowns.features is not None:
                pulled = unknowns.features.pulled(middle[part], pull)
                held -= self._time_basis(t, path.step)[:, None, None] * pulled
            if field is not None:
                for a, b in zip(pull, field[:, part], strict=True):
                    pair -= a.T @ b
            if i > 0:
                along = _turned(gain.mT, along)
        own = [*(held @ mixing), pair]
        return torch.cat(own, 1)

    def _time_basis(self, t: float, h: float) -> Tensor:
        """Return the mean of the polynomials in time over a step around t, exact for cubics.

        Where a step is a good part of the span, their values in its middle miss most of what they
        do, and Gauss–Newton steps would go where the Jacobian does not see.
        """
        nodes = torch.tensor([t - 0.5 * h, t, t + 0.5 * h])
        values = time_basis(nodes, self.unknowns.span, self.unknowns.times)
        return torch.tensor([1.0, 4.0, 1.0]) @ values / 6.0


@dataclass(frozen=True)
class Jacobian:
    """M of an interval with a sample of the particles' own parts in it.

    Attributes:
        mean: M, ``(q, p)``.
        slopes: ∇f where the witnesses arrive, ``(d, n, q)``.
        moves: ∂Φ/∂θ of V and W, ``(d, n, p')``.
        bend: The witnesses' parts in β's column, ``(n, q)``; None where β is not learned.
        through: What the first of them do through others in W's columns, ``(m, q, e)``, or None.
        interaction: Where W's columns are.
        rows: How many particles M is the mean over.
    """

    mean: np.ndarray
    slopes: Tensor
    moves: Tensor
    bend: Tensor | None
    through: Tensor | None
    interaction: slice
    rows: int

    @property
    def witnesses(self) -> int:
        """The number n of witnesses."""
        return int(self.slopes.shape[1])

    def noise(self, weight: np.ndarray, leverage: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Return E[δMᵀ w δM], and Σ m_iᵀ times the witnesses' leverage for E[δMᵀ P δr]."""
        return self._bias(weight), self._lean(leverage)

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


def quadrature(times: np.ndarray) -> np.ndarray:
    """Return weights of integrals over the intervals on the values at all times, ``(K, K + 1)``.

    They are exact for cubics through the four times around an interval, for lower degrees where
    there are fewer times.
    """
    K = len(times) - 1
    degree = min(3, K)
    out = np.zeros((K, K + 1))
    for k, tau in enumerate(np.diff(times)):
        first = min(max(0, k - 1), K - degree)
        nodes = np.arange(first, first + degree + 1)
        powers = np.vander((times[nodes] - times[k]) / tau, increasing=True).T
        out[k, nodes] = tau * np.linalg.solve(powers, 1.0 / np.arange(1, degree + 2))
    return out


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


def _tridiagonal(covariance: tuple[np.ndarray, np.ndarray]):  # type: ignore[no-untyped-def]
    """Factor a block tridiagonal matrix.

    Returns:
        The diagonal and upper blocks of its inverse; a function that maps ``(K, q, p)`` to
        L⁻¹ of it, ``(K q, p)``, for C = L Lᵀ; and one that maps that to C⁻¹ of it, ``(K, q, p)``.
    """
    diagonal, upper = covariance
    K = len(diagonal)
    factors, links = [], []
    schur = diagonal[0]
    for k in range(K):
        factors.append(np.linalg.cholesky(schur))
        if k + 1 < K:
            link = scipy.linalg.solve_triangular(factors[k], upper[k], lower=True)
            links.append(link)
            schur = diagonal[k + 1] - link.T @ link

    def half(right: np.ndarray) -> np.ndarray:
        out: list[np.ndarray] = []
        for k in range(K):
            rest = right[k] - links[k - 1].T @ out[-1] if k else right[k]
            out.append(scipy.linalg.solve_triangular(factors[k], rest, lower=True))
        return np.concatenate(out)

    def back(left: np.ndarray) -> np.ndarray:
        out = left.reshape(K, -1, left.shape[1]).copy()
        for k in reversed(range(K)):
            if k + 1 < K:
                out[k] -= links[k] @ out[k + 1]
            out[k] = scipy.linalg.solve_triangular(factors[k].T, out[k], lower=False)
        return out

    own, above = np.zeros_like(diagonal), np.zeros_like(upper)
    eye = np.eye(diagonal.shape[1])
    for k in reversed(range(K)):
        own[k] = scipy.linalg.cho_solve((factors[k], True), eye)
        if k + 1 < K:
            gain = scipy.linalg.solve_triangular(factors[k].T, links[k], lower=False)
            above[k] = -gain @ own[k + 1]
            own[k] += gain @ own[k + 1] @ gain.T
    return (own, above), half, back
