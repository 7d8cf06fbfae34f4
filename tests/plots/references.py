"""Reference images of the main figures: ``python -m tests.plots.references`` draws them anew."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

import popdyn
from popdyn.dynamics import FreeEnergy
from popdyn.plots import FIGURES, save_figure
from popdyn.plots.figures import figure_of, training_figure

FOLDER = Path(__file__).with_name("references")
DPI, BLOCK = 50, 5  # dots an inch; and a side of the squares whose mean colours are compared
# Of 255. Rounding moves dots by a pixel; another font, colour, scale or label is twice as much.
TOLERANCE = 2.0


def drawn(name: str) -> Figure:
    """Return a figure of energies that are known, so that no fit has a say."""
    if name == "training":
        steps = range(1, 9)
        metrics = [{"step": k, "misfit": 1.0 + 9.0 / k**2, "outer_step": 0.5**k} for k in steps]
        return training_figure(metrics, {"misfit": 1.14, "gap": 0.02}, "weak_form")
    truth = FreeEnergy("styblinski_tang", "gaussian_repulsion", diffusivity=0.1)
    data = popdyn.simulate(truth, particles=600, snapshots=4, dt=0.02, seed=0)
    wrong = FreeEnergy("double_well", "gaussian_attraction", diffusivity=0.1)
    return figure_of(name, wrong, data)


def difference(one: Path, two: Path) -> float:
    """Return the root mean square by which mean colours of small squares differ, of 255."""
    pictures = []
    for path in (one, two):
        with Image.open(path) as picture:
            small = [side // BLOCK for side in picture.size]
            flat = picture.convert("RGB").resize(small, Image.Resampling.BOX)
            pictures.append(np.asarray(flat, dtype=np.float64))
    if pictures[0].shape != pictures[1].shape:
        return float("inf")
    return float(np.sqrt(np.square(pictures[0] - pictures[1]).mean()))


def save(name: str, path: Path) -> None:
    """Draw a figure to a small file."""
    save_figure(drawn(name), path, dpi=DPI)
    with Image.open(path) as picture:
        small = picture.convert("RGB").quantize(48)
    small.save(path, optimize=True)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for figure in FIGURES:
        save(figure, FOLDER / f"{figure}.png")
