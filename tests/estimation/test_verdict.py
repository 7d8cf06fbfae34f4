"""The verdict of a fit: what it says, where it stands, and that it needs no truth."""

import json

import numpy as np
import pytest

import popdyn
from popdyn.dynamics import FreeEnergy
from popdyn.estimation import Sample, judge, told_apart
from popdyn.snapshots import counts, make_tree, positions, times

WORDS = {"explained", "below_noise", "undetermined", "unexplained"}


@pytest.fixture(scope="module")
def data():
    energy = FreeEnergy("styblinski_tang")
    return popdyn.simulate(energy, particles=2000, snapshots=4, dt=0.03, seed=0)


@pytest.fixture(scope="module")
def run(data):
    return popdyn.fit(data)


def blanked(data):
    groups = [
        [positions(data, k, group) for k in range(len(times(data)))] for group in ("train", "test")
    ]
    return make_tree(*groups, times(data))


def test_a_good_fit_is_explained(run):
    verdict = run.verdict
    assert verdict.verdict == "explained"
    assert set(verdict.two_sample) == {"statistic", "p_value", "particles"}
    assert verdict.two_sample["p_value"] >= 0.01
    assert verdict.two_sample["particles"] == 4 * 400  # a fifth of each snapshot
    share = run.certificate["explained_share"]
    assert run.certificate["two_sample"] == verdict.two_sample
    assert abs(share["value"] - 1) < 4 * share["standard_error"]
    assert next(iter(run.summary().items())) == ("learner", "ijkonet")
    assert list(run.summary())[1] == "verdict"
    assert run.summary()["verdict"] == "explained"
    json.dumps(run.summary(), allow_nan=False)


@pytest.mark.parametrize("learner", ["oracle", "weak_form"])
def test_every_learner_is_judged(data, learner):
    assert popdyn.fit(data, learner).verdict.verdict == "explained"


def test_nothing_learned_where_there_is_motion_is_unexplained(data):
    run = popdyn.fit(data, "zero")
    assert run.verdict.verdict == "unexplained"
    assert run.certificate["explained_share"]["value"] == pytest.approx(0.0, abs=1e-6)
    assert run.notes[-1] == run.verdict.note


def test_a_network_stopped_early_is_unexplained(data):
    run = popdyn.fit(data, model="network", steps=30)
    assert run.verdict.verdict == "unexplained"
    assert run.certificate["explained_share"]["value"] < 0.9


def test_an_ensemble_is_judged(data):
    assert popdyn.fit(data, ensemble=2).verdict.verdict == "explained"


def test_where_nothing_moves_it_is_below_noise():
    data = popdyn.simulate(FreeEnergy("flat"), particles=500, snapshots=4, seed=0)
    run = popdyn.fit(data)
    assert run.verdict.verdict == "below_noise"
    # Not even where no particle was.
    assert not run.energy.potential_gradient(np.full((1, 2), 50.0)).any()
    assert popdyn.fit(data, "zero").verdict.verdict == "below_noise"


def test_what_is_missing_is_seen():
    # A static V for one that moves.
    data = popdyn.simulate(FreeEnergy("moving_well"), particles=500, dt=0.1, seed=0)
    run = popdyn.fit(data, "weak_form", learn=("potential",))
    assert run.verdict.verdict == "unexplained"
    share = run.certificate["explained_share"]
    assert share["value"] + 4 * share["standard_error"] < 1


def test_too_few_particles_are_said():
    data = popdyn.simulate(FreeEnergy("flat"), particles=60, snapshots=3, dt=0.3, seed=1)
    run = popdyn.fit(data)
    assert run.verdict.verdict == "below_noise"
    assert "60 in the smallest snapshot, expected 200 or more" in run.verdict.note


def test_what_is_learned_beside_an_energy_carries_too():
    energy = FreeEnergy("double_well", diffusivity=0.1)
    turning = popdyn.Dynamics(energy, circulation="rotation", circulation_params={"scale": 2.0})
    store = popdyn.simulate(turning, particles=1000, snapshots=3, dt=0.2, seed=0)
    seen = Sample([positions(store, k) for k in range(3)], times(store))
    assert not told_apart(turning, seen)
    assert told_apart(turning.energy, seen)


def test_terms_that_trade_are_undetermined(data):
    t = times(data)
    x = [positions(data, k) for k in range(len(t))]
    truth = FreeEnergy("styblinski_tang")

    def unseen():
        return truth, Sample(x, t)

    assert judge(truth, None, unseen).verdict == "explained"
    found = judge(truth, None, unseen, undetermined=["potential, interaction"])
    assert found.verdict == "undetermined"
    assert "potential with interaction" in found.note


@pytest.mark.slow
@pytest.mark.parametrize(("mean", "told"), [(0.0, False), (2.0, True)])
def test_where_the_mean_rests_potential_and_interaction_trade(mean, told):
    energy = FreeEnergy("quadratic", "gaussian_repulsion", interaction_params={"strength": 3.0})
    law = {"initial": "gaussian", "initial_params": {"mean": [mean, 0.0]}}
    data = popdyn.simulate(energy, particles=1500, snapshots=6, dt=0.3, seed=0, **law)
    run = popdyn.fit(data, "weak_form", learn=("potential", "interaction"))
    assert ("potential, interaction" not in run.certificate.get("undetermined", {})) == told
    if not told:
        assert run.word == "undetermined"
        assert "potential with interaction" in run.notes[-1]


def test_the_moments_of_a_fit_may_refute_it(data):
    t = times(data)
    x = [positions(data, k) for k in range(len(t))]
    truth = FreeEnergy("styblinski_tang")

    def judged(moments):
        return judge(truth, None, lambda: (truth, Sample(x, t)), moments=moments)

    assert judged(1e-3).verdict == "explained"  # their covariance is an estimate itself
    refuted = judged(1e-6)
    assert refuted.verdict == "unexplained"
    assert "moments" in refuted.note
    assert "1e-06" in refuted.note


def test_what_grows_is_judged_by_its_weights():
    energy = popdyn.Dynamics(
        FreeEnergy("quadratic"), growth="half_space", growth_params={"scale": 2}
    )
    settings = {"particles": 2000, "snapshots": 4, "dt": 0.3, "seed": 0, "initial": "gaussian"}
    data = popdyn.simulate(energy, **settings)
    assert popdyn.fit(data, "oracle").word == "explained"
    # Without what is born the same forces do not explain it.
    x = [positions(data, k) for k in range(4)]
    heavy = data["train"]["weight"].values
    rng = np.random.default_rng(0)
    thinned = [y[rng.random(len(y)) < w / w.max()] for y, w in zip(x, heavy, strict=True)]
    own = Sample(thinned, times(data))
    assert judge(energy, None, lambda: (energy, own)).verdict == "explained"
    without = FreeEnergy("quadratic")
    assert judge(without, None, lambda: (without, own)).verdict == "unexplained"


def test_overfitting_is_seen_by_unseen_particles_alone(data):
    # To its own particles a fit may be perfect: here it is judged by others, with no motion.
    t = times(data)
    x = [positions(data, k) for k in range(len(t))]
    truth, nothing = FreeEnergy("styblinski_tang"), FreeEnergy()
    verdict = judge(truth, Sample(x, t), lambda: (nothing, Sample(x, t)))
    assert verdict.verdict == "unexplained"
    assert "not seen" in verdict.note


def test_a_flight_to_infinity_is_unexplained(data):
    t = times(data)
    x = [positions(data, k) for k in range(len(t))]
    steep = FreeEnergy(lambda y: -1e4 * (y**4).sum(-1))
    assert judge(steep, None, lambda: (steep, Sample(x, t))).verdict == "unexplained"


def test_the_truth_and_the_test_group_are_not_looked_at(data, run):
    x = [positions(data, k) for k in range(len(times(data)))]
    again = popdyn.fit(make_tree(x, [y[:0] for y in x], times(data)))
    assert again.verdict == run.verdict
    assert counts(data, "test").min() > 0


def test_a_run_keeps_its_verdict(run, tmp_path):
    popdyn.save_run(run, tmp_path / "run")
    loaded = popdyn.load_run(tmp_path / "run")
    assert loaded.verdict == run.verdict
    assert loaded.summary() == run.summary()


def test_commands_say_it_first(data, run_popdyn, tmp_path):
    popdyn.write(data, tmp_path / "st.zarr")
    trained = run_popdyn("train", "st.zarr", "--out", "run", "--learner", "zero")
    lines = (trained.out + trained.err).splitlines()
    assert lines[0].startswith("unexplained: ")
    scored = run_popdyn("score", "run", "--points", 200, "--json").json
    assert list(scored)[:3] == ["run", "learner", "verdict"]
    assert scored["verdict"] == "unexplained"
    again = run_popdyn(
        "train", "st.zarr", "--out", "run", "--learner", "oracle", "--overwrite", "--json"
    ).json
    assert again["verdict"] == "explained"
    assert set(again["certificate"]["two_sample"]) == {"statistic", "p_value", "particles"}
    assert set(again["certificate"]["explained_share"]) == {"value", "standard_error"}


@pytest.mark.slow
def test_the_seed_decides_everything(data, run):
    assert popdyn.fit(data).verdict == run.verdict
    other = popdyn.fit(data, seed=1).verdict
    assert other != run.verdict
    assert other.verdict in WORDS
    assert np.isfinite(other.two_sample["statistic"])


def test_what_evidence_finds_where_nothing_moves_is_nothing():
    # A seed at which polynomials earn their place, by luck.
    flat = FreeEnergy("quadratic", potential_params={"scale": 0.03})
    data = popdyn.simulate(
        flat,
        dim=1,
        particles=2328,
        test_particles=1000,
        times=[0.0, 0.13101400883496786, 0.34098399067449403, 0.46686871139766783]
        + [0.5885690138475844, 0.671868485691683],
        initial="gaussian",
        initial_params={"mean": [-1.6811530106094255], "std": 1.5},
        seed=426019768,
    )
    run = popdyn.fit(data, "weak_form", learn="potential")
    assert run.word == "below_noise"
    assert "what was found of V is below sampling noise: V is 0 to its error" in run.notes
    x = data["train"]["x"].values[0]
    assert not run.energy.potential_gradient(x).any()
    # What was found is within two of its errors now, and the truth as well.
    assert (np.abs(0.03 * x) < 2 * run.energy.potential_gradient_std(x)).mean() > 0.9


@pytest.mark.slow
def test_many_tests_are_asked_where_few_were_met_by_what_particles_refuse():
    # Pairs of components in three dimensions, of some hundred cells.
    truth = popdyn.FreeEnergy("turned_styblinski_tang", potential_params={"scale": 0.1})
    data = popdyn.simulate(
        truth, dim=3, particles=600, times=[0.0, 0.15, 0.3, 0.45, 0.6], initial="gaussian", seed=3
    )
    run = popdyn.fit(data, learn="potential")
    assert run.word in ("explained", "undetermined")
    assert run.certificate["misfit_p_value"] > 0.01
