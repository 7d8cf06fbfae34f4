"""Brownian increments: their covariance, alone and joined."""

import torch

from popdyn.simulation.brownian import Brownian, join

BETA, H, N = 0.7, 0.3, 200_000


def covariance(noise):
    return torch.cov(torch.stack([part.flatten() for part in noise]))


def expected(h):
    """2β times the covariance of B(h) and of its integral over [0, h]."""
    return 2 * BETA * torch.tensor([[h, h**2 / 2], [h**2 / 2, h**3 / 3]])


def check(noise, h):
    # 5 standard errors of a Gaussian covariance: √((1 + r²)/N) ≤ √(2/N) of the product of stds
    exact = expected(h)
    std = exact.diagonal().sqrt()
    tolerance = 5 * (2 / N) ** 0.5 * torch.outer(std, std)
    assert ((covariance(noise) - exact).abs() < tolerance).all()


def test_the_increment_and_the_integral_have_their_covariance():
    stream = torch.Generator().manual_seed(0)
    check(Brownian(BETA, integral=True, generator=stream).draw(torch.empty(N, 1), H), H)


def test_joined_halves_are_a_whole_step():
    stream = torch.Generator().manual_seed(1)
    x = torch.empty(N, 1)
    halves = [Brownian(BETA, integral=True, generator=stream).draw(x, H / 2) for _ in range(2)]
    check(join(*halves, H / 2), H)


def test_no_diffusivity_is_no_noise():
    assert Brownian(0.0).draw(torch.empty(3, 1), H) is None
    assert join(None, None, H) is None
