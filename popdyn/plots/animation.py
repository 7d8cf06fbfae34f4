"""The snapshots against the prediction as a moving picture."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.animation import PillowWriter

from popdyn.base.errors import PopdynError
from popdyn.base.files import written
from popdyn.dynamics import FreeEnergy
from popdyn.plots.plane import PlaneLike, sample, view_of
from popdyn.plots.populations import draw_comparison, paths_of
from popdyn.plots.style import MARK, new_figure, style
from popdyn.snapshots import times

__all__ = ["animate"]


class _Writer(PillowWriter):
    """Matplotlib's writer of GIFs, with the remark that every figure of popdyn's carries."""

    def finish(self) -> None:
        first, *others = self._frames  # type: ignore[attr-defined]
        first.save(
            self.outfile,
            save_all=True,
            append_images=others,
            duration=int(1000 / self.fps),
            loop=0,
            comment=MARK,
        )


def animate(
    estimate: FreeEnergy,
    data: xr.DataTree,
    path: str | os.PathLike[str],
    *,
    plane: PlaneLike = None,
    frames: int = 61,
    rate: int = 12,
    points: int = 800,
    seed: int = 0,
) -> None:
    """Write a GIF: the first snapshot run under an energy, beside the snapshots observed.

    Each frame shows the predicted particles at its time, and behind them the observed snapshot
    whose time is nearest.

    Args:
        estimate: The learned energy.
        data: The observed snapshots.
        path: File that ends in ``.gif``.
        plane: Two components, counted from 1, or ``"pca"``; the latter if None and d > 2.
        frames: Pictures, evenly spaced in time.
        rate: Pictures a second.
        points: Particles.
        seed: Seed of the noise.

    Raises:
        PopdynError: On another ending, or fewer than two frames.

    Example:
        >>> import os, tempfile, popdyn
        >>> energy = popdyn.FreeEnergy("quadratic")
        >>> path = tempfile.mkdtemp() + "/film.gif"
        >>> data = popdyn.simulate(energy, particles=50, snapshots=2)
        >>> animate(energy, data, path, frames=2)
        >>> os.path.exists(path)
        True
    """
    if Path(path).suffix.lower() != ".gif":
        raise PopdynError(f"animation '{path}': expected a file that ends in .gif")
    if frames < 2:
        raise PopdynError(f"frames is {frames}: expected 2 or more")
    view, t = view_of(data, plane), times(data)
    paths = paths_of(estimate, data, points=points, frames=frames, seed=seed)
    with style():
        figure, axes = new_figure()
        writer = _Writer(fps=rate)
        with written(path) as beside, writer.saving(figure, os.fspath(beside), dpi=100):
            for now, x in zip(paths.times, paths.x, strict=True):
                axes[0, 0].clear()
                k = int(np.abs(t - now).argmin())
                observed = sample(data, k, points)
                title = f"t = {now:.3g}; observed at t = {t[k]:g}"
                draw_comparison(axes[0, 0], observed, x, view, title)
                writer.grab_frame()
