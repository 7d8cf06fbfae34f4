"""Mean interaction gradients over a population, in tiles, without an N×N array in memory."""

from collections.abc import Iterator

import torch
from torch import Tensor

from popdyn.dynamics.fields import RadialKernel, ScalarField, squared_norm

__all__ = ["mean_interaction_gradient"]

# A tile of weights should stay in the cache of one core; an accelerator wants much larger ones.
PAIRS_ON_CPU = 1 << 17
PAIRS_ELSEWHERE = 1 << 26
COLUMNS_ON_CPU = 1 << 8

# Largest rounding error of a squared distance, in squared lengths of the kernel, with which
# distances may come from a matrix product.
TOLERANCE = 1e-3


def mean_interaction_gradient(
    W: ScalarField,
    x: Tensor,
    population: Tensor,
    *,
    exclude_self: bool = False,
    weights: Tensor | None = None,
) -> Tensor:
    """Return the mean over y in the population of ∇W(x − y), each times its weight.

    For a radial kernel, ∇W(z) = 2 φ'(|z|²) z, a tile of squared distances is one matrix product,
    and the sum over its pairs another. Leading axes are populations that do not feel each other.
    Time is O(n·m·d), memory O((n + m)·d) and a tile.

    Args:
        W: An even kernel.
        x: Positions, ``(..., n, d)``.
        population: The particles that exert the force, ``(..., m, d)``.
        exclude_self: ``x`` is the population itself, and a particle does not act on itself: its
            own term is left out, and the mean is over the ``m − 1`` others.
        weights: Masses of the population, ``(..., m)``, 1 if None; the sum is divided by how many
            they are, not by what they weigh.

    Returns:
        ``(..., n, d)``, dimensionless, without a graph; 0 where there are no others.

    Example:
        >>> from popdyn.dynamics import FreeEnergy
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
        mass = None if weights is None else weights.to(x).expand(*shape, m).reshape(-1, m)
        sums = _radial_sums if isinstance(W, RadialKernel) else _general_sums
        total = sums(W, here, there, exclude_self, mass)  # type: ignore[arg-type]
        return (total / count).reshape(*shape, n, d)


def _tiles(x: Tensor, m: int, share: int = 1) -> Iterator[tuple[slice, slice, slice]]:
    """Yield slices of populations, of the rows x and of m columns, a tile's worth each.

    ``share`` is how many numbers a pair takes; a tile has as many fewer pairs.
    """
    batch, n, _ = x.shape
    on_cpu = x.device.type == "cpu"
    pairs = max(1, (PAIRS_ON_CPU if on_cpu else PAIRS_ELSEWHERE) // share)
    columns = min(m, COLUMNS_ON_CPU if on_cpu else pairs)
    rows = min(n, max(1, pairs // columns))
    together = max(1, pairs // (n * m))
    for b in range(0, batch, together):
        for i in range(0, n, rows):
            for j in range(0, m, columns):
                yield slice(b, b + together), slice(i, i + rows), slice(j, j + columns)


def _clear_self(tile: Tensor, i: slice, j: slice, dim: int) -> None:
    """Set what the particles of a tile do to themselves to zero."""
    if i.start < j.stop and j.start < i.stop:
        tile.diagonal(i.start - j.start, dim, dim + 1).zero_()


def _radial_sums(
    W: RadialKernel, x: Tensor, y: Tensor, exclude_self: bool, mass: Tensor | None
) -> Tensor:
    """Return the sum over y of ∇W(x − y), ``(b, n, d), (b, m, d) → (b, n, d)``."""
    center = y.mean(-2, keepdim=True)  # squares of large coordinates would cancel badly
    x, y = x - center, y - center
    exponential = W.exponential
    if exponential is not None and exponential[1] == 0.0 and mass is None:  # a constant slope
        return (2.0 * exponential[0] * y.shape[-2]) * x
    (batch, n, d), m = x.shape, y.shape[-2]
    xx, yy = squared_norm(x)[..., None], squared_norm(y)[..., None]
    largest = torch.maximum(xx.amax(), yy.amax()).item()
    if torch.finfo(x.dtype).eps * largest > TOLERANCE * W.length**2:
        return _narrow_sums(W, x, y, exclude_self, mass)
    # s = |x|² − 2 x·y + |y|² as one product; −b·s comes out of it at no extra cost.
    rate = 1.0 if exponential is None else -exponential[1]
    left = torch.cat([(-2.0 * rate) * x, rate * xx, torch.ones_like(xx)], -1)
    right = torch.cat([y, torch.ones_like(yy), rate * yy], -1).mT.contiguous()
    moments = torch.cat([y, torch.ones_like(yy)], -1)
    if mass is not None:
        moments = moments * mass[..., None]
    out = x.new_zeros((batch, n, d + 1))
    for b, i, j in _tiles(x, m):
        weights = torch.bmm(left[b, i], right[b, :, j])
        weights = weights.exp_() if exponential else W.slope(weights.clamp_(min=0.0))
        if exclude_self:
            _clear_self(weights, i, j, 1)
        out[b, i].baddbmm_(weights, moments[b, j])
    factor = 2.0 * exponential[0] if exponential else 2.0
    return (out[..., d:] * x - out[..., :d]).mul_(factor)


def _narrow_sums(
    W: RadialKernel, x: Tensor, y: Tensor, exclude_self: bool, mass: Tensor | None
) -> Tensor:
    """Return the same from the differences: slower, and exact for narrow kernels, too."""
    out = torch.zeros_like(x)
    across, down = x.mT.contiguous(), y.mT.contiguous()
    for b, i, j in _tiles(x, y.shape[-2], share=x.shape[-1]):
        z = across[b, :, i, None] - down[b, :, None, j]
        weights = W.slope(z.square().sum(1))
        if exclude_self:
            _clear_self(weights, i, j, 1)
        if mass is not None:
            weights = weights * mass[b, None, j]
        out[b, i] += (z * weights[:, None]).sum(-1).mT
    return out.mul_(2.0)


def _general_sums(
    W: ScalarField, x: Tensor, y: Tensor, exclude_self: bool, mass: Tensor | None
) -> Tensor:
    """Return the sum over y of ∇W(x − y) for any kernel, by the gradient at each difference."""
    out = torch.zeros_like(x)
    for b, i, j in _tiles(x, y.shape[-2], share=x.shape[-1]):
        gradient = W.gradient(x[b, i, None, :] - y[b, None, j, :])
        if exclude_self:
            _clear_self(gradient, i, j, 1)
        if mass is not None:
            gradient = gradient * mass[b, None, j, None]
        out[b, i] += gradient.sum(-2)
    return out
