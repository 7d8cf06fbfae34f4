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
# # Is it a gradient flow?
#
# Particles may turn as well as fall, and a potential can only make them fall. The verdict says when
# a gradient flow is not enough, and which term is missing.

# %%
import numpy as np

import popdyn

turning = popdyn.Dynamics(
    popdyn.FreeEnergy("double_well", diffusivity=0.2),
    circulation="rotation",
    circulation_params={"rate": 2.0},
)
data = popdyn.simulate(turning, particles=4_000, dt=0.1, snapshots=5, seed=0)
popdyn.plots.cells_figure(data)

# %% [markdown]
# ## The best gradient flow

# %%
fall = popdyn.fit(data, "weak_form", learn=["potential", "diffusion"])
print(fall)

# %% [markdown]
# The solver has converged: it has found the best potential there is. The test on fresh particles
# still tells its predictions from the data, so the run is `unexplained`, and a note says what else
# was tried beside the potential. Nothing of that enters the run: it is for you to ask for it.

# %% [markdown]
# ## With a circulation

# %%
turn = popdyn.fit(data, "weak_form", learn=["potential", "diffusion", "circulation"])
print(turn)

# %%
x = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
print("drift learned:", turn.dynamics.drift(x).round(2).tolist())
print("drift true:   ", turning.drift(x).round(2).tolist())
print("its gradient: ", turn.energy.force(x).round(2).tolist())

# %%
popdyn.plot(turn, "force")

# %% [markdown]
# ## Take away

# %%
for name, run in {"gradient flow": fall, "with circulation": turn}.items():
    force = popdyn.score(run, data, points=200)["gradient"]["force"]["skill"]
    print(f"{name:17s} {run.verdict.verdict:12s} skill of the force {force:.2f}")

# %% [markdown]
# *Converged* is about the solver, *explained* is about the data. And be modest in the other
# direction: snapshots see a circulation only as far as it changes them. What turns along the level
# lines of a density that stays is invisible to any method, so `explained` never proves that nothing
# turns.
