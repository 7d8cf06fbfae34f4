"""``bench``: the same numbers however it runs, nothing done twice, failures that say why."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

from popdyn.base.errors import PopdynError
from popdyn.benchmark import bench
from popdyn.benchmark.cells import Cell
from popdyn.benchmark.commands import reproduce
from popdyn.benchmark.suites import load_suite
from popdyn.cli import group

LEARNERS = ("zero", "oracle", "ijkonet")
BOWL = {"learners": LEARNERS, "seeds": 2, "entries": ("bowl",)}


def numbers(results):
    """Everything of the entry ``bowl`` that must not depend on how a bench ran."""
    left_out = ("seconds", "peak_memory_mb")
    rows = [row for row in results["rows"] if row["entry"] == "bowl"]
    return [{k: v for k, v in row.items() if k not in left_out} for row in rows]


def stamps(out):
    return {str(f): f.stat().st_mtime_ns for f in out.glob("*/**/*.json")}


def test_results_have_the_promised_shape(small_bench):
    results, out = small_bench
    assert list(results) == ["suite", "rows", "summary"]
    assert results["suite"] == "small"
    found = [(row["entry"], row["learner"], row["seed"]) for row in results["rows"]]
    assert found == [(e, m, s) for e in ("bowl", "still") for m in LEARNERS for s in (0, 1)]
    for row in results["rows"]:
        wanted = ["entry", "learner", "seed", "model", "status", "seconds", "peak_memory_mb"]
        wanted += ["verdict", "scores"]
        assert row["verdict"] in ("explained", "unexplained", "below_noise", "undetermined")
        assert list(row) == wanted
        assert row["status"] == "ok"
        assert set(row["scores"]["references"]) == {"zero", "floor", "copy_previous", "mccann"}
        # A whole interpreter with torch, and no more than this small problem needs.
        assert 100 < row["peak_memory_mb"] < 4000
    assert json.loads((out / "results.json").read_text()) == results
    summary = results["summary"]
    assert summary["oracle"]["gradient.potential.skill"]["mean"] == 1.0
    assert summary["zero"]["gradient.potential.skill"] == {"mean": 0.0, "std": 0.0}
    still = [r for r in results["rows"] if r["entry"] == "still"]
    assert all(r["scores"]["gradient"]["potential"]["skill"] is None for r in still)


def test_seeds_are_of_data_and_training(small_bench):
    out = small_bench[1]
    a, b = (
        json.loads((out / "cells" / f"bowl-ijkonet-seed{s}" / "run" / "config.json").read_text())
        for s in (0, 1)
    )
    assert (a["seed"], b["seed"]) == (0, 1)
    assert a["data"][0]["digest"] != b["data"][0]["digest"]
    assert a["threads"] == b["threads"] == 1


@pytest.mark.slow
def test_two_workers_give_the_same_numbers_as_one(small_suite, small_bench, tmp_path):
    again = bench(small_suite, tmp_path / "out", workers=2, **BOWL)
    assert numbers(again) == numbers(small_bench[0])


def test_a_second_call_does_nothing_again(small_suite, small_bench):
    results, out = small_bench
    before = stamps(out / "cells") | stamps(out / "stores") | stamps(out / "references")
    assert bench(small_suite, out, learners=LEARNERS, seeds=2) == results
    assert stamps(out / "cells") | stamps(out / "stores") | stamps(out / "references") == before


@pytest.mark.slow
def test_an_option_redoes_its_learner_and_points_only_score_again(small_suite, tmp_path):
    out = tmp_path / "out"
    quick = {"learners": ("zero", "ijkonet"), "entries": ("bowl",)}
    bench(small_suite, out, **quick)
    zero, learned = (out / "cells" / f"bowl-{m}-seed0" for m in ("zero", "ijkonet"))

    def state(folder):
        return [(folder / name).stat().st_mtime_ns for name in ("run/run.json", "cell.json")]

    first = state(zero), state(learned)
    changed = bench(small_suite, out, options={"ijkonet": {"steps": 2}}, **quick)
    assert state(zero) == first[0]
    second = state(learned)
    assert second[0] > first[1][0]
    config = json.loads((learned / "run" / "config.json").read_text())
    assert config["options"]["steps"] == 2
    fewer = bench(small_suite, out, options={"ijkonet": {"steps": 2}}, points=40, **quick)
    assert state(learned)[0] == second[0]  # the run stands
    assert state(learned)[1] > second[1]
    assert fewer["rows"][1]["scores"]["distribution"]["points"] == [40, 40]
    assert fewer["rows"][1]["seconds"] == changed["rows"][1]["seconds"]


@pytest.mark.slow
def test_failures_say_why_and_the_rest_goes_on(small_suite, tmp_path, monkeypatch):
    text = small_suite.read_text().replace("points = 60", "points = 60\nfrom = 'first'")
    # An explicit step far beyond stability: the simulation leaves finite numbers.
    text += '\n[[entry]]\nname = "bang"\npotential = "styblinski_tang"\nscheme = "one_step"\n'
    text += "dt = 3.0\nsnapshots = 9\n"
    text += '\n[[entry]]\nname = "pairs"\npotential = "flat"\n'
    text += 'interaction = "quadratic"\nfit = { learn = ["nonsense"] }\n'
    file = tmp_path / "suite.toml"
    file.write_text(text)
    results = bench(file, tmp_path / "out", learners=("zero", "ijkonet"))
    rows = {(row["entry"], row["learner"]): row for row in results["rows"]}
    assert rows["bowl", "ijkonet"]["status"] == "ok"
    for learner in ("zero", "ijkonet"):
        lost = rows["bang", learner]
        assert (lost["status"], lost["seconds"], lost["scores"]) == ("failed", None, {})
        assert lost["reason"].startswith("no data: ")
        assert "finite" in lost["reason"]
    assert rows["pairs", "zero"]["status"] == "ok"  # it has no such option
    assert "nonsense" in rows["pairs", "ijkonet"]["reason"]
    assert "\n" not in rows["pairs", "ijkonet"]["reason"]
    report = (tmp_path / "out" / "report.html").read_text()
    assert "nonsense" in report


def test_nothing_but_failures_is_an_error(tmp_path):
    file = tmp_path / "suite.toml"
    file.write_text('name="s"\nsummary="t"\n[[entry]]\nname="a"\nimport={file="none.npz"}\n')
    with pytest.raises(PopdynError, match=r"no entry has data; the first says: .*none\.npz"):
        bench(file, tmp_path / "out", learners=("zero",))


@pytest.mark.slow
def test_a_killed_process_leaves_a_row(small_suite, tmp_path, monkeypatch):
    from popdyn.benchmark import workers

    monkeypatch.setattr(workers, "_work_in_a_copy", _kill_itself)
    with pytest.raises(PopdynError, match=r"SIGKILL: out of memory\?"):
        bench(small_suite, tmp_path / "out", learners=("zero",))


def _kill_itself(task):
    os.kill(os.getpid(), signal.SIGKILL)


def test_what_is_refused(small_suite, small_bench, tmp_path):
    out = small_bench[1]
    cases = [
        ({"learners": ("zer",)}, "unknown learner 'zer': did you mean zero"),
        ({"entries": ("bow",)}, "did you mean bowl"),
        ({"learners": ("zero",), "options": {"ijkonet": {}}}, "one of the learners that run"),
        ({"learners": ("ijkonet",), "options": {"ijkonet": {"stps": 1}}}, "no option 'stps'"),
        ({"seeds": 0}, "seeds is 0"),
        ({"workers": 0}, "workers is 0"),
    ]
    for keywords, words in cases:
        with pytest.raises(PopdynError, match=words):
            bench(small_suite, tmp_path / "out", **keywords)
    assert not (tmp_path / "out").exists()
    with pytest.raises(PopdynError, match="holds results of the suite 'small'"):
        bench("jko15", out, learners=("zero",))
    other = tmp_path / "suite.toml"
    other.write_text(small_suite.read_text().replace("snapshots = 3", "snapshots = 4"))
    with pytest.raises(PopdynError, match="another definition of 'bowl'"):
        bench(other, out, learners=("zero",))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("years of work")
    with pytest.raises(PopdynError, match=r"thesis.txt"):
        bench(small_suite, tmp_path / "full", overwrite=True)
    assert (tmp_path / "full" / "thesis.txt").exists()


def command(suite, out, *more):
    line = ["bench", suite, "--out", out, "--seeds", 2]
    return [*map(str, line), "--learners", ",".join(LEARNERS), *map(str, more)]


@pytest.mark.slow
def test_killed_half_way_and_started_again(start_popdyn, small_suite, small_bench, tmp_path):
    out = tmp_path / "out"
    process = start_popdyn(*command(small_suite, out, "--entries", "bowl"))
    deadline = time.monotonic() + 120
    while len(list(out.glob("cells/*/cell.json"))) < 3:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert not (out / "results.json").exists()
    done = stamps(out / "cells")
    assert len(done) >= 3
    results = bench(small_suite, out, **BOWL)
    assert numbers(results) == numbers(small_bench[0])
    after = stamps(out / "cells")
    finished = [f for f in done if f.endswith("cell.json")]
    assert {f: after[f] for f in finished} == {f: done[f] for f in finished}


def test_the_command_prints_results_and_a_table(run_popdyn, small_suite, small_bench):
    out = small_bench[1]
    said = run_popdyn(*command(small_suite, out), "--json")
    assert said.code == 0, said.err
    assert said.json == json.loads((out / "results.json").read_text())
    assert said.err == ""
    table = CliRunner().invoke(group, command(small_suite, out))
    assert table.exit_code == 0, table.output
    for words in ("oracle", "copy_previous", "report.html"):
        assert words in table.output
    wrong = CliRunner().invoke(group, ["bench", str(small_suite), "--out", "x", "--option", "a=3"])
    assert wrong.exit_code == 2
    assert "learner.option=value" in wrong.output


@pytest.mark.slow
def test_the_reproduction_lines_give_the_same_scores(small_suite, small_bench, tmp_path):
    results, _ = small_bench
    suite = load_suite(small_suite)
    options = {"learn": ["potential"], **suite.options["ijkonet"]}
    cell = Cell(suite.entry("bowl"), "ijkonet", 1, options, {"points": 60, "from_": "previous"})
    lines = reproduce(cell)
    lines[-1] += " --json"
    shim = f'popdyn() {{ {shlex.quote(sys.executable)} -m popdyn "$@"; }}'
    script = "\n".join(["set -e", shim, *lines])
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    again = json.loads(done.stdout)
    rows = {(row["entry"], row["learner"], row["seed"]): row for row in results["rows"]}
    row = rows["bowl", "ijkonet", 1]
    assert {k: again[k] for k in row["scores"]} == row["scores"]


@pytest.mark.slow
def test_a_real_dask_cluster_gives_the_same_numbers(small_suite, small_bench, tmp_path):
    file = tmp_path / "scheduler.json"
    dask = [sys.executable, "-m", "dask"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    scheduler = subprocess.Popen(
        [*dask, "scheduler", "--scheduler-file", file, "--port", "0", "--dashboard-address", ":0"],
        **quiet,
    )
    workers = []
    try:
        deadline = time.monotonic() + 60
        while not file.exists() and time.monotonic() < deadline:
            time.sleep(0.2)
        line = [*dask, "worker", "--scheduler-file", file, "--nthreads", "1", "--no-dashboard"]
        workers = [subprocess.Popen(line, cwd=tmp_path, **quiet) for _ in range(2)]
        address = json.loads(file.read_text())["address"]
        from distributed import Client

        with Client(address, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=60)
        results = bench(small_suite, tmp_path / "out", scheduler=address, **BOWL)
    finally:
        for process in (*workers, scheduler):
            process.terminate()
            process.wait(timeout=30)
    assert numbers(results) == numbers(small_bench[0])


def test_no_scheduler_there(small_suite, tmp_path, monkeypatch):
    from popdyn.base import cluster

    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 1)
    with pytest.raises(PopdynError, match="no Dask scheduler answers there"):
        bench(small_suite, tmp_path / "out", learners=("zero",), scheduler="tcp://127.0.0.1:1")
