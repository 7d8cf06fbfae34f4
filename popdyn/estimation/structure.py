"""How a potential is made of its components, as a network that was trained on the data sees it.

A dictionary cannot hold all products of many components. Where V is a sum over directions, its
Hessians are diagonal in these everywhere, so the rotation that makes those of a network most nearly
diagonal finds them; where components are coupled in pairs, the Hessians have few entries beside the
diagonal, and these are the pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from popdyn.dynamics import ScalarField
from popdyn.families.network_block import NetworkBlock

__all__ = ["Structure", "hessians", "joint_diagonaliser", "structure_of"]

SWEEPS, STILL = 100, 1e-6
COUPLED = 0.95  # share of the squares beside the diagonal that the pairs have to hold
# More pairs are no structure, and cost more than they tell.
PAIRS_PER_COMPONENT, OF_ALL_PAIRS = 3, 0.5
WITNESSES = 1000  # particles at which Hessians are looked at


@dataclass(frozen=True, eq=False)
class Structure:
    """Directions that take the place of components, and those that are coupled in pairs.

    Attributes:
        frame: Orthogonal, a row for each direction, ``(d, d)``; None: the components.
        pairs: Directions that V couples.
        network: Functions of positions that no direction or pair stands for.
    """

    frame: np.ndarray | None = None
    pairs: tuple[tuple[int, int], ...] = ()
    network: NetworkBlock | None = None

    def __bool__(self) -> bool:
        return self.frame is not None or len(self.pairs) > 0 or self.network is not None

    def turned(self) -> Structure:
        """Return what it says of data that has its directions for components."""
        network = self.network
        if self.frame is not None and network is not None:
            matrix = torch.from_numpy(self.frame.T)
            network = network.of_inputs(matrix, torch.zeros(len(matrix)))
        return Structure(None, self.pairs, network)

    def __str__(self) -> str:
        parts = ["a sum over directions other than the components"] * (self.frame is not None)
        if self.pairs:
            parts.append("coupled pairs " + ", ".join(f"{i}–{j}" for i, j in self.pairs))
        if self.network is not None:
            parts.append("the last layer of a network")
        return ", ".join(parts)


def structure_of(V: ScalarField, x: Tensor) -> Structure:
    """Return what a potential's Hessians say of its structure.

    Of the components as they are and the directions that make the Hessians most nearly diagonal,
    those are taken that leave fewer pairs coupled.

    Args:
        V: A potential, twice differentiable.
        x: Particles, ``(n, d)``.
    """
    H = hessians(V, x[:: max(1, len(x) // WITNESSES)])
    plain = np.eye(H.shape[1])
    found = [(len(_coupled(U @ H @ U.T)), U) for U in (plain, joint_diagonaliser(H))]
    count, frame = min(found, key=lambda f: f[0])
    d = len(frame)
    if count > min(PAIRS_PER_COMPONENT * d, OF_ALL_PAIRS * d * (d - 1) / 2):
        return Structure()
    return Structure(None if frame is plain else frame, tuple(_coupled(frame @ H @ frame.T)))


def _coupled(H: np.ndarray) -> list[tuple[int, int]]:
    """Return the fewest pairs that hold all but little of the squares beside the diagonal.

    None, if these are as little beside the squares on it.
    """
    squares = np.square(H).mean(0)
    i, j = np.triu_indices(len(squares), 1)
    own = squares[i, j]
    if 2.0 * own.sum() < (1.0 - COUPLED) * squares.sum():
        return []
    order = np.argsort(-own)
    count = 1 + int(np.searchsorted(np.cumsum(own[order]), COUPLED * own.sum()))
    return sorted((int(i[k]), int(j[k])) for k in order[:count])


def hessians(V: ScalarField, x: Tensor) -> np.ndarray:
    """Return the second derivatives of a potential, ``(n, d) → (n, d, d)``."""
    with torch.enable_grad():
        x = x.detach().clone().requires_grad_(True)
        (slope,) = torch.autograd.grad(V.value(x).sum(), x, create_graph=True)
        rows = [
            torch.autograd.grad(slope[:, i].sum(), x, retain_graph=True)[0]
            for i in range(x.shape[1])
        ]
    out = torch.stack(rows, 1).double()
    return (0.5 * (out + out.mT)).cpu().numpy()


def joint_diagonaliser(matrices: np.ndarray) -> np.ndarray:
    """Return the orthogonal U for which U A Uᵀ of all symmetric A is most nearly diagonal.

    Jacobi rotations in one plane after the other, each the best for all matrices.

    Args:
        matrices: ``(n, d, d)``.

    References:
        Cardoso and Souloumiac, SIAM J. Matrix Anal. Appl. 17 (1996) 161.

    Example:
        >>> turn = np.array([[0.6, 0.8], [-0.8, 0.6]])
        >>> A = turn.T @ np.stack([np.diag([1.0, 2.0]), np.diag([3.0, -1.0])]) @ turn
        >>> U = joint_diagonaliser(A)
        >>> np.sort(np.abs(U @ turn.T).round(6), axis=1).tolist()
        [[0.0, 1.0], [0.0, 1.0]]
    """
    A, d = matrices.copy(), matrices.shape[1]
    U = np.eye(d)
    for _ in range(SWEEPS):
        largest = 0.0
        for i in range(d - 1):
            for j in range(i + 1, d):
                apart, beside = A[:, i, i] - A[:, j, j], 2.0 * A[:, i, j]
                on, off = apart @ apart - beside @ beside, 2.0 * apart @ beside
                angle = 0.5 * np.arctan2(off, on + np.hypot(on, off) + 1e-300)
                turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
                A[:, [i, j]] = turn @ A[:, [i, j]]
                A[:, :, [i, j]] = A[:, :, [i, j]] @ turn.T
                U[[i, j]] = turn @ U[[i, j]]
                largest = max(largest, abs(angle))
        if largest < STILL:
            break
    return U
