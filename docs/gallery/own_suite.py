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
# # A benchmark suite of one's own
#
# A file says what is simulated; one command makes it, trains every learner on it, scores all and
# writes a page that you can send around.

# %%
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

folder = Path(tempfile.mkdtemp())
_ = (folder / "suite.toml").write_text(
    """
name = "noise"
summary = "Two wells: how much noise is too much?"
headline = "gradient.potential.skill"
learners = ["zero", "weak_form"]

[score]
points = 300

[defaults]
potential = "double_well"
particles = 1000
snapshots = 5
dt = 0.1
fit = { learn = ["potential", "diffusion"] }

[[entry]]
name = "quiet"
diffusivity = 0.02

[[entry]]
name = "noisy"
diffusivity = 0.2

[[entry]]
name = "loud"
diffusivity = 1.0
"""
)

# %% [markdown]
# A mistake is named with its file and line. `popdyn bench` takes the path:


# %%
def popdyn(*words):
    command = [sys.executable, "-m", "popdyn", *map(str, words)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


results = json.loads(popdyn("bench", folder / "suite.toml", "--out", folder / "out", "--json"))
sorted(path.name for path in (folder / "out").iterdir())

# %% [markdown]
# `report.html` is the page: it sorts, filters, and shows the figures of every cell. The same numbers
# are in `results.json` and `results.csv`:

# %%
rows = pd.DataFrame(
    {
        "entry": row["entry"],
        "learner": row["learner"],
        "verdict": row["verdict"],
        "skill": row["scores"]["gradient"]["potential"]["skill"],
        "β": row["scores"]["diffusivity"]["estimate"],
        "±": row["scores"]["diffusivity"]["standard_error"],
        "seconds": row["seconds"],
    }
    for row in results["rows"]
)
rows

# %%
learned = rows[rows["learner"] == "weak_form"]
figure, ax = plt.subplots(figsize=(4.5, 3), layout="constrained")
ax.plot(learned["entry"], [0.02, 0.2, 1.0], "_", ms=40, color="k", label="true")
ax.errorbar(
    learned["entry"],
    learned["β"],
    2 * learned["±"],
    fmt="o",
    color="#0072b2",
    label="learned, ± 2 s",
)
ax.set(ylabel="β", xlim=(-0.5, 2.5))
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# The same command again does nothing that is done, and goes on where it was stopped. More seeds,
# more learners, variants of one and a cluster are options:
#
# ```bash
# popdyn bench suite.toml --learners 'ijkonet,ijkonet[model=network]' --seeds 5 --workers 8 --out out
# ```
#
# ## Take away

# %%
for entry, row in learned.set_index("entry").iterrows():
    print(f"{entry}: {row['verdict']}, skill {row['skill']:.2f}")

# %% [markdown]
# A suite is the shortest way to a claim that others can check: one file and one command. Give each
# entry a reason, run several seeds, and put `zero` beside whatever you propose.
