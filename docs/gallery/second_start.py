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
# # V, W and β, and why a second start helps
#
# A landscape, a force between particles and noise are learned at once. One experiment cannot tell
# them apart; a second one that starts elsewhere can.

# %%
import pandas as pd

import popdyn

energy = popdyn.FreeEnergy(
    "double_well", "gaussian_repulsion", 0.2, interaction_params={"strength": 6.0}
)
settings = {"particles": 1000, "dt": 0.1, "snapshots": 5, "step": 0.02, "initial": "gaussian"}
centred = popdyn.simulate(energy, seed=0, **settings)
popdyn.plots.cells_figure(centred)

# %% [markdown]
# ## One start, in the middle

# %%
everything = {"learner": "weak_form", "learn": ["potential", "interaction", "diffusion"]}
one = popdyn.fit(centred, **everything)
print(one)

# %% [markdown]
# The mean of this population stays where it is. Then V + ½c|x|² with W − ½c|z|² pushes every
# particle exactly as V with W does, whatever c is: the two share a *gauge*. The fit explains the
# snapshots, and says that others do as well.

# %%
one.certificate["undetermined"]

# %% [markdown]
# ## A second start, to one side

# %%
shifted = popdyn.simulate(energy, seed=1, initial_params={"mean": [1.5, -1.0]}, **settings)
both = popdyn.fit([centred, shifted], **everything)
print(both)

# %% [markdown]
# The two experiments have different times, sizes and starts as they please: what they share is the
# dynamics. Now the means move, and the gauge is gone.

# %%
popdyn.plot(both, "interaction", data=centred)

# %%
rows = {}
for name, run in {"one start": one, "two starts": both}.items():
    found = popdyn.score(run, centred, points=300)
    gradient = found["gradient"]
    rows[name] = {
        "verdict": run.verdict.verdict,
        "skill of V": gradient["potential"]["skill"],
        "skill of W": gradient["interaction"]["skill"],
        "skill of the force": gradient["force"]["skill"],
        "β (true 0.2)": found["diffusivity"]["estimate"],
        "±": found["diffusivity"]["standard_error"],
    }
pd.DataFrame(rows).T

# %% [markdown]
# ## Take away
#
# Read the *force* where the verdict is `undetermined`: it has no gauge, and it predicts. To say what
# is landscape and what is interaction, plan a second start; `popdyn.inspect(data)` tells before the
# experiment is analysed. In the laboratory a second start is another seeding density, another
# mixture of cells, a perturbation that washes out.
#
# The same list of experiments answers another question: `both.certificate["difference"]` is the test
# that all obey *one* dynamics, which is how a treatment is tested against its control.

# %%
both.certificate["difference"]
