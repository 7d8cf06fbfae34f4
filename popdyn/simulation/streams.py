"""Random streams: one seed, and a stream of its own for each purpose, group and block."""

import numpy as np
import torch

__all__ = ["PURPOSES", "generator"]

PURPOSES = {"initial": 0, "noise": 1, "partners": 2, "observation": 3, "births": 4, "outliers": 5}
GROUP_KEYS = {"train": 0, "test": 1, "check": 2}


def generator(
    seed: int, purpose: str, group: str = "train", block: int = 0, device: str = "cpu"
) -> torch.Generator:
    """Return a torch generator that depends on nothing but its arguments.

    Example:
        >>> a, b = (generator(7, "noise", block=3) for _ in range(2))
        >>> bool((torch.rand(4, generator=a) == torch.rand(4, generator=b)).all())
        True
    """
    key = (PURPOSES[purpose], GROUP_KEYS[group], block)
    words = np.random.SeedSequence(seed, spawn_key=key).generate_state(1, np.uint64)
    return torch.Generator(device).manual_seed(int(words[0]))
