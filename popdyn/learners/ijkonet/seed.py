"""Where networks begin: at the weak form's V, W and β."""

from __future__ import annotations

import torch
from torch import Tensor

from popdyn.estimation.solution import WeakFormSolution
from popdyn.estimation.training_set import TrainingSet
from popdyn.estimation.weak_form import solve_weak_form
from popdyn.families.interaction_models import EvenNetwork, RadialNetwork
from popdyn.families.models import LearnedTerm
from popdyn.learners.ijkonet.options import IJKOnetOptions

__all__ = ["follow", "seed_solution"]

STEPS, BATCH = 400, 500


def seed_solution(data: TrainingSet, options: IJKOnetOptions) -> WeakFormSolution | None:
    """Return the weak form's solution where V, W or β is to begin there, else None."""
    if not (options.learns_diffusivity or options.begins_seeded):
        return None
    return solve_weak_form(data, options.weak_form)


def follow(
    V: LearnedTerm | None,
    W: RadialNetwork | EvenNetwork | None,
    solution: WeakFormSolution,
    data: TrainingSet,
) -> None:
    """Train networks to have the weak form's gradients, in place, on the particles themselves."""
    times = torch.tensor(data.times, dtype=torch.float32, device=data.device)[:, None]
    size = data.batch_size(BATCH)
    jobs: list[tuple[LearnedTerm, LearnedTerm, bool]] = []
    if V is not None and solution.potential is not None:
        jobs.append((V, solution.potential, False))
    if W is not None and solution.interaction is not None:
        jobs.append((W, solution.interaction, True))
    for term, target, pairs in jobs:
        optimizer = torch.optim.Adam(term.parameters(), lr=1e-2)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
        for step in range(STEPS):
            x = data.batches(step, size)
            at = x - x.roll(1 + step % (size - 1), -2) if pairs else x
            wanted = target.gradient(at, times)
            found = _gradient(term, at, times)
            loss = (found - wanted).square().mean() / wanted.square().mean().clamp_min(1e-20)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()


def _gradient(term: LearnedTerm, x: Tensor, t: Tensor) -> Tensor:
    """Return a term's gradient, differentiable in its weights."""
    if isinstance(term, RadialNetwork):
        s = x.square().sum(-1)
        return 2.0 * x * term.slope_with_graph(s.flatten()).reshape(s.shape)[..., None]
    return term.gradient(x, t)
