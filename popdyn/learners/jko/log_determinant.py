"""log|det ∇T| of a map: exact in low dimension, by Hutchinson's estimator above."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["EXACT", "exact_log_determinant", "hutchinson_log_determinant", "log_determinant"]

EXACT = 10  # largest dimension in which the whole Jacobian is built
TERMS, PROBES = 12, 2

# v ↦ (∇T − 1) v at every particle, (..., K, n, d) → (..., K, n, d)
Apply = Callable[[Tensor], Tensor]


def log_determinant(apply: Apply, x: Tensor, generator: torch.Generator) -> Tensor:
    """Return log|det ∇T| at every particle, with a graph.

    Args:
        apply: v ↦ (∇T − 1) v.
        x: The particles, ``(K, n, d)``.
        generator: Draws the probes in high dimension.

    Returns:
        ``(K, n)``.
    """
    if x.shape[-1] <= EXACT:
        return exact_log_determinant(apply, x)
    return hutchinson_log_determinant(apply, x, generator)


def exact_log_determinant(apply: Apply, x: Tensor) -> Tensor:
    """Return log|det ∇T| from the whole Jacobian, one direction after the other."""
    d = x.shape[-1]
    columns = apply(torch.eye(d, dtype=x.dtype, device=x.device)[:, None, None, :])
    jacobian = columns.expand(d, *x.shape).movedim(0, -1) + torch.eye(d).to(x)
    if d == 2:  # several times faster than a factorisation of many small matrices
        a, b, c, e = jacobian.flatten(-2).unbind(-1)
        return (a * e - b * c).abs().clamp_min(1e-12).log()
    return torch.linalg.slogdet(jacobian)[1]


def hutchinson_log_determinant(
    apply: Apply, x: Tensor, generator: torch.Generator, terms: int = TERMS, probes: int = PROBES
) -> Tensor:
    """Return an estimate of log|det ∇T| from products of the Jacobian with random vectors.

    log det J = d log c + tr log(1 + B), B = J/c − 1, and tr B^m = E vᵀB^m v for random signs v. The
    series converges as long as all eigenvalues of J lie in (0, 2c) and near its real axis; c ≥ 1 is
    chosen for each particle from a few power iterations. Exact in the mean but for the terms left
    out.

    References:
        Hutchinson, Commun. Stat. Simul. 18 (1989); Behrmann et al., ICML (2019).
    """
    d = x.shape[-1]
    with torch.no_grad():
        v = torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device)
        for _ in range(4):
            v = v / v.norm(dim=-1, keepdim=True).clamp_min(1e-20)
            v = v + apply(v)
        c = (0.75 * v.norm(dim=-1, keepdim=True)).clamp_min(1.0)
    total = torch.zeros_like(x[..., 0])
    for _ in range(probes):
        signs = torch.randint(0, 2, x.shape, generator=generator).to(x) * 2.0 - 1.0
        power = signs
        for m in range(1, terms + 1):
            power = (power + apply(power)) / c - power
            total = total + (-1.0) ** (m + 1) / m * (signs * power).sum(-1)
    return total / probes + d * c[..., 0].log()
