"""Whether the estimate made from data alone ranks data sets as the skill that is measured."""

import numpy as np
import pytest
from scipy.stats import spearmanr

import popdyn
from popdyn.dynamics import POTENTIALS
from popdyn.snapshots import inspect

# The 15 potentials of the field's benchmark, less the one without a gradient to recover.
FIELD = [name for name in list(POTENTIALS)[:15] if name != "flat"]


@pytest.mark.slow
def test_reachable_skill_ranks_as_measured_skill_does():
    """Pooled over potentials and two sizes, against the better of the weak form and nothing."""
    estimated, measured = [], []
    for particles in (1_000, 10_000):
        for name in FIELD:
            data = popdyn.simulate(popdyn.FreeEnergy(name), particles=particles, seed=0)
            run = popdyn.fit(data, learner="weak_form", learn=("potential",), diffusivity=0.0)
            scores = popdyn.score(run.energy, data, points=200)
            estimated.append(inspect(data)["reachable_skill"])
            measured.append(max(0.0, scores["gradient"]["potential"]["skill"]))
    table = np.column_stack([estimated, measured]).round(3)
    assert spearmanr(estimated, measured).statistic >= 0.8, table
