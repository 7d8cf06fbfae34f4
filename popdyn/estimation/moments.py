"""Moment equations E_{k+1} f = E_k f∘Φ_θ of all intervals, linearised, with their exact noise."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from popdyn.base.intervals import Intervals
from popdyn.estimation.flow import Drive, Path, Unknowns
from popdyn.estimation.jacobian import JACOBIAN, Jacobian, Sensitivity
from popdyn.estimation.linearised import Linearised
from popdyn.estimation.noise import RANK, SharedNoise, covariance, shrinkage, tridiagonal, worth
from popdyn.families.features import FeatureMap

__all__ = ["FITS", "Equations", "MomentEquations"]

SAMPLE = 1000  # particles that a linear function of f is fitted to
FITS = 2.0  # χ² for each degree of freedom, above which the energy does not explain the data


@dataclass
class Equations:
    """The moment equations at a state θ.

    Attributes:
        theta: The state.
        residuals: E_{k+1} f − E_k f∘Φ_θ, ``(K, q)``.
        covariance: Its covariance as the diagonal and upper blocks, ``(K, q, q)``, ``(K−1, q, q)``.
        added: What was added to the diagonals of these blocks, ``(K, q)`` and ``(K−1, q)``, lest
            they be inverted where they are not known.
        paths: The runs.
        moved: f∘Φ_θ with what a particle does through the others, centred, ``(n_k, q)`` each.
    """

    theta: np.ndarray
    residuals: np.ndarray
    covariance: tuple[np.ndarray, np.ndarray]
    added: tuple[np.ndarray, np.ndarray]
    paths: list[Path]
    moved: list[Tensor]

    def __post_init__(self) -> None:
        try:
            self.inverse, self.half, self.back = tridiagonal(self.covariance)
        except np.linalg.LinAlgError:  # next to the largest variance sums leave others as rounding
            diagonal, upper = self.covariance
            floor = RANK * float(np.diagonal(diagonal, axis1=1, axis2=2).max())
            self.covariance = diagonal + floor * np.eye(diagonal.shape[1]), upper
            self.added = self.added[0] + floor, self.added[1]
            self.inverse, self.half, self.back = tridiagonal(self.covariance)

    def leading(self, count: int) -> Equations:
        """Return the equations of the first test functions alone."""
        diagonal, upper = self.covariance
        some = (diagonal[:, :count, :count], upper[:, :count, :count])
        moved = [x[:, :count] for x in self.moved]
        own = self.residuals[:, :count]
        added = (self.added[0][:, :count], self.added[1][:, :count])
        return Equations(self.theta, own, some, added, self.paths, moved)

    @property
    def freedom(self) -> float:
        """How many equations there are: those of which the noise is not known count in part.

        It is E[rᵀ C⁻¹ r] where r has the covariance C less what was added.
        """
        own, above = (np.diagonal(x, axis1=1, axis2=2) for x in self.inverse)
        added = np.vdot(self.added[0], own) + 2.0 * np.vdot(self.added[1], above)
        return float(self.residuals.size - added)

    @property
    def share(self) -> float:
        """χ² for each equation."""
        return self.misfit(self.residuals) / self.freedom

    @property
    def far(self) -> bool:
        """Whether what is off is more than noise."""
        return self.share > FITS

    def misfit(self, residuals: np.ndarray) -> float:
        """Return rᵀ C⁻¹ r of residuals, ``(K, q)``, with the noise of this state."""
        return float(np.square(self.half(residuals[..., None])).sum())


class MomentEquations:
    """Test functions on a set of snapshots.

    Args:
        unknowns: What is learned.
        tests: The test functions' dictionary.
        weights: Combinations of it, each as large as it is thought to matter, ``(m, p)``.
        snapshots: Particles, ``(n_k, d)`` float32 each.
        intervals: Which of them follow each other, and when.
        count: Largest number q of test functions: the leading principal components of the
            dictionary over all snapshots.
        seed: Seeds the noise of the runs.
        correct: Whether the bias of noisy regressors is taken off.
        masses: Where g is learned and the mass was measured: log of that of each snapshot, and the
            variance of it, ``(K + 1)`` each. Then the first test function is 1: its equation is
            log m_{k+1} − log m_k = log E_k e^ℓ. All others compare proportions.
    """

    def __init__(
        self,
        unknowns: Unknowns,
        tests: FeatureMap,
        weights: np.ndarray,
        snapshots: Sequence[Tensor],
        intervals: Intervals,
        count: int,
        seed: int,
        correct: bool = True,
        masses: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> None:
        self.masses = None if unknowns.rates is None else masses
        self.unknowns, self.tests, self.snapshots = unknowns, tests, snapshots
        self.intervals = intervals
        self.seed, self.correct, self.weights = seed, correct, weights
        values = [tests.values(x) for x in snapshots]
        pooled = sum(_spread(v) for v in values) / len(values)
        strengths, vectors = np.linalg.eigh(weights.T @ pooled @ weights)
        kept = np.flatnonzero(strengths > 1e-7 * strengths[-1])[::-1][:count]
        if not len(kept):
            raise np.linalg.LinAlgError("no test function varies")
        combined = vectors[:, kept] / np.sqrt(strengths[kept])
        self.projection = torch.from_numpy(weights @ combined).float()
        self.count = self.telling = len(kept) + (self.masses is not None)
        self.observed, self.means = [], []
        for v in values:
            own = v @ self.projection
            mean = own.mean(0, dtype=torch.float64)
            self.means.append(mean)
            own -= mean.float()
            self.observed.append(own if self.masses is None else _after(own.new_zeros(1), own))
        self.cuts = [(1, 1)] * len(intervals)
        self.spreads = [covariance(f, f) for f in self.observed]

    @property
    def sensitivity(self) -> Sensitivity:
        """The derivatives of the moments."""
        massed = self.masses is not None
        return Sensitivity(self.unknowns, self.tests, self.projection, self.correct, massed)

    def keep(self, count: int) -> None:
        """Keep the first test functions alone."""
        own = count - (self.masses is not None)
        self.projection, self.count = self.projection[:, :own], count
        self.telling = min(self.telling, count)
        self.means = [x[:own] for x in self.means]
        self.observed = [x[:, :count].contiguous() for x in self.observed]
        self.spreads = [x[:count, :count] for x in self.spreads]

    def evaluate(self, theta: np.ndarray) -> Equations:
        """Run every snapshot for its interval under θ and compare with the next one.

        Raises:
            LinAlgError: If θ drives particles out of finite numbers.
        """
        drive = Drive(self.unknowns, theta)
        paths, moved, residuals, own, across = [], [], [], [], []
        shared = SharedNoise(self.spreads)
        for i, (k, tau) in enumerate(zip(self.intervals.before, self.intervals.tau, strict=True)):
            start = float(self.intervals.times[k])
            # Never fewer steps than before: with another number of them the noise is another, and
            # states that ask for two numbers in turns would never settle.
            wanted = drive.steps(self.snapshots[k], start, float(tau))
            self.cuts[i] = (max(wanted[0], self.cuts[i][0]), max(wanted[1], self.cuts[i][1]))
            seed = [self.seed, 3, i]
            path = drive.run(self.snapshots[k], start, float(tau), seed, self.cuts[i])
            if not path.end.isfinite().all():
                raise np.linalg.LinAlgError(f"particles leave finite numbers in interval {i}")
            values = self.tests.values(path.end) @ self.projection
            shares, grown = path.shares()
            if drive.rate is not None:
                mean = (values.T.double() @ shares.double()) / len(shares)
                # What has the mean of the proportions, and to first order their noise.
                values = (values - mean.float()).mul_(shares[:, None])
            else:
                mean = values.mean(0, dtype=torch.float64)
                values -= mean.float()
            residual = (self.means[k + 1] - mean).numpy()
            if self.masses is not None:
                values = _after(shares - 1.0, values)
                residual = np.append(np.diff(self.masses[0])[k] - grown, residual)
            residuals.append(residual)
            if drive.pulled:
                # As a linear function of f∘Φ itself, fitted to a sample.
                through = self.sensitivity.through_others(drive.kernel, path, float(tau), SAMPLE)
                sample, pushed = values[:SAMPLE].double(), through[..., 0].double()
                gram = sample.T @ sample
                gram.diagonal().mul_(1.0 + 1e-3)
                alone = covariance(values, values)
                values += values @ _regression(gram, sample.T @ pushed).float()
            own.append(covariance(values, values))
            across.append(covariance(self.observed[k], values))
            if drive.pulled:
                shared.follow(k, across[i], own[i], alone)
            paths.append(path)
            moved.append(values)
        noise, added = self._covariance(own, across, shared)
        return Equations(theta, np.stack(residuals), noise, added, paths, moved)

    def _covariance(
        self, own: list[np.ndarray], across: list[np.ndarray], shared: SharedNoise
    ) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
        """Return the residuals' covariance and what was added to its diagonals.

        Args:
            own: Those of f∘Φ, each interval.
            across: Those of f with it.
            shared: What particles share.
        """
        K, q = len(own), self.count
        unknown = [shrinkage(f, len(x)) for f, x in zip(self.spreads, self.observed, strict=True)]
        each = np.ones(q)
        each[: self.masses is not None] = 0.0  # a mass is known as well as it was measured
        added, across_too = np.zeros((K, q)), np.zeros((K - 1, q))
        diagonal, upper = np.zeros((K, q, q)), np.zeros((K - 1, q, q))
        for i, k in enumerate(self.intervals.before):
            here, ahead = (worth(len(self.observed[j]), 2 * q) for j in (k, k + 1))
            diagonal[i] = (own[i] + shared.carried(k)) / here
            diagonal[i] += (self.spreads[k + 1] + shared.excess[k + 1]) / ahead
            # As if f had that much noise of its own, which goes where the particle goes.
            added[i] = (unknown[k] / here + unknown[k + 1] / ahead) * each
            diagonal[i][np.diag_indices(q)] += added[i]
            if self.masses is not None:
                diagonal[i][0, 0] += self.masses[1][k] + self.masses[1][k + 1]
            if len(self.intervals.touching[k]) > 1:  # another one ends where it begins
                upper[i - 1] = -(across[i] + shared.excess[k] @ shared.gain[k]) / here
                across_too[i - 1] = -unknown[k] / here * each
                upper[i - 1][np.diag_indices(q)] += across_too[i - 1]
                if self.masses is not None:
                    upper[i - 1][0, 0] -= self.masses[1][k]
        return (diagonal, upper), (added, across_too)

    def jacobians(self, at: Equations, most: int = JACOBIAN) -> list[Jacobian]:
        """Return M of each interval at a state: the derivatives of E_k f∘Φ_θ by the unknowns.

        Each is the mean over at most so many particles.
        """
        # At the zero state nothing moves: M from the snapshots around the interval instead.
        drive = Drive(self.unknowns, at.theta)
        if not drive.still:
            return [
                self.sensitivity.jacobian(drive, path, most, moved)
                for path, moved in zip(at.paths, at.moved, strict=True)
            ]
        still = [at.paths[touching[-1]] for touching in self.intervals.touching]
        still = [Path(x, [x], p.times, p.step) for x, p in zip(self.snapshots, still, strict=True)]
        ends = [
            self.sensitivity.jacobian(drive, path, most, own)
            for path, own in zip(still, self.observed, strict=True)
        ]
        rates = np.stack([end.mean / path.step for end, path in zip(ends, still, strict=True)])
        means = np.tensordot(self.intervals.quadrature(), rates, 1)
        first = [ends[k] for k in self.intervals.before]
        return [dataclasses.replace(end, mean=m) for m, end in zip(means, first, strict=True)]

    def fewer(
        self,
        system: Linearised,
        at: Equations,
        parts: Sequence[Jacobian],
        prior: np.ndarray | None = None,
        correct: bool = True,
    ) -> Iterator[Linearised]:
        """Yield the normal equations of ever fewer of the first test functions.

        Each further one is rougher, and its Laplacian noisier: of β they tell ever less. Never more
        than told of β before: states that ask for two numbers in turns would never settle.
        """
        for halvings in range(7):
            q = round(self.count * 2.0 ** (-0.5 * halvings))
            if q == self.count <= self.telling:
                yield system
            elif 2 <= q <= self.telling:
                yield self.linearise(
                    at.leading(q), [part.leading(q) for part in parts], prior, correct
                )

    def linearise(
        self,
        at: Equations,
        parts: Sequence[Jacobian],
        prior: np.ndarray | None = None,
        correct: bool = True,
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
            correct: Whether anything is taken off.

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
        correct = self.correct and correct
        for k in range(len(self.snapshots) if correct else 0):
            last = self.intervals.touching[k][-1]
            part = parts[last]
            leverage = self._leverages(at, k, part.witnesses, pull, known, tilt)
            if self.intervals.before[last] == k:
                noise, lean = part.noise(at.inverse[0][last], leverage)
                bias += noise
                leaning += lean
        matrix = raw - bias
        right = score - leaning + np.einsum("kqp,kq->p", pull, tilt) + matrix @ at.theta

        def away(direction: np.ndarray) -> tuple[float, float]:
            first = second = 0.0
            weights = torch.from_numpy(pull @ direction).float()
            for i, (k, part) in enumerate(zip(self.intervals.before, parts, strict=True)):
                moved = part.along(direction)
                own, n = moved @ weights[i], len(self.observed[k])
                put = at.moved[i][: len(moved)] @ weights[i]
                if len(self.intervals.touching[k]) > 1:
                    count = weights.shape[1]
                    put = put - self.observed[k][: len(moved), :count] @ weights[i - 1]
                first += float(own @ (put - put.mean())) / (len(own) * n)
                second += float(own @ own) / (len(own) * part.rows)
            return first, second

        count = at.residuals.size
        known_noise = away if correct else None  # it takes the correction's witnesses
        return Linearised(matrix, right, raw, float(r @ r), score, count, at.freedom, known_noise)

    def _leverages(
        self,
        at: Equations,
        k: int,
        witnesses: int,
        pull: np.ndarray,
        known: np.ndarray,
        tilt: np.ndarray,
    ) -> Tensor:
        """Return P u_i in snapshot k's last interval for its first particles; add to the tilt.

        u_i is what a particle puts in the residuals: by where it is in those of the interval
        before, ``+f/n``, by where it goes in those of its own, ``−f∘Φ/n``. The tilt is
        E[δC P δr] = Σ u_i (u_iᵀ P u_i), ``(K, q)``.
        """
        here, n, count = [], len(self.observed[k]), at.residuals.shape[1]
        for i in self.intervals.touching[k]:
            if self.intervals.before[i] == k:
                here.append((i, at.moved[i][:witnesses] / -n))
            else:
                here.append((i, self.observed[k][:witnesses, :count] / n))
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


def _after(first: Tensor, columns: Tensor) -> Tensor:
    """Return a column and those after it, ``(n) or (1), (n, q) → (n, 1 + q)``."""
    return torch.cat([first.expand(len(columns))[:, None], columns], 1)


def _regression(gram: Tensor, right: Tensor) -> Tensor:
    """Return the least-norm solution of normal equations: f may not vary at all where it starts."""
    return torch.from_numpy(np.linalg.lstsq(gram.numpy(), right.numpy(), rcond=None)[0])


def _spread(values: Tensor) -> np.ndarray:
    """Return the covariance of columns that are not centred yet, ``(n, m) → (m, m)``."""
    centred = values - values.mean(0)
    return covariance(centred, centred)
