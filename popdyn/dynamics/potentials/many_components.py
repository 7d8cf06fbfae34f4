"""Potentials that are no sum over components: coupled, turned, on a shell, along a curve."""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from popdyn.dynamics.fields import entry_of, squared_norm
from popdyn.dynamics.potentials import POTENTIALS
from popdyn.dynamics.potentials.benchmark import styblinski_tang

__all__: list[str] = []


@entry_of(
    POTENTIALS,
    "strength Σᵢ sin(frequency vᵢ) cos(frequency vᵢ₊₁) + ½ stiffness |v|²",
)
def coupled_waves(
    x: Tensor, strength: float = 2.0, frequency: float = 1.5, stiffness: float = 1.0
) -> Tensor:
    """Each component coupled to the next one by waves, in a bowl."""
    u = frequency * x
    waves = (u[..., :-1].sin() * u[..., 1:].cos()).sum(-1)
    return strength * waves + (0.5 * stiffness) * squared_norm(x)


@entry_of(POTENTIALS, "styblinski_tang(R v), R the rotation of a seed")
def turned_styblinski_tang(x: Tensor, seed: int = 0) -> Tensor:
    """The sum over components of styblinski_tang in directions that are none of them."""
    return styblinski_tang(x @ _rotation(x.shape[-1], int(seed)).to(x).T)


@lru_cache(maxsize=16)
def _rotation(dim: int, seed: int) -> Tensor:
    """Return Q of the QR decomposition of a normal matrix, with R's diagonal above 0: Haar's law.

    References:
        Mezzadri, Notices of the AMS 54 (2007) 592.
    """
    normal = np.random.default_rng(seed).standard_normal((dim, dim))
    q, r = np.linalg.qr(normal)
    return torch.from_numpy(q * np.sign(np.diag(r)))


@entry_of(
    POTENTIALS,
    "½ stiffness (|v| − radius)² + coupling v₁ v₂",
    positive=("radius",),
    min_dim=2,
)
def shell(x: Tensor, stiffness: float = 8.0, radius: float = 2.0, coupling: float = 0.5) -> Tensor:
    """A spherical shell, on which two of the components attract each other."""
    r = squared_norm(x).clamp_min(1e-12).sqrt()
    return (0.5 * stiffness) * (r - radius).square() + coupling * x[..., 0] * x[..., 1]


@entry_of(
    POTENTIALS,
    "height (v₁²/distance² − 1)² + ½ stiffness Σ_{i>1} (vᵢ − bend cos(i v₁/distance))²",
    positive=("distance",),
)
def curved_well(
    x: Tensor,
    height: float = 2.0,
    distance: float = 2.0,
    stiffness: float = 4.0,
    bend: float = 1.0,
) -> Tensor:
    """A double well along a curve that winds through all components."""
    first = x[..., :1] / distance
    order = torch.arange(2, x.shape[-1] + 1, device=x.device, dtype=x.dtype)
    off = x[..., 1:] - bend * (order * first).cos()
    well = (first[..., 0].square() - 1.0).square()
    return height * well + (0.5 * stiffness) * squared_norm(off)
