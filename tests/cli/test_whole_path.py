"""From a known energy to a score, and every mistake on the way, in real processes."""

import json
import signal
import time

import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner

SIMULATE = ("simulate", "--potential", "styblinski_tang", "--particles", "600", "--snapshots", "4")


def assert_one_clear_line(result, code, *words):
    assert result.code == code, result.err
    assert "Traceback" not in result.err
    for word in words:
        assert word in result.last_line, result.err


def test_simulate_validate_train_score(run_popdyn, tmp_path):
    made = run_popdyn(*SIMULATE, "--out", "st.zarr", "--seed", "3", "--json")
    assert made.code == 0, made.err
    assert json.loads(made.out)["out"] == "st.zarr"
    assert run_popdyn("validate", "st.zarr").code == 0
    trained = run_popdyn("train", "st.zarr", "--out", "run", "--json")
    assert trained.code == 0, trained.err
    wanted = {"run", "learner", "learned", "steps", "seconds", "converged", "certificate"}
    assert wanted <= set(trained.json)
    scored = run_popdyn("score", "run", "--points", "200", "--json")
    assert scored.code == 0, scored.err
    scores = scored.json
    assert scores["learner"] == "ijkonet"
    assert scores["gradient"]["potential"]["skill"] > 0.8
    assert scores["references"]["zero"]["gradient"]["potential"]["skill"] == 0
    assert {"zero", "floor", "copy_previous", "mccann"} <= set(scores["references"])
    assert scores["distribution"]["points"] == [200, 200, 200]
    table = run_popdyn("score", "run", "--points", "200")
    assert "copy_previous" in table.out
    figure = run_popdyn("plot", "run", "--out", "figures", "--only", "potential")
    assert figure.code == 0, figure.err
    assert (tmp_path / "figures" / "potential.png").stat().st_size > 10_000


def test_same_command_twice_gives_equal_arrays(run_popdyn, tmp_path):
    for name in ("a.zarr", "b.zarr"):
        assert run_popdyn(*SIMULATE, "--diffusivity", "0.1", "--out", name).code == 0
    a, b = (xr.open_datatree(tmp_path / n, engine="zarr") for n in ("a.zarr", "b.zarr"))
    for group in ("train", "test"):
        np.testing.assert_array_equal(a[group].x.values, b[group].x.values)


@pytest.mark.slow
def test_real_cells(run_popdyn, eb5):
    assert run_popdyn("import", eb5, "--out", "eb5.zarr").code == 0
    made = run_popdyn(
        "train", "eb5.zarr", "--out", "eb", "--hold-out", "1,3", "--time-varying", "--steps", "20"
    )
    assert made.code == 0, made.err
    scores = run_popdyn("score", "eb", "--points", "300", "--json").json
    assert scores["distribution"]["times"] == [1.0, 3.0]
    for row in ("floor", "copy_previous", "mccann"):
        for key in ("w1", "w2", "mmd"):
            assert len(scores["references"][row]["distribution"][key]) == 2
    assert "gradient" not in scores


def test_help_has_an_example_everywhere():
    from popdyn.cli import COMMANDS, SUMMARIES, group

    assert list(COMMANDS) == list(SUMMARIES)
    for name in COMMANDS:
        shown = CliRunner().invoke(group, [name, "--help"])
        assert shown.exit_code == 0, (name, shown.output)
        assert "Example" in shown.output, name
        assert "--json" in shown.output, name


def test_list_shows_formulas(run_popdyn):
    shown = run_popdyn("list", "potentials")
    assert shown.code == 0
    assert "styblinski_tang" in shown.out
    # A title, a head, a line for each, and an empty one.
    rows = run_popdyn("list", "--json").json["potentials"]
    assert len(shown.out.splitlines()) == 3 + len(rows)
    one = run_popdyn("list", "potentials", "styblinski_tang")
    assert "16 v²" in one.out
    assert "scale = 1.0" in one.out
    assert "two_moons" in run_popdyn("list", "initial").out
    assert "learn = auto: What is learned" in run_popdyn("list", "learners", "weak_form").out
    near = run_popdyn("list", "initial", "rong")
    assert near.code == 1
    assert near.last_line == "popdyn: error: unknown initial law 'rong': did you mean ring?"
    names = {row["name"] for row in rows}
    assert {"flowers", "muller_brown", "double_well"} <= names


def test_unknown_potential_lists_near_names(run_popdyn):
    result = run_popdyn("simulate", "--potential", "styblinsky_tang", "--out", "x.zarr")
    assert_one_clear_line(result, 2, "styblinsky_tang", "styblinski_tang")


def test_negative_diffusivity(run_popdyn):
    result = run_popdyn(*SIMULATE, "--diffusivity", "-1", "--out", "x.zarr")
    assert_one_clear_line(result, 2, "diffusivity", "-1")


def test_explosion_names_step_scheme_and_stable_step(run_popdyn, tmp_path):
    result = run_popdyn(
        "simulate", "--potential", "wavy_plateau", "--step", "0.2", "--dt", "2",
        "--scheme", "euler_maruyama", "--particles", "200", "--out", "x.zarr",
    )  # fmt: skip
    assert_one_clear_line(result, 1, "euler_maruyama", "step", "0.2")
    assert not (tmp_path / "x.zarr").exists()


def test_existing_out_is_kept_without_overwrite(run_popdyn, tmp_path):
    assert run_popdyn(*SIMULATE, "--out", "x.zarr").code == 0
    before = (tmp_path / "x.zarr" / "zarr.json").read_bytes()
    assert_one_clear_line(run_popdyn(*SIMULATE, "--seed", "9", "--out", "x.zarr"), 1, "--overwrite")
    assert (tmp_path / "x.zarr" / "zarr.json").read_bytes() == before
    assert run_popdyn(*SIMULATE, "--seed", "9", "--out", "x.zarr", "--overwrite").code == 0


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"cells": np.zeros((9, 2))}, ["bad.npz", "pcs", "cells"]),
        ({"pcs": np.full((9, 2), np.nan), "sample_labels": np.arange(9) // 3}, ["bad.npz", "nan"]),
        ({"pcs": np.zeros((9, 2)), "sample_labels": np.zeros(9)}, ["sample_labels"]),
    ],
)
def test_bad_npz(run_popdyn, tmp_path, arrays, words):
    np.savez(tmp_path / "bad.npz", **arrays)
    assert_one_clear_line(run_popdyn("import", "bad.npz", "--out", "x.zarr"), 1, *words)
    assert not (tmp_path / "x.zarr").exists()


def test_what_is_no_run_and_no_store(run_popdyn, tmp_path):
    (tmp_path / "empty").mkdir()
    assert_one_clear_line(run_popdyn("score", "empty"), 1, "empty", "not a run")
    assert_one_clear_line(run_popdyn("train", "nothing.zarr", "--out", "r"), 1, "nothing.zarr")
    assert_one_clear_line(run_popdyn("train", "empty", "--out", "r"), 1, "empty")
    assert not (tmp_path / "r").exists()


def test_wrong_command_and_option(run_popdyn):
    assert_one_clear_line(run_popdyn("simulat"), 2, "simulate")
    assert run_popdyn("train", "x.zarr", "--oot", "y").code == 2


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_interrupted_training_resumes_to_the_same_bits(run_popdyn, start_popdyn, tmp_path, number):
    assert run_popdyn(*SIMULATE, "--out", "st.zarr").code == 0
    train = ("train", "st.zarr", "--model", "network", "--steps", "150", "--batch", "300")
    train += ("--learn", "potential")
    assert run_popdyn(*train, "--out", "whole").code == 0
    for patience in np.arange(0.5, 12.0, 0.5):
        process = start_popdyn(*train, "--out", "cut")
        deadline = time.monotonic() + 120
        while not (tmp_path / "cut.popdyn").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(patience)
        process.send_signal(number)
        _, error = process.communicate(timeout=120)
        assert process.returncode == 1, error
        lines = error.strip().splitlines()
        assert lines == ["popdyn: error: " + error.split("error: ")[1].strip()]
        assert not (tmp_path / "cut").exists()
        if (tmp_path / "cut.popdyn").exists():
            break  # else it was interrupted before its first step, and nothing came of it
    unfinished = run_popdyn("score", "cut")
    assert_one_clear_line(unfinished, 1, "unfinished", "--resume")
    other = run_popdyn(*train, "--out", "cut", "--resume", "--seed", "5")
    assert_one_clear_line(other, 1, "seed: 0 → 5")
    assert run_popdyn(*train, "--out", "cut", "--resume").code == 0
    for name in ("weights.safetensors", "metrics.jsonl"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
