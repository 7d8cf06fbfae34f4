"""A potential that moves is the last rung: what it explains is not determined."""

import pytest

import popdyn
from popdyn import FreeEnergy


@pytest.mark.slow
def test_what_only_a_moving_potential_explains_is_not_called_explained():
    data = popdyn.simulate(FreeEnergy("moving_well"), particles=2000, dt=0.1, seed=0)
    run = popdyn.fit(data)
    assert run.certificate["time_varying"] is True
    assert run.certificate["ladder"][-1]["time_varying"] is True
    assert run.word != "explained"
    assert popdyn.score(run, data)["gradient"]["potential"]["skill"] > 0.9
