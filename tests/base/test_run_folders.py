"""Runs: the old one stays until the new one is whole, and what is not as written is named."""

import json
import os
import random
import shutil
import signal
import time

import pytest
from click.testing import CliRunner

import popdyn
from popdyn.base.errors import PopdynError
from popdyn.base.files import manifest_kind
from popdyn.cli import group
from popdyn.learners import fit, load_run

NETWORK = {"model": "network", "batch": 64, "hidden": (8, 8), "first_order": True}
TRAIN = ["--model", "network", "--batch", "64", "--hidden", "8,8", "--first-order"]


def everything(folder):
    return {p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Two stores of the same sizes."""
    folder = tmp_path_factory.mktemp("stores")
    for seed in (0, 1):
        out = folder / f"{seed}.zarr"
        energy = popdyn.FreeEnergy("styblinski_tang")
        popdyn.simulate(energy, particles=120, snapshots=3, seed=seed, out=out)
    return folder


@pytest.fixture
def here(stores, tmp_path, monkeypatch):
    shutil.copytree(stores, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def trained(out, learner="zero", store="0.zarr", **options):
    return fit(popdyn.open_snapshots(store), learner, out=out, source=store, **options)


def interrupted(start_popdyn, here, number, *line):
    """Train in a process of its own, and stop it after its first (or next) checkpoint."""
    line = ("0.zarr", "--out", "cut", *TRAIN, "--steps", "200000", *line)
    process = start_popdyn("train", *line, cwd=here)
    deadline = time.monotonic() + 110
    checkpoint, began = here / "cut.popdyn/new/checkpoint.safetensors", time.time()
    while not checkpoint.exists() or checkpoint.stat().st_mtime < began:
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(number)
    process.communicate(timeout=60)
    return process.returncode


def validated(path):
    done = CliRunner().invoke(group, ["validate", path, "--json"], standalone_mode=False)
    return done.return_value, json.loads(done.stdout)


def test_every_flipped_byte_of_a_run_is_reported(here):
    trained("run", "ijkonet", steps=20, **NETWORK)
    names = ["config.json", "metrics.jsonl", "popdyn.json", "run.json", "weights.safetensors"]
    assert sorted(os.listdir("run")) == names
    generator = random.Random(3)
    for name in names:
        file = here / "run" / name
        whole = file.read_bytes()
        for _ in range(100):
            flipped = bytearray(whole)
            flipped[generator.randrange(len(whole))] ^= 1 << generator.randrange(8)
            file.write_bytes(flipped)
            with pytest.raises(PopdynError, match=name) as error:
                load_run("run")
            assert "\n" not in str(error.value)
        status, answer = validated("run")
        assert status == 1
        assert answer["breaches"][0]["node"] == name
        file.unlink()
        with pytest.raises(PopdynError, match=name):
            load_run("run")
        file.write_bytes(whole)
    sound = {"run": "run", "valid": True, "breaches": [], "notes": []}
    assert validated("run") == (0, sound)


def test_files_of_the_user_in_a_run_stop_only_its_replacement(here, run_popdyn):
    trained("run")
    (here / "run/notes.md").write_text("mine")
    load_run("run")
    answer = run_popdyn("validate", "run")
    assert answer.code == 0
    assert "note: notes.md is not popdyn's" in answer.out
    with pytest.raises(PopdynError, match=r"holds 'notes\.md', which popdyn did not write"):
        trained("run", overwrite=True)
    assert (here / "run/notes.md").read_text() == "mine"


@pytest.mark.parametrize("options", [{"overwrite": True}, {"resume": True}])
def test_a_folder_with_a_config_of_the_users_stays(here, options):
    (here / "web").mkdir()
    for name in ("config.json", "weights.safetensors", "run.json", "metrics.jsonl", "index.html"):
        (here / "web" / name).write_text("{}")
    before = everything(here)
    with pytest.raises(PopdynError, match="'web'"):
        trained("web", **options)
    assert everything(here) == before


def test_what_is_read_stays(here):
    shutil.copytree("0.zarr", "runs/data.zarr")
    before = everything(here)
    for out in ("runs", "runs/data.zarr", "runs/data.zarr/train/run"):
        with pytest.raises(PopdynError, match=r"overlaps with .* which is read"):
            trained(out, store="runs/data.zarr", overwrite=True)
    assert everything(here) == before


@pytest.mark.parametrize(
    "wrong",
    [
        {"hold_out": [0, 1, 2]},
        {"learning_rate": 1e30, "steps": 200, **NETWORK},
        {"diffusivity": -1.0},
    ],
    ids=["hold-out", "diverges", "option"],
)
def test_a_fit_that_fails_leaves_the_old_run_and_no_folder(here, wrong):
    trained("good")
    before = everything(here)
    for out in ("good", "new", "deep/er/new"):
        with pytest.raises(PopdynError):
            trained(out, "ijkonet", overwrite=True, **wrong)
    assert everything(here) == before
    assert not (here / "deep").exists()


@pytest.mark.slow
def test_a_killed_training_leaves_the_old_run_and_goes_on(start_popdyn, here):
    trained("cut")
    before = everything(here / "cut")
    assert interrupted(start_popdyn, here, signal.SIGTERM, "--overwrite") == 1
    assert (here / "cut.popdyn/new/checkpoint.safetensors").exists()
    assert (
        interrupted(start_popdyn, here, signal.SIGKILL, "--overwrite", "--resume")
        == -signal.SIGKILL
    )
    assert everything(here / "cut") == before
    with pytest.raises(PopdynError, match="'cut' exists"):
        trained("cut")
    shutil.rmtree(here / "cut")
    with pytest.raises(PopdynError, match="is unfinished: go on with --resume, or --overwrite"):
        trained("cut")
    with pytest.raises(PopdynError, match=r"is not a run: .*, it is unfinished, in .*--resume"):
        load_run("cut")
    trained("cut", overwrite=True)
    assert manifest_kind("cut") == "run"
    assert sorted(os.listdir(here)) == ["0.zarr", "1.zarr", "cut"]


@pytest.mark.slow
def test_a_checkpoint_is_resumed_as_it_was_written_and_on_its_own_data(
    start_popdyn, here, run_popdyn
):
    assert interrupted(start_popdyn, here, signal.SIGTERM) == 1
    line = ("train", "0.zarr", "--out", "cut", *TRAIN, "--steps", "200000", "--resume")
    file = here / "cut.popdyn/new/checkpoint.safetensors"
    whole = file.read_bytes()

    def resumed():
        options = {**NETWORK, "hidden": [8, 8], "steps": 200_000}
        return trained("cut", "ijkonet", resume=True, **options)

    generator = random.Random(5)
    for place in [*range(12), *(generator.randrange(len(whole)) for _ in range(60))]:
        flipped = bytearray(whole)
        flipped[place] ^= 1 << generator.randrange(8)
        file.write_bytes(flipped)
        with pytest.raises(PopdynError, match=r"checkpoint\.safetensors' is damaged"):
            resumed()
        assert file.read_bytes() == bytes(flipped)
    file.write_bytes(whole)
    shutil.rmtree(here / "0.zarr")
    shutil.copytree(here / "1.zarr", here / "0.zarr")
    other = run_popdyn(*line)
    assert other.code == 1
    assert "was begun with other settings (digest of 0: " in other.last_line
    assert file.read_bytes() == whole
