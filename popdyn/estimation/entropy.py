"""Entropies of samples, and the score of their law: what a known density would give, estimated."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.spatial import cKDTree
from scipy.special import digamma
from torch import Tensor

from popdyn.families.features import FeatureMap, polynomials
from popdyn.families.models import Scaling

__all__ = ["entropy", "score"]

NEIGHBOURS = 3
RIDGE = 1e-4  # of the mean square slope of a feature


def entropy(x: Tensor, neighbours: int = NEIGHBOURS) -> float:
    """Return the differential entropy −∫ρ log ρ of a sample's law, in nats.

    From the distances ε_i to the k-th nearest neighbour: d·mean log ε + log c_d + ψ(n) − ψ(k), c_d
    the volume of the unit ball. A point that occurs several times counts once: it has a neighbour
    at distance 0, whose logarithm would be the whole estimate.

    Args:
        x: The sample, ``(n, d)``.
        neighbours: k; more of them trade variance for bias.

    Returns:
        The entropy; for fewer than two distinct points that of a ball as small as float32 tells.

    References:
        Kozachenko and Leonenko, Probl. Inf. Transm. 23 (1987); Kraskov et al., Phys. Rev. E 69
        (2004).

    Example:
        >>> x = torch.rand(20_000, 2, generator=torch.Generator().manual_seed(0))
        >>> abs(entropy(x)) < 0.03  # of the uniform law on the unit square: 0
        True
    """
    points = np.unique(x.detach().cpu().double().numpy(), axis=0)
    n, d = points.shape
    finest = np.finfo(np.float32).eps * (1.0 + float(np.abs(points).max()))
    k = min(neighbours, n - 1)
    if k < 1:
        distances, k, n = np.full(1, finest), 1, 2
    else:
        # Finite whatever the data: a neighbour is not nearer than float32 tells apart.
        distances = np.maximum(cKDTree(points).query(points, k + 1)[0][:, k], finest)
    ball = 0.5 * d * math.log(math.pi) - math.lgamma(0.5 * d + 1.0)
    return float(d * np.log(distances).mean() + ball + digamma(n) - digamma(k))


@torch.no_grad()
def score(x: Tensor) -> Tensor:
    """Return ∇log ρ at the points of a sample of ρ, ``(n, d) → (n, d)``.

    Score matching: of all gradients of polynomials s the one that makes ½E|s|² + E div s smallest,
    which is the one nearest to ∇log ρ in L²(ρ); the degree is the one whose fit to one half of the
    sample does best on the other. Exact for a Gaussian law.

    References:
        Hyvärinen, J. Mach. Learn. Res. 6 (2005).
    """
    d = x.shape[1]
    points = x.double()
    width = points.std(0).clamp_min(1e-6 * (1.0 + points.abs().amax(0)))
    scaling = Scaling(points.mean(0), width, points.amin(0), points.amax(0), 1.0)
    half = scaling.half_width
    eye = torch.eye(d).to(points).expand(len(points), d, d)
    cut = len(points) // 2
    best, found = math.inf, torch.zeros_like(points)
    for degree in (2, 4, 6) if d <= 2 else (2, 4) if d <= 5 else (2,):
        blocks = polynomials(d, half, degree, degree if d <= 12 else 0)
        features = FeatureMap(scaling, blocks).to(points.device)
        _, slopes = features.gradients(points)  # (d, n, m)
        bends = features.contracted(points, eye)
        gram, divergence = _means(slopes[:, cut:], bends[cut:])
        weights = _matched(*_means(slopes[:, :cut], bends[:cut]))
        held_out = float(0.5 * weights @ gram @ weights + weights @ divergence)
        if held_out < best:
            best = held_out
            found = (slopes @ _matched(*_means(slopes, bends))).T
    return found.to(x.dtype)


def _means(slopes: Tensor, bends: Tensor) -> tuple[Tensor, Tensor]:
    """Return E[∇f·∇f'] and EΔf of the features, ``(m, m)`` and ``(m)``."""
    return torch.einsum("cnp,cnq->pq", slopes, slopes) / len(bends), bends.mean(0)


def _matched(gram: Tensor, divergence: Tensor) -> Tensor:
    """Return the weights that minimise ½aᵀGa + a·E[Δf], ``(m)``."""
    gram = gram.clone()
    gram.diagonal().mul_(1.0 + RIDGE).add_(1e-12 * float(gram.diagonal().mean()))
    return -torch.linalg.solve(gram, divergence)
