"""What the weak form found: terms with their errors, and what is to be known of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.special import chdtrc
from torch import Tensor

from popdyn.dynamics import Dynamics, FreeEnergy
from popdyn.estimation.evidence import Posterior
from popdyn.estimation.flow import Unknowns
from popdyn.estimation.groups import CONSTANT
from popdyn.estimation.moments import FITS, Equations
from popdyn.estimation.trades import TRADED, traded, traded_growth
from popdyn.estimation.training_set import TrainingSet
from popdyn.families.features import FeatureMap
from popdyn.families.linear import (
    LinearPotential,
    LinearRate,
    LinearStream,
    RadialInteraction,
)
from popdyn.families.models import set_mean_zero
from popdyn.families.units import RateInUnits, StreamInUnits, TermInUnits, Units

__all__ = [
    "FITS",
    "MOST",
    "REJECTED",
    "SETTLED",
    "WeakFormSolution",
    "freedom_of",
    "p_value_of",
    "solution_of",
]

SETTLED = 0.1  # standard errors
REJECTED = 0.01  # level of the test whether the energy explains the data
FEWEST = 10  # test functions that are asked on their own
MOST = 100_000  # particles of each snapshot, in memory with all their features


@dataclass(frozen=True)
class WeakFormSolution:
    """What the weak form found.

    Attributes:
        potential: V, or None if it was not learned.
        interaction: W, or None.
        diffusivity: β, learned or given.
        diffusivity_standard_error: Of a learned β, else None.
        misfit: χ² of the moment equations over their number less the unknowns determined; about 1
            if the model holds.
        determined: How many unknowns of each group the data determines.
        trace: One record for each Gauss–Newton step: its number, χ² for each degree of freedom
            where it begins, its size in standard errors, and how often it was halved.
        theta: The unknowns. A last step that led to nothing better was not done.
        posterior: Where that step led, and the covariance of all unknowns.
        unknowns: What they stand for.
        tests: The test functions of its last equations, with the combinations that were taken.
        freedom: Degrees of freedom of the misfit.
        p_value: How often chance alone meets the moments as badly, see ``p_value_of``.
        traded: By how much of itself, root mean square, ∇V is another for a standard error of β.
        growth: g, or None if it was not learned.
        circulation: ψ with its A, or None.
        traded_growth: By how much of itself ∇V is another for what is not known of g, and the
            standard error of g that goes with V, root mean square.
    """

    potential: LinearPotential | TermInUnits | None
    interaction: RadialInteraction | None
    diffusivity: float
    diffusivity_standard_error: float | None
    misfit: float
    determined: dict[str, float]
    trace: list[dict[str, float]] = field(default_factory=list)
    theta: np.ndarray | None = None
    posterior: Posterior | None = None
    unknowns: Unknowns | None = None
    tests: tuple[FeatureMap, np.ndarray, int] | None = None
    freedom: float = 1.0
    p_value: float = 1.0
    traded: float = 0.0
    growth: LinearRate | RateInUnits | None = None
    circulation: LinearStream | StreamInUnits | None = None
    traded_growth: tuple[float, float] = (0.0, 0.0)

    @property
    def dynamics(self) -> Dynamics:
        """The energy, with growth and circulation where they were learned."""
        if self.growth is None and self.circulation is None:
            return self.energy
        return Dynamics(self.energy, growth=self.growth, circulation=self.circulation)

    @property
    def energy(self) -> FreeEnergy:
        """V, W and β with its standard error."""
        energy = FreeEnergy(self.potential, self.interaction, self.diffusivity)
        energy.diffusivity_standard_error = self.diffusivity_standard_error
        return energy

    @property
    def outer_step(self) -> float:
        """The size of the last step in standard errors."""
        return self.trace[-1]["outer_step"]

    @property
    def settled(self) -> bool:
        """Whether the last step was within a tenth of a standard error."""
        return self.outer_step < SETTLED

    @property
    def undetermined(self) -> dict[str, float]:
        """What the data can hardly tell apart, and the standard error of what they exchange.

        V and β where another β within its standard error goes with quite another V, V and g
        likewise.
        """
        error = self.diffusivity_standard_error
        found = {"potential, diffusion": error} if error and self.traded > TRADED else {}
        share, error = self.traded_growth
        return found | ({"potential, growth": error} if share > TRADED else {})

    @property
    def notes(self) -> list[str]:
        """What is to be known before the energy is believed."""
        out = []
        if self.growth is not None and self.unknowns and CONSTANT not in self.unknowns.groups:
            out.append(
                "no mass was measured: growth is known up to a constant, and has mean 0 over the "
                "snapshots"
            )
        if self.circulation is not None:
            out.append(
                "a circulation shows only where it changes snapshots: what turns along the levels "
                "of a density that stays is 0 here"
            )
        if self.misfit > FITS:
            out.append(
                "the energy does not explain the snapshots to their sampling noise: χ² is "
                f"{self.misfit:.3g} for each degree of freedom"
            )
        if self.p_value < REJECTED and self.diffusivity_standard_error is None:
            out.append(
                "β was not learned, and the snapshots are not explained to their sampling noise "
                f"(χ² {self.misfit:.3g} for each of {self.freedom:.0f} degrees of freedom): it can "
                "be, with --learn potential,diffusion"
            )
        V = self.potential.inner if isinstance(self.potential, TermInUnits) else self.potential
        if isinstance(V, LinearPotential) and not V.weights.any():
            out.append(
                "no gradient is clearly above sampling noise: V is 0 to its error"
                if self.p_value >= REJECTED
                else "steps from no motion led nowhere, and V was given up: expected snapshots "
                "closer to each other"
            )
        if self.interaction is not None and not self.interaction.weights.any():
            out.append("no interaction is clearly above sampling noise: W is 0 to its error")
        if "potential, growth" in self.undetermined:
            out.append(
                "V and growth are not told apart by these snapshots: another growth within its "
                "standard error goes with quite another V"
            )
        if "potential, diffusion" in self.undetermined:
            out.append(
                "V and β are not told apart by these snapshots: what moves the cells is as small "
                "as its noise, and any β within its standard error goes with a V of its own"
            )
        if not self.settled:
            out.append(
                "not settled: the last Gauss–Newton step was "
                f"{self.outer_step:.2g} standard errors long, expected less than {SETTLED:g}"
            )
        return out


def freedom_of(unknowns: Unknowns, at: Equations, posterior: Posterior) -> float:
    """Return the degrees of freedom of χ²: equations less what they determine."""
    known = sum(posterior.determined.values()) + (unknowns.diffusivity is None)
    return max(1.0, at.freedom - known)


def p_value_of(unknowns: Unknowns, at: Equations, posterior: Posterior) -> float:
    """Return how often chance alone meets the moments as badly as a state does.

    What only the first test functions see drowns in the noise of many: half of them, a quarter, and
    so on are asked as well, and the least of these p-values counts as often as there are (by
    Bonferroni). Of what the first tests have determined nothing is taken off their degrees of
    freedom, which makes theirs too large.
    """
    found = [float(chdtrc(freedom_of(unknowns, at, posterior), at.misfit(at.residuals)))]
    count = at.residuals.shape[1] // 2
    while count >= FEWEST:
        part = at.leading(count)
        found.append(float(chdtrc(part.freedom, part.misfit(part.residuals))))
        count //= 2
    return min(1.0, len(found) * min(found))


def solution_of(
    unknowns: Unknowns,
    at: Equations,
    posterior: Posterior,
    misfit: float,
    trace: list[dict[str, float]],
    data: TrainingSet,
    tests: tuple[FeatureMap, np.ndarray, int],
) -> WeakFormSolution:
    V: LinearPotential | TermInUnits | None = None
    W, theta = None, at.theta
    if unknowns.features is not None:
        weights = torch.from_numpy(unknowns.potential_weights(theta))
        own = np.zeros(unknowns.size, dtype=bool)
        own[unknowns.potential] = True
        own[-1] |= len(unknowns.log_density) > 0
        errors = torch.from_numpy(unknowns.potential_weights(posterior.factor(own)))
        V = LinearPotential(unknowns.features, weights, unknowns.span, errors)
        V.requires_grad_(False).to(data.device)
        set_mean_zero(V, data.turned.fit, [float(t) for t in data.times])
        if data.structure is not None and data.structure.frame is not None:
            V = TermInUnits(V, Units.of_frame(data.structure.frame))
    if unknowns.radial is not None:
        kernel = torch.from_numpy(unknowns.interaction_weights(theta))
        own = np.zeros(unknowns.size, dtype=bool)
        own[unknowns.interaction] = True
        spread = unknowns.interaction_weights(posterior.factor(own))
        W = RadialInteraction(unknowns.radial, kernel, torch.from_numpy(spread))
        W.requires_grad_(False).to(data.device)
    error, freedom = None, freedom_of(unknowns, at, posterior)
    p_value = p_value_of(unknowns, at, posterior)
    if unknowns.diffusivity is None:
        variance = max(posterior.covariance[-1, -1], 0.0)
        if p_value < REJECTED:
            variance *= misfit  # what is left over is larger than the noise that errors are of
        # Where steps have not settled nothing is known to less than the last.
        error = math.sqrt(variance) * max(1.0, trace[-1]["outer_step"] if trace else 1.0)
    return WeakFormSolution(
        V,
        W,
        unknowns.beta(theta),
        error,
        misfit,
        {str(g): known for g, known in posterior.determined.items()},
        trace,
        theta,
        posterior,
        unknowns,
        tests,
        freedom,
        p_value,
        traded(unknowns, theta, posterior, data.turned.fit),
        _growth(unknowns, theta, posterior, data),
        _circulation(unknowns, theta, posterior, data),
        traded_growth(unknowns, theta, posterior, data.turned.fit),
    )


def _growth(
    unknowns: Unknowns, theta: np.ndarray, posterior: Posterior, data: TrainingSet
) -> LinearRate | RateInUnits | None:
    """Return g; where no mass was measured with the mean 0 over all snapshots."""
    if unknowns.rates is None:
        return None
    own = np.zeros(unknowns.size, dtype=bool)
    own[unknowns.growth] = True
    weights = unknowns.growth_weights(theta)
    errors = unknowns.growth_weights(posterior.factor(own))
    if data.masses is None:
        mean = _mean_values(unknowns.rates.features, data.turned.fit)
        weights[0], errors[0] = -mean @ weights[1:], -mean @ errors[1:]
    rate = LinearRate(unknowns.rates.features, torch.from_numpy(weights), torch.from_numpy(errors))
    rate.requires_grad_(False).to(data.device)
    if data.structure is not None and data.structure.frame is not None:
        return RateInUnits(rate, Units.of_frame(data.structure.frame))
    return rate


def _circulation(
    unknowns: Unknowns, theta: np.ndarray, posterior: Posterior, data: TrainingSet
) -> LinearStream | StreamInUnits | None:
    streams = unknowns.streams
    if streams is None:
        return None
    own = np.zeros(unknowns.size, dtype=bool)
    own[unknowns.circulation] = True
    weights = unknowns.stream_weights(theta)
    spread = unknowns.stream_weights(posterior.factor(own))
    d = data.dim
    # One function, and an A; in the plane A is fixed, in more dimensions the function is.
    matrix, function = np.zeros((d, d)), weights[0]
    if d > 2:
        function = streams.mixing[0, :, 0]
        scale = float(function @ function)
    errors = np.zeros((d, d, *spread.shape[1:]))
    for (i, j), a, e in zip(streams.planes, weights, spread, strict=True):
        matrix[j, i] = 1.0 if d == 2 else float(a @ function) / scale
        errors[j, i] = e
        matrix[i, j], errors[i, j] = -matrix[j, i], -e
    stream = LinearStream(
        streams.features,
        torch.from_numpy(function.copy()),
        torch.from_numpy(matrix),
        torch.from_numpy(errors.reshape(d * d, *spread.shape[1:])),
    )
    stream.requires_grad_(False).to(data.device)
    if data.structure is not None and data.structure.frame is not None:
        return StreamInUnits(stream, Units.of_frame(data.structure.frame))
    return stream


def _mean_values(features: FeatureMap, snapshots: Sequence[Tensor]) -> np.ndarray:
    """Return the mean of each function over all snapshots, ``(m)``."""
    means = [features.values(x[:MOST].cpu()).mean(0, dtype=torch.float64) for x in snapshots]
    return torch.stack(means).mean(0).numpy()  # type: ignore[no-any-return]
