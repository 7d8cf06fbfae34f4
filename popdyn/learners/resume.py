"""Going on with an interrupted fit: only with the same settings and on the same particles."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from popdyn.base.errors import PopdynError
from popdyn.base.files import Target
from popdyn.estimation.training_set import TrainingSet
from popdyn.learners.training import CHECKPOINT, read_checkpoint

__all__ = ["digest_of", "take_up"]

SETTINGS = (
    *("learner", "options", "hold_out", "ensemble", "seed", "device", "observation_noise"),
    *("threads", "versions"),
)


def take_up(target: Target, config: dict[str, Any], resume: bool) -> bool:
    """Return whether there is a checkpoint to go on from; drop one that is not asked for.

    Raises:
        PopdynError: If the checkpoint is damaged, or of other settings or other data.
    """
    if not (target.place / CHECKPOINT).exists():
        target.drop()
        return False
    if resume:
        record, _ = read_checkpoint(target.place)
        _check_same(target.path, record["config"], config)
        return True
    if not target.overwrite:
        raise PopdynError(f"'{target.path}' is unfinished: go on with --resume, or --overwrite")
    target.drop()
    return False


def _check_same(path: Path, before: dict[str, Any], config: dict[str, Any]) -> None:
    old, new = _flat(before), _flat(config)
    differences = [
        f"{name}: {old.get(name)} → {new.get(name)}"
        for name in {**old, **new}
        if old.get(name) != new.get(name)
    ]
    if differences:
        raise PopdynError(
            f"'{path}' was begun with other settings ({'; '.join(differences)}): "
            "resume with the same ones, or --overwrite"
        )


def _flat(config: dict[str, Any]) -> dict[str, Any]:
    """Return a run's settings, options, versions and data sets by one name each."""
    out: dict[str, Any] = {}
    for key in SETTINGS:
        value = config.get(key)
        out |= value if isinstance(value, dict) else {key: value}
    for x in config.get("data") or ():
        out |= {f"{what} of {x['name']}": x[what] for what in ("path", "digest")}
    return out


def digest_of(training: TrainingSet) -> str:
    """Return a digest of what was learned from: two runs on the same particles share it."""
    digest = hashlib.sha256(training.times.tobytes())
    for x in (*training.fit, *training.validation):
        digest.update(x.cpu().numpy().tobytes())
    if training.masses is not None:
        digest.update(training.masses[0].tobytes())
    return digest.hexdigest()[:16]
