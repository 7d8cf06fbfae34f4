"""Mean interaction gradients over a population, in tiles, without an N×N array in memory."""

from collections.abc import Iterator

import torch
from torch import Tensor

from popdyn.energies.terms import RadialTerm, Term

__all__ = ["mean_interaction_gradient"]

# A tile of weights should stay in the cache of one core; an accelerator wants much larger ones.
PAIRS_ON_CPU = 1 << 17
PAIRS_ELSEWHERE = 1 << 26
COLUMNS = 1 << 8

# Largest rounding error of a squared distance, in squared lengths of the kernel, for which
# distances are taken from one matrix product.
TOLERANCE = 1e-3


def mean_interaction_gradient(
    W: Term, x: Tensor, population: Tensor, *, exclude_self: bool = False
) -> Tensor:
    """Return the mean over y in the population of ∇W(x − y).

    For a radial kernel, ∇W(z) = 2 φ'(|z|²) z, a tile of squared distances is one matrix product,
    and the sum over its pairs another. Leading axes are populations that do not feel each other.
    Time is O(n·m·d), memory O((n + m)·d) and a tile.

    Args:
        W: An even kernel.
        x: Positions, ``(..., n, d)``.
        population: The particles that exert the force, ``(..., m, d)``.
        exclude_self: ``x`` is the population itself, and a particle does not act on itself: its
            own term is left out, and the mean is over the ``m − 1`` others.

    Returns:
        ``(..., n, d)``, dimensionless, without a graph; 0 where there are no others.

    Example:
        >>> from popdyn.energies import FreeEnergy
        >>> spring = FreeEnergy(interaction="quadratic").W
        >>> x = torch.tensor([[0.0], [1.0], [5.0]])
        >>> mean_interaction_gradient(spring, x, x, exclude_self=True).flatten()
        tensor([-3.0000, -1.5000,  4.5000])
    """
    n, m, d = x.shape[-2], population.shape[-2], x.shape[-1]
    shape = torch.broadcast_shapes(x.shape[:-2], population.shape[:-2])
    count = m - 1 if exclude_self else m
    if count < 1 or n == 0:
        return x.new_zeros((*shape, n, d))
    with torch.no_grad():
        here = x.expand(*shape, n, d).reshape(-1, n, d)
        there = population.expand(*shape, m, d).reshape(-1, m, d)
        if isinstance(W, RadialTerm):
            total = _radial_sums(W, here, there, exclude_self)
        else:
            total = _general_sums(W, here, there, exclude_self)
        return (total / count).reshape(*shape, n, d)


def _tiles(
    batch: int, n: int, m: int, pairs: int, columns: int
) -> Iterator[tuple[slice, slice, slice]]:
    """Yield slices of populations, rows and columns with at most about ``pairs`` pairs each."""
    columns = min(m, columns)
    rows = min(n, max(1, pairs // columns))
    together = max(1, pairs // (n * m))
    for b in range(0, batch, together):
        for i in range(0, n, rows):
            for j in range(0, m, columns):
                yield (
                    slice(b, min(b + together, batch)),
                    slice(i, min(i + rows, n)),
                    slice(j, min(j + columns, m)),
                )


def _clear_self(tile: Tensor, i: slice, j: slice, dim: int) -> None:
    """Set what the particles of a tile do to themselves to zero."""
    if i.start < j.stop and j.start < i.stop:
        tile.diagonal(i.start - j.start, dim, dim + 1).zero_()


def _radial_sums(W: RadialTerm, x: Tensor, y: Tensor, exclude_self: bool) -> Tensor:
    """Return the sum over y of ∇W(x − y), ``(b, n, d), (b, m, d) → (b, n, d)``."""
    center = y.mean(-2, keepdim=True)  # squares of large coordinates would cancel badly
    x, y = x - center, y - center
    exponential = W.exponential
    if exponential is not None and exponential[1] == 0.0:  # a constant slope
        return (2.0 * exponential[0] * y.shape[-2]) * x
    (batch, n, d), m = x.shape, y.shape[-2]
    xx, yy = x.square().sum(-1, keepdim=True), y.square().sum(-1, keepdim=True)
    # s = |x|² − 2 x·y + |y|² as one product; −b·s comes out of it at no extra cost.
    rate = 1.0 if exponential is None else -exponential[1]
    left = torch.cat([(-2.0 * rate) * x, rate * xx, torch.ones_like(xx)], -1)
    right = torch.cat([y, torch.ones_like(yy), rate * yy], -1).mT.contiguous()
    moments = torch.cat([y, torch.ones_like(yy)], -1)
    largest = torch.maximum(xx.amax(), yy.amax()).item()
    rough = torch.finfo(x.dtype).eps * largest > TOLERANCE * W.length**2
    out = x.new_zeros((batch, n, d + 1))
    pairs = PAIRS_ON_CPU if x.device.type == "cpu" else PAIRS_ELSEWHERE
    columns = COLUMNS if x.device.type == "cpu" else m
    for b, i, j in _tiles(batch, n, m, pairs, columns):
        if rough:
            weights = _squared_distances(x[b, i], y[b, j]).mul_(rate)
        else:
            weights = torch.bmm(left[b, i], right[b, :, j])
        weights = weights.exp_() if exponential else W.slope(weights.clamp_(min=0.0))
        if exclude_self:
            _clear_self(weights, i, j, 1)
        out[b, i].baddbmm_(weights, moments[b, j])
    factor = 2.0 * exponential[0] if exponential else 2.0
    return (out[..., d:] * x - out[..., :d]).mul_(factor)


def _squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """Return |x − y|² from the differences, ``(b, n, d), (b, m, d) → (b, n, m)``."""
    out = x.new_zeros((x.shape[0], x.shape[1], y.shape[1]))
    for k in range(x.shape[-1]):
        z = x[..., k, None] - y[..., None, :, k]
        out.addcmul_(z, z)
    return out


def _general_sums(W: Term, x: Tensor, y: Tensor, exclude_self: bool) -> Tensor:
    """Return the sum over y of ∇W(x − y) for any kernel, by the gradient at each difference."""
    (batch, n, d), m = x.shape, y.shape[-2]
    out = torch.zeros_like(x)
    for b, i, j in _tiles(batch, n, m, max(1, PAIRS_ON_CPU // d), max(1, PAIRS_ON_CPU // d)):
        gradient = W.gradient(x[b, i, None, :] - y[b, None, j, :])
        if exclude_self:
            _clear_self(gradient, i, j, 1)
        out[b, i] += gradient.sum(-2)
    return out
