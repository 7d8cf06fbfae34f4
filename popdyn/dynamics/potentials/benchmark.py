"""The fifteen potentials of the field's benchmark, with closed-form gradients.

Several are functions of two numbers only, z₁ and z₂: the means of the first ``d // 2`` components
and of the others (d = 3: of the first one and of the last two). For d = 2 they are the components.
"""

import math

import torch
from torch import Tensor

from popdyn.dynamics.fields import entry_of, squared_norm
from popdyn.dynamics.potentials import POTENTIALS


def _halves(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return z₁ and z₂, ``(..., d) → (...), (...)``."""
    d = x.shape[-1]
    if d == 2:  # contiguous: each is read several times
        return x[..., 0].contiguous(), x[..., 1].contiguous()
    h = d // 2
    return x[..., :h].mean(-1), x[..., h:].mean(-1)


def _from_halves(x: Tensor, g1: Tensor, g2: Tensor) -> Tensor:
    """Return the gradient in x of a function of z₁ and z₂ with the partial derivatives g1, g2."""
    d = x.shape[-1]
    h = d // 2
    out = torch.empty_like(x)
    out[..., :h] = (g1 if h == 1 else g1 / h)[..., None]
    out[..., h:] = (g2 if d - h == 1 else g2 / (d - h))[..., None]
    return out


def _styblinski_tang_gradient(x: Tensor) -> Tensor:
    return x.square().mul_(2.0).sub_(16.0).mul_(x).add_(2.5)


@entry_of(POTENTIALS, "½ Σ (v⁴ − 16 v² + 5 v)", gradient=_styblinski_tang_gradient)
def styblinski_tang(x: Tensor) -> Tensor:
    """Two wells in each component, one deeper than the other."""
    u = x.square()
    return 0.5 * (u.square() - 16.0 * u + 5.0 * x).sum(-1)


def _holder_table_gradient(x: Tensor) -> Tensor:
    z1, z2 = _halves(x)
    r = squared_norm(x).sqrt_()
    gap = 1.0 - r / math.pi
    height = 10.0 * gap.abs().exp_()
    u = z1.sin() * z2.cos()
    side = u.sign() * height
    out = _from_halves(x, side * z1.cos() * z2.cos(), -side * z1.sin() * z2.sin())
    # At r = 0 the factor |u| is 0 too, and so is the radial part.
    radial = u.abs() * height * gap.sign() / (-math.pi * r.clamp_min(1e-30))
    return torch.addcmul(out, radial[..., None], x)


@entry_of(
    POTENTIALS,
    "10 |sin z₁ cos z₂| exp|1 − ‖v‖/π|",
    gradient=_holder_table_gradient,
    min_dim=2,
)
def holder_table(x: Tensor) -> Tensor:
    """A grid of bumps with creases between them."""
    z1, z2 = _halves(x)
    gap = 1.0 - torch.linalg.vector_norm(x, dim=-1) / math.pi
    return 10.0 * (z1.sin() * z2.cos() * gap.abs().exp()).abs()


def _zigzag_ridge_gradient(x: Tensor) -> Tensor:
    a, b = x[..., :-1].contiguous(), x[..., 1:].contiguous()
    cos = a.cos()
    pull = 2.0 * (a - b)
    out = torch.zeros_like(x)
    out[..., :-1] = pull + cos - a.sin() * (a + b) + 2.0 * a * b
    out[..., 1:] += cos - pull + a.square()
    return out


@entry_of(
    POTENTIALS,
    "Σ_{i<d} [(vᵢ − vᵢ₊₁)² + cos(vᵢ)(vᵢ + vᵢ₊₁) + vᵢ² vᵢ₊₁]",
    gradient=_zigzag_ridge_gradient,
    min_dim=2,
)
def zigzag_ridge(x: Tensor) -> Tensor:
    """A chain of coupled components; unbounded below."""
    a, b = x[..., :-1], x[..., 1:]
    return ((a - b).square() + a.cos() * (a + b) + a.square() * b).sum(-1)


def _oakley_ohagan_gradient(x: Tensor) -> Tensor:
    return x.cos().sub_(x.sin()).add_(x, alpha=2.0).add_(1.0).mul_(5.0)


@entry_of(POTENTIALS, "5 Σ (sin v + cos v + v² + v)", gradient=_oakley_ohagan_gradient)
def oakley_ohagan(x: Tensor) -> Tensor:
    """A bowl with ripples."""
    return 5.0 * (x.sin() + x.cos() + x.square() + x).sum(-1)


def _watershed_gradient(x: Tensor) -> Tensor:
    a, b = x[..., :-1].contiguous(), x[..., 1:].contiguous()
    out = torch.zeros_like(x)
    out[..., :-1] = (b + 4.0).mul_(a).mul_(0.2).add_(0.1)
    out[..., 1:] += 0.1 * a.square()
    return out


@entry_of(
    POTENTIALS,
    "Σ_{i<d} [vᵢ + vᵢ² (vᵢ₊₁ + 4)] / 10",
    gradient=_watershed_gradient,
    min_dim=2,
)
def watershed(x: Tensor) -> Tensor:
    """A shallow valley whose walls steepen along it; unbounded below."""
    a, b = x[..., :-1], x[..., 1:]
    return (a + a.square() * (b + 4.0)).sum(-1) / 10.0


def _ishigami_gradient(x: Tensor) -> Tensor:
    z1, z2 = _halves(x)
    mean = (z1 + z2) / 2.0
    cube = mean.square() * mean
    sin = z1.sin()
    shared = 0.2 * cube * sin
    return _from_halves(
        x, (1.0 + 0.1 * cube * mean) * z1.cos() + shared, 7.0 * (2.0 * z2).sin() + shared
    )


@entry_of(
    POTENTIALS,
    "sin z₁ + 7 sin² z₂ + 0.1 ((z₁ + z₂)/2)⁴ sin z₁",
    gradient=_ishigami_gradient,
    min_dim=2,
)
def ishigami(x: Tensor) -> Tensor:
    """Waves in the two half means, growing outwards."""
    z1, z2 = _halves(x)
    return z1.sin() * (1.0 + 0.1 * ((z1 + z2) / 2.0).pow(4)) + 7.0 * z2.sin().square()


def _friedman_gradient(x: Tensor) -> Tensor:
    z1, z2 = _halves(x)
    a, b = 2.0 * (z1 - 7.0), z2 - 7.0
    sin, cos = b.sin(), b.cos()
    wave = 10.0 * math.pi * (math.pi * a * b).cos()
    first, second = 40.0 * (a * sin - 0.5), 20.0 * (a * cos - 1.0)
    ga = wave * b + first * sin + second * cos + 0.1 * b * a.cos()
    gb = wave * a + a * (first * cos - second * sin) + 0.1 * a.sin()
    return _from_halves(x, 0.02 * ga, 0.01 * gb)  # da/dz₁ = 2, db/dz₂ = 1


@entry_of(
    POTENTIALS,
    "[10 sin(πab) + 20 (a sin b − ½)² + 10 (a cos b − 1)² + 0.1 b sin a]/100, "
    "a = 2(z₁ − 7), b = z₂ − 7",
    gradient=_friedman_gradient,
    min_dim=2,
)
def friedman(x: Tensor) -> Tensor:
    """Fast ripples on a slope."""
    z1, z2 = _halves(x)
    a, b = 2.0 * (z1 - 7.0), z2 - 7.0
    squares = 20.0 * (a * b.sin() - 0.5).square() + 10.0 * (a * b.cos() - 1.0).square()
    return (10.0 * (math.pi * a * b).sin() + squares + 0.1 * b * a.sin()) / 100.0


def _sphere_gradient(x: Tensor) -> Tensor:
    return -20.0 * x


@entry_of(POTENTIALS, "−10 ‖v‖²", gradient=_sphere_gradient)
def sphere(x: Tensor) -> Tensor:
    """A hill that drives everything outwards; unbounded below."""
    return -10.0 * squared_norm(x)


def _bohachevsky_gradient(x: Tensor) -> Tensor:
    z1, z2 = _halves(x)
    g1 = 20.0 * z1 + (9.0 * math.pi) * (3.0 * math.pi * z1).sin()
    g2 = 40.0 * z2 + (16.0 * math.pi) * (4.0 * math.pi * z2).sin()
    return _from_halves(x, g1, g2)


@entry_of(
    POTENTIALS,
    "10 (z₁² + 2 z₂² − 0.3 cos 3πz₁ − 0.4 cos 4πz₂)",
    gradient=_bohachevsky_gradient,
    min_dim=2,
)
def bohachevsky(x: Tensor) -> Tensor:
    """A bowl with fast ripples in the two half means."""
    z1, z2 = _halves(x)
    ripples = 0.3 * (3.0 * math.pi * z1).cos() + 0.4 * (4.0 * math.pi * z2).cos()
    return 10.0 * (z1.square() + 2.0 * z2.square() - ripples)


def _flowers_gradient(x: Tensor) -> Tensor:
    r = x.abs()
    root = r.pow(0.2)
    return r.mul_(root).cos_().mul_(root).mul_(2.4).mul_(x.sign()).add_(1.0)


@entry_of(POTENTIALS, "Σ [v + 2 sin(|v|^1.2)]", gradient=_flowers_gradient)
def flowers(x: Tensor) -> Tensor:
    """Gentle ripples on a slope; the weakest gradient of the benchmark but two."""
    return (x + 2.0 * x.abs().pow(1.2).sin()).sum(-1)


def _wavy_plateau_gradient(x: Tensor) -> Tensor:
    out = x.square().mul_(2.0).sub_(6.0).mul_(x)
    return out.sub_((math.pi * x).sin_(), alpha=math.pi)


@entry_of(POTENTIALS, "Σ [cos πv + ½ v⁴ − 3 v² + 1]", gradient=_wavy_plateau_gradient)
def wavy_plateau(x: Tensor) -> Tensor:
    """Double wells with waves in each component; stiff at the edges of the box."""
    u = x.square()
    return ((math.pi * x).cos() + 0.5 * u.square() - 3.0 * u + 1.0).sum(-1)


def _double_exp_gradient(x: Tensor) -> Tensor:
    near, far = (squared_norm(x - c).div_(-20.0).exp_() for c in (3.0, -3.0))
    out = (-20.0 * x).mul_((near + far)[..., None])
    return out.add_(near.sub_(far)[..., None], alpha=60.0)


@entry_of(POTENTIALS, "200 [exp(−‖v − 3‖²/20) + exp(−‖v + 3‖²/20)]", gradient=_double_exp_gradient)
def double_exp(x: Tensor) -> Tensor:
    """Two hills, at (3, …, 3) and (−3, …, −3)."""
    near, far = (squared_norm(x - c).div(-20.0).exp() for c in (3.0, -3.0))
    return 200.0 * (near + far)


def _relu_gradient(x: Tensor) -> Tensor:
    return x.sign().clamp_(min=0.0).mul_(-50.0)


@entry_of(POTENTIALS, "−50 Σ max(v, 0)", gradient=_relu_gradient)
def relu(x: Tensor) -> Tensor:
    """Flat on one side, a steady push on the other; unbounded below."""
    return -50.0 * x.clamp_min(0.0).sum(-1)


def _rotational_gradient(x: Tensor) -> Tensor:
    z1, z2 = _halves(x)
    a, b = z1 + 5.0, z2 + 5.0
    rate = -500.0 / (a.square() + b.square())
    return _from_halves(x, -b * rate, a * rate)


@entry_of(
    POTENTIALS,
    "−500 max(atan2(z₂ + 5, z₁ + 5) + π, 0)",
    gradient=_rotational_gradient,
    min_dim=2,
)
def rotational(x: Tensor) -> Tensor:
    """An angle about (−5, −5): a drift that turns, with a branch cut to the left of it."""
    z1, z2 = _halves(x)
    return -500.0 * (torch.atan2(z2 + 5.0, z1 + 5.0) + math.pi).clamp_min(0.0)


@entry_of(POTENTIALS, "0", gradient=torch.zeros_like)
def flat(x: Tensor) -> Tensor:
    """No force at all."""
    return torch.zeros_like(x[..., 0])
