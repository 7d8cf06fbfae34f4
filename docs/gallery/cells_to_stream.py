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
# # Your cells: from AnnData to a velocity stream
#
# An AnnData object with a column of days goes in; a landscape, a velocity for every cell and
# predicted snapshots come out.
#
# The cells here are made up, so that everybody can run this: progenitors that decide between two
# fates, seen on four days in three principal components. With your own, begin at `from_anndata`.

# %%
import anndata
import matplotlib.pyplot as plt
import numpy as np

import popdyn

fates = popdyn.FreeEnergy(
    "gaussian_mixture",
    diffusivity=0.08,
    potential_params={"means": [[2.0, 1.5], [2.0, -1.5]], "width": 1.0, "scale": 1.5},
)
made = popdyn.simulate(
    fates,
    particles=900,
    times=[0, 0.3, 0.6, 1.0],
    initial="gaussian",
    initial_params={"mean": [-1.5, 0.2], "std": 0.6},
    test_particles=1,
    seed=1,
)
rng = np.random.default_rng(0)
plane = [popdyn.snapshots.positions(made, k) for k in range(4)]
turn, _ = np.linalg.qr([[0.9, -0.3], [0.3, 0.95], [0.3, -0.05]])
pcs = np.concatenate(plane) @ turn.T + 0.2 * rng.normal(size=(3_600, 3))
day = np.repeat(["day 0", "day 3", "day 6", "day 10"], 900)

adata = anndata.AnnData(np.zeros((len(pcs), 1)), obs={"day": day}, obsm={"X_pca": pcs})
adata

# %% [markdown]
# ## In
#
# `day 3` is read as the number 3. A fifth of each snapshot is kept for scores.

# %%
data = popdyn.from_anndata(adata, obs_key="day", obsm_key="X_pca", seed=0)
popdyn.plots.cells_figure(data)

# %% [markdown]
# ## Learn, with a day left out
#
# Hold out the third snapshot: nothing of it is seen, and the prediction of it is what counts. Cells
# fall and they jitter, so learn a potential and a diffusivity.

# %%
parts = ["potential", "diffusion"]
run = popdyn.fit(data, learn=parts, hold_out=[2])
print(run)

# %%
scores = popdyn.score(run, data, points=600)
scores

# %% [markdown]
# Read W₂ beside its references. `copy_previous` is what standing still gets, `floor` what two halves
# of that very day are apart. `mccann` draws straight lines between the cells before and *after* the
# day left out: it sees the future, and a prediction that comes near it has said something. The verdict
# of this fit is about the days that it did see, and it is the stricter judge: three snapshots pin
# down little.

# %%
popdyn.plot(run, "prediction")

# %% [markdown]
# ## A velocity for every cell
#
# Learned from all days this time. `obsm["velocity_pca"]` is where scVelo and CellRank look for one.

# %%
final = popdyn.fit(data, learn=parts)
print(final)
x = adata.obsm["X_pca"]
adata.obsm["velocity_pca"] = final.energy.force(x)
adata.obs["popdyn_potential"] = final.energy.potential(x)

# %%
ticks = np.linspace(x[:, :2].min(0), x[:, :2].max(0), 30)
grid = np.stack(np.meshgrid(ticks[:, 0], ticks[:, 1]), -1).reshape(-1, 2)
near = ((x[:, None, :2] - grid[None]) ** 2).sum(-1)  # of each cell to each point of the grid
weight = np.exp(-near / (2 * 0.2**2))
flow = (weight.T @ adata.obsm["velocity_pca"][:, :2]) / np.maximum(weight.sum(0), 1e-9)[:, None]
flow[weight.sum(0) < 3] = np.nan

figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")
dots = ax.scatter(*x[:, :2].T, c=adata.obs["popdyn_potential"], s=6, lw=0, cmap="viridis")
u, v = (flow[:, i].reshape(30, 30) for i in (0, 1))
ax.streamplot(ticks[:, 0], ticks[:, 1], u, v, color="k", density=1.3, linewidth=0.8)
figure.colorbar(dots, label="V: falls as cells decide")
ax.set(xlabel="PC 1", ylabel="PC 2", title="force on every cell")
plt.show()

# %% [markdown]
# ## Days that nobody saw

# %%
between = popdyn.predict(final, data, [1.5, 4.5, 8.0])
popdyn.plots.cells_figure(between)

# %% [markdown]
# ## Take away

# %%
w2 = scores["distribution"]["w2"][0]
rows = {
    name: row["distribution"]["w2"][0]
    for name, row in scores["references"].items()
    if "distribution" in row
}
print(f"verdict on all days: {final.verdict.verdict}")
print(f"W₂ on the day left out: {w2:.2f}; { ({k: round(v, 2) for k, v in rows.items() if v}) }")

# %% [markdown]
# Hold out a day first and read the distance beside its references; learn from all days after that.
# The same from the command line, with an `.h5ad` and back into one: [the tutorial](../tutorial.md).
# What the best configuration reaches on real cells: [real cells](../cells.md).
