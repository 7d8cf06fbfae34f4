"""The first-order loss of networks, in the form that the training loop drives."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from popdyn.estimation.couplings import Couplings
from popdyn.estimation.training_set import TrainingSet
from popdyn.families.models import MLPPotential
from popdyn.learners.jkonet_star.options import JKOnetStarOptions
from popdyn.learners.jkonet_star.terms import RadialMLP, SoftplusPotential
from popdyn.learners.training import Problem, optimizer_state, restore_optimizer

__all__ = ["Halves", "Scored", "StarProblem"]

CLIP = 10.0
POPULATION = 1000  # particles of a snapshot that exert the interaction on the pairs of a network
RESPONSES = 50_000_000  # numbers in the table of what they exert
FIRST_BETA = 0.01  # in units of the data
Scored = tuple[Couplings, Tensor | None]


class StarProblem(Problem):
    """The first-order loss of networks in the form that the training loop drives."""

    def __init__(
        self,
        data: TrainingSet,
        options: JKOnetStarOptions,
        snapshots: list[Tensor],
        pairs: Scored,
        held: Scored | None = None,
    ) -> None:
        self.options, self.seed = options, data.seed
        seeds = np.random.SeedSequence([data.seed, 2]).generate_state(2, np.uint64)
        generators = [torch.Generator().manual_seed(int(s) >> 1) for s in seeds]
        scaling, device = data.scaling(), data.device
        learned, published = options.learn, options.model == "published"
        unit = float(scaling.unit)
        if published:  # as the user's data has it
            unit = 1.0 if data.units is None else 1.0 / data.units.energy
        span = data.intervals.span if options.time_varying else None
        self.V: MLPPotential | None = None
        self.W: RadialMLP | None = None
        if "potential" in learned:
            # No pair ends in the first snapshot: until the second V is what it is there.
            moving = span and (float(data.times[data.intervals.after].min()), span[1])
            given = (scaling.cpu(), options.hidden, span, generators[0], moving)
            V = SoftplusPotential(*given, data.units) if published else MLPPotential(*given)
            self.V = V.to(device)
        if "interaction" in learned:
            rng = np.random.default_rng([data.seed, 4])
            everything = torch.cat(snapshots)
            i, j = torch.from_numpy(rng.integers(len(everything), size=(2, 20_000))).to(device)
            reach = float((everything[i] - everything[j]).norm(dim=1).quantile(0.999))
            rate = unit / float(scaling.scale.square().mean())
            W = RadialMLP(max(reach, 1e-6), rate, options.hidden, generators[1])
            self.W = W.to(device)
        self.known = options.diffusivity
        self.learns_beta = "diffusion" in learned and self.known is None
        self.raw = torch.full((1,), FIRST_BETA, device=device, requires_grad=self.learns_beta)
        self.unit = unit if options.noisy else 1.0
        self.pairs = self._prepared(*pairs, snapshots)
        self.held = self._prepared(*held, snapshots) if held is not None else None
        self.optimizer = torch.optim.Adam(self._parameters(), lr=options.learning_rate)
        self._order = (-1, torch.empty(0))

    def _prepared(
        self, pairs: Couplings, scores: Tensor | None, snapshots: list[Tensor]
    ) -> dict[str, Tensor]:
        """Return the tensors that the loss needs, rows of pairs."""
        rows = {
            "ends": pairs.ends,
            "speeds": pairs.speeds,
            "weights": pairs.weights * pairs.intervals.square(),
            "times": pairs.times,
        }
        if scores is not None:
            rows["scores"] = scores
        if self.W is None:
            return rows
        each = pairs.ends.shape[1] * (self.W.NODES + 1)
        rng = np.random.default_rng([self.seed, 9])
        kept = np.sort(rng.permutation(len(pairs))[: max(1, RESPONSES // each)])
        index = torch.from_numpy(kept).to(pairs.ends.device)
        rows = {name: row[index] for name, row in rows.items()}
        responses = rows["ends"].new_empty(len(index), rows["ends"].shape[1], self.W.NODES + 1)
        which = pairs.snapshots[index]
        for k, x in enumerate(snapshots):
            own = which == k
            if own.any():
                responses[own] = self.W.responses(rows["ends"][own], x[:POPULATION])
        return rows | {"responses": responses}

    @property
    def steps_per_epoch(self) -> int:
        return -(-len(self.pairs["ends"]) // self.options.batch)

    def _parameters(self) -> list[Tensor]:
        terms = [term for term in (self.V, self.W) if term is not None]
        out = [p for term in terms for p in term.parameters()]
        return out + [self.raw] * self.learns_beta

    def beta(self) -> Tensor:
        """Return β, a number ≥ 0."""
        if self.learns_beta:
            return self.unit * self.raw.abs()[0]
        return torch.tensor(self.known or 0.0)

    def loss(self, rows: dict[str, Tensor]) -> Tensor:
        """Return the mean square of the first-order condition, in units of displacement."""
        force = rows["speeds"]
        if self.V is not None:
            force = force + self.V.gradient(rows["ends"], rows["times"])
        if self.W is not None:
            force = force + rows["responses"] @ self.W.table()
        if "scores" in rows:
            force = force + self.beta().to(force) * rows["scores"]
        return (rows["weights"] * force.square().sum(1)).mean()

    def step(self, step: int) -> float:
        epoch, place = divmod(step, self.steps_per_epoch)
        if self._order[0] != epoch:
            rng = np.random.default_rng([self.seed, 8, epoch])
            order = torch.from_numpy(rng.permutation(len(self.pairs["ends"])))
            self._order = (epoch, order.to(self.raw.device))
        size = self.options.batch
        index = self._order[1][place * size : (place + 1) * size]
        loss = self.loss({name: row[index] for name, row in self.pairs.items()})
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self._parameters(), CLIP)
        self.optimizer.step()
        return float(loss.detach())

    @torch.no_grad()
    def criterion(self) -> float:
        """Return the held-out loss relative to that of no energy at all; 0 if nothing is held."""
        if self.held is None:
            return 0.0
        zero = (self.held["weights"] * self.held["speeds"].square().sum(1)).mean()
        return float(self.loss(self.held) / zero)

    def solution(self) -> dict[str, Tensor]:
        out = {"beta": self.raw}
        for name, term in (("V", self.V), ("W", self.W)):
            if term is not None:
                out |= {f"{name}.{k}": v for k, v in term.state_dict().items()}
        return out

    def load_solution(self, tensors: dict[str, Tensor]) -> None:
        """Go back to what ``solution`` returned."""
        with torch.no_grad():
            self.raw.copy_(tensors["beta"])
        for name, term in (("V", self.V), ("W", self.W)):
            if term is not None:
                prefix = f"{name}."
                own = {k[2:]: v for k, v in tensors.items() if k.startswith(prefix)}
                term.load_state_dict(own)

    def state(self) -> dict[str, Tensor]:
        return self.solution() | optimizer_state("optimizer", self.optimizer)

    def load_state(self, state: dict[str, Tensor]) -> None:
        self.load_solution({k: v for k, v in state.items() if not k.startswith("optimizer")})
        restore_optimizer("optimizer", self.optimizer, state)


class Halves(Problem):
    """Two networks, each trained on the couplings of one half and judged on those of the other."""

    def __init__(
        self,
        data: TrainingSet,
        options: JKOnetStarOptions,
        snapshots: list[Tensor],
        halves: Sequence[Scored],
    ) -> None:
        ways = (halves, halves[::-1])
        self.parts = [StarProblem(data, options, snapshots, own, held) for own, held in ways]

    def step(self, step: int) -> float:
        return sum(part.step(step) for part in self.parts) / 2.0

    def criterion(self) -> float:
        return sum(part.criterion() for part in self.parts) / 2.0

    def solution(self) -> dict[str, Tensor]:
        return self._named([part.solution() for part in self.parts])

    def state(self) -> dict[str, Tensor]:
        return self._named([part.state() for part in self.parts])

    def load_state(self, state: dict[str, Tensor]) -> None:
        for n, part in enumerate(self.parts):
            own = {k[2:]: v for k, v in state.items() if k.startswith(f"{n}.")}
            part.load_state(own)

    @staticmethod
    def _named(parts: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        return {f"{n}.{k}": v for n, part in enumerate(parts) for k, v in part.items()}
