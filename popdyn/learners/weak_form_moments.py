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
from popdyn.learners.weak_form_terms import time_basis

__all__ = ["Equations", "Jacobian", "Linearised", "MomentEquations", "quadrature"]

NUMBERS = 8_000_000  # in one block of gradients
SAMPLE = 1000  # particles that a linear function of f is fitted to
WITNESSES = 2000  # particles that the noise of the Jacobian is estimated from
WITNESSES_PAIRED = 250
JACOBIAN = 20_000  # particles that it is the mean over
RANKS = 25_000  # dimensions times particles that do for its noise; eight times that for itself
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
        self.inverse, self.half = _tridiagonal(self.covariance)

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
        pooled = sum(_covariance(v - v.mean(0), v - v.mean(0)) for v in values) / len(values)
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
        self.noise = [_covariance(f, f) / len(f) for f in self.observed]

    def evaluate(self, theta: np.ndarray) -> Equations:
        """Run every snapshot for its interval under θ and compare with the next one."""
        drive = Drive(self.unknowns, theta)
        paths, moved, residuals = [], [], []
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
                values += values @ torch.linalg.solve(gram, sample.T @ through.double()).float()
            paths.append(path)
            moved.append(values)
        return Equations(theta, np.stack(residuals), self._covariance(moved), paths, moved)

    def _through_others(self, weights: Tensor, path: Path, tau: float, rows: int) -> Tensor:
        """Return what each particle does to the mean of f by moving the others, centred."""
        assert self.unknowns.radial is not None
        middle = path.middles[len(path.middles) // 2]
        others = middle[:POPULATION]
        _, gradients = self.tests.gradients(path.end[:POPULATION])
        x = middle[:rows]
        out = influence(self.unknowns.radial, weights, x, others, gradients @ self.projection)
        return (out - out.mean(0)).mul_(-tau)

    def _covariance(self, moved: list[Tensor]) -> tuple[np.ndarray, np.ndarray]:
        K, q = len(moved), self.count
        diagonal, upper = np.zeros((K, q, q)), np.zeros((K - 1, q, q))
        for k in range(K):
            diagonal[k] = _covariance(moved[k], moved[k]) / len(moved[k])
            diagonal[k] += self.noise[k + 1]
            diagonal[k][np.diag_indices(q)] *= 1.0 + 1e-5
            if k > 0:
                upper[k - 1] = -_covariance(self.observed[k], moved[k]) / len(moved[k])
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
        return [Jacobian(m, end.factors) for m, end in zip(means, ends, strict=False)]

    def linearise(self, at: Equations, parts: Sequence[Jacobian]) -> Linearised:
        """Return the normal equations of generalised least squares around a state.

        The Jacobian M is a sample mean too. Its noise would add B = E[δMᵀC⁻¹δM] to MᵀC⁻¹M and
        correlate it with the residuals; both are computed from the particles and taken off, which
        leaves the sum over pairs of different particles: the mean over all ways to split the
        sample in a regressor's and an instrument's half. What is left has the covariance MᵀC⁻¹M.

        Args:
            at: The state.
            parts: Its Jacobians.
        """
        jacobian = np.stack([part.mean for part in parts])
        M, r = at.half(jacobian), at.half(at.residuals[..., None])[:, 0]
        raw, score = M.T @ M, M.T @ r
        bias, leaning = np.zeros_like(raw), np.zeros_like(score)
        for k, part in enumerate(parts if self.correct else []):
            own, before = at.inverse[0][k], at.inverse[1][k - 1] if k > 0 else None
            noise, lean = part.noise(own, self._leverage(at, k, part.rows, own, before))
            bias += noise
            leaning += lean
        matrix = raw - bias
        right = score - leaning + matrix @ at.theta
        return Linearised(matrix, right, raw, float(r @ r), score, at.residuals.size)

    def _leverage(
        self, at: Equations, k: int, rows: int, own: np.ndarray, before: np.ndarray | None
    ) -> Tensor:
        """Return C⁻¹ times what the first particles of snapshot k put in the residuals."""
        out = -(at.moved[k][:rows] @ torch.from_numpy(own).float())
        if before is not None:
            out += self.observed[k][:rows] @ torch.from_numpy(before).float()
        return (out - out.mean(0)) / len(at.moved[k])

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
        witnesses = min(rows, WITNESSES if unknowns.radial is None else WITNESSES_PAIRED)
        witnesses = min(witnesses, RANKS // d)
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
                bend = bent if part.start == 0 else bend
        extra = self._extra(path, bend, witnesses)
        return Jacobian((total / rows).numpy(), (slopes, moves, extra, rows))

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
            pushed = torch.einsum("nij,jnp->inp", push, force)
            if moves is not None:
                pushed -= torch.einsum("nij,jnp->inp", gain, moves)
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
            pull = torch.einsum("nij,inq->jnq", push, along)
            if unknowns.features is not None:
                pulled = unknowns.features.pulled(middle[part], pull)
                held -= self._time_basis(t, path.step)[:, None, None] * pulled
            if field is not None:
                for a, b in zip(pull, field[:, part], strict=True):
                    pair -= a.T @ b
            if i > 0:
                along = torch.einsum("nij,inq->jnq", gain, along)
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

    def _extra(
        self, path: Path, bend: Tensor | None, witnesses: int
    ) -> tuple[Tensor, slice] | None:
        """Return the witnesses' part in M that does not go through their own move."""
        unknowns = self.unknowns
        parts = []
        if unknowns.radial is not None:
            weights = torch.from_numpy(unknowns.radial_mixing)
            tau = path.step * len(path.middles)
            parts.append(self._through_others(weights, path, tau, witnesses))
        if bend is not None:
            parts.append((bend - bend.mean(0))[..., None])
        if not parts:
            return None
        return torch.cat(parts, 2), slice(unknowns.potential.stop, unknowns.size)


class Jacobian:
    """M of an interval, ``(q, p)``, with a sample of the particles' own parts in it."""

    def __init__(self, mean: np.ndarray, factors: tuple) -> None:
        self.mean, self.factors = mean, factors

    @property
    def rows(self) -> int:
        """How many particles the sample has."""
        return int(self.factors[0].shape[1])

    def noise(self, weight: np.ndarray, leverage: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Return E[δMᵀ w δM] and the mean of δMᵀ times the particles' own leverage.

        A particle's part in M is ∇f · ∂Φ/∂θ plus the extra columns.
        """
        slopes, moves, extra, rows = self.factors
        size, sample = self.mean.shape[1], slopes.shape[1]
        w = torch.from_numpy(weight).float()
        pulled = slopes @ w
        square = torch.einsum("inq,jnq->nij", pulled, slopes)
        bias = np.zeros((size, size))
        lean = np.zeros(size)
        own = slice(0, moves.shape[2])
        weighted = torch.einsum("nij,jnp->inp", square, moves)
        total = sum(moves[c].T @ weighted[c] for c in range(len(moves)))
        bias[own, own] = total.double().numpy()
        along = torch.einsum("dnq,nq->dn", slopes, leverage)
        lean[own] = torch.einsum("dnp,dn->p", moves, along).double().numpy()
        if extra is not None:
            more, where = extra
            product = torch.einsum("dnq,nqe->dne", pulled, more)
            mixed = torch.einsum("dnp,dne->pe", moves, product).double().numpy()
            bias[own, where] += mixed
            bias[where, own] += mixed.T
            flat = torch.einsum("qs,nse->nqe", w, more)
            bias[where, where] += torch.einsum("nqe,nqg->eg", more, flat).double().numpy()
            lean[where] += torch.einsum("nqe,nq->e", more, leverage).double().numpy()
        mean = torch.einsum("dnq,dnp->qp", slopes, moves).double().numpy() / sample
        bias[own, own] -= sample * mean.T @ weight @ mean
        return bias / (sample * rows), lean / sample


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


def _covariance(a: Tensor, b: Tensor) -> np.ndarray:
    """Return the covariance of centred columns, ``(n, p), (n, q) → (p, q)``, in float64."""
    return (a.T @ b).double().numpy() / max(1, len(a) - 1)


def _tridiagonal(covariance: tuple[np.ndarray, np.ndarray]):  # type: ignore[no-untyped-def]
    """Factor a block tridiagonal matrix.

    Returns:
        The diagonal and upper blocks of its inverse; and a function that maps ``(K, q, p)`` to
        L⁻¹ of it, ``(K q, p)``, for C = L Lᵀ.
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

    own, above = np.zeros_like(diagonal), np.zeros_like(upper)
    eye = np.eye(diagonal.shape[1])
    for k in reversed(range(K)):
        own[k] = scipy.linalg.cho_solve((factors[k], True), eye)
        if k + 1 < K:
            gain = scipy.linalg.solve_triangular(factors[k].T, links[k], lower=False)
            above[k] = -gain @ own[k + 1]
            own[k] += gain @ own[k + 1] @ gain.T
    return (own, above), half
