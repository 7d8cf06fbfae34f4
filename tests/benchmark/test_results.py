"""Rows, their summary, and the tables made of them."""

import csv
import json

import pytest

from popdyn.base.files import write_manifest
from popdyn.benchmark import Entry, Suite
from popdyn.benchmark.folder import publish
from popdyn.benchmark.records import write_record
from popdyn.benchmark.results import flatten, higher_is_better, summarise
from popdyn.benchmark.tables import entry_table, leaderboards, matrix, number


def scores(skill, w2, references=None):
    found = {
        "gradient": {"potential": {"skill": skill, "by_time": [], "standard_error": {"skill": 1}}},
        "diffusivity": {"true": 0.5, "estimate": 0.4, "standard_error": 0.1},
        "distribution": {"times": [1, 2], "w2": w2, "points": [9, 9]},
    }
    return found | ({"references": references} if references else {})


def row(entry, learner, seed, skill, w2=(1.0, 3.0), **more):
    base = {"entry": entry, "learner": learner, "seed": seed, "status": "ok"}
    base |= {"seconds": 2.0, "peak_memory_mb": 100.0, "scores": scores(skill, list(w2))}
    return base | more


def failed(entry, learner, seed):
    return row(entry, learner, seed, None, status="failed", reason="no", seconds=None) | {
        "peak_memory_mb": None,
        "scores": {},
    }


def suite(*groups):
    entries = tuple(
        Entry(name, group=group, energy={"potential": "flat"}) for name, group in groups
    )
    return Suite("s", "t", entries)


def test_flatten_takes_scores_and_leaves_bookkeeping():
    assert flatten(scores(0.5, [1.0, 3.0])) == {
        "gradient.potential.skill": 0.5,
        "diffusivity.estimate": 0.4,
        "distribution.w2": 2.0,
    }
    assert flatten(scores(None, [1.0, None]))["distribution.w2"] is None
    assert flatten({}) == {}


def test_means_over_times_are_over_those_that_every_reference_has():
    def reference(w2, points):
        return {"distribution": {"w2": w2, "points": points, "times": [1, 2]}}

    rows = {"floor": reference([0.1, 0.2], [9, 9]), "mccann": reference([0.4, None], [9, None])}
    assert flatten(scores(0.5, [1.0, 3.0], rows))["distribution.w2"] == 1.0
    assert flatten(scores(0.5, [1.0, None], rows))["distribution.w2"] == 1.0
    assert flatten(scores(0.5, [None, 3.0], rows))["distribution.w2"] is None
    assert flatten(rows["floor"], rows)["distribution.w2"] == 0.1
    # A reference that has no value at all, as between two snapshots, decides nothing.
    rows["mccann"] = reference([None, None], [None, None])
    assert flatten(scores(0.5, [1.0, 3.0], rows))["distribution.w2"] == 2.0


def test_summary_is_over_seeds_of_means_over_entries():
    rows = [
        *(row("a", "x", 0, 0.2), row("b", "x", 0, 0.4), row("a", "x", 1, 0.5)),
        *(row("b", "x", 1, 0.7), row("a", "y", 0, 1.0), failed("b", "y", 0)),
    ]
    found = summarise(rows, {"a": "", "b": "g"})
    skill = found["x"]["gradient.potential.skill"]
    assert skill["mean"] == pytest.approx(0.45)
    assert skill["std"] == pytest.approx(0.3 / 2**0.5)  # of 0.3 and 0.6
    assert found["x"]["g: gradient.potential.skill"]["mean"] == pytest.approx(0.55)
    assert found["y"]["gradient.potential.skill"] == {"mean": 1.0, "std": None}


def test_files(tmp_path):
    results = {"suite": "s", "rows": [row("a", "x", 0, 0.5), failed("b", "x", 0)], "summary": {}}
    write_record(tmp_path / "suite.json", {"suite": "s"})
    write_manifest(tmp_path, "bench", format=2)
    publish(tmp_path, results, "a page", print)
    assert json.loads((tmp_path / "results.json").read_text()) == results
    lines = list(csv.DictReader((tmp_path / "results.csv").open()))
    assert lines[0]["gradient.potential.skill"] == "0.5"
    assert lines[0]["seconds"] == "2.0"
    assert (lines[1]["status"], lines[1]["reason"], lines[1]["seconds"]) == ("failed", "no", "")


def test_leaderboard_is_ordered_by_the_headline_and_counts_cells():
    rows = [
        row("a", "x", 0, 0.2),
        row("a", "y", 0, 0.9),
        failed("b", "y", 0),
        row("b", "x", 0, 0.1),
    ]
    (table,) = leaderboards({"rows": rows}, suite(("a", ""), ("b", "")))
    assert [cells[0].text for _, cells in table.rows] == ["y", "x"]
    head = [label for label, _ in table.head]
    done = {cells[0].text: cells[head.index("cells")].text for _, cells in table.rows}
    assert done == {"x": "2/2", "y": "1/2"}
    assert table.rows[0][1][1].value == 0.9
    assert table.rows[0][1][1].shade == 0.9
    two = leaderboards({"rows": rows}, suite(("a", "g"), ("b", "h")))
    assert [t.caption for t in two] == ["g", "h"]


def test_tables_by_entry_say_what_failed():
    rows = [row("a", "x", 0, 0.2), row("a", "x", 1, 0.4), failed("b", "x", 0), failed("b", "x", 1)]
    table = matrix({"rows": rows}, "gradient.potential.skill", "t")
    assert [[c.text for c in cells] for _, cells in table.rows] == [
        ["a", "0.300 ± 0.141"],
        ["b", "failed"],
    ]
    assert table.rows[0][1][0].link == "#entry-a"
    assert entry_table(rows[2:], "gradient.potential.skill", "t").rows[0][1][0].text == "x"


def test_directions_and_numbers():
    assert higher_is_better("gradient.potential.skill")
    assert higher_is_better("gradient.potential.cosine")
    assert not higher_is_better("distribution.w2")
    assert number(0.05, 0.0) == "0.0500"
    assert number(1234.5) == "1234"
