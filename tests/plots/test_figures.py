"""Figures: every one of the registry in every kind of data, and what they show."""

import io
import itertools
import re

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

import popdyn
from popdyn import plots
from popdyn.base.errors import PopdynError
from popdyn.dynamics import FreeEnergy
from popdyn.plots import FIGURES, curves, maps, populations
from popdyn.plots.figures import Scene, training_figure
from popdyn.plots.plane import Plane, view_of
from popdyn.plots.style import panel_svg, save_figure
from popdyn.plots.wells import WELL
from popdyn.simulation.landscape import find_wells
from popdyn.snapshots import dimension, make_tree, positions
from tests.plots.conftest import simulated
from tests.plots.references import FOLDER, TOLERANCE, difference, save


def covered(figure):
    """Return pairs of texts of a figure that overlap, and texts that are cut off."""
    figure.draw_without_rendering()
    texts = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip()]
    # Ticks outside the limits are drawn no more than texts of hidden axes.
    seen = [t for axis in figure.findobj(Axes) if axis.axison for t in axis.findobj(Text)]
    seen += [*figure.texts, *(t for box in figure.legends for t in box.findobj(Text))]
    boxes = {}
    for axis in figure.findobj(Axes):
        for own, low, high in ((axis.xaxis, *axis.get_xlim()), (axis.yaxis, *axis.get_ylim())):
            for tick in (*own.get_major_ticks(), *own.get_minor_ticks()):
                if not min(low, high) <= tick.get_loc() <= max(low, high):
                    texts = [t for t in texts if t not in (tick.label1, tick.label2)]
    for text in (t for t in texts if t in seen):
        boxes[text] = text.get_window_extent().padded(-1.0)
    width, height = figure.bbox.width, figure.bbox.height
    cut = [
        t.get_text()
        for t, b in boxes.items()
        if b.x0 < 0 or b.y0 < 0 or b.x1 > width or b.y1 > height
    ]
    both = [
        (a.get_text(), b.get_text())
        for (a, one), (b, two) in itertools.combinations(boxes.items(), 2)
        if one.overlaps(two)
    ]
    return both, cut


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_of_every_case(case, name, tmp_path):
    run, data = case
    entry = FIGURES[name]
    if not entry.applies(run, data):
        assert name == "interaction"
        return
    before = dict(matplotlib.rcParams)
    figure = entry.draw(run, data, None, 0)
    assert isinstance(figure, Figure)
    drawn = [axis for axis in figure.axes if axis.axison]
    assert drawn or name == "training"
    labelled = [axis for axis in drawn if axis.get_title()]
    assert all(axis.get_xlabel() and axis.get_ylabel() for axis in labelled)
    assert covered(figure) == ([], [])
    file = tmp_path / f"{name}.svg"
    save_figure(figure, file)
    assert "nan" not in re.sub(r'base64,[^"]*"', "", file.read_text()).lower()
    assert dict(matplotlib.rcParams) == before  # a user's own settings stay


@pytest.mark.parametrize("name", FIGURES)
def test_figures_look_as_they_did(name, tmp_path):
    save(name, tmp_path / "now.png")
    off = difference(tmp_path / "now.png", FOLDER / f"{name}.png")
    assert off < TOLERANCE, "python -m tests.plots.references, and look at what changed"


def test_a_change_of_a_figure_is_seen(tmp_path, monkeypatch):
    assert difference(FOLDER / "force.png", FOLDER / "potential.png") == float("inf")
    monkeypatch.setattr(populations, "GREY", "#000000")  # of the observed particles alone
    save("prediction", tmp_path / "now.png")
    assert difference(tmp_path / "now.png", FOLDER / "prediction.png") > TOLERANCE


def test_texts_that_cover_each_other_are_seen():
    figure = Figure()
    axis = figure.subplots()
    axis.text(0.5, 0.5, "one")
    axis.text(0.51, 0.5, "two")
    axis.text(-0.4, 0.5, "three")
    assert covered(figure) == ([("one", "two")], ["three"])


def test_truth_and_estimate_share_one_scale(case):
    run, data = case
    if data.attrs.get("dynamics") is None or dimension(data) == 1:
        pytest.skip("one panel, or curves")
    figure = plots.potential_figure(run.energy, data)
    true, back, error = (axis for axis in figure.axes[:3])
    assert (true.get_title()[:4], back.get_title()[:9], error.get_title()[:5]) == (
        "true",
        "recovered",
        "error",
    )
    bars = [child for axis in (true, back) for child in axis.child_axes]
    assert bars[0].get_ylim() == bars[1].get_ylim()
    assert true.get_xlim() == back.get_xlim()


def test_a_figure_is_the_same_file_each_time(small_data, tmp_path):
    for ending in ("svg", "png", "pdf"):
        files = [tmp_path / f"{i}.{ending}" for i in (0, 1)]
        for file in files:
            save_figure(plots.prediction_figure(FreeEnergy(diffusivity=1.0), small_data), file)
        assert files[0].read_bytes() == files[1].read_bytes()
    with pytest.raises(PopdynError, match=r"'\.gif': expected \.png, \.svg or \.pdf"):
        save_figure(Figure(), tmp_path / "x.gif")


def test_surfaces_hold_the_potential_with_mean_zero(case):
    run, data = case
    view = view_of(data)
    shown = maps.surface(run.energy, view, 0.0, 21)
    ticks, x = view.grid(21)
    values = run.energy.potential(x) - run.energy.potential(view.particles).mean()
    assert shown.values.shape == (21,) * len(ticks)
    assert shown.near.mean() > 0.1
    if view.deep:
        return  # averaged over particles: see below
    np.testing.assert_allclose(shown.values.ravel(), values, rtol=1e-6)
    # The first tick of the first axis is the left edge, rows go upwards.
    corner = view.plane.lift(np.array([[t[-1] for t in ticks]]))
    np.testing.assert_allclose(shown.values.ravel()[-1], values[-1])
    np.testing.assert_allclose(x[-1], corner[0], atol=1e-5)


def test_what_a_plane_hides_is_averaged_over_the_particles():
    # Particles on the curved sheet x₃ = x₁²: a slice at the mean of x₃ would miss them all.
    rng = np.random.default_rng(0)
    flat = rng.uniform(-1, 1, size=(2, 3000, 2))
    x = [np.column_stack([u, u[:, 0] ** 2]).astype(np.float32) for u in flat]
    view = view_of(popdyn.snapshots.make_tree(x, x, [0.0, 1.0]), (1, 2), points=6000)
    energy = FreeEnergy(lambda y: y[..., 2])
    shown = maps.surface(energy, view, 0.0, 41)
    across, up = np.meshgrid(*shown.ticks)
    inner = (np.abs(across) < 0.8) & (np.abs(up) < 0.8)
    wanted = across**2 - view.particles[:, 2].mean()
    # The window is 2.2 wide, the weights a twentieth of it: x₁² gains their variance, 0.012.
    assert np.abs(shown.values - wanted)[inner].max() < 0.012 + 0.05
    levels = view.averaged(np.ones((len(view.particles), 2)), shown.ticks)
    np.testing.assert_allclose(levels, np.ones((41, 41, 2)))


def test_errors_are_of_the_gradient():
    data = popdyn.simulate(FreeEnergy("quadratic"), particles=300, snapshots=2, seed=0)
    view = view_of(data)
    shown = maps.gradient_error(FreeEnergy(), FreeEnergy("quadratic"), view, 0.0, 11)
    _, x = view.grid(11)
    # No gradient at all is off by as much as there is: 1 on the whole.
    size = np.sqrt(np.square(view.particles).sum(1).mean())
    np.testing.assert_allclose(shown.values.ravel(), np.linalg.norm(x, axis=1) / size, rtol=1e-5)
    assert maps.gradient_off(FreeEnergy(), FreeEnergy("quadratic"), view) == pytest.approx(1.0)
    none = maps.gradient_error(FreeEnergy("quadratic"), FreeEnergy("quadratic"), view, 0.0, 11)
    assert none.values.max() == 0


def test_planes():
    rng = np.random.default_rng(0)
    # Three axes of spread 5, 2, 1 turned by a random rotation.
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    x = (rng.normal(size=(4000, 3)) * [5, 2, 1]) @ turn.T + [1, 2, 3]
    plane = Plane.of(x, "pca")
    # Directions from n samples: off by about √(λ₁λ₂/n)/(λ₁ − λ₂) < 0.01 radian.
    for direction, wanted in zip(plane.axes, turn.T, strict=False):
        assert abs(direction @ wanted) > 0.998
    assert "%" in plane.labels[0]
    u = plane.project(x)
    np.testing.assert_allclose(plane.project(plane.lift(u)), u, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(u, axis=1).max() > 5, True)
    chosen = Plane.of(x, (3, 1))
    np.testing.assert_allclose(chosen.project(x), x[:, [2, 0]])
    assert chosen.labels == ("x₃", "x₁")
    np.testing.assert_allclose(chosen.lift(np.zeros((1, 2)))[0, 1], x[:, 1].mean(), rtol=1e-5)
    for wrong, words in (
        ((1, 4), "components from 1 to 3"),
        ((1, 1), "different"),
        ((1,), "2 different"),
        ("umap", "expected pca"),
    ):
        with pytest.raises(PopdynError, match=words):
            Plane.of(x, wrong)


def test_wells_of_known_potentials():
    energy = FreeEnergy("double_well", potential_params={"height": 2.0, "distance": 2.0})
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 2)).astype(np.float32) + np.float32([0.5, 0])
    wells = find_wells(energy, x)
    assert len(wells.bottoms) == 2
    # Most start on the right, and so most drain there; the bottoms are at ±2.
    np.testing.assert_allclose(wells.bottoms, [[2, 0], [-2, 0]], atol=0.05)
    np.testing.assert_allclose(wells.shares, [(x[:, 0] > 0).mean(), (x[:, 0] < 0).mean()])
    np.testing.assert_allclose(wells.depths, -energy.potential(x).mean(), atol=0.01)
    assert len(find_wells(FreeEnergy("sphere"), x).bottoms) == 0  # all run off
    assert len(find_wells(FreeEnergy(), x).bottoms) <= len(x)  # no force: nothing to find, no crash


def test_predictions_start_from_observed_snapshots_only():
    x = [np.full((20, 2), float(k), np.float32) for k in range(5)]
    data = make_tree(x, x, [0.0, 1.0, 2.0, 3.0, 4.0])
    ahead = populations.predicted(FreeEnergy(), data)  # nothing moves: the start shows
    assert {k: v[0, 0] for k, v in ahead.items()} == {1: 0, 2: 1, 3: 2, 4: 3}
    ahead = populations.predicted(FreeEnergy(), data, hold_out=(1, 2, 4))
    assert {k: v[0, 0] for k, v in ahead.items()} == {1: 0, 2: 0, 4: 3}
    assert populations.predicted(FreeEnergy(), data, hold_out=(0, 1)) == {}
    with pytest.raises(PopdynError, match="nothing was observed before"):
        plots.prediction_figure(FreeEnergy(), data, hold_out=(0, 1))


def test_paths_follow_the_energy():
    x = [np.random.default_rng(k).normal(size=(50, 2)).astype(np.float32) for k in range(3)]
    data = make_tree(x, x, [0.0, 0.5, 1.0])
    paths = populations.paths_of(FreeEnergy("quadratic"), data, frames=11)
    assert paths.x.shape == (11, 50, 2)
    exact = x[0] * np.exp(-paths.times)[:, None, None]
    np.testing.assert_allclose(paths.x, exact, atol=1e-3)


def test_animation(small_data, tmp_path):
    file = tmp_path / "a.gif"
    plots.animate(FreeEnergy(), small_data, file, frames=3)
    with Image.open(file) as picture:
        assert picture.n_frames == 3
    for path, frames, words in ((tmp_path / "a.mp4", 3, "gif"), (file, 1, "2 or more")):
        with pytest.raises(PopdynError, match=words):
            plots.animate(FreeEnergy(), small_data, path, frames=frames)


def test_curves():
    assert curves.certificate_lines({"a_b": 0.1234, "c": True, "d": {"e": None}, "f": "x"}) == [
        "a b 0.123",
        "c: True",
        "d e: –",
        "f: x",
    ]
    data = popdyn.simulate(FreeEnergy("flat"), particles=30, snapshots=2)
    assert curves.pair_distances(data).shape == (2 * 30 * 29 // 2,)
    x = positions(data, 0, "test")
    np.testing.assert_allclose(
        curves.pair_distances(data)[0], np.linalg.norm(x[0] - x[1]), rtol=1e-5
    )


def test_a_panel_for_a_page_takes_the_pages_colours():
    def draw(axis):
        axis.plot([0, 1], [0, 1], label="<&>")
        axis.imshow(np.random.default_rng(0).random((20, 20)))
        axis.set_title("a < b & c")

    text = panel_svg(draw, "f-1", 'alt "quoted" <b>')
    assert text.startswith("<svg")
    assert 'aria-label="alt &quot;quoted&quot; &lt;b>"' in text
    assert "currentColor" in text
    assert "#123456" not in text
    assert "<metadata" not in text
    assert "<style" not in text
    assert "a &lt; b &amp; c" in text
    ids = re.findall(r' id="([^"]+)"', text)
    assert ids
    assert all(i.startswith("f-1-") for i in ids)
    assert len(ids) == len(set(ids))
    for used in re.findall(r"url\(#([^)]+)\)|href=\"#([^\"]+)\"", text):
        assert "".join(used) in ids


def test_each_member_of_an_ensemble_has_a_line():
    steps = [(0, 1, 9.0), (0, 2, 3.0), (1, 1, 8.0), (1, 2, 2.0), (1, 3, 1.0)]
    metrics = [{"member": i, "step": k, "misfit": v, "outer_step": v} for i, k, v in steps]
    figure = training_figure(metrics, {"misfit": 1.0}, "weak_form")
    for axis in (figure.axes[0], figure.axes[-1]):
        lines = [list(line.get_xdata()) for line in axis.get_lines() if len(line.get_xdata())]
        assert lines == [[1, 2], [1, 2, 3]]
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["misfit", "outer step"]


def test_in_one_dimension_truth_and_estimate_share_a_panel():
    data = popdyn.simulate(FreeEnergy("double_well"), particles=200, snapshots=3, dim=1, dt=0.1)
    run = popdyn.fit(data, "weak_form", learn="potential")
    for name, words in (("potential", "V"), ("force", "force")):
        axis = popdyn.plot(run, name).axes[0]
        named = [line.get_label() for line in axis.get_lines() if line.get_label()[0] != "_"]
        assert named == [f"true {words}", f"recovered {words}"]
        assert bool(axis.collections) == (name == "potential")  # the standard error


def test_wells_side_by_side_have_one_scale():
    data = simulated(2, "moving_well")
    figure = plots.landscape_figure(FreeEnergy("moving_well"), data)
    bars = [child.get_ylim() for axis in figure.axes for child in axis.child_axes]
    assert len(bars) == 3
    assert len(set(bars)) == 1
    assert [t.get_text() for t in figure.legends[0].get_texts()] == [WELL]


def test_the_certificate_and_the_legend_do_not_cover_each_other():
    metrics = [{"step": i, "misfit": 10.0 / i, "outer_step": 1.0 / i} for i in (1, 2, 3)]
    figure = training_figure(metrics, {"misfit": 3.3, "determined": {"V": 7.5}}, "weak_form")
    figure.savefig(io.BytesIO())
    legend = figure.legends[0]
    texts = [*legend.get_texts(), legend.get_title(), *figure.texts]
    boxes = [(t.get_text(), t.get_window_extent()) for t in texts if t.get_text()]
    assert any("determined" in name for name, _ in boxes)
    for (a, first), (b, second) in itertools.combinations(boxes, 2):
        assert not first.overlaps(second), f"{a!r} covers {b!r}"


def test_a_certificate_of_many_lines_leaves_its_panel_room():
    metrics = [{"step": i, "misfit": 10.0 / i, "outer_step": 1.0 / i} for i in (1, 2, 3)]
    figure = training_figure(metrics, {f"fact_{i}": 0.5 for i in range(20)}, "weak_form")
    short = training_figure(metrics, {"fact": 0.5}, "weak_form")
    heights = [f.axes[0].get_window_extent().height / f.dpi for f in (figure, short)]
    assert heights[0] > 0.8 * heights[1] > 1.0  # inches


def test_a_page_names_its_learners_and_shares_a_scale(case):
    run, data = case
    run.steps, run.seconds, run.converged = 20, 1.5, True
    scene = Scene(
        {"one": run, "two": run}, data, hold_out=run.config.get("hold_out", ()), page=True
    )
    for name, entry in FIGURES.items():
        if name in ("cells", "snapshots") or not entry.applies_to(scene):
            continue
        panels = [panel for row in entry.panels(scene) for panel in row]
        # What is drawn in one panel has its names in the legend.
        together = ("interaction", "training", *("force",) * (dimension(data) == 1))
        for learner in ("one", "two") if name not in together else ():
            assert sum(f"by {learner}" in panel.title for panel in panels) >= 1, name
        svg = panel_svg(panels[-1].draw, f"f-{name}", panels[-1].title) if panels[-1].draw else ""
        assert svg.startswith("<svg") or name == "training"
    captions = [panel.caption[0] for row in FIGURES["training"].panels(scene) for panel in row]
    assert captions == ["one: 20 steps", "two: 20 steps"]
