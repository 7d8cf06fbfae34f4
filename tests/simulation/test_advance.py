"""``advance``: the small door for learners and scores."""

import math

import pytest
import torch

from popdyn.base.errors import PopdynError
from popdyn.dynamics import FreeEnergy
from popdyn.dynamics.drive import Drive
from popdyn.simulation import SCHEMES, advance

OU = FreeEnergy("quadratic", diffusivity=0.5)


def normals(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_populations_may_run_over_intervals_of_their_own():
    x = normals(3, 50, 2)
    start, stop = torch.tensor([0.0, 1.0, 2.0]), torch.tensor([0.5, 1.1, 4.0])
    energy = FreeEnergy(lambda x, t: 0.5 * (x - torch.as_tensor(t)[..., None]).square().sum(-1))
    together = advance(energy, x, start, stop, substeps=200)
    alone = torch.stack(
        [advance(energy, x[i], float(start[i]), float(stop[i]), substeps=200) for i in range(3)]
    )
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
    # dx/dt = t − x from start to stop
    span = (stop - start)[:, None, None]
    begin, end = start[:, None, None], stop[:, None, None]
    exact = end - 1 + (x - begin + 1) * torch.exp(-span)
    torch.testing.assert_close(together, exact, rtol=0, atol=1e-4)


def test_common_random_numbers_make_the_increments():
    x, xi = normals(4, 30, 2), normals(5, 4, 30, 2)
    out = advance(OU, x, 0.0, 0.1, substeps=5, scheme="euler_maruyama", noise=xi)
    y = x.clone()
    for j in range(5):
        y = y * (1 - 0.02) + math.sqrt(2 * 0.5 * 0.02) * xi[j]
    torch.testing.assert_close(out, y, rtol=1e-5, atol=1e-6)
    ones = torch.ones(4)
    wide = advance(OU, x, 0 * ones, 0.1 * ones, substeps=5, scheme="euler_maruyama", noise=xi)
    torch.testing.assert_close(wide, y, rtol=1e-5, atol=1e-6)


def test_drawn_noise_has_the_right_scale_also_for_separate_intervals():
    x = torch.zeros(2, 100_000, 1)
    stop = torch.tensor([0.25, 1.0])
    out = advance(FreeEnergy(diffusivity=0.5), x, torch.zeros(2), stop, generator=torch.Generator())
    # Var = 2βt = t; 5 standard errors
    torch.testing.assert_close(out.var((1, 2)), stop, rtol=5 * math.sqrt(2 / 1e5), atol=0)


def test_the_input_stays_and_no_graph_is_left():
    x = normals(10, 2).requires_grad_(True)
    before = x.detach().clone()
    out = advance(FreeEnergy(lambda x: x.square().sum(-1)), x, 0.0, 1.0)
    assert torch.equal(x, before)
    assert not out.requires_grad


@pytest.mark.parametrize("scheme", [s for s in SCHEMES if SCHEMES[s].consistent])
def test_all_consistent_schemes_agree(scheme):
    x = normals(2, 20, 2)
    energy = FreeEnergy("styblinski_tang", "gaussian_repulsion")
    out = advance(energy, x, 0.0, 0.05, substeps=500, scheme=scheme)
    trusted = advance(energy, x, 0.0, 0.05, substeps=200)
    torch.testing.assert_close(out, trusted, rtol=0, atol=5e-3)


def test_float64_stays_float64():
    x = normals(5, 2).double()
    assert advance(OU, x, 0.0, 1.0).dtype == torch.float64


def test_a_single_particle_does_not_act_on_itself():
    x = normals(3, 1, 2)
    out = advance(FreeEnergy(interaction="gaussian_repulsion"), x, 0.0, 1.0)
    assert torch.equal(out, x)


def test_pair_energy_is_what_the_mean_force_descends():
    energy = FreeEnergy(interaction="morse")
    drive, x = Drive(energy), normals(2, 12, 2).double()
    force = drive.gradient(x, 0.0)
    move = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(1))
    e = 1e-5
    slope = (drive.pair_energy(x + e * move) - drive.pair_energy(x - e * move)) / (2 * e)
    torch.testing.assert_close(slope, (force * move).sum((1, 2)), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("arguments", "options", "line"),
    [
        ((1.0, 0.0), {}, "expected start ≤ stop"),
        ((0.0, 1.0), {"substeps": 0}, "expected positive numbers"),
        ((0.0, 1.0), {"step": 0.0}, "expected positive numbers"),
        ((0.0, 1.0), {"scheme": "hein"}, "did you mean heun"),
        ((0.0, 1.0), {"substeps": 3, "noise": torch.zeros(2, 5, 2)}, r"expected \(3, 5, 2\)"),
        ((torch.zeros(4), 1.0), {}, "start has shape"),
    ],
)
def test_bad_input_is_one_clear_line(arguments, options, line):
    with pytest.raises(PopdynError, match=line):
        advance(OU, torch.zeros(5, 2), *arguments, **options)
