"""popdyn validate, import, export and inspect through a real process."""

import os

import numpy as np
import pytest

import popdyn
from popdyn.snapshots import make_tree, open_snapshots, times, write


@pytest.fixture
def store(tmp_path):
    generator = np.random.default_rng(0)
    x = [generator.normal(size=(40, 2)) - k for k in range(3)]
    write(make_tree(x, [v[:5] for v in x], [0, 0.5, 1], {"title": "drift"}), tmp_path / "a.zarr")
    return tmp_path / "a.zarr"


def test_validate_says_sound_or_lists_breaches(run_popdyn, store):
    good = run_popdyn("validate", "a.zarr")
    assert (good.code, good.out) == (0, "a.zarr is sound\n")
    chunk = store / "train/x/c/1/0/0"
    chunk.write_bytes(chunk.read_bytes()[:-1])
    (store / "notes").write_text("!")
    bad = run_popdyn("validate", "a.zarr")
    assert bad.code == 1
    assert "a.zarr: train/x/c/1/0/0: is damaged" in bad.out
    assert "a.zarr: notes: a file\n    the page says: It holds no file but" in bad.out
    as_json = run_popdyn("validate", "a.zarr", "--json")
    assert as_json.code == 1
    assert as_json.json["valid"] is False
    assert [b["node"] for b in as_json.json["breaches"]] == ["notes", "train/x/c/1/0/0"]
    assert as_json.json["breaches"][0]["expected"].startswith("It holds no file but")
    read = run_popdyn("inspect", "a.zarr")
    assert read.code == 1
    assert "train/x/c/1/0/0 is damaged" in read.last_line


def test_import_inspect_and_export(run_popdyn, tmp_path):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(90, 3)).astype(np.float32)
    days = np.repeat(["ctrl", "mid", "late"], 30)
    np.savez(tmp_path / "c.npz", pcs=x, sample_labels=days)
    line = run_popdyn("import", "c.npz", "--out", "c.zarr")
    assert line.code == 1
    assert "label 'ctrl' of sample_labels is no number" in line.last_line
    made = run_popdyn(
        "import", "c.npz", "--out", "c.zarr", "--time-map", "ctrl=0,mid=3,late=9", "--json",
        "--test-fraction", "0.1", "--standardize", "component", "--components", "2",
    )  # fmt: skip
    assert made.code == 0, made.err
    assert made.json["components"] == ["pcs[0]", "pcs[1]"]
    assert (made.json["dropped"], made.json["notes"]) == (0, [])
    wanted = {"times": [0, 3, 9], "dimension": 2, "train": [27] * 3, "test": [3] * 3}
    assert {key: made.json[key] for key in wanted} == wanted
    assert times(open_snapshots(tmp_path / "c.zarr")).tolist() == [0, 3, 9]
    again = run_popdyn("import", "c.npz", "--out", "c.zarr", "--time-map", "ctrl=0,mid=3,late=9")
    assert again.code == 1
    assert "--overwrite" in again.last_line
    seen = run_popdyn("inspect", "c.zarr")
    assert seen.code == 0
    assert "what can be learned: " in seen.out
    report = run_popdyn("inspect", "c.zarr", "--json").json
    assert 0 <= report["reachable_skill"] <= 1
    assert report["particles"]["train"] == [27, 27, 27]
    assert len(report["moments"]) == 3
    out = run_popdyn("export", "c.zarr", "--out", "d.npz", "--group", "train")
    assert out.code == 0, out.err
    with np.load(tmp_path / "d.npz") as archive:
        assert archive["pcs"].shape == (81, 2)
        assert set(archive["sample_labels"]) == {"ctrl", "mid", "late"}


@pytest.mark.slow
def test_inspect_deep_says_what_each_kind_of_dynamics_would_explain(run_popdyn, tmp_path):
    # A population that falls into a bowl with noise: V without β is not enough.
    data = popdyn.simulate(
        popdyn.FreeEnergy("quadratic", None, 0.5), particles=1500, times=[0, 0.2, 0.4, 0.8],
        initial="gaussian", initial_params={"mean": [3.0], "std": 0.3}, dim=1, seed=1,
        test_particles=100,
    )  # fmt: skip
    write(data, tmp_path / "noisy.zarr")
    told = run_popdyn("inspect", "noisy.zarr", "--deep").out
    rows = {line.split("  ")[0]: line for line in told.splitlines()}
    assert " explained" in rows["V, β (default)"]
    assert " explained" in rows["V, β"]
    assert "unexplained" in rows["V"]
    assert "note: potential, circulation: a circulation in 1 dimension" in told


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["import", "none.npz", "--out", "b.zarr"], 1, "none.npz does not exist"),
        (["import", "none.npz"], 2, "--out"),
        (["import", "a", "--out", "b", "--time-map", "d0"], 2, "'d0': expected label=time"),
        (["import", "a", "--out", "b", "--test-fraction", "1"], 2, "--test-fraction"),
        (["import", "a", "--out", "b", "--standardize", "all"], 2, "--standardize"),
        (["export", "none.zarr", "--out", "b.npz"], 1, "none.zarr does not exist"),
        (["export", "a.zarr", "--out", "b.mat"], 1, "expected one of .h5ad, .npz"),
        (["inspect", "none.zarr"], 1, "none.zarr does not exist"),
        (["validate", "none.zarr"], 1, ""),
    ],
)
def test_bad_input_is_one_line(run_popdyn, store, arguments, code, words):
    done = run_popdyn(*arguments)
    assert done.code == code
    assert words in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("name", ["validate", "import", "export", "inspect"])
def test_help_has_an_example(run_popdyn, name):
    done = run_popdyn(name, "--help")
    assert done.code == 0
    assert f"Example:\n    popdyn {name} " in done.out


def test_import_says_what_it_did(run_popdyn, tmp_path):
    x = np.random.default_rng(0).normal(size=(40, 2))
    rows = [f"{a},{b},{i % 2},day {i // 20}" for i, (a, b) in enumerate(x)]
    rows[3] = ",1.5,0,day 0"
    (tmp_path / "c.csv").write_text("\n".join(["x,y,batch,time", *rows]))
    refused = run_popdyn("import", "c.csv", "--out", "c.zarr")
    assert refused.code == 1
    assert "column 'x' is nan in line 5" in refused.last_line
    assert not (tmp_path / "c.zarr").exists()
    made = run_popdyn("import", "c.csv", "--out", "c.zarr", "--drop-missing")
    assert (made.code, made.out) == (0, ""), made.err
    for words in (
        "2 snapshots in 2 components (x, y), 31 cells to learn from and 8 to test on, 1 left out",
        "   0  day 0     15     4",
        "note: the columns x, y are taken as positions and left out are batch (whole numbers)",
        "note: 1 of 40 cells were left out",
        "note: times are the numbers in the labels of time",
    ):
        assert words in made.err
    chosen = run_popdyn("import", "c.csv", "--out", "d.zarr", "--columns", "y,batch", "--json")
    assert chosen.json["components"] == ["y", "batch"]
    assert (chosen.json["dropped"], sum(chosen.json["train"] + chosen.json["test"])) == (0, 40)


def test_a_label_may_hold_a_comma(run_popdyn, tmp_path):
    labels = np.repeat(["a, b", "c=d"], 10)
    np.savez(tmp_path / "c.npz", pcs=np.random.default_rng(0).normal(size=(20, 2)), labels=labels)
    made = run_popdyn("import", "c.npz", "--out", "c.zarr", "--time-map", "a, b=1,c=d=2", "--json")
    assert (made.json["labels"], made.json["times"]) == (["a, b", "c=d"], [1, 2])


def test_a_name_that_is_no_utf8(run_popdyn, store):
    folder = store.parent / os.fsdecode(b"\xff")
    folder.mkdir()
    store.rename(folder / "a.zarr")
    path, out = (str(folder / name) for name in ("a.zarr", "run"))
    said = run_popdyn("train", path, "--out", out, "--learner", "zero", "--json")
    assert said.code == 0, said.err
    assert said.json["run"] == out
    run = popdyn.load_run(out)
    assert [part["path"] for part in run.config["data"]] == [path]
    assert run_popdyn("score", out, "--points", "20").code == 0


def test_a_circle_of_links_and_a_huge_whole_number(run_popdyn, tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    refused = run_popdyn("train", "loop", "--out", "run", "--overwrite")
    assert (refused.code, "loop" in refused.last_line) == (1, True)
    assert "unexpected" not in refused.err
    for value in ("100000000000000000000", "1" + "0" * 400):
        made = run_popdyn(
            "simulate", "--potential", "quadratic", "--particles", "40", "--snapshots", "3",
            "--initial", "ring", "--initial-param", f"radius={value}", "--out", "a.zarr",
        )  # fmt: skip
        assert "unexpected" not in made.err
        assert made.code in (0, 1)
