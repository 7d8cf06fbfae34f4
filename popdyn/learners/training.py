"""The loop of every gradient-trained learner: evaluate, keep the best, checkpoint, resume."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from popdyn.base.errors import PopdynError
from popdyn.base.files import written
from popdyn.base.progress import progress_bar

__all__ = [
    "CHECKPOINT",
    "History",
    "Problem",
    "Workplace",
    "cosine_rate",
    "interrupts_held",
    "optimizer_state",
    "read_checkpoint",
    "restore_optimizer",
    "train",
]

CHECKPOINT = "checkpoint.safetensors"
ASTRAY = 2.0  # times the best criterion, from which on steps lead away


class Problem(Protocol):
    """What a learner gives to the loop."""

    def step(self, step: int) -> float:
        """Do one training step and return its loss."""

    def criterion(self) -> float:
        """Return the held-out criterion of the present state; smaller is better."""

    def state(self) -> dict[str, Tensor]:
        """Return everything that a resumed run needs, optimiser and generators included."""

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go back to what ``state`` returned."""

    def solution(self) -> dict[str, Tensor]:
        """Return the weights of the energy alone, of which the best are kept."""

    def retreat(self, best: dict[str, Tensor]) -> None:
        """Go back to the best weights, and on from there more slowly: steps went astray."""
        return


@dataclass
class Workplace:
    """Where a fit writes and how it talks.

    Attributes:
        folder: Folder for checkpoints, made with the first one, or None to keep everything in
            memory.
        resume: Whether to go on from the folder's checkpoint.
        progress: Whether to show a progress bar on standard error.
        config: What every checkpoint says of the run: options, seeds, digest of the data.
        checkpoint_seconds: Time between checkpoints.
    """

    folder: Path | None = None
    resume: bool = False
    progress: bool = False
    config: dict[str, Any] = field(default_factory=dict)
    checkpoint_seconds: float = 10.0


@dataclass
class History:
    """What the loop found out: the records, and the best state."""

    metrics: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    best_criterion: float = math.inf
    best_step: int = 0
    steps: int = 0


def cosine_rate(step: int, steps: int, warmup: int = 50) -> float:
    """Return the factor of the learning rate: linear warm-up, then half a cosine down to 0."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def train(problem: Problem, steps: int, every: int, place: Workplace) -> History:
    """Train for ``steps`` steps, evaluating each ``every`` steps and at the end.

    A checkpoint is written from time to time, and when the process is told to stop; a run resumed
    from it gives the bits of an usual_torch one.

    Raises:
        PopdynError: If the loss stops being finite; says at which step.
        KeyboardInterrupt: After the checkpoint, when the user or the system interrupts.
    """
    history = History()
    if place.resume and place.folder is not None:
        _restore(problem, history, place.folder)
    saved = time.monotonic()
    bar = progress_bar("train", steps, visible=place.progress, unit="steps")
    with bar as advance, _terminable() as stop:
        advance(history.steps)
        for step in range(history.steps, steps):
            if stop.is_set():
                break
            loss = problem.step(step)
            if not math.isfinite(loss):
                raise PopdynError(
                    f"the training loss is {loss} at step {step}: a smaller --learning-rate, or "
                    "--inner simulate"
                )
            history.steps = step + 1
            if history.steps % every == 0 or history.steps == steps:
                _evaluate(problem, history, loss)
            held = history.metrics[-1]["criterion"] if history.metrics else math.nan
            advance(1, f"loss {loss:.3g}, held out {held:.3g}")
            if place.folder and time.monotonic() - saved > place.checkpoint_seconds:
                _save(problem, history, place.folder, place.config)
                saved = time.monotonic()
        if stop.is_set():
            if place.folder:
                _save(problem, history, place.folder, place.config)
            raise KeyboardInterrupt
    return history


def _evaluate(problem: Problem, history: History, loss: float) -> None:
    criterion = problem.criterion()
    history.metrics.append({"step": history.steps, "loss": loss, "criterion": criterion})
    if criterion < history.best_criterion:
        history.best_criterion, history.best_step = criterion, history.steps
        history.best = {k: v.detach().clone() for k, v in problem.solution().items()}
    elif not criterion < ASTRAY * history.best_criterion and history.best:
        problem.retreat(history.best)


def _save(problem: Problem, history: History, folder: Path, config: dict[str, Any]) -> None:
    tensors = {f"state.{k}": v.detach().contiguous().clone() for k, v in problem.state().items()}
    tensors |= {f"best.{k}": v.contiguous().clone() for k, v in history.best.items()}
    record = json.dumps(
        {
            "steps": history.steps,
            "best_step": history.best_step,
            # JSON knows no infinity: before the first evaluation there is no best criterion.
            "best_criterion": history.best_criterion if history.best else None,
            "metrics": history.metrics,
            "config": config,
        }
    )
    folder.mkdir(parents=True, exist_ok=True)
    metadata = {"popdyn": record, "digest": _digest(record, tensors)}
    with written(folder / CHECKPOINT) as beside:
        save_file(tensors, beside, metadata=metadata)


def read_checkpoint(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the record of a checkpoint and its tensors.

    Raises:
        PopdynError: If it is not as it was written.
    """
    path = folder / CHECKPOINT
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        sound = metadata["digest"] == _digest(metadata["popdyn"], tensors)
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError):
        sound = False
    if not sound:
        raise PopdynError(f"'{path}' is damaged: expected the digest with which it was written")
    return json.loads(metadata["popdyn"]), tensors


def _digest(record: str, tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(record.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _restore(problem: Problem, history: History, folder: Path) -> None:
    if not (folder / CHECKPOINT).exists():
        return  # interrupted before its first checkpoint: start from the beginning
    record, tensors = read_checkpoint(folder)
    problem.load_state({k[6:]: v for k, v in tensors.items() if k.startswith("state.")})
    history.best = {k[5:]: v for k, v in tensors.items() if k.startswith("best.")}
    history.steps, history.best_step = record["steps"], record["best_step"]
    history.metrics = record["metrics"]
    if record["best_criterion"] is not None:
        history.best_criterion = record["best_criterion"]


@contextlib.contextmanager
def _terminable() -> Iterator[threading.Event]:
    """Turn SIGINT, SIGTERM and SIGHUP into an event: a step is never cut in the middle."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    old = {}
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        # What nohup ignores stays ignored.
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            old[number] = signal.signal(number, lambda *_: stop.set())
    try:
        yield stop
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """Let an interrupt wait until the end of the block.

    The first optimiser imports hundreds of modules of torch, some of which catch everything: an
    interrupt that fell among them was lost, or ended the process without a word.

    Raises:
        KeyboardInterrupt: At the end of the block, when one came.
    """
    with _terminable() as stop:
        yield
    if stop.is_set():
        raise KeyboardInterrupt


def optimizer_state(prefix: str, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return an optimiser's tensors under flat names, for safetensors."""
    return {
        f"{prefix}.{i}.{key}": value
        for i, slots in optimizer.state_dict()["state"].items()
        for key, value in slots.items()
        if isinstance(value, Tensor)
    }


def restore_optimizer(
    prefix: str, optimizer: torch.optim.Optimizer, state: dict[str, Tensor]
) -> None:
    """Put back what ``optimizer_state`` returned."""
    slots: dict[int, dict[str, Tensor]] = {}
    for name, value in state.items():
        if name.startswith(prefix + "."):
            _, i, key = name.rsplit(".", 2)
            slots.setdefault(int(i), {})[key] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": slots, "param_groups": groups})
