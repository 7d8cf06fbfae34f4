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
# # Recover a potential
#
# Let particles roll down a landscape, hide the landscape, and learn it back from six snapshots in
# which nobody is followed.

# %%
import numpy as np

import popdyn

energy = popdyn.FreeEnergy("styblinski_tang")
data = popdyn.simulate(energy, particles=2_000, snapshots=6, seed=0)
popdyn.plots.cells_figure(data)

# %% [markdown]
# Each snapshot is a *new* draw: there is no particle that one could follow from one to the next.
# The whole run takes a twentieth of a unit of time, so the particles have hardly begun to move.

# %%
run = popdyn.fit(data)
print(run)

# %% [markdown]
# The verdict comes first, and it has seen no truth: fresh particles, carried by what was learned,
# are compared with those that were observed. Here the truth is known as well:

# %%
popdyn.plot(run)

# %%
scores = popdyn.score(run, data, points=1000)
scores

# %% [markdown]
# Read `∇V skill` first: the share of the true gradient that came back; 1 is perfect, and 0 is what
# the row `zero` has, which says that nothing moves. Then read a distance *beside its floor*, the
# distance between two halves of one and the same snapshot.
#
# What was learned is a function. NumPy in, NumPy out:

# %%
x = np.array([[-2.9, -2.9], [0.0, 0.0], [2.7, 2.7]])
print("V:   ", run.energy.potential(x).round(1))
print("∇V:  ", run.energy.potential_gradient(x).round(1).tolist())
print("true:", energy.potential_gradient(x).round(1).tolist())
print("±:   ", run.energy.potential_gradient_std(x).round(1).tolist())

# %% [markdown]
# ## Take away

# %%
skill = scores["gradient"]["potential"]["skill"]
print(f"verdict: {run.verdict.verdict}; skill {skill:.3f} in {run.seconds:.0f} s")

# %% [markdown]
# From unpaired snapshots the whole landscape comes back, with a standard error at each point, and
# the verdict says so from the data alone. With real cells that is all there is: so learn to read
# [the verdict](../guide/verdict.md) before anything else.
