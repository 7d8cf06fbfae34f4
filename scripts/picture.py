"""Draw docs/recovered.png, the README's picture: particles, the true energy, the learned one."""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import popdyn
from popdyn.snapshots import positions, times

BOX, POINTS, SHOWN = 4.0, 121, 500
INK = "#d55e00"


def draw(out: Path) -> None:
    """Simulate, fit and draw.

    Args:
        out: The picture to write.
    """
    truth = popdyn.FreeEnergy("styblinski_tang")
    data = popdyn.simulate(truth, particles=10_000, seed=0)
    run = popdyn.fit(data)
    skill = popdyn.score(run, data, points=200)["gradient"]["potential"]["skill"]
    ticks = np.linspace(-BOX, BOX, POINTS)
    grid = np.stack(np.meshgrid(ticks, ticks), -1).reshape(-1, 2)
    true, back = (e.potential(grid).reshape(POINTS, POINTS) for e in (truth, run.energy))
    levels = np.linspace(true.min() - true.mean(), true.max() - true.mean(), 25)
    figure = Figure(figsize=(8.4, 2.9), layout="constrained")
    axes = figure.subplots(1, 3, sharex=True, sharey=True)
    t = times(data)
    for k, color in ((0, "#56b4e9"), (len(t) - 1, INK)):
        x = positions(data, k)[:SHOWN]
        axes[0].scatter(*x.T, s=5, color=color, linewidths=0, label=f"t = {t[k]:g}")
    axes[0].legend(loc="upper right", fontsize=8, markerscale=2, framealpha=0.9)
    axes[0].set_title("snapshots, unpaired", fontsize=10)
    for axis, values, title in (
        (axes[1], true, "the potential that drives them"),
        (axes[2], back, f"learned back: skill {skill:.3f}"),
    ):
        axis.contourf(ticks, ticks, values - values.mean(), levels, extend="both")
        axis.set_title(title, fontsize=10)
    for axis in axes:
        axis.set(xlim=(-BOX, BOX), ylim=(-BOX, BOX), aspect="equal", xticks=[], yticks=[])
    figure.savefig(out, dpi=100, pil_kwargs={"optimize": True}, metadata={"Software": None})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    default = Path(__file__).parents[1] / "docs" / "recovered.png"
    parser.add_argument("--out", type=Path, default=default)
    draw(parser.parse_args().out)
