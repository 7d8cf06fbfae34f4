"""The whole result: its shape, its rows, and what it says when a part is missing."""

import json

import numpy as np
import pytest

from popdyn.base.errors import PopdynError
from popdyn.dynamics import FreeEnergy
from popdyn.scores import SCORES, reference_rows, score
from popdyn.scores.transport import w2
from popdyn.snapshots import make_tree

TIMES = np.array([0.0, 0.1, 0.2, 0.4])
TRUTH = FreeEnergy("quadratic", None, 0.0)
DISTRIBUTION = {"w1", "w2", "sliced_w2", "bw2_uvp", "mmd", "energy_distance"}


def flowing(n=300, d=2, energy=TRUTH, **attrs):
    """Snapshots of V = ½|x|² from N(0, I): N(0, exp(−2t) I), every population its own draw."""
    rng = np.random.default_rng(3)
    train, test = ([np.exp(-t) * rng.normal(size=(n, d)) for t in TIMES] for _ in range(2))
    return make_tree(train, test, TIMES, {"dynamics": energy.spec() if energy else None, **attrs})


@pytest.fixture(scope="module")
def data():
    return flowing()


@pytest.fixture(scope="module")
def result(data):
    energy = FreeEnergy("quadratic", potential_params={"scale": 0.8}, diffusivity=0.01)
    energy.diffusivity_standard_error = 0.002
    return score(energy, data, points=100)


def test_the_shape_of_the_contract(result):
    assert set(result) == {"gradient", "diffusivity", "distribution", "references"}
    assert set(result["gradient"]) == {"potential", "force"}
    wanted = {"skill", "relative_error", "cosine", "l2_uvp", "by_time", "standard_error"}
    assert set(result["gradient"]["potential"]) == wanted
    assert result["diffusivity"] == {
        "true": 0.0,
        "estimate": 0.01,
        "standard_error": 0.002,
        "diffusivity_error": 0.01,
    }
    found = result["distribution"]
    assert set(found) == DISTRIBUTION | {"times", "points", "points_predicted", "outside"}
    assert found["times"] == [0.1, 0.2, 0.4]
    assert found["points"] == found["points_predicted"] == [100] * 3
    assert all(len(found[name]) == 3 for name in DISTRIBUTION)
    assert set(result["references"]) == {"zero", "floor", "copy_previous", "mccann"}
    json.dumps(result, allow_nan=False)


def test_gradients_come_from_the_truth_of_the_store(result):
    assert result["gradient"]["potential"]["skill"] == pytest.approx(1 - 0.2**2, abs=1e-6)
    assert result["gradient"]["force"]["skill"] == pytest.approx(1 - 0.2**2, abs=1e-6)


def test_a_given_truth_replaces_it(data):
    other = FreeEnergy("quadratic", potential_params={"scale": 2.0})
    found = score(TRUTH, data, truth=other, points=20, references={})
    assert found["gradient"]["potential"]["skill"] == pytest.approx(0.75, abs=1e-6)
    assert found["references"] == {}


def test_reference_rows(result):
    rows = result["references"]
    assert rows["zero"]["gradient"]["potential"]["skill"] == 0.0
    assert rows["zero"]["gradient"]["potential"]["cosine"] == 0.0
    assert rows["zero"]["diffusivity"]["estimate"] == 0.0
    assert rows["zero"]["distribution"] == rows["copy_previous"]["distribution"]
    for name in ("floor", "copy_previous", "mccann"):
        assert set(rows[name]) == {"distribution"}
        assert rows[name]["distribution"]["times"] == [0.1, 0.2, 0.4]
    assert rows["mccann"]["distribution"]["points"] == [100, 100, None]
    assert rows["mccann"]["distribution"]["w2"][2] is None
    assert min(rows["floor"]["distribution"]["w2"]) > 0


def test_rows_computed_once_are_the_same_rows(data, result):
    rows = reference_rows(data, points=100)
    assert rows == result["references"]
    assert score(TRUTH, data, points=100, references=rows)["references"] == rows


def test_the_same_seed_gives_the_same_result(data):
    energy = FreeEnergy("double_well", diffusivity=0.1)
    a, b, c = (score(energy, data, points=50, seed=s, references={}) for s in (4, 4, 5))
    assert a == b
    assert a["distribution"]["w2"] != c["distribution"]["w2"]


def test_the_flow_itself_is_predicted_without_error():
    # The test snapshots are one population moved by the exact flow, shuffled.
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 2))
    test = [np.exp(-t) * rng.permutation(x) for t in TIMES]
    data = make_tree(test, test, TIMES, {"dynamics": TRUTH.spec()})
    for from_ in ("previous", "first"):
        found = score(TRUTH, data, points="all", from_=from_)
        assert max(found["distribution"]["w2"]) < 1e-4
        assert max(found["distribution"]["bw2_uvp"]) < 1e-4
        assert found["distribution"]["outside"] == [0.0] * 3
        rows = found["references"]
        stays = np.array([0, 0, 0] if from_ == "first" else [0, 1, 2])
        gap = np.exp(-TIMES[stays]) - np.exp(-TIMES[1:])
        size = np.sqrt((x**2).sum(1).mean())
        # W₂ between two scalings of one cloud is the difference of the scales.
        assert rows["zero"]["distribution"]["w2"] == pytest.approx(gap * size, rel=1e-4)
        previous = np.exp(-TIMES[:-1]) - np.exp(-TIMES[1:])
        assert rows["copy_previous"]["distribution"]["w2"] == pytest.approx(
            previous * size, rel=1e-4
        )
        # Halfway in space between scales a and b at the fraction of time.
        s = (TIMES[2] - TIMES[1]) / (TIMES[3] - TIMES[1])
        scale = (1 - s) * np.exp(-TIMES[1]) + s * np.exp(-TIMES[3]) - np.exp(-TIMES[2])
        assert rows["mccann"]["distribution"]["w2"][1] == pytest.approx(scale * size, rel=1e-3)


def test_hold_out(data):
    found = score(TRUTH, data, hold_out=(1, 3), points="all")
    assert found["distribution"]["times"] == [0.1, 0.4]
    assert found["distribution"]["points"] == [600, 600]
    mccann = found["references"]["mccann"]["distribution"]
    assert mccann["w2"][1] is None
    assert mccann["points"] == [600, None]
    assert found["references"]["floor"]["distribution"]["points"] == [300, 300]
    assert found["gradient"]["potential"]["skill"] == 1.0


def test_hold_out_with_snapshots_of_different_sizes():
    rng = np.random.default_rng(1)
    train = [rng.normal(size=(n, 2)) for n in (30, 40, 55)]
    data = make_tree(train, [np.zeros((0, 2))] * 3, [0.0, 1.0, 2.0])
    found = score(TRUTH, data, hold_out=(1,), points="all", truth=TRUTH)
    mccann = found["references"]["mccann"]["distribution"]
    assert mccann["points"] == [40]
    assert 55 < mccann["points_predicted"][0] <= 30 + 55 - 1
    assert found["distribution"]["points_predicted"] == [30]
    assert "gradient" not in found
    assert found["notes"] == ["no gradient scores: the test group is empty"]


def test_no_truth_says_so():
    found = score(TRUTH, flowing(energy=None), points=20)
    assert "gradient" not in found
    assert found["diffusivity"] == {"estimate": 0.0, "standard_error": None}
    assert "gradient" not in found["references"]["zero"]
    assert "carries no true energy" in found["notes"][0]
    assert len(found["distribution"]["w2"]) == 3


def test_an_exploding_energy_is_scored_as_far_as_it_goes(data):
    energy = FreeEnergy(lambda x, t: -(1e4 if t > 0.15 else 0.0) * x.pow(4).sum(-1))
    found = score(energy, data, points=30, from_="first")
    assert found["distribution"]["w2"][0] is not None
    assert found["distribution"]["w2"][1:] == [None, None]
    assert found["distribution"]["outside"][2] is None
    assert "left finite numbers" in found["notes"][0]
    json.dumps(found, allow_nan=False)


def test_standard_errors_are_the_spread_over_fresh_data():
    found = score(TRUTH, flowing(400), points=200, standard_errors=True, references={})
    errors = found["distribution"]["standard_error"]
    assert set(errors) == DISTRIBUTION
    values = []
    rng = np.random.default_rng(2)
    for _ in range(30):
        x, y = np.exp(-0.1) * rng.normal(size=(2, 200, 2))
        values.append(w2(x, y))
    # Ten half-samples know a deviation to 24 %, thirty draws to 13 %: a factor of 2 is 3 of both.
    ratio = errors["w2"][0] / np.std(values, ddof=1)
    assert 0.5 < ratio < 2.0


def test_original_units_scale_the_distances():
    record = {"method": "component", "mean": [1.0, 2.0], "scale": [3.0, 3.0]}
    data = flowing(energy=None, standardize=record)
    stored = score(TRUTH, data, points=50, references={})["distribution"]
    original = score(TRUTH, data, points=50, references={}, units="original")["distribution"]
    assert original["w2"] == pytest.approx(3 * np.array(stored["w2"]), rel=1e-6)
    assert original["mmd"] == pytest.approx(stored["mmd"], rel=1e-6)
    assert original["outside"] == stored["outside"]


def test_a_score_entered_in_the_registry_is_everywhere(data, request):
    entry = SCORES["w1"]
    own = type(entry)(**{**vars(entry), "name": "own", "function": lambda x, y, a, b: len(x) + 0.5})
    SCORES.enter("own", own)
    request.addfinalizer(lambda: SCORES.remove("own"))
    found = score(TRUTH, data, points=20)
    assert found["distribution"]["own"] == [20.5] * 3
    assert found["references"]["mccann"]["distribution"]["own"] == [20.5, 20.5, None]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"points": 1}, "points is 1"),
        ({"from_": "next"}, "from_ is 'next'"),
        ({"hold_out": (9,)}, "hold-out index 9"),
    ],
)
def test_wrong_options_are_one_line(data, options, message):
    for call in (lambda: score(TRUTH, data, **options), lambda: reference_rows(data, **options)):
        with pytest.raises(PopdynError, match=message):
            call()
