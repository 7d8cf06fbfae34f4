"""Even radial kernels W(z) = φ(|z|²), by their profile and its slope dφ/ds."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import softplus

from popdyn.dynamics.fields import entry_of
from popdyn.dynamics.interactions import INTERACTIONS


def _gaussian_repulsion_slope(s: Tensor, strength: float, width: float) -> Tensor:
    return s.mul_(-0.5 / width**2).exp_().mul_(-0.5 * strength / width**2)


def _gaussian_repulsion_exponential(strength: float, width: float) -> tuple[float, float]:
    return -0.5 * strength / width**2, 0.5 / width**2


@entry_of(
    INTERACTIONS,
    "strength exp(−|z|²/(2 width²))",
    gradient=_gaussian_repulsion_slope,
    exponential=_gaussian_repulsion_exponential,
    radial=True,
    positive=("width",),
)
def gaussian_repulsion(s: Tensor, strength: float = 1.0, width: float = 1.0) -> Tensor:
    """A soft hill around each particle."""
    return strength * (-0.5 / width**2 * s).exp()


def _gaussian_attraction_slope(s: Tensor, strength: float, width: float) -> Tensor:
    return _gaussian_repulsion_slope(s, -strength, width)


def _gaussian_attraction_exponential(strength: float, width: float) -> tuple[float, float]:
    return _gaussian_repulsion_exponential(-strength, width)


@entry_of(
    INTERACTIONS,
    "−strength exp(−|z|²/(2 width²))",
    gradient=_gaussian_attraction_slope,
    exponential=_gaussian_attraction_exponential,
    radial=True,
    positive=("width",),
)
def gaussian_attraction(s: Tensor, strength: float = 1.0, width: float = 1.0) -> Tensor:
    """A soft dip around each particle."""
    return gaussian_repulsion(s, -strength, width)


def _morse_slope(
    s: Tensor,
    repulsion: float,
    attraction: float,
    repulsion_range: float,
    attraction_range: float,
    softening: float,
) -> Tensor:
    r = s.add_(softening**2).sqrt_()
    pull = (r * (-1.0 / attraction_range)).exp_().mul_(0.5 * attraction / attraction_range)
    push = (r * (-1.0 / repulsion_range)).exp_()
    return pull.sub_(push, alpha=0.5 * repulsion / repulsion_range).div_(r)


@entry_of(
    INTERACTIONS,
    "repulsion exp(−r/repulsion_range) − attraction exp(−r/attraction_range), "
    "r = √(|z|² + softening²)",
    gradient=_morse_slope,
    radial=True,
    positive=("repulsion_range", "attraction_range", "softening"),
)
def morse(
    s: Tensor,
    repulsion: float = 2.0,
    attraction: float = 1.0,
    repulsion_range: float = 0.5,
    attraction_range: float = 2.0,
    softening: float = 0.1,
) -> Tensor:
    """Repulsive near by, attractive further off: flocks and clumps."""
    r = (s + softening**2).sqrt()
    return repulsion * (-r / repulsion_range).exp() - attraction * (-r / attraction_range).exp()


def _power_law_slope(
    s: Tensor,
    strength: float,
    attraction: float,
    repulsion: float,
    softening: float,
) -> Tensor:
    s = s.add_(softening**2)
    pull = s.pow(0.5 * attraction - 1.0)
    return pull.sub_(s.pow_(0.5 * repulsion - 1.0)).mul_(0.5 * strength)


@entry_of(
    INTERACTIONS,
    "strength (rᵃ/a − rᵇ/b), r = √(|z|² + softening²), a = attraction, b = repulsion; "
    "r⁰/0 stands for log r",
    gradient=_power_law_slope,
    radial=True,
    positive=("softening",),
)
def power_law(
    s: Tensor,
    strength: float = 1.0,
    attraction: float = 4.0,
    repulsion: float = 2.0,
    softening: float = 0.1,
) -> Tensor:
    """Attraction and repulsion by powers of the distance: rings and balls."""
    u = s + softening**2
    pull, push = (
        u.pow(0.5 * p) / p if p else 0.5 * u.log() for p in (float(attraction), float(repulsion))
    )
    return strength * (pull - push)


def _quadratic_slope(s: Tensor, strength: float) -> Tensor:
    return s.fill_(0.5 * strength)


def _quadratic_exponential(strength: float) -> tuple[float, float]:
    return 0.5 * strength, 0.0


@entry_of(
    INTERACTIONS,
    "½ strength |z|²",
    gradient=_quadratic_slope,
    exponential=_quadratic_exponential,
    radial=True,
)
def quadratic(s: Tensor, strength: float = 1.0) -> Tensor:
    """A spring between each two particles: attraction to the mean."""
    return 0.5 * strength * s


def _soft_coulomb_slope(s: Tensor, strength: float, softening: float) -> Tensor:
    r = s.add_(softening**2).rsqrt_()
    return r.square().mul_(r).mul_(-0.5 * strength)


@entry_of(
    INTERACTIONS,
    "strength/√(|z|² + softening²)",
    gradient=_soft_coulomb_slope,
    radial=True,
    positive=("softening",),
)
def soft_coulomb(s: Tensor, strength: float = 1.0, softening: float = 0.5) -> Tensor:
    """Long-range repulsion of charges, without the singularity."""
    return strength * (s + softening**2).rsqrt()


def _lennard_jones_slope(s: Tensor, depth: float, distance: float, softening: float) -> Tensor:
    inverse = s.add_(softening**2).reciprocal_().mul_(distance**2)
    cube = inverse.square().mul_(inverse)
    slope = cube.mul(-2.0).add_(1.0).mul_(cube).mul_(inverse)
    return slope.mul_(12.0 * depth / distance**2)


@entry_of(
    INTERACTIONS,
    "4 depth (q⁶ − q³), q = distance²/(|z|² + softening²)",
    gradient=_lennard_jones_slope,
    radial=True,
    positive=("distance", "softening"),
)
def lennard_jones(
    s: Tensor, depth: float = 1.0, distance: float = 1.0, softening: float = 0.9
) -> Tensor:
    """A hard core with a short attraction around it, softened."""
    cube = (distance**2 / (s + softening**2)).pow(3)
    return 4.0 * depth * (cube.square() - cube)


def _opinion_slope(s: Tensor, strength: float, confidence: float, smoothing: float) -> Tensor:
    h = 2.0 * smoothing * confidence
    s = s.mul_(-1.0 / h).add_(confidence**2 / h)
    return s.sigmoid_().mul_(0.5 * strength)


@entry_of(
    INTERACTIONS,
    "−½ strength h log(1 + exp((confidence² − |z|²)/h)), h = 2 smoothing confidence",
    gradient=_opinion_slope,
    radial=True,
    positive=("confidence", "smoothing"),
)
def opinion(
    s: Tensor, strength: float = 1.0, confidence: float = 1.0, smoothing: float = 0.1
) -> Tensor:
    """Bounded confidence: a spring to all within reach, which fades smoothly at the edge."""
    h = 2.0 * smoothing * confidence
    return (-0.5 * strength * h) * softplus((confidence**2 - s) / h, threshold=30.0)


def _compact_slope(s: Tensor, strength: float, radius: float) -> Tensor:
    inside = s.mul_(-1.0 / radius**2).add_(1.0).clamp_(min=0.0)
    return inside.square_().mul_(-3.0 * strength / radius**2)


@entry_of(
    INTERACTIONS,
    "strength max(1 − |z|²/radius², 0)³",
    gradient=_compact_slope,
    radial=True,
    positive=("radius",),
)
def compact(s: Tensor, strength: float = 1.0, radius: float = 1.5) -> Tensor:
    """Repulsion that ends at a finite radius, twice differentiable."""
    return strength * (1.0 - s / radius**2).clamp_min(0.0).pow(3)
