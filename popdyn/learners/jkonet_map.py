"""JKOnet's transport maps: gradients of input-convex networks, one for each interval."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from popdyn.families.models import Scaling

__all__ = ["ConvexMaps", "Weights"]

Weights = dict[str, Tensor]
SOFTPLUS_INVERSE_HALF = math.log(math.expm1(0.5))


class ConvexMaps:
    """T = ∇ψ with ψ an input-convex network of the standardised positions z, K of them at once.

    ψ(z) = ½ Σ s_i z_i² + c·z + w⁺·u₂ with u₁ = softplus(A₀z + b₀), u₂ = softplus(U⁺u₁ + A₁z + b₁);
    s, w⁺ and U⁺ are softplus of their weights, so that ψ is convex whatever those are. The gradient
    is written out: its derivative in the weights is then a first one.

    Args:
        scaling: Standardisation; every component keeps its own scale, so that a map that is the
            gradient of a convex function in z is monotone in x.
        count: Number K of maps.
        hidden: Widths of the two hidden layers.
        generator: Draws the first weights.

    References:
        Amos, Xu and Kolter, ICML 2017; Bunne et al., arXiv:2106.06345.
    """

    def __init__(
        self, scaling: Scaling, count: int, hidden: Sequence[int], generator: torch.Generator
    ) -> None:
        first, second = hidden
        # One scale for all components: only then is the gradient in z that of a function of x.
        self.mean = scaling.mean
        self.scale = scaling.scale.square().mean().sqrt()
        d = len(self.mean)

        def draw(*shape: int, size: float) -> Tensor:
            return size * torch.randn(count, *shape, generator=generator)

        weights = {
            "A0": draw(d, first, size=1.0),
            "b0": draw(1, first, size=1.0),
            "U": draw(first, second, size=0.5) + math.log(math.expm1(1.0 / first)),
            "A1": draw(d, second, size=1.0),
            "b1": draw(1, second, size=1.0),
            "w": draw(second, 1, size=0.1) + math.log(math.expm1(0.5 / second)),
            "c": torch.zeros(count, 1, d),
            "s": torch.full((count, 1, d), SOFTPLUS_INVERSE_HALF),
        }
        self.weights: Weights = {k: v.to(self.mean.device) for k, v in weights.items()}

    def __call__(self, weights: Weights, x: Tensor) -> Tensor:
        """Return T(x) for all maps, ``(K, n, d) → (K, n, d)``."""
        softplus = torch.nn.functional.softplus
        z = (x - self.mean) / self.scale
        inner = softplus(weights["U"])
        h1 = z @ weights["A0"] + weights["b0"]
        h2 = softplus(h1) @ inner + z @ weights["A1"] + weights["b1"]
        g2 = torch.sigmoid(h2) * softplus(weights["w"]).mT
        g1 = (g2 @ inner.mT) * torch.sigmoid(h1)
        out = g1 @ weights["A0"].mT + g2 @ weights["A1"].mT
        return self.mean + self.scale * (out + softplus(weights["s"]) * z + weights["c"])
