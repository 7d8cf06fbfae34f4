"""Mean interaction gradients in tiles against the plain sum over pairs in float64."""

import subprocess
import sys

import pytest
import torch

from popdyn.dynamics import INTERACTIONS, FreeEnergy
from popdyn.dynamics.pairwise import mean_interaction_gradient


def plain(W, x, population, exclude_self=False):
    """The mean over the last axis but one, and the mean size of what was summed."""
    x, population = x.double(), population.double()
    z = x[..., :, None, :] - population[..., None, :, :]
    gradient = W.gradient(z)
    count = population.shape[-2] - exclude_self
    return gradient.sum(-2) / count, gradient.norm(dim=-1).sum(-1, keepdim=True) / count


def cloud(*shape, seed=0, spread=2.0):
    return spread * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def kernel(name, **params):
    return FreeEnergy(interaction=name, interaction_params=params).W


@pytest.mark.parametrize("dim", [1, 2, 10])
@pytest.mark.parametrize("name", INTERACTIONS)
def test_against_the_plain_sum(name, dim):
    # 700 particles: more than one tile of rows (512) and of columns (256).
    W, x = kernel(name, scale=1.5), cloud(700, dim)
    expected, size = plain(W, x, x, exclude_self=True)
    got = mean_interaction_gradient(W, x, x, exclude_self=True)
    # Sums of weight times position, |x| up to 8, cancel to weight times distance: the float32
    # rounding of 1e-7 grows by |x| over the kernel's length (0.1 to 2), and for lennard_jones,
    # whose forces change sign, once more. Observed: 4e-7 to 4e-5, lennard_jones 3e-4.
    tolerance = 1e-3 if name == "lennard_jones" else 1e-4
    assert ((got - expected).abs() <= tolerance * size + 1e-7).all()
    assert got.dtype == torch.float32


@pytest.mark.parametrize("name", INTERACTIONS)
def test_in_float64_to_rounding(name):
    W, x, y = kernel(name), cloud(40, 3).double(), cloud(300, 3, seed=1).double()
    expected, size = plain(W, x, y)
    assert ((mean_interaction_gradient(W, x, y) - expected).abs() <= 1e-11 * size + 1e-13).all()


def test_a_callable_kernel_and_a_potential():
    x, y = cloud(30, 2), cloud(700, 2, seed=1)
    for interaction in (lambda z: z.square().sum(-1).square(), "styblinski_tang"):
        W = FreeEnergy(interaction=interaction).W
        expected, size = plain(W, x, y)
        assert ((mean_interaction_gradient(W, x, y) - expected).abs() <= 1e-5 * size).all()
        expected, size = plain(W, y, y, exclude_self=True)
        got = mean_interaction_gradient(W, y, y, exclude_self=True)
        assert ((got - expected).abs() <= 1e-5 * size).all()


@pytest.mark.parametrize("name", ["gaussian_repulsion", "morse", "quadratic", "styblinski_tang"])
def test_leading_axes_are_populations_on_their_own(name):
    W, x = kernel(name), cloud(2, 3, 50, 2)
    got = mean_interaction_gradient(W, x, x, exclude_self=True)
    assert got.shape == x.shape
    for i in range(2):
        for j in range(3):
            alone = mean_interaction_gradient(W, x[i, j], x[i, j], exclude_self=True)
            torch.testing.assert_close(got[i, j], alone, rtol=1e-4, atol=1e-5)
    shared = mean_interaction_gradient(W, x, x[0, 0])
    torch.testing.assert_close(
        shared[1, 2], mean_interaction_gradient(W, x[1, 2], x[0, 0]), rtol=1e-4, atol=1e-5
    )
    # Populations too large to share a tile.
    big = cloud(3, 600, 2)
    got = mean_interaction_gradient(W, big, big)
    alone = mean_interaction_gradient(W, big[2], big[2])
    torch.testing.assert_close(got[2], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [*INTERACTIONS, "flowers"])
def test_a_particle_does_not_act_on_itself(name):
    W = kernel(name)
    one = torch.tensor([[3.0, -1.0]])
    assert torch.equal(mean_interaction_gradient(W, one, one, exclude_self=True), 0 * one)
    two = torch.tensor([[3.0, -1.0], [2.5, 0.0]])
    got = mean_interaction_gradient(W, two, two, exclude_self=True)
    torch.testing.assert_close(got, W.gradient(two - two.flip(0)), rtol=1e-5, atol=1e-6)
    # With a count that includes itself the mean is half of that.
    torch.testing.assert_close(2 * mean_interaction_gradient(W, two, two), got)


def test_a_kernel_without_a_gradient_at_zero():
    W = FreeEnergy(interaction=lambda z: z.square().sum(-1).sqrt()).W
    x = cloud(20, 2)
    got = mean_interaction_gradient(W, x, x, exclude_self=True)
    assert torch.isfinite(got).all()
    z = x[:, None] - x
    unit = torch.nan_to_num(z / z.norm(dim=-1, keepdim=True))
    torch.testing.assert_close(got, unit.sum(1) / 19, rtol=1e-5, atol=1e-6)


def test_nobody_there():
    W = kernel("gaussian_repulsion")
    assert mean_interaction_gradient(W, cloud(0, 2), cloud(5, 2)).shape == (0, 2)
    assert not mean_interaction_gradient(W, cloud(5, 2), cloud(0, 2)).any()


@pytest.mark.parametrize("name", ["gaussian_repulsion", "morse", "compact"])
def test_far_from_the_origin(name):
    # A shift that float32 holds exactly changes nothing: coordinates are centred first.
    W, x = kernel(name), (cloud(300, 2) * 256).round() / 256
    torch.testing.assert_close(
        mean_interaction_gradient(W, x + 4096.0, x + 4096.0),
        mean_interaction_gradient(W, x, x),
        rtol=1e-3,
        atol=1e-5,
    )


@pytest.mark.parametrize(
    ("name", "length"),
    [("gaussian_repulsion", "width"), ("compact", "radius"), ("lennard_jones", "softening")],
)
def test_a_kernel_narrow_against_the_cloud(name, length):
    # From a matrix product squared distances would be off by 1e-4, and the kernel's are 1e-4.
    params = {length: 0.01, "distance": 0.01} if name == "lennard_jones" else {length: 0.01}
    W = kernel(name, **params)
    groups = 20 * cloud(1, 40, 1, 2, seed=3) + cloud(1, 40, 10, 2, spread=0.01)
    x = groups.reshape(-1, 2)
    expected, size = plain(W, x, x, exclude_self=True)
    got = mean_interaction_gradient(W, x, x, exclude_self=True)
    # Differences of float32 numbers as near as these are exact, but for the centring before:
    # 4e-6 in positions of size 50, 4e-4 of the kernel's length.
    assert ((got - expected).abs() <= 2e-3 * size.mean()).all()


def test_positions_are_left_alone_and_no_graph_comes_back():
    x = cloud(50, 2)
    before = x.clone()
    got = mean_interaction_gradient(kernel("morse"), x.requires_grad_(True), x, exclude_self=True)
    assert not got.requires_grad
    assert torch.equal(x.detach(), before)


def test_springs_pull_to_the_mean():
    x = cloud(1000, 3) + 5
    got = mean_interaction_gradient(kernel("quadratic"), x, x)
    torch.testing.assert_close(got, x - x.mean(0), rtol=1e-5, atol=1e-5)


def test_memory_at_a_hundred_thousand_particles():
    # Some rows against 10⁵ columns: their pairs would take 800 MB if they were kept.
    code = (
        "import resource, torch\n"
        "from popdyn.dynamics import FreeEnergy\n"
        "from popdyn.dynamics.pairwise import mean_interaction_gradient as mean\n"
        "W, x = FreeEnergy(interaction='gaussian_repulsion').W, torch.randn(100_000, 2)\n"
        "mean(W, x[:100], x)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "mean(W, x[:2000], x)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, before)\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    grown, before = (int(kilobytes) for kilobytes in out.stdout.split())
    assert grown < 50_000
    assert before + grown < 1_000_000
