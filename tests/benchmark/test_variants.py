"""A learner with options of its own is a row of its own."""

import shlex

import pytest

from popdyn import PopdynError
from popdyn.benchmark import bench, load_suite
from popdyn.benchmark.variants import folder_name, options_in_name, split_names

SUITE = """\
name = "small"
summary = "one bowl"
learners = ["zero", "ijkonet[model=network,steps=2]"]
score = { points = 30 }

[[entry]]
name = "bowl"
potential = "quadratic"
particles = 200
snapshots = 3
dt = 0.2
"""
VARIANT = "ijkonet[model=network,steps=2,hidden=8,8]"


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    file = tmp_path_factory.mktemp("variants") / "suite.toml"
    file.write_text(SUITE)
    return file


@pytest.fixture(scope="module")
def results(suite):
    # Features, a network by name, and one baseline.
    learners = f"zero,ijkonet[model=features],{VARIANT}"
    return bench(suite, suite.with_name("out"), learners=learners)


def test_each_variant_has_its_row(results, suite):
    rows = {row["learner"]: row for row in results["rows"]}
    assert list(rows) == ["zero", "ijkonet[model=features]", VARIANT]
    assert [row["status"] for row in rows.values()] == ["ok"] * 3
    assert [row["model"] for row in rows.values()] == [None, "features", "network"]
    assert set(results["summary"]) == set(rows)
    page = (suite.with_name("out") / "report.html").read_text()
    assert VARIANT in page
    table = (suite.with_name("out") / "results.csv").read_text().splitlines()
    assert table[0].startswith("entry,learner,model,seed,status")
    cell = suite.with_name("out") / "cells" / "bowl-ijkonet+model=features-seed0" / "run"
    assert cell.is_dir()


@pytest.mark.slow
def test_what_is_done_is_not_done_again(results, suite):
    learners = f"zero,ijkonet[model=features],{VARIANT}"
    again = bench(suite, suite.with_name("out"), learners=learners)
    assert again == results


@pytest.mark.slow
def test_a_command_names_what_ran(results, suite, run_popdyn):
    line = ("bench", suite, "--out", suite.with_name("out"), "--learners")
    shown = run_popdyn(*line, f"{VARIANT},ijkonet[model=features],zero")
    assert shown.code == 0, shown.err
    assert VARIANT in shown.out
    shown = run_popdyn("bench", suite, "--out", "plain", "--learners", "ijkonet,zero")
    assert "ijkonet, model=features" in shown.out
    page = suite.with_name("out").joinpath("report.html").read_text()
    assert "--learner ijkonet" in page
    assert "--model network" in page
    assert shlex.quote(f"{VARIANT},ijkonet[model=features],zero").replace("'", "&#39;") in page


def test_a_suite_may_name_variants(suite):
    assert load_suite(suite).learners[1] == "ijkonet[model=network,steps=2]"
    wrong = suite.with_name("wrong.toml")
    wrong.write_text(SUITE.replace("[model=network,steps=2]", "[model]"))
    with pytest.raises(PopdynError, match=r"'learners': learner 'ijkonet.model.': 'model' is no"):
        load_suite(wrong)


@pytest.mark.parametrize(
    ("learners", "message"),
    [
        ("ijkonet[modle=network]", "learner 'ijkonet' has no option 'modle'"),
        ("ijkonet[model=netwrok]", "model is 'netwrok': expected one of auto, features, network"),
        ("ijkonet[model=network", "expected a name, or name"),
        ("ijkonets[model=network]", "unknown learner 'ijkonets': did you mean"),
        ("ijkonet[]", "'' is no option=value"),
    ],
)
def test_wrong_variants_are_said_before_the_work(suite, tmp_path, learners, message):
    with pytest.raises(PopdynError, match=message):
        bench(suite, tmp_path / "out", learners=learners)
    assert not (tmp_path / "out").exists()


def test_names_and_options():
    names = "ijkonet, ijkonet[learn=potential,diffusion,steps=3] ,weak_form"
    assert split_names(names)[1] == "ijkonet[learn=potential,diffusion,steps=3]"
    assert len(split_names(names)) == 3
    options = options_in_name("ijkonet[learn=potential,diffusion,time-varying=true]")
    assert options == {"learn": "potential,diffusion", "time_varying": True}
    assert folder_name("a[file=x/y]") == "a+file=x%2Fy"
