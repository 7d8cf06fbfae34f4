"""datasets/FORMAT.md: its example, its sentences, and a store that breaks each of them."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from zarr.codecs import ZstdCodec
from zarr.storage import LocalStore

from popdyn.base.files import write_manifest
from popdyn.snapshots import make_tree, validate, write
from popdyn.snapshots.metadata import KIND, consolidate
from popdyn.snapshots.rules import RULES

PAGE = Path(__file__).parents[2] / "datasets" / "FORMAT.md"


def example():
    generator = np.random.default_rng(0)
    train = [generator.normal(size=(n, 2)) for n in (30, 12, 20)]
    test = [generator.normal(size=(n, 2)) for n in (8, 0, 4)]
    energy = {"potential": {"name": "quadratic", "params": {}}, "diffusivity": 0.1}
    standardize = {"method": "global", "mean": [1.0, 2.0], "scale": [3.0, 3.0]}
    attrs = {"dynamics": energy, "initial": {"name": "uniform"}, "scheme": "heun", "step": 0.01}
    return make_tree(train, test, [0, 0.5, 2], attrs | {"seed": 4, "standardize": standardize})


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    path = tmp_path_factory.mktemp("format") / "example.zarr"
    write(example(), path, chunk_rows=5, shard_rows=15)
    return path


@pytest.fixture
def store(sound, tmp_path):
    return Path(shutil.copytree(sound, tmp_path / "a.zarr"))


def test_the_example_runs_with_xarray_alone(sound):
    code = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[1]
    assert "popdyn" not in code
    code += "\nimport sys\nassert not [m for m in sys.modules if m.startswith('popdyn')]\n"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=sound.parent, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("0: (30, 2), mean [")
    assert lines[1].startswith("0.5: (12, 2), mean [")
    assert lines[3].startswith("unpaired {'potential': {'name': 'quadratic'")
    assert not done.stderr, "xarray warned"


def test_the_page_has_every_sentence_and_no_other():
    lists = re.findall(r"^- (.*)$", PAGE.read_text(), re.MULTILINE)
    assert sorted(lists) == sorted(RULES.values())


def test_a_sound_store_has_no_breach(sound):
    assert validate(sound) == []


def rewritten(store, change, name="zarr.json"):
    """Change a metadata document and make the digests agree with it again."""
    document = json.loads((store / name).read_text())
    change(document)
    (store / name).write_text(json.dumps(document))
    root = json.loads((store / "zarr.json").read_text())
    kept = {k: v for k, v in root.items() if k not in ("attributes", "consolidated_metadata")}
    consolidate(store, root["attributes"])
    if kept != {"zarr_format": 3, "node_type": "group"}:
        raise AssertionError("the root's other fields are written by hand")


def attribute(name, value):
    def change(store):
        rewritten(store, lambda root: root["attributes"].update({name: value}))

    return change


def without(name):
    def change(store):
        rewritten(store, lambda root: root["attributes"].pop(name))

    return change


def field(node, value, *keys):
    def change(store):
        def at(document):
            for key in keys[:-1]:
                document = document[key]
            document[keys[-1]] = value

        rewritten(store, at, f"{node}/zarr.json")

    return change


def array_values(node, change):
    def write_values(store):
        array = zarr.open_array(LocalStore(store), path=node, mode="r+")
        values = array[...]
        change(values)
        array.with_config({"write_empty_chunks": True})[...] = values
        write_manifest(store, KIND, format=2)

    return write_values


def put(index, value):
    return lambda values: values.__setitem__(index, value)


def empty_inner_chunk(store):
    array = zarr.open_array(LocalStore(store), path="train/x", mode="r+")
    array[0, 0:5] = np.nan  # zarr's default is to drop what holds nothing but the fill value
    write_manifest(store, KIND, format=2)


def raw(name, change):
    def edit(store):
        (store / name).write_text(change((store / name).read_text()))

    return edit


def extra_array_without_checksum(store):
    node = zarr.create_group(LocalStore(store), path="reference")
    node.create_array("density", data=np.ones(3), compressors=[ZstdCodec()])
    root = json.loads((store / "zarr.json").read_text())
    consolidate(store, root["attributes"])


def refresh(change):
    """Apply a change of files, then make the digests agree."""

    def apply(store):
        change(store)
        root = json.loads((store / "zarr.json").read_text())
        consolidate(store, root["attributes"])

    return apply


def other_rows(store):
    """A test group with more rows than its largest count."""
    tree = example()
    tree["test"] = xr.DataTree(tree["test"].to_dataset().pad(particle=(0, 3)))
    shutil.rmtree(store)
    tree["test"]["count"] = ("time", np.array([8, 0, 4]))
    grown = tree["test"]["x"].values
    write(example(), store, chunk_rows=11)
    group = zarr.open_group(LocalStore(store), path="test", mode="r+")
    codecs = {"compressors": group["x"].compressors, "fill_value": np.nan}
    dims = ("time", "particle", "component")
    group.create_array(
        "x",
        shape=grown.shape,
        chunks=(1, 11, 2),
        dtype="float32",
        overwrite=True,
        dimension_names=dims,
        config={"write_empty_chunks": True},
        **codecs,
    )[...] = grown
    refresh(lambda _: None)(store)


# For each sentence one or more ways to break it.
BREAKS = {
    "root": [
        raw("zarr.json", lambda text: text.replace('"zarr_format": 3', '"zarr_format": 2', 1))
    ],
    "nodes": [
        refresh(lambda s: shutil.rmtree(s / "test/count")),
        refresh(lambda s: shutil.copytree(s / "train/count", s / "train/mass")),
    ],
    "files": [
        lambda s: (s / "notes.txt").write_text("!"),
        lambda s: (s / "train/x/c/0/9").write_text("!"),
        lambda s: (s / "train/README").write_text("!"),
        lambda s: (s / "test/x/c/0/notes").write_text("!"),
    ],
    "chunks": [lambda s: (s / "train/x/c/1/1/0").unlink(), empty_inner_chunk],
    "checksum": [
        lambda s: (s / "test/x/c/0/0/0").write_bytes((s / "test/x/c/0/0/0").read_bytes()[:-1]),
        extra_array_without_checksum,
    ],
    "codecs": [field("train/count", "big", "codecs", 0, "configuration", "endian")],
    "consolidated": [
        raw("train/x/zarr.json", lambda text: text.replace("particle", "cell")),
        raw("zarr.json", lambda text: text.replace("consolidated_metadata", "consolidated", 1)),
    ],
    "digest": [
        raw("test/time/zarr.json", lambda text: text + " "),
        raw("zarr.json", lambda text: text.replace("uniform", "Uniform")),
        raw("popdyn.json", lambda text: text.replace("store", "run")),
        raw("popdyn.json", lambda text: text.replace("files", "file")),
        lambda s: (s / "popdyn.json").unlink(),
        lambda s: shutil.copy(s / "train/x/c/0/0/0", s / "train/x/c/2/0/0"),
        lambda s: shutil.copytree(s / "test/count", s / "further/count"),
    ],
    "x": [
        field("train/x", ["time", "cell", "component"], "dimension_names"),
        field("train/x", 0.0, "fill_value"),
    ],
    "count": [field("test/count", 0, "fill_value")],
    "time": [field("test/time", {}, "attributes"), field("test/time", "s", "attributes", "units")],
    "grid": [field("train/count", [1], "chunk_grid", "configuration", "chunk_shape")],
    "sizes": [other_rows],
    "times": [
        array_values("train/time", put(1, 3.0)),
        array_values("train/time", put(1, np.nan)),
        array_values("test/time", put(1, 0.6)),
    ],
    "counts": [array_values("train/count", put(1, 0)), array_values("test/count", put(1, -2))],
    "positions": [
        array_values("train/x", put((0, 3, 1), np.nan)),
        array_values("train/x", put((1, 20, 1), 0.0)),
    ],
    "format": [attribute("popdyn_format", 3), without("popdyn_format")],
    "complete": [attribute("complete", False), without("complete")],
    "text": [attribute("title", None), without("history")],
    "source": [attribute("source", {"numpy": "2"}), attribute("source", {"popdyn": 1})],
    "observation": [attribute("observation", "paired"), attribute("observation", "half")],
    "dynamics": [
        attribute("dynamics", {"potential": {"name": "no_such"}}),
        attribute("dynamics", "quadratic"),
        without("dynamics"),
    ],
    "initial": [attribute("initial", "uniform"), without("initial")],
    "scheme": [attribute("scheme", 1), without("scheme")],
    "step": [attribute("step", 0), attribute("step", [0.1, 0.1, 0.1]), without("step")],
    "seed": [attribute("seed", -1), attribute("seed", 0.5), attribute("seed", True)],
    "standardize": [
        attribute("standardize", {"method": "component", "mean": [0, 0], "scale": [1, 0]}),
        attribute("standardize", {"method": "component", "mean": [0], "scale": [1]}),
        attribute("standardize", "component"),
    ],
}


# What else a reader sees in consequence; everything else breaks its own sentence alone.
FOLLOWS = {
    "root": {"digest"},
    "digest": {"consolidated", "nodes"},
    "consolidated": {"digest", "x"},
    "codecs": {"positions", "sizes"},
    "grid": {"checksum", "chunks"},
    "counts": {"positions"},
}


def test_every_sentence_has_a_store_that_breaks_it():
    assert sorted(BREAKS) == sorted(RULES)


@pytest.mark.parametrize(
    ("rule", "change"),
    [(rule, change) for rule, changes in BREAKS.items() for change in changes],
    ids=[f"{rule}-{i}" for rule, changes in BREAKS.items() for i in range(len(changes))],
)
def test_the_validator_enforces(store, rule, change):
    change(store)
    breaches = validate(store)
    assert rule in {b.rule for b in breaches}, breaches
    assert {b.rule for b in breaches} - {rule} <= FOLLOWS.get(rule, set())
    for breach in breaches:
        assert breach.expected == RULES[breach.rule]
        assert breach.node
        assert breach.found


def test_all_breaches_are_listed_not_just_the_first(store):
    attribute("seed", -1)(store)
    attribute("title", 7)(store)
    (store / "train/x/c/0/0/0").unlink()
    assert [b.rule for b in validate(store)] == ["text", "seed", "chunks"]


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"attributes": []}', "\x00\xff"])
def test_documents_that_are_not_even_json(store, content):
    for name in ("zarr.json", "train/zarr.json", "train/x/zarr.json"):
        kept = (store / name).read_text()
        (store / name).write_text(content)
        assert any(name in b.node for b in validate(store))
        (store / name).write_text(kept)


def test_what_is_no_store_at_all(tmp_path):
    assert validate(tmp_path / "none")[0].found == "there is no such folder"
    assert validate(tmp_path)[0].found == "there is no zarr.json"
