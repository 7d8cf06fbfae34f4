"""The registry of interactions W(z), even kernels: a module of this folder enters its own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from popdyn.base.errors import PopdynError
from popdyn.base.registry import Registry
from popdyn.dynamics.fields import Entry, NamedField, ScalarField, Time

__all__ = ["INTERACTIONS", "SymmetrisedField", "check_even"]

INTERACTIONS: Registry[Entry] = Registry("popdyn.interactions", "interaction", __name__)


class SymmetrisedField(NamedField):
    """A potential used as a kernel: W(z) = ½(V(z) + V(−z)).

    Raises:
        PopdynError: If the potential depends on time, besides what ``NamedField`` raises.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.entry.time_dependent:
            raise PopdynError(
                f"'{self.entry.name}' depends on time: expected an interaction that does not"
            )

    def value(self, x: Tensor, t: Time = None) -> Tensor:
        return 0.5 * (super().value(x) + super().value(-x))

    def gradient(self, x: Tensor, t: Time = None) -> Tensor:
        return 0.5 * (super().gradient(x) - super().gradient(-x))

    def spec(self) -> dict[str, Any] | None:
        return {"name": self.entry.name, "params": dict(self.params), "symmetrised": True}

    def label(self) -> str:
        return f"symmetrised {super().label()}"


def check_even(W: ScalarField, dim: int, *, seed: int = 0) -> None:
    """Refuse a kernel that is not even, to float32 accuracy.

    Args:
        W: The kernel.
        dim: Dimension in which it will be used.
        seed: Seed of the 64 random points, normal with standard deviations from 0.1 to 10.

    Raises:
        PopdynError: If W(z) and W(−z) differ at one of the points.

    Example:
        >>> from popdyn.dynamics import POTENTIALS
        >>> check_even(SymmetrisedField(POTENTIALS["flowers"]), dim=2)
    """
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(64, dim, generator=generator) * torch.logspace(-1, 1, 64)[:, None]
    with torch.no_grad():
        there, back = W.value(z), W.value(-z)
    odd = (there - back).abs() > 1e-4 * (there.abs() + back.abs()) + 1e-6
    if odd.any():
        i = int(odd.nonzero()[0, 0])
        point = ", ".join(f"{v:.3g}" for v in z[i].tolist())
        raise PopdynError(
            f"the interaction '{W.label()}' is not even: W(z) = {there[i]:.6g}, "
            f"W(−z) = {back[i]:.6g} at z = ({point}): expected the same"
        )
