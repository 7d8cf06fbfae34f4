# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     name: python3
# ---

# %% [markdown]
# # Compare learners and add your own
#
# A learner of your own is one function. From then on it has a verdict, scores, reference rows and a
# place on the leaderboard, beside those of the field.

# %%
from dataclasses import dataclass
from typing import Annotated

import ot
import pandas as pd
import torch

import popdyn
from popdyn.base.options import Bounds, Options
from popdyn.families.models import LearnedTerm
from popdyn.learners.registry import learner

# %% [markdown]
# ## The method
#
# Couple neighbouring snapshots by optimal transport, and regress the displacements on gradients of
# Gaussian bumps. The learned term is a torch module that can say how it is rebuilt from a file:

# %%


class Bumps(LearnedTerm):
    """V = Σ weight·exp(−|x − centre|²/(2 width²))."""

    def __init__(self, centres, width):
        super().__init__()
        self.width = width
        self.register_buffer("centres", torch.zeros(*centres))
        self.register_buffer("weights", torch.zeros(centres[0]))

    def bumps(self, x):
        return (-(torch.cdist(x, self.centres) ** 2) / (2 * self.width**2)).exp()

    def value(self, x, t=None):
        return self.bumps(x) @ self.weights

    def config(self):
        return {"centres": list(self.centres.shape), "width": self.width}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


# %% [markdown]
# Its options are a dataclass: checked, documented, and flags of `popdyn train` as soon as the file is
# a plug-in.

# %%


@dataclass(frozen=True)
class PairsOptions(Options):
    """Options of the regression.

    Attributes:
        ridge: How strongly weights are held at 0.
        width: Width of a bump, in units of x.
    """

    ridge: Annotated[float, Bounds(gt=0)] = 1e-2
    width: Annotated[float, Bounds(gt=0)] = 1.0


@learner("pairs", "Displacements of optimal pairs, regressed on bumps.", PairsOptions)
def fit_pairs(data, options, place):
    """data.fit[k] is the snapshot at data.times[k], a tensor (n_k, d); return a Run."""
    centres = data.fit[0][:100]
    term = Bumps(tuple(centres.shape), options.width)
    term.centres.copy_(centres)
    normal, moment = 0.0, 0.0
    for k, tau in enumerate(data.times[1:] - data.times[:-1]):
        x, y = data.fit[k][:800], data.fit[k + 1][:800]
        plan = ot.emd([], [], ot.dist(x.double().numpy(), y.double().numpy()))
        velocity = (y[plan.argmax(1)] - x) / tau
        # −∇V of each bump at each particle, (n, d, bumps)
        slope = term.bumps(x)[:, None] * (x[..., None] - centres.T[None]) / options.width**2
        normal = normal + torch.einsum("ndp,ndq->pq", slope, slope)
        moment = moment + torch.einsum("ndp,nd->p", slope, velocity)
    held = options.ridge * normal.diagonal().mean() * torch.eye(len(centres))
    term.weights.copy_(torch.linalg.solve(normal + held, moment))
    return popdyn.Run(popdyn.FreeEnergy(term), "pairs", {}, steps=1)


# %% [markdown]
# ## The comparison

# %%
data = popdyn.simulate(popdyn.FreeEnergy("styblinski_tang"), particles=1_000, seed=0)
runs = {
    "zero": popdyn.fit(data, "zero"),
    "pairs (mine)": popdyn.fit(data, "pairs"),
    "pairs, less ridge": popdyn.fit(data, "pairs", ridge=1e-4),
    "jkonet_star": popdyn.fit(data, "jkonet_star"),
    "ijkonet": popdyn.fit(data),
    "oracle": popdyn.fit(data, "oracle"),
}
table = pd.DataFrame(
    {
        name: {
            "verdict": run.verdict.verdict if run.verdict else "–",
            "skill": popdyn.score(run, data, points=200)["gradient"]["potential"]["skill"],
            "seconds": run.seconds,
        }
        for name, run in runs.items()
    }
).T
table

# %%
popdyn.plot(runs["pairs (mine)"])

# %% [markdown]
# ## Onto the leaderboard
#
# Put the code above into a module of a package and name it as an entry point:
#
# ```toml
# [project.entry-points."popdyn.learners"]
# pairs = "my_package.pairs"
# [project.entry-points."popdyn.terms"]
# Bumps = "my_package.pairs"
# ```
#
# Then `popdyn bench jko15 --learners zero,pairs,'pairs[ridge=1e-4]',ijkonet --out results` runs the
# field's potentials with it; [plug-ins](../guide/plugins.md) has the rest.
#
# ## Take away

# %%
best = table.drop(index="oracle")["skill"].astype(float).idxmax()
print(f"{best} is the best here, with a skill of {table.loc[best, 'skill']:.2f}")
print("verdicts:", ", ".join(f"{name}: {v}" for name, v in table["verdict"].items()))

# %% [markdown]
# Compare by skill, not by the loss, and not by a distance alone; look at `zero` before you praise
# anything, and at the verdict before you trust it where no truth is known.
