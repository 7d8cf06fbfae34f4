"""An ensemble in a suite, or on the bench's own line."""

from dataclasses import replace

import pytest

from popdyn.benchmark import bench
from popdyn.benchmark.cells import cell_options
from popdyn.benchmark.suites import SUITES
from popdyn.learners import load_run


@pytest.mark.slow
def test_ensembles_are_of_learners_that_learn(small_suite, tmp_path):
    found = bench(
        small_suite,
        tmp_path / "out",
        entries=["bowl"],
        learners=["zero", "ijkonet"],
        options={"ijkonet": {"ensemble": 2, "model": "network"}},
    )
    assert [row["status"] for row in found["rows"]] == ["ok", "ok"]
    runs = {p.parent.name: load_run(p) for p in (tmp_path / "out" / "cells").glob("*/run")}
    sizes = {name.split("-")[1]: run.config["ensemble"] for name, run in runs.items()}
    assert sizes == {"zero": 1, "ijkonet": 2}
    run = runs["bowl-ijkonet-seed0"]
    assert len(run.certificate["members"]) == 2


def test_an_entry_may_wish_for_one():
    entry = replace(SUITES["eb5"].entries[0], fit={"ensemble": 4, "time_varying": True})
    assert cell_options(entry, "ijkonet", {})["ensemble"] == 4
    assert cell_options(entry, "zero", {}) == {}
