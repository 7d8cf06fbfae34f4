"""Observed populations run forward under an energy, and how many leave the training data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr
from scipy.spatial import KDTree

from popdyn.base.errors import PopdynError
from popdyn.dynamics import Dynamics
from popdyn.scores.protocol import Protocol
from popdyn.simulation import advance
from popdyn.snapshots import counts, positions

__all__ = ["Support", "predict_targets"]

MAX_SUPPORT = 20_000
QUANTILE = 0.999


def predict_targets(
    energy: Dynamics, protocol: Protocol, weights: dict[int, np.ndarray] | None = None
) -> dict[int, np.ndarray | None]:
    """Return the predicted particles at each target snapshot, ``(n, d)`` float32.

    Intervals between neighbouring snapshots, observed or not, take 20 integration steps each.
    None stands where the particles left finite numbers.

    Args:
        energy: What drives them. The particles that are moved are its population too.
        protocol: Which snapshots to start from and to reach.
        weights: Filled with the weights ``(n,)`` that each target's particles have by then,
            where they grow or had weights before.
    """
    out: dict[int, np.ndarray | None] = {}
    for start in sorted({protocol.start_of(k) for k in protocol.targets}):
        wanted = [k for k in protocol.targets if protocol.start_of(k) == start]
        seed = protocol.torch_seed("noise", start)
        generator = torch.Generator().manual_seed(seed)
        x = torch.from_numpy(np.ascontiguousarray(protocol.sample(start, "start")))
        w, grows = protocol.weights(start, "start"), "growth" in energy.terms
        log_weight = None
        if w is not None or grows:
            mass = np.ones(len(x)) if w is None else np.maximum(w, 1e-300)
            log_weight = torch.from_numpy(np.log(mass))
        for j in range(start, max(wanted)):
            if torch.isfinite(x).all():
                x = _interval(
                    energy, x, protocol.times[j], protocol.times[j + 1], generator, log_weight
                )
            if j + 1 in wanted:
                out[j + 1] = x.numpy() if torch.isfinite(x).all() else None
                if log_weight is not None:
                    grown = log_weight.exp().numpy()
                    if not np.isfinite(grown).all():
                        out[j + 1] = None
                    elif weights is not None:
                        weights[j + 1] = grown
    return out


def _interval(
    energy: Dynamics,
    x: torch.Tensor,
    start: float,
    stop: float,
    generator: torch.Generator,
    log_weight: torch.Tensor | None,
) -> torch.Tensor:
    try:
        return advance(
            energy, x, float(start), float(stop), generator=generator, log_weight=log_weight
        )
    except RuntimeError as error:
        raise PopdynError(
            f"the energy could not be simulated in dimension {x.shape[1]} of the data: "
            f"{str(error).splitlines()[0]}"
        ) from error


class Support:
    """The support of the training data, by nearest neighbours.

    A particle is outside when it is farther from the nearest training particle than 99.9 % of the
    training particles are from theirs: about 0.1 % of fresh particles of the same law are.

    Args:
        data: The snapshots; only the train group is read.
        observed: Indices of the snapshots that were trained on.
        seed: Seeds the choice of 20 000 particles where there are more.

    Example:
        >>> import popdyn
        >>> data = popdyn.simulate(popdyn.FreeEnergy("quadratic"), particles=500, snapshots=3)
        >>> Support(data, [0, 1, 2]).fraction_outside(np.full((10, 2), 100.0))
        1.0
    """

    def __init__(self, data: xr.DataTree, observed: Sequence[int], seed: int = 0) -> None:
        each = -(-MAX_SUPPORT // len(observed))
        rng = np.random.default_rng([seed, 0x5C07E5])
        parts = []
        for k in observed:
            n = int(counts(data, "train")[k])
            x = positions(data, k, "train", 0, min(n, 10 * each))
            parts.append(x[rng.permutation(len(x))[:each]])
        self.tree = KDTree(np.concatenate(parts).astype(np.float64))
        # The nearest training particle of a training particle is itself.
        distance = np.asarray(self.tree.query(self.tree.data, k=[min(2, self.tree.n)])[0])
        self.radius = float(np.quantile(distance, QUANTILE))

    def fraction_outside(self, x: np.ndarray) -> float:
        """Return the fraction of the particles ``(n, d)`` outside, between 0 and 1."""
        return float(np.mean(self.tree.query(np.asarray(x, np.float64))[0] > self.radius))
