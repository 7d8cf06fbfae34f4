"""A run: the energy that a learner found, how it was found, and its folder on disk."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import xarray as xr
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import nn

from popdyn.base.errors import PopdynError
from popdyn.base.files import (
    MANIFEST,
    Target,
    checked_bytes,
    read_manifest,
    unfinished,
    write_json,
    write_manifest,
    write_text,
)
from popdyn.dynamics import Dynamics, FreeEnergy, ScalarField
from popdyn.estimation import Verdict
from popdyn.families.models import LearnedTerm, module_of, rebuild
from popdyn.families.module_potential import rebuilding_with
from popdyn.learners.words import SHOWN, facts_of, html_of, notes_of, words_of
from popdyn.snapshots import open_snapshots, times

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["KIND", "RUN_FORMAT", "Run", "load_run", "run_target", "save_run", "write_run"]

KIND = "run"
RUN_FORMAT = 5


@dataclass(repr=False)
class Run:
    """What ``fit`` returns; printed, it says in words what was learned and what that is worth.

    Attributes:
        dynamics: The learned dynamics; its ``energy`` is the gradient-flow face.
        learner: Name of the learner.
        config: Everything resolved: options, data, seeds, thread count, versions.
        metrics: One record for each evaluation during training.
        certificate: What was certified, such as the inner residual; dimensionless.
        converged: Whether the learner holds its own problem for solved.
        steps: Training steps done.
        seconds: Wall-clock time.
        notes: Warnings in plain words.
        verdict: What the fit is worth; None of a run of an older version.
        validated: Whether the validation particles chose among states, and no more.
        data: The data sets that it was fitted to; None of a run from disk, see :meth:`snapshots`.

    Example:
        >>> import popdyn
        >>> data = popdyn.simulate(popdyn.FreeEnergy("quadratic"), particles=200, dt=0.3, seed=0)
        >>> run = popdyn.fit(data, "weak_form", learn=["potential"])
        >>> run.learner, run.learned, run.word
        ('weak_form', ['potential'], 'explained')
        >>> run.table().columns.tolist()
        ['value', 'standard_error']
    """

    dynamics: Dynamics
    learner: str
    config: dict[str, Any]
    metrics: list[dict[str, float]] = field(default_factory=list)
    certificate: dict[str, Any] = field(default_factory=dict)
    converged: bool = True
    steps: int = 0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    verdict: Verdict | None = None
    validated: bool = False
    data: list[xr.DataTree] | None = field(default=None, compare=False)

    @property
    def energy(self) -> FreeEnergy:
        """The learned free energy: V, W and β."""
        return self.dynamics.energy

    @property
    def learned(self) -> list[str]:
        """The parts of the energy that were learned; the rest is 0, or a β that was given."""
        options = self.config.get("options", {})
        known = set() if options.get("diffusivity") is None else {"diffusion"}
        learn = self.certificate.get("learn", options.get("learn"))
        if learn is None:  # of a learner that has no such option
            terms = {"potential": self.energy.V, "interaction": self.energy.W}
            learn = [part for part, term in terms.items() if isinstance(term, LearnedTerm)]
            if self.energy.diffusivity_standard_error is not None:
                learn = [*learn, "diffusion"]
        return [part for part in learn if part not in known]

    @property
    def model(self) -> str | None:
        """What was fitted: ``network`` or ``features``; None where nothing was learned."""
        terms = [t for t in (self.energy.V, self.energy.W) if isinstance(t, LearnedTerm)]
        if any(any(True for _ in term.parameters()) for term in terms):
            return "network"  # features are solved for, and have no parameters to train
        return "features" if terms or self.learned else None

    @property
    def how(self) -> str:
        """The learner, and what it fitted: ``ijkonet, model=features``."""
        return self.learner if self.model is None else f"{self.learner}, model={self.model}"

    def summary(self) -> dict[str, Any]:
        """Return what ``popdyn train --json`` prints, less the run's path."""
        names = ("learned", "model", "steps", "seconds", "converged", "certificate", "notes")
        out = {name: getattr(self, name) for name in names}
        return {"learner": self.learner, "verdict": self.word} | out

    @property
    def experiments(self) -> list[str]:
        """The names of the data sets that the run was fitted to."""
        return [record["name"] for record in self.config.get("data", ())]

    def snapshots(self, name: str | None = None) -> xr.DataTree:
        """Return the data set that the run was fitted to, opened where it was found if need be.

        Args:
            name: Which one, of :attr:`experiments`; None where there is one.

        Raises:
            PopdynError: If there are several and none was named, or it is not there any more.
        """
        names = self.experiments
        if name is None and len(names) > 1:
            raise PopdynError(
                f"the run has {len(names)} data sets: expected data=, one of {', '.join(names)}"
            )
        if name is not None and name not in names:
            raise PopdynError(f"the run has no data set '{name}': expected {' or '.join(names)}")
        place = 0 if name is None else names.index(name)
        if self.data is not None:
            return self.data[place]
        path = self.config["data"][place]["path"] if names else None
        if path is None or not Path(path).exists():
            raise PopdynError(
                f"the data set of the run is not at '{path}': expected data=, a data set or the "
                "path of a store"
            )
        return open_snapshots(path)

    def held_out(self, data: xr.DataTree) -> list[int]:
        """Return the snapshots of one of its data sets that the run was not shown.

        Of several experiments those are held out that have such a snapshot.
        """
        held_out = list(self.config.get("hold_out") or ())
        if len(self.experiments) < 2:
            return held_out
        return [k for k in held_out if k < len(times(data))]

    def table(self) -> pd.DataFrame:
        """Return what was learned, and what that is worth, as a table.

        Returns:
            A row for each fact, with the columns ``value`` and ``standard_error``.
        """
        import pandas as pd

        return pd.DataFrame.from_dict(
            facts_of(self), orient="index", columns=["value", "standard_error"]
        )

    def __repr__(self) -> str:
        words = words_of(self)
        width = max(map(len, words))
        lines = [f"{name:<{width}}  {text}" for name, text in words.items()]
        notes = notes_of(self)
        more = len(notes) - SHOWN
        lines += [*notes[:SHOWN], *([f"… and {more} more in notes"] if more > 0 else [])]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        from popdyn.plots import small_picture

        return html_of(self) + small_picture(self)

    @property
    def word(self) -> str | None:
        """The verdict in one word."""
        return None if self.verdict is None else self.verdict.verdict


def run_target(
    path: str | Path,
    *,
    overwrite: bool = False,
    keep: bool = False,
    sources: Sequence[Path | None] = (),
) -> Target:
    """Return the target of a run, which says whether it may be written there."""

    def owned(folder: Path) -> set[str]:
        return {*read_manifest(folder, KIND, format=RUN_FORMAT), MANIFEST}

    return Target(path, KIND, overwrite=overwrite, keep=keep, reads=sources, owned=owned)


def save_run(run: Run, path: str | Path, *, overwrite: bool = False) -> None:
    """Write a run's folder: its configuration, record, metrics and weights.

    Args:
        run: The run.
        path: The folder.
        overwrite: Replace a run that is there, once the new one is whole.

    Raises:
        PopdynError: If the path may not be written (see :class:`popdyn.base.files.Target`), or if a
            part of the energy is a callable, which no file can rebuild.

    Example:
        >>> import tempfile, popdyn
        >>> data = popdyn.simulate(popdyn.FreeEnergy("quadratic"), particles=200, snapshots=3)
        >>> folder = tempfile.mkdtemp() + "/run"
        >>> popdyn.save_run(popdyn.fit(data, "zero"), folder)
        >>> popdyn.load_run(folder).learner
        'zero'
    """
    with run_target(path, overwrite=overwrite) as target:
        write_run(run, target.place)


def write_run(run: Run, folder: Path) -> None:
    """Write a finished run's files into a folder of its own, their digests last."""
    folder.mkdir(exist_ok=True)
    terms: dict[str, Any] = {}
    tensors: dict[str, torch.Tensor] = {}
    for name, term in (("potential", run.energy.V), ("interaction", run.energy.W)):
        terms[name] = _describe(term, name)
        if isinstance(term, LearnedTerm):
            # The tied tensors of one module are written once each: clones keep safetensors content.
            tensors |= {f"{name}.{k}": v.clone().contiguous() for k, v in term.state_dict().items()}
    write_json(folder / "config.json", run.config)
    write_text(folder / "metrics.jsonl", "".join(json.dumps(m) + "\n" for m in run.metrics))
    energy = terms | {
        "diffusivity": run.energy.diffusivity,
        "diffusivity_standard_error": run.energy.diffusivity_standard_error,
    }
    verdict = None if run.verdict is None else asdict(run.verdict)
    more = _described_more(run.dynamics, tensors)
    if more is None:
        raise PopdynError(
            f"a part of {run.dynamics!r} is a callable: no file can rebuild it, "
            "keep the run in memory"
        )
    save_file(tensors, folder / "weights.safetensors")
    record = {"energy": energy, "more": more} | run.summary() | {"verdict": verdict}
    write_json(folder / "run.json", record)
    files = ("config.json", "metrics.jsonl", "run.json", "weights.safetensors")
    write_manifest(folder, KIND, format=RUN_FORMAT, files=files)


def _described_more(dynamics: Dynamics, tensors: dict[str, torch.Tensor]) -> dict[str, Any] | None:
    """Return the JSON of growth, circulation and β(x), the weights of learned ones in tensors.

    None if a part is a callable.
    """
    learned: dict[str, Any] = {}
    for part, term in dynamics.terms.items():
        field = getattr(term, "field", None)
        if part not in ("growth", "circulation") or not isinstance(field, LearnedTerm):
            continue
        learned[part] = module_of(field)
        tensors |= {f"{part}.{k}": v.clone().contiguous() for k, v in field.state_dict().items()}
    others = {part: spec for part, spec in dynamics.more_specs().items() if part not in learned}
    return None if None in others.values() else others | learned


def _describe(term: ScalarField | None, name: str) -> dict[str, Any] | None:
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
        PopdynError: If the path is no run, or an unfinished one, or one of another format, or of
            a module that was not given, or if a file of it is missing or not as it was written.

    Example:
        >>> import tempfile, popdyn
        >>> popdyn.load_run(tempfile.mkdtemp())  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        popdyn.base.errors.PopdynError: ...
    """
    folder = Path(path)
    if not (folder / MANIFEST).exists():
        found = f"a folder without {MANIFEST}" if folder.is_dir() else "no such folder"
        found = unfinished(folder) or found
        raise PopdynError(f"'{folder}' is not a run: expected a folder of `popdyn train`, {found}")
    digests = read_manifest(folder, KIND, format=RUN_FORMAT)
    try:
        config = json.loads(checked_bytes(folder, "config.json", digests))
        record = json.loads(checked_bytes(folder, "run.json", digests))
        lines = checked_bytes(folder, "metrics.jsonl", digests).decode().splitlines()
        metrics = [json.loads(line) for line in lines]
        tensors = load(checked_bytes(folder, "weights.safetensors", digests))
        energy = record["energy"]
        with rebuilding_with(potential):
            parts = {
                name: _rebuild(energy[name], name, tensors) for name in ("potential", "interaction")
            }
            more = {
                key: _rebuild(spec, key, tensors)["term"] if "model" in spec else spec
                for key, spec in record.get("more", {}).items()
            }
        run = Run(
            Dynamics.with_spec(_energy(parts, energy), more),
            config=config,
            metrics=metrics,
            **{k: record[k] for k in ("learner", "steps", "seconds", "converged")},
            certificate=record["certificate"],
            notes=record["notes"],
            verdict=Verdict(**record["verdict"]) if record.get("verdict") else None,
        )
    except (json.JSONDecodeError, SafetensorError, KeyError, RuntimeError) as e:
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
