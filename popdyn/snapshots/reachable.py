"""How much of ∇V can be learned from snapshots: signal beyond sampling noise, mode by mode."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import xarray as xr

from popdyn.base.errors import PopdynError
from popdyn.snapshots.modes import Interval, Modes, modes_of
from popdyn.snapshots.tree import counts

__all__ = ["Reachable", "TooLittleError", "reachable_skill"]

FEWEST = 20
# Prior odds that snapshots are not those of one static potential.
SURPRISE = 0.02
# In an interval those modes count whose length scale is more than this times the way of a particle.
SLOW = 0.7
# Below this probability that there is any drift, nothing is said of what more data would do.
CLEAR = 0.9
NOTHING = "no gradient is clearly above the sampling noise"
_WORDS = (
    (0.05, "next to nothing"),
    (0.15, "about a tenth"),
    (0.29, "about a quarter"),
    (0.42, "about a third"),
    (0.58, "about half"),
    (0.71, "about two thirds"),
    (0.78, "about three quarters"),
    (0.86, "about four fifths"),
    (0.93, "about nine tenths"),
    (2.0, "nearly all"),
)


class TooLittleError(PopdynError):
    """There is too little data to say what can be learned."""


@dataclass(frozen=True)
class Reachable:
    """What can be learned of ∇V, estimated from the data alone.

    Attributes:
        skill: Estimate of the skill that the best learner reaches, 0 to 1.
        limit: The same with any number of particles: what one static potential explains.
        signal: Estimated mean of |∇V|², dimensionless.
        particles: Particles in a snapshot, as a mean.
        particles_for: For some skills the particles in a snapshot that would reach them; None
            where no number would (the present number where it does already).
        verdict: All this in words.
    """

    skill: float
    limit: float
    signal: float
    particles: float
    particles_for: dict[float, int | None]
    verdict: str


def reachable_skill(data: xr.DataTree, progress: Callable[[], None] | None = None) -> Reachable:
    """Estimate from the training snapshots how well ∇V can be recovered by anyone.

    Expands V in modes of the data, estimates the drift of each and its sampling noise, and
    weighs them as a Wiener filter does, s²/(s + n), where the spectrum s of the signal is
    averaged over a family of power laws by how well each explains the drifts. What the fit
    leaves over in the single intervals, beyond noise, no static potential explains, and no
    number of particles brings it back: a potential that depends on time, an interaction, or
    structure finer than the modes. With diffusion the potential meant is V + β log ρ.

    Args:
        data: A tree in memory or a store; the truth in its attributes is never read.
        progress: Called after each snapshot.

    Raises:
        TooLittleError: If a snapshot has fewer than 20 particles, or none of them differ.

    References:
        Wiener, Extrapolation, Interpolation and Smoothing of Stationary Time Series (1949).
    """
    if counts(data).min() < FEWEST:
        raise TooLittleError(
            f"a snapshot has {counts(data).min()} particles: expected {FEWEST} or more to say what "
            "can be learned"
        )
    modes = modes_of(data, progress)
    if not modes.noise.any():
        raise TooLittleError("the particles do not differ: expected some spread")
    mean, second, sure = _posterior(modes.slope, modes.noise)
    unexplained = _unexplained(modes, mean, float(second.sum()))
    total = float(second.sum()) + unexplained
    particles = float(counts(data).mean())
    # What is still uncertain of each mode, and how that falls with the number of particles.
    variance = np.maximum(second - mean**2, 0)
    ratio = particles / modes.particles

    def skill(factor: float) -> float:
        if total == 0:
            return 0.0
        left = variance / (1 + np.maximum(factor * ratio - 1, 0) * variance / modes.noise)
        return float(np.clip((second.sum() - left.sum()) / total, 0, 1))

    limit = float(second.sum()) / total if total > 0 else 0.0
    needed: dict[float, int | None] = {0.5: None, 0.9: None}
    if sure >= CLEAR:
        needed = {target: _needed(skill, target, limit, particles) for target in needed}
    reached = skill(1.0)
    verdict = _verdict(reached, limit, needed[0.9]) if sure >= CLEAR else NOTHING
    return Reachable(reached, limit, total, particles, needed, verdict)


def _posterior(slope: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Return mean and second moment of each mode's coefficient of V, and how sure V is not 0.

    Even odds that there is no drift at all; else the prior is Gaussian with variances
    e · (1 + λ_j/λ_0)^−p, λ_j the roughness of the mode (noise is its inverse), averaged over e,
    λ_0 and p by their evidence.
    """
    roughness = 1 / noise
    # The median: one mode that the data hardly sees must not set the scale.
    scale = len(noise) * float(np.median(noise))
    energies = np.geomspace(1e-3 * scale, 10 * max(float(np.sum(slope**2)), scale), 60)
    shapes = [
        (1 + roughness / knee) ** -power
        for power in np.arange(0, 8.1, 0.5)
        for knee in np.quantile(roughness, [0, 0.03, 0.1, 0.3, 0.6])
    ]
    largest = float(-0.5 * np.sum(np.log(noise) + slope**2 / noise))
    # Sums of 1, mean and second moment, each weighed by its evidence over the largest so far.
    sums = (1.0, np.zeros_like(slope), np.zeros_like(slope))
    nothing = largest
    for shape in shapes:
        signal = energies[:, None] * shape / shape.sum()
        total = signal + noise
        log = -0.5 * np.sum(np.log(total) + slope**2 / total, axis=1)
        log -= np.log(len(shapes) * len(energies))
        mean = signal / total * slope
        shrink = np.exp(min(0.0, largest - log.max()))
        largest = max(largest, float(log.max()))
        weight = np.exp(log - largest)
        new = (weight.sum(), weight @ mean, weight @ (mean**2 + signal * noise / total))
        sums = tuple(shrink * old + more for old, more in zip(sums, new, strict=True))
    probability = 1 - float(np.exp(nothing - largest) / sums[0])
    return sums[1] / sums[0], sums[2] / sums[0], probability


def _unexplained(modes: Modes, potential: np.ndarray, signal: float) -> float:
    """Return the mean squared drift that the potential leaves over in the single intervals."""
    found = [_left_over(i, potential, modes.dimension) for i in modes.intervals]
    excess = float(np.mean([value for value, _ in found]))
    # Neighbouring intervals share a snapshot; their errors rise together by up to a third.
    error = 1.3 * float(np.sqrt(np.sum([variance for _, variance in found]))) / len(found)
    if error == 0 or signal == 0 or len(found) < 2:
        return 0.0
    # Either nothing is left over, or anything up to as much as the signal, or beyond any doubt.
    top = signal if excess < 5 * error else max(signal, excess + 3 * error)
    grid = np.linspace(0, top, 201)[1:]
    log = np.append(-0.5 * ((excess - grid) / error) ** 2, -0.5 * (excess / error) ** 2)
    weight = np.exp(log - log.max())
    weight *= np.append(np.full(len(grid), SURPRISE / len(grid)), 1 - SURPRISE)
    return float(weight[:-1] @ grid / weight.sum())


def _left_over(interval: Interval, potential: np.ndarray, dimension: int) -> tuple[float, float]:
    """Return the squared drift left over in an interval beyond noise, and its variance."""
    values, vectors = np.linalg.eigh(interval.gram)
    kept = values > 1e-3 * values[-1]
    basis = vectors[:, kept] / np.sqrt(values[kept])
    fitted = float(potential @ interval.gram @ potential)
    # A mode that particles cross within the interval is not seen to drift: leave those out.
    variances, rotation = np.linalg.eigh(basis.T @ interval.spread @ basis)
    slow = variances > (interval.length * SLOW) ** 2 * fitted / dimension
    basis = basis @ rotation[:, slow]
    rest = basis.T @ (interval.slope - interval.gram @ potential)
    # The Gram matrices are sample means too, of two snapshots each.
    from_gram = 0.5 * fitted / (dimension * interval.particles)
    noise = np.linalg.eigvalsh(basis.T @ interval.noise @ basis) + from_gram
    return float(rest @ rest - noise.sum()), float(2 * np.sum(noise**2))


def _needed(
    skill: Callable[[float], float], target: float, limit: float, particles: float
) -> int | None:
    if skill(1.0) >= target:
        return round(particles)
    if limit <= target or skill(1e6) < target:
        return None
    low, high = 0.0, float(np.log(1e6))
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if skill(float(np.exp(middle))) >= target else (middle, high)
    return round(particles * float(np.exp(high)))


def _verdict(skill: float, limit: float, needed: int | None) -> str:
    above = skill / limit
    share = next(words for bound, words in _WORDS if above < bound)
    text = f"{share} of the gradient is above the sampling noise"
    if limit < 0.97:
        if above > 0.93:
            text = "sampling noise is not what limits"
        text += f", but one static potential explains {limit:.0%} of the motion at most"
    if skill >= 0.9:
        return text
    if needed is None:
        return text + "; more particles alone would not reach 0.9"
    digits = 10 ** (len(str(needed)) - 1)
    rounded = -(-needed // digits) * digits
    return text + f"; {rounded:,} particles would reach 0.9".replace(",", " ")
