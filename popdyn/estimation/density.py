"""∇log ρ of a snapshot: by a Gaussian mixture, as published, and by score matching."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from popdyn.families.features import Block, FeatureMap, gaussian_block, polynomials
from popdyn.families.models import Scaling

__all__ = ["DENSITIES", "mixture_score", "score_matching"]

COMPONENTS = 10
RIDGES = np.logspace(-4, 2, 13)
CENTERS_FROM = 5000  # particles among which the bumps are laid out

Score = Callable[[Tensor], Tensor]


def mixture_score(x: Tensor, seed: int) -> Score:
    """Return ∇log ρ of a Gaussian mixture of 10 components fitted to x, as published."""
    from sklearn.mixture import GaussianMixture

    points = x.double().cpu().numpy()
    count = min(COMPONENTS, len(np.unique(points, axis=0)))
    mixture = GaussianMixture(count, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # 100 steps that did not settle are as good
        mixture.fit(points)

    def score(at: Tensor) -> Tensor:
        y = at.double().cpu().numpy()
        shares = mixture.predict_proba(y)
        pulls = [(m - y) @ p for m, p in zip(mixture.means_, mixture.precisions_, strict=True)]
        return torch.from_numpy(np.einsum("nk,knd->nd", shares, np.stack(pulls))).to(at)

    return score


def score_matching(x: Tensor, seed: int) -> Score:
    """Return ∇log ρ as the gradient of features, by score matching with a validated ridge.

    ½E|∇g|² + EΔg is smallest for ∇g = ∇log ρ and has no density in it. With g linear in features
    the minimum is a linear system. Polynomials, which know a Gaussian, are free; the ridge on bumps
    is the best one on the half that was not used.

    References:
        Hyvärinen, J. Mach. Learn. Res. 6 (2005) 695.
    """
    scale = x.std(0).clamp_min(1e-6)
    scaling = Scaling(x.mean(0), scale, x.amin(0), x.amax(0), 1.0).to(x.device)
    z = scaling.standardise(x[:CENTERS_FROM]).double().cpu().numpy()
    dim = z.shape[1]
    # A component without spread has a box without width.
    half = scaling.half_width.cpu().clamp_min(1e-3)
    blocks: list[Block] = [*polynomials(dim, half, 2, 2 if dim <= 12 else 0)]
    free = sum(block.size for block in blocks)
    blocks += [gaussian_block(z, [c], 0.5, 20, "bumps") for c in range(dim)]
    if 1 < dim <= 12:
        blocks.append(gaussian_block(z, range(dim), 0.7, 100, "wide bumps"))
    features = FeatureMap(scaling, blocks).to(x.device)
    order = torch.from_numpy(np.random.default_rng([seed, 6]).permutation(len(x))).to(x.device)
    (gram, slope), (other_gram, other_slope) = (
        _moments(features, x[part]) for part in order.chunk(2)
    )
    losses = []
    for ridge in RIDGES:
        for one, two in (
            ((gram, slope), (other_gram, other_slope)),
            ((other_gram, other_slope), (gram, slope)),
        ):
            c = _solve(*one, free, ridge)
            losses.append(0.5 * c @ two[0] @ c + two[1] @ c)
    best = int(np.argmin(np.reshape(losses, (-1, 2)).sum(1)))
    weights = _solve(0.5 * (gram + other_gram), 0.5 * (slope + other_slope), free, RIDGES[best])
    columns = torch.from_numpy(weights).to(x)[:, None]

    def score(at: Tensor) -> Tensor:
        return features.gradient_of(at, columns)[..., 0].T

    return score


def _moments(features: FeatureMap, x: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return E ∇φ·∇φᵀ and E Δφ."""
    gram = np.zeros((features.size, features.size))
    slope = np.zeros(features.size)
    for part in x.split(max(1, 4_000_000 // (features.size * x.shape[1]))):
        _, gradients = features.gradients(part)
        flat = gradients.flatten(0, 1)
        gram += (flat.T @ flat).double().cpu().numpy()
        eye = torch.eye(x.shape[1]).to(x).expand(len(part), -1, -1)
        slope += features.contracted(part, eye).sum(0, dtype=torch.float64).cpu().numpy()
    return gram / len(x), slope / len(x)


def _solve(gram: np.ndarray, slope: np.ndarray, free: int, ridge: float) -> np.ndarray:
    """Return the minimiser with a relative ridge on all but the first functions."""
    own = np.diag(gram)
    size = np.sqrt(np.maximum(own, 1e-12 * own.max() + 1e-300))
    scaled = gram / np.outer(size, size)
    scaled[np.diag_indices(len(scaled))] += np.where(np.arange(len(own)) < free, 1e-6, ridge)
    return -np.linalg.solve(scaled, slope / size) / size  # type: ignore[no-any-return]


DENSITIES: dict[str, Callable[[Tensor, int], Score]] = {
    "mixture": mixture_score,
    "score_matching": score_matching,
}
