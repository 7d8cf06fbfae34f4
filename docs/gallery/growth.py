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
# # Growth
#
# Where cells divide and die, a population changes without anyone moving. Learn both: where cells
# go, and where they multiply.

# %%
import matplotlib.pyplot as plt
import numpy as np

import popdyn

growing = popdyn.Dynamics(
    popdyn.FreeEnergy("double_well", diffusivity=0.1),
    growth="half_space",
    growth_params={"rate": 3.0},
)
data = popdyn.simulate(growing, particles=3_000, dt=0.1, snapshots=5, seed=0)
print("mass of each snapshot:", data["train"]["mass"].values.round(2))

# %% [markdown]
# Cells on the right multiply at a rate of three. The store holds the mass of each snapshot, and for
# real cells `popdyn import --mass-from-counts` or `--mass t=m` gives it.
#
# ## As if nobody were born

# %%
blind = popdyn.fit(data, "weak_form", learn=["potential", "diffusion"])
print(blind)

# %% [markdown]
# ## With growth

# %%
run = popdyn.fit(data, "weak_form", learn=["potential", "diffusion", "growth"])
print(run)

# %%
line = np.stack([np.linspace(-3, 3, 121), np.zeros(121)], 1)
rate, error = run.dynamics.growth(line), run.dynamics.growth_std(line)
figure, ax = plt.subplots(figsize=(5.5, 3), layout="constrained")
ax.plot(line[:, 0], growing.growth(line), color="k", lw=1, label="true")
ax.plot(line[:, 0], rate, color="#0072b2", label="learned")
ax.fill_between(line[:, 0], rate - 2 * error, rate + 2 * error, color="#0072b2", alpha=0.2)
ax.set(xlabel="x₁, at x₂ = 0", ylabel="births less deaths, 1/time")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# ## How much each says

# %%
for name, fitted in {"without growth": blind, "with growth": run}.items():
    gradient = popdyn.score(fitted, data, points=200)["gradient"]
    growth = gradient.get("growth", {}).get("skill")
    print(
        f"{name:15s} {fitted.verdict.verdict:12s} skill of ∇V {gradient['potential']['skill']:.3f}"
        + ("" if growth is None else f", of growth {growth:.3f}")
    )

# %% [markdown]
# ## Take away
#
# Any change of a density could be growth alone. What tells the two apart is that growth and potential
# are smooth, and several intervals; where that is not enough the verdict is `undetermined` and names
# `potential, growth`. With proportions alone, g is known up to a constant, and a note says so. Give
# the mass wherever it was counted.
