"""Features: their written derivatives against autograd, and two ways to the same Jacobian."""

import numpy as np
import pytest
import torch

from popdyn import FreeEnergy
from popdyn.estimation import weak_form
from popdyn.estimation.flow import Drive
from popdyn.estimation.levels import levels
from popdyn.estimation.moments import MomentEquations
from popdyn.estimation.options import WeakFormOptions
from popdyn.estimation.weak_form import solve_weak_form
from popdyn.families.feature_blocks import GaussianBlock
from popdyn.families.features import FeatureMap, gaussian_block, polynomials, turned_blocks
from popdyn.families.models import MLPPotential, Scaling
from popdyn.families.network_block import NetworkBlock
from popdyn.families.sums import WeightedSum

from .test_weak_form import training_set


def some_features(dim):
    """Every kind of block in 64-bit, and positions of which some lie outside the box."""
    z = np.random.default_rng(0).standard_normal((300, dim))
    x = torch.from_numpy(z)
    scaling = Scaling(x.mean(0), x.std(0), x.amin(0), x.amax(0), 1.0)
    blocks = [
        *polynomials(dim, torch.full((dim,), 3.0), 4, 3),
        gaussian_block(z, [1], 0.6, 6, "one"),
        gaussian_block(z, range(dim), 0.6, 8, "all"),
        *turned_blocks(z[:150], 2.0 * z[150:], z, (0.6,)),
        NetworkBlock.of(MLPPotential(scaling, (7, 5), generator=torch.Generator().manual_seed(0))),
    ]
    return FeatureMap(scaling, blocks), 1.5 * x[:40]


def test_written_derivatives_are_those_of_the_values():
    features, x = some_features(4)
    weights = torch.randn(features.size, 2, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda y: features.values(y).sum(0), x)
    gradients = features.gradients(x)[1]
    torch.testing.assert_close(gradients, jacobian.permute(2, 1, 0))
    torch.testing.assert_close(features.gradient_of(x, weights), gradients @ weights)
    vectors = torch.randn(4, 40, 3, dtype=torch.float64)
    pulled = torch.einsum("dnq,dnm->qm", vectors, gradients)
    torch.testing.assert_close(features.pulled(x, vectors), pulled)
    column = weights[:, 0]
    bend = torch.stack(
        [
            torch.autograd.functional.hessian(lambda y: features.values(y[None])[0] @ column, y)
            for y in x
        ]
    )
    torch.testing.assert_close(features.hessian_of(x, column), bend)
    matrix = torch.randn(40, 4, 4, dtype=torch.float64)
    matrix = matrix + matrix.mT
    contracted = features.contracted(x, matrix) @ column
    torch.testing.assert_close(contracted, (matrix * bend).sum((1, 2)))


def test_turned_features_are_rebuilt():
    features, x = some_features(4)
    again = FeatureMap.from_config(features.config())
    again.load_state_dict(features.state_dict())
    assert torch.equal(again.values(x), features.values(x))


def test_a_jacobian_pulled_back_is_the_one_pushed_forward():
    energy = FreeEnergy("double_well", interaction="quadratic", diffusivity=0.1)
    data = training_set(energy, 400, initial="gaussian", dt=0.1, snapshots=4)
    options = WeakFormOptions(("potential", "interaction", "diffusion"), time_varying=True)
    unknowns, tests = levels(data, data.fit, options)[0]
    equations = MomentEquations(unknowns, tests, tests.mixing()[0], data.fit, data.intervals, 12, 0)
    theta = 30.0 * np.random.default_rng(0).standard_normal(unknowns.size)
    theta[-1] = 0.1
    at = equations.evaluate(theta)
    path, part = at.paths[1], slice(50, 150)
    turns, _ = equations.sensitivity._turns(Drive(unknowns, theta), path, part)
    assert len(turns) > 1
    fields = [equations.sensitivity._fields(middle) for middle in path.middles]
    along = tests.gradient_of(path.end[part], equations.projection)
    pushed = torch.einsum(
        "dnq,dnp->qp", along, equations.sensitivity._moves(path, fields, part, turns)
    )
    pulled = equations.sensitivity._pulled(path, fields, part, turns, along)
    torch.testing.assert_close(
        pulled.float(), pushed, rtol=1e-3, atol=1e-4 * float(pushed.abs().max())
    )


def test_the_tests_see_every_number_of_a_sum_over_components(monkeypatch):
    class Counted(MomentEquations):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            raise StopIteration(self.count)

    monkeypatch.setattr(weak_form, "MomentEquations", Counted)
    energy = FreeEnergy("styblinski_tang", potential_params={"scale": 0.05})
    data = training_set(energy, 4000, dim=30, snapshots=2, initial="gaussian")
    with pytest.raises(StopIteration) as seen:
        solve_weak_form(data, WeakFormOptions(("potential",)))
    assert seen.value.args[0] >= 4 * 30


@pytest.mark.parametrize("tabulated", [True, False])
def test_a_sum_from_a_table_is_the_sum(tabulated: bool) -> None:
    data = training_set(FreeEnergy("styblinski_tang"), 500)
    dictionary = levels(data, data.fit, WeakFormOptions(("potential",)))[2][1]
    assert {block.separate for block in dictionary.blocks} == {True, False}
    weights = torch.randn(dictionary.size, 1, generator=torch.Generator().manual_seed(0))
    x = torch.cat([data.fit[0], 1.5 * data.fit[0]])  # beyond the box as well
    for part in (dictionary, FeatureMap(dictionary.scaling, dictionary.blocks[:1])):
        own = weights[: part.size]
        found = WeightedSum(part, own, tabulated)
        slope, bend = part.gradient_of(x, own)[..., 0].T, part.hessian_of(x, own[:, 0])
        assert (found.gradient(x) - slope).abs().max() < 1e-4 * slope.abs().max()
        # The table's own slope is constant between its nodes.
        assert (found.hessian(x) - bend).square().mean() < 1e-4 * bend.square().mean()


def test_far_from_a_bump_nothing_is_denormalised() -> None:
    # Such numbers are ten times as slow.
    x = torch.linspace(-50.0, 50.0, 1000)[:, None]
    values = GaussianBlock([0], torch.zeros(1, 1), 0.1, "bumps").values(x)
    assert float(values.min()) > torch.finfo(torch.float32).tiny
    assert float(values.min()) < 1e-20
