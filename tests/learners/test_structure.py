"""Structure of a potential: directions, coupled pairs, and a network's own functions."""

import numpy as np
import pytest
import torch

import popdyn
from popdyn import FreeEnergy
from popdyn.estimation.groups import Group
from popdyn.estimation.levels import levels
from popdyn.estimation.options import WeakFormOptions
from popdyn.estimation.structure import Structure, joint_diagonaliser, structure_of
from popdyn.estimation.weak_form import solve_weak_form
from popdyn.families.models import MLPPotential
from popdyn.families.network_block import NetworkBlock

from .test_weak_form import training_set

ROTATION = np.linalg.qr(np.random.default_rng(5).standard_normal((4, 4)))[0]


def turned(x):
    u = x @ torch.from_numpy(ROTATION).to(x).T
    return (0.25 * (u**2 - 1.0) ** 2 + 0.2 * u).sum(-1)


def coupled(x):
    return (torch.sin(1.5 * x[..., :-1]) * torch.cos(1.5 * x[..., 1:])).sum(-1) + x.square().sum(-1)


def shell(x):
    return 4.0 * (x.norm(dim=-1) - 2.0) ** 2


def a_sum(x):
    return (x**4).sum(-1)


def of(potential):
    x = torch.from_numpy(np.random.default_rng(0).uniform(-2, 2, (800, 4)))
    return structure_of(FreeEnergy(potential).V, x)


def test_a_sum_over_turned_directions_is_found():
    found = of(turned)
    assert found.pairs == ()
    overlap = np.abs(found.frame @ ROTATION.T)
    assert np.sort(overlap, 1)[:, -1] == pytest.approx(np.ones(4), abs=1e-4)


def test_coupled_pairs_are_found():
    found = of(coupled)
    assert found.frame is None
    assert found.pairs == ((0, 1), (1, 2), (2, 3))


@pytest.mark.parametrize("potential", [shell, a_sum])
def test_where_there_is_none_nothing_is_found(potential):
    assert not of(potential)


def test_a_joint_diagonaliser_is_orthogonal_and_best_for_noisy_matrices():
    rng = np.random.default_rng(1)
    A = np.stack([ROTATION.T @ np.diag(rng.standard_normal(4)) @ ROTATION for _ in range(50)])
    A += 0.05 * (lambda e: e + e.transpose(0, 2, 1))(rng.standard_normal(A.shape))
    U = joint_diagonaliser(A)
    assert pytest.approx(np.eye(4), abs=1e-12) == U @ U.T

    def beside(Q):
        B = Q @ A @ Q.T
        return float(np.square(B).sum() - np.square(np.diagonal(B, axis1=1, axis2=2)).sum())

    assert beside(U) <= beside(ROTATION)
    assert np.sort(np.abs(U @ ROTATION.T), 1)[:, -1].min() > 0.99


def skill(potential, structure):
    """That of the weak form with a structure, and its χ², in the directions of the user."""
    energy = FreeEnergy(potential)
    data = training_set(energy, 2000, dim=4, dt=0.1, snapshots=4, initial="gaussian")
    data.structured(structure)
    found = solve_weak_form(data, WeakFormOptions(("potential",)))
    x = data.validation[1].numpy()
    truth = energy.potential_gradient(x)
    off = found.energy.potential_gradient(x) - truth
    spread = found.potential.gradient_std(data.validation[1]).numpy()
    share = (off**2).sum() / (truth**2).sum()
    return 1.0 - share, found.misfit, np.abs(off / spread), found.determined


def test_directions_are_solved_for_as_components_are():
    found, misfit, errors, groups = skill(turned, of(turned))
    assert found > 0.98
    assert misfit < 1.2
    assert all("one component" in name for name, count in groups.items() if count > 1)
    # Standard errors are those of the user's components: a direction's are as good as any.
    assert (errors < 1.645).mean() > 0.5


def test_functions_of_a_network_join_the_dictionary_in_any_directions():
    data = training_set(FreeEnergy(coupled), 2000, dim=4, dt=0.1, snapshots=4)
    generator = torch.Generator().manual_seed(0)
    V = MLPPotential(data.scaling(), (16, 8), generator=generator)
    network = NetworkBlock.of(V)
    x = data.fit[0][:50]
    z = V.scaling.standardise(x)
    hidden = V.activation(z @ V.weights[0].T + V.biases[0])
    hidden = V.activation(hidden @ V.weights[1].T + V.biases[1])
    torch.testing.assert_close(network.values(x), hidden.detach())
    inside = Structure(ROTATION, (), network).turned()
    turned_x = (x.double() @ torch.from_numpy(ROTATION).T).float()
    torch.testing.assert_close(inside.network.values(turned_x), hidden.detach())
    data.structured(Structure(ROTATION, (), network))
    options = WeakFormOptions(("potential",))
    unknowns, tests = levels(data.turned, data.turned.fit, options)[1]
    assert unknowns.groups.count(Group("V", "last layer of a network")) == 8
    (block,) = [block for block in tests.blocks if isinstance(block, NetworkBlock)]
    values = block.values(tests.scaling.standardise(turned_x))
    torch.testing.assert_close(values, hidden.detach(), rtol=1e-4, atol=1e-5)
    found = solve_weak_form(data, options)
    rebuilt = popdyn.families.models.rebuild(popdyn.families.models.module_of(found.potential))
    rebuilt.load_state_dict(found.potential.state_dict())
    torch.testing.assert_close(rebuilt.gradient(x), found.potential.gradient(x))
    autograd = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(found.potential.value(autograd).sum(), autograd)
    torch.testing.assert_close(slope, found.potential.gradient(x), rtol=1e-3, atol=1e-3)
