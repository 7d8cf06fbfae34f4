"""Population dynamics from snapshots: simulate a known energy, learn it back, score honestly."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from popdyn.base.errors import PopdynError
    from popdyn.dynamics import Dynamics, FreeEnergy
    from popdyn.learners import Run, fit, load_run, save_run
    from popdyn.plots import plot
    from popdyn.scores import score
    from popdyn.simulation import landscape, predict, simulate
    from popdyn.snapshots import (
        from_anndata,
        from_arrays,
        from_frame,
        import_data,
        import_experiments,
        inspect,
        open_snapshots,
        validate,
        write,
    )
    from popdyn.snapshots.torch_data import torch_dataset

__all__ = [
    "Dynamics",
    "FreeEnergy",
    "PopdynError",
    "Run",
    "fit",
    "from_anndata",
    "from_arrays",
    "from_frame",
    "import_data",
    "import_experiments",
    "inspect",
    "landscape",
    "load_run",
    "open_snapshots",
    "plot",
    "predict",
    "save_run",
    "score",
    "simulate",
    "torch_dataset",
    "validate",
    "write",
]

ROOMS = {
    "base.errors": ("PopdynError",),
    "dynamics": ("Dynamics", "FreeEnergy"),
    "learners": ("Run", "fit", "load_run", "save_run"),
    "plots": ("plot",),
    "scores": ("score",),
    "simulation": ("landscape", "predict", "simulate"),
    "snapshots": (
        "from_anndata",
        "from_arrays",
        "from_frame",
        "import_data",
        "import_experiments",
        "inspect",
        "open_snapshots",
        "validate",
        "write",
    ),
    "snapshots.torch_data": ("torch_dataset",),
}
FURTHER = (
    "base",
    "benchmark",
    "dynamics",
    "learners",
    "plots",
    "scores",
    "simulation",
    "snapshots",
)


def __getattr__(name: str) -> Any:
    # Rooms are imported when they are first entered: a command should not wait for all of them.
    for room, names in ROOMS.items():
        if name in names:
            return getattr(importlib.import_module(f"popdyn.{room}"), name)
    if name in FURTHER:
        return importlib.import_module(f"popdyn.{name}")
    raise AttributeError(f"module 'popdyn' has no attribute '{name}'")


def __dir__() -> list[str]:
    return [*__all__, *FURTHER]
