"""Several experiments share one dynamics: what is learned, judged, recorded and refused."""

import numpy as np
import pytest
import torch

import popdyn
from popdyn import FreeEnergy, PopdynError
from popdyn.estimation import compare
from popdyn.estimation.training_set import TrainingSet
from popdyn.learners.words import next_steps

GRID = np.linspace(-2.0, 2.0, 21)[:, None].astype(np.float32)


def bowl(seed, mean, n=1500, strength=1.0, interaction=None, first=0.0, at=(0.0, 0.3, 0.6, 0.9)):
    """Return particles in a bowl, one component, that start around a mean."""
    energy = FreeEnergy("quadratic", interaction, potential_params={"scale": strength})
    return popdyn.simulate(
        energy,
        dim=1,
        particles=n,
        test_particles=200,
        times=[first + t for t in at],
        step=0.05,
        block=500,
        seed=seed,
        initial="gaussian",
        initial_params={"mean": [mean], "std": 0.5},
    )


@pytest.fixture(scope="module")
def two():
    """Two experiments of other times, sizes and starts."""
    return [bowl(0, -1.0), bowl(1, 1.5, n=800, at=(0.0, 0.5, 0.8))]


def weak(data, **options):
    return popdyn.fit(data, "weak_form", **({"learn": ["potential"]} | options))


@pytest.fixture(scope="module")
def together(two):
    return weak(two)


def slope(run):
    return run.energy.potential_gradient(GRID)


def test_one_in_a_list_is_that_one(two):
    one, listed = weak(two[0]), weak(two[:1])
    np.testing.assert_array_equal(slope(one), slope(listed))
    assert "experiments" not in listed.certificate


def test_one_dynamics_is_learned_from_all(together, two):
    assert together.word == "explained"
    records = together.certificate["experiments"]
    assert [r["data"] for r in records] == together.experiments == ["experiment 1", "experiment 2"]
    assert [r["verdict"] for r in records] == ["explained", "explained"]
    assert together.certificate["difference"]["p_value"] > 0.01
    for place, data in enumerate(two):
        assert popdyn.score(together, data)["gradient"]["potential"]["skill"] > 0.97
        assert together.snapshots(together.experiments[place]) is data
    with pytest.raises(PopdynError, match="2 data sets: expected data=, one of experiment 1, exp"):
        together.snapshots()


@pytest.mark.parametrize("learner", ["weak_form", "jkonet_star"])
def test_no_interval_crosses_from_one_to_the_next(learner):
    # Were there one, its length and its pairs would be others when an experiment happens later.
    first, *others = (
        bowl(s, m, 200, first=t) for s, m, t in ((0, -1.0, 0), (1, 1.5, 0), (1, 1.5, 64))
    )
    runs = [popdyn.fit([first, x], learner, learn=["potential"]) for x in others]
    np.testing.assert_allclose(slope(runs[0]), slope(runs[1]), atol=2e-3)


def test_networks_take_several():
    few = [bowl(seed, mean, n=100) for seed, mean in ((0, -1.0), (1, 1.5))]
    for learner, options in (
        ("ijkonet", {"model": "network", "steps": 2, "batch": 20}),
        ("ijkonet", {"model": "network", "steps": 2, "batch": 20, "inner": "simulate"}),
        ("jkonet", {"steps": 2, "batch": 20, "inner_steps": 2}),
    ):
        run = popdyn.fit(few, learner, learn=["potential"], **options)
        assert np.isfinite(slope(run)).all()
        assert len(run.certificate["experiments"]) == 2


def test_pairs_of_batches_are_of_one_experiment(two):
    parts = {name: TrainingSet.from_data(x) for name, x in zip("ab", two, strict=True)}
    data = TrainingSet.of_all(parts)
    before, after = data.pairs(0, 50)
    assert before.shape == after.shape == (5, 50, 1)
    # The second one starts far to the right of where the first one ends.
    assert torch.all((before.mean(1) * after.mean(1)) > 0)
    assert [len(part.fit) for part in data.experiments()] == [4, 3]


@pytest.mark.slow
def test_a_second_start_tells_the_gauge():
    spring = {"interaction": "quadratic"}
    still, moved = bowl(2, 0.0, **spring), bowl(3, 2.0, **spring)
    learn = ["potential", "interaction"]
    one, both = weak(still, learn=learn), weak([still, moved], learn=learn)
    assert "potential, interaction" in one.certificate["undetermined"]
    assert one.word == "undetermined"
    assert "undetermined" not in both.certificate
    assert both.word == "explained"
    raw = [popdyn.score(run, still)["gradient"] for run in (one, both)]
    for part, least in (("potential", 0.95), ("interaction", 0.7)):
        assert raw[0][part]["skill"] < 0.5
        assert raw[1][part]["skill"] > least


def test_dynamics_that_differ_are_named(two, tmp_path):
    popdyn.write(two[0], tmp_path / "control.zarr")
    popdyn.write(bowl(5, -1.0, strength=1.5), tmp_path / "treated.zarr")
    run = weak([tmp_path / "control.zarr", tmp_path / "treated.zarr"])
    found = run.certificate["difference"]
    assert found["p_value"] < 1e-4
    assert run.word == "unexplained"
    said = " ".join([*run.notes, run.verdict.note])
    assert "their dynamics differ (p " in said
    assert "each is explained alone" in said
    assert min(found["alone"]) > 0.01
    assert "control" in repr(run)
    assert next_steps(run, "run")[0].startswith("train each alone, for their dynamics differ: ")


def test_a_comparison_does_not_cross_the_border():
    rng = np.random.default_rng(0)
    near, far = ([rng.normal(m, 1.0, size=(400, 2)) for _ in range(2)] for m in (0.0, 9.0))
    x, times = [*near, *far], np.array([0.0, 1.0, 0.0, 1.0])
    assert compare(x, [near[0], far[0]], times, starts=(0, 2)).p_value > 0.01
    assert compare(x, [near[0], near[0]], times, starts=(0, 2)).p_value < 1e-6
    for paired in (True, (True, False)):
        found = compare(x, [near[0], far[0]], times, starts=(0, 2), paired=paired)
        assert found.p_value > 0.01


def test_the_folder_names_every_store(two, tmp_path, run_popdyn):
    for name, data in zip("ab", two, strict=True):
        popdyn.write(data, tmp_path / f"{name}.zarr")
    options = ["--out", "run", "--learner", "zero", "--hold-out", 3, "--json"]
    done = run_popdyn("train", "a.zarr", "b.zarr", *options)
    assert done.code == 0, done.last_line
    assert [r["data"] for r in done.json["certificate"]["experiments"]] == ["a", "b"]
    run = popdyn.load_run(tmp_path / "run")
    records = run.config["data"]
    assert [r["path"] for r in records] == [str(tmp_path / f"{n}.zarr") for n in "ab"]
    assert len({r["digest"] for r in records}) == 2
    # Only the first has a snapshot 3.
    assert [run.held_out(run.snapshots(name)) for name in "ab"] == [[3], []]
    scored = run_popdyn("score", "run", "--json").json
    times = [r["distribution"]["times"] for r in scored["experiments"]]
    assert times[0] == pytest.approx([0.9])
    assert times[1] == pytest.approx([0.5, 0.8])
    assert run_popdyn("score", "run", "--data", "b", "--json").json["distribution"]["times"] == (
        pytest.approx([0.5, 0.8])
    )
    lost = run_popdyn("predict", "run", "--times", "0.4", "--out", "p.zarr")
    assert (lost.code, "expected --data, one of a, b" in lost.last_line) == (1, True)
    found = run_popdyn("predict", "run", "--data", "b", "--times", "0.4", "--out", "p.zarr")
    assert found.code == 0, found.last_line
    assert run_popdyn("validate", "run").code == 0
    drawn = run_popdyn("plot", "run", "--out", "figures", "--only", "snapshots", "--json").json
    assert drawn["figures"] == ["figures/a/snapshots.png", "figures/b/snapshots.png"]


def test_what_cannot_share_dynamics_is_refused(two):
    plane = popdyn.simulate(FreeEnergy("quadratic"), particles=50, snapshots=3)
    with pytest.raises(PopdynError, match=r"'experiment 1' has 1 .*'experiment 2' has 2: expected"):
        popdyn.fit([two[0], plane], "zero")
    named = [x.copy() for x in two]
    for x, name in zip(named, ("PC1", "UMAP1"), strict=True):
        x.attrs["import"] = {"components": [name]}
    with pytest.raises(PopdynError, match="components PC1 and 'experiment 2' has UMAP1"):
        popdyn.fit(named, "zero")
    with pytest.raises(PopdynError, match=r"hold-out index 4: .* 0 to 3, .* 0 to 2"):
        popdyn.fit(two, "zero", hold_out=4)
    with pytest.raises(PopdynError, match="no data set was given"):
        popdyn.fit([], "zero")
    with pytest.raises(PopdynError, match=r"the true dynamics of .* differ"):
        popdyn.fit([plane, popdyn.simulate(FreeEnergy("flowers"), particles=50)], "oracle")
