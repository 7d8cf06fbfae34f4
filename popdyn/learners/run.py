"""A run: the energy that a learner found, how it was found, and its folder on disk."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from popdyn.energies import FreeEnergy, Term
from popdyn.errors import PopdynError
from popdyn.learners.models import LearnedTerm, module_of, rebuild
from popdyn.learners.module_potential import rebuilding_with

__all__ = ["Run", "load_run", "prepare_folder", "save_run", "write_json"]

RUN_FORMAT = 2


@dataclass
class Run:
    """What ``fit`` returns.

    Attributes:
        energy: The learned free energy.
        learner: Name of the learner.
        config: Everything resolved: options, data, seeds, thread count, versions.
        metrics: One record for each evaluation during training.
        certificate: What was certified, such as the inner residual; dimensionless.
        converged: Whether the learner holds its own problem for solved.
        steps: Training steps done.
        seconds: Wall-clock time.
        notes: Warnings in plain words.
    """

    energy: FreeEnergy
    learner: str
    config: dict[str, Any]
    metrics: list[dict[str, float]] = field(default_factory=list)
    certificate: dict[str, Any] = field(default_factory=dict)
    converged: bool = True
    steps: int = 0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """Return what ``popdyn train --json`` prints, less the run's path."""
        names = ("learner", "steps", "seconds", "converged", "certificate", "notes")
        return {name: getattr(self, name) for name in names}


def prepare_folder(path: str | Path, overwrite: bool, resume: bool) -> Path:
    """Make an empty run folder, or keep the one to resume.

    Raises:
        PopdynError: If the folder exists and neither ``overwrite`` nor ``resume`` is given, or if
            it exists and is not a run.
    """
    folder = Path(path)
    if folder.exists() and not resume:
        if not overwrite:
            raise PopdynError(
                f"'{folder}' exists: expected a new folder, or --overwrite, or --resume"
            )
        if any(folder.iterdir()) and not (folder / "config.json").exists():
            raise PopdynError(f"'{folder}' is not a run (no config.json): it is not overwritten")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_json(path: Path, payload: Any) -> None:
    """Write JSON so that a reader sees the old file or the new one, never half of one."""
    beside = path.with_name(path.name + ".part")
    beside.write_text(json.dumps(payload, indent=1, ensure_ascii=False) + "\n")
    os.replace(beside, path)


def save_run(run: Run, path: str | Path, *, overwrite: bool = False) -> None:
    """Write a run's folder: its configuration, record, metrics and weights.

    Raises:
        PopdynError: If the folder exists and ``overwrite`` is false, or if a part of the energy
            is a callable, which no file can rebuild.
    """
    write_run(run, prepare_folder(path, overwrite, resume=False))


def write_run(run: Run, folder: Path) -> None:
    """Write a finished run's files into its folder."""
    terms: dict[str, Any] = {}
    tensors: dict[str, torch.Tensor] = {}
    for name, term in (("potential", run.energy.V), ("interaction", run.energy.W)):
        terms[name] = _describe(term, name)
        if isinstance(term, LearnedTerm):
            # The tied tensors of one module are written once each: clones keep safetensors content.
            tensors |= {f"{name}.{k}": v.clone().contiguous() for k, v in term.state_dict().items()}
    write_json(folder / "config.json", run.config)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(m) + "\n" for m in run.metrics))
    save_file(tensors, folder / "weights.safetensors")
    energy = terms | {
        "diffusivity": run.energy.diffusivity,
        "diffusivity_standard_error": run.energy.diffusivity_standard_error,
    }
    write_json(folder / "run.json", {"popdyn_run": RUN_FORMAT, "energy": energy} | run.summary())


def _describe(term: Term | None, name: str) -> dict[str, Any] | None:
    if term is None:
        return None
    described = module_of(term) if isinstance(term, LearnedTerm) else term.spec()
    if described is None:
        raise PopdynError(
            f"the {name} '{term.label()}' is a callable: no file can rebuild it, "
            "keep the run in memory"
        )
    return described


def load_run(path: str | Path, *, potential: nn.Module | None = None) -> Run:
    """Read a run's folder.

    Args:
        path: The folder.
        potential: Where the potential was a module of the user's own: such a module, to be filled
            with the weights of the run.

    Raises:
        PopdynError: If the path is no run, or an unfinished or damaged one, or one of another
            format, or of a module that was not given.
    """
    folder = Path(path)
    if not (folder / "config.json").exists():
        found = "a folder without config.json" if folder.is_dir() else "no such folder"
        raise PopdynError(f"'{folder}' is not a run: expected a folder of `popdyn train`, {found}")
    if not (folder / "run.json").exists():
        raise PopdynError(f"'{folder}' is an unfinished run: go on with --resume")
    try:
        config = json.loads((folder / "config.json").read_text())
        record = json.loads((folder / "run.json").read_text())
        if record["popdyn_run"] != RUN_FORMAT:
            raise PopdynError(
                f"'{folder}' is a run of format {record['popdyn_run']}: expected {RUN_FORMAT}, "
                "train it again"
            )
        lines = (folder / "metrics.jsonl").read_text().splitlines()
        metrics = [json.loads(line) for line in lines]
        tensors = load_file(folder / "weights.safetensors")
        energy = record["energy"]
        with rebuilding_with(potential):
            parts = {
                name: _rebuild(energy[name], name, tensors) for name in ("potential", "interaction")
            }
        run = Run(
            _energy(parts, energy),
            config=config,
            metrics=metrics,
            **{k: record[k] for k in ("learner", "steps", "seconds", "converged")},
            certificate=record["certificate"],
            notes=record["notes"],
        )
    except (json.JSONDecodeError, SafetensorError, KeyError, RuntimeError, FileNotFoundError) as e:
        raise PopdynError(f"'{folder}' is a damaged run: {type(e).__name__} {e}") from e
    return run


def _energy(parts: dict[str, Any], energy: dict[str, Any]) -> FreeEnergy:
    built = FreeEnergy(
        parts["potential"].get("term"),
        parts["interaction"].get("term"),
        energy["diffusivity"],
        potential_params=parts["potential"].get("params"),
        interaction_params=parts["interaction"].get("params"),
    )
    built.diffusivity_standard_error = energy["diffusivity_standard_error"]
    return built


def _rebuild(
    spec: dict[str, Any] | None, name: str, tensors: dict[str, torch.Tensor]
) -> dict[str, Any]:
    if spec is None:
        return {}
    if "model" not in spec:
        return {"term": spec["name"], "params": spec["params"]}
    term = rebuild(spec)
    prefix = f"{name}."
    own = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    term.load_state_dict(own)
    return {"term": term.requires_grad_(False)}
