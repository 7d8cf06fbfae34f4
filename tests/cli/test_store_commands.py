"""popdyn validate, import, export and inspect through a real process."""

import numpy as np
import pytest

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
    days = np.repeat(["d0", "d3", "d9"], 30)
    np.savez(tmp_path / "c.npz", pcs=x, sample_labels=days)
    line = run_popdyn("import", "c.npz", "--out", "c.zarr")
    assert line.code == 1
    assert "label 'd0' of sample_labels is no number" in line.last_line
    made = run_popdyn(
        "import", "c.npz", "--out", "c.zarr", "--time-map", "d0=0,d3=3,d9=9", "--json",
        "--test-fraction", "0.1", "--standardize", "component", "--components", "2",
    )  # fmt: skip
    assert made.code == 0, made.err
    wanted = {"times": [0, 3, 9], "dimension": 2, "train": [27] * 3, "test": [3] * 3}
    assert {key: made.json[key] for key in wanted} == wanted
    assert times(open_snapshots(tmp_path / "c.zarr")).tolist() == [0, 3, 9]
    again = run_popdyn("import", "c.npz", "--out", "c.zarr", "--time-map", "d0=0,d3=3,d9=9")
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
        assert set(archive["sample_labels"]) == {"d0", "d3", "d9"}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["import", "none.npz", "--out", "b.zarr"], 1, "none.npz does not exist"),
        (["import", "none.npz"], 2, "--out"),
        (["import", "a", "--out", "b", "--time-map", "d0"], 2, "'d0': expected label=time"),
        (["import", "a", "--out", "b", "--test-fraction", "1"], 2, "--test-fraction"),
        (["import", "a", "--out", "b", "--standardize", "all"], 2, "--standardize"),
        (["export", "none.zarr", "--out", "b.npz"], 1, "none.zarr does not exist"),
        (["export", "a.zarr", "--out", "b.mat"], 1, "expected one of .npz, .h5ad"),
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
