"""The interaction of the weak form: its table against its own functions."""

import numpy as np
import torch

import popdyn
from popdyn import FreeEnergy
from popdyn.families.linear import RadialFeatures, RadialInteraction


def made() -> RadialInteraction:
    centers = 0.3 * torch.arange(20)
    features = RadialFeatures(6.0, centers, torch.full((20,), 0.3))
    generator = torch.Generator().manual_seed(0)
    return RadialInteraction(features, torch.randn(22, generator=generator))


def test_the_table_of_values_is_the_sum_of_the_functions() -> None:
    W = made()
    z = torch.randn(2000, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    r = z.norm(dim=1).clamp_max(6.0)
    # The error of cubic Hermite interpolation is h⁴/384 · max W'''', here below 1e-11.
    torch.testing.assert_close(W.value(z), W.features.values(r) @ W.weights, rtol=0, atol=1e-10)


def test_the_value_has_the_gradient() -> None:
    W = made()
    z = 3 * torch.randn(2000, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert (z.norm(dim=1) > 6.0).any()  # beyond the reach as well
    z.requires_grad_()
    (slope,) = torch.autograd.grad(W.value(z).sum(), z)
    # The slope itself is interpolated linearly, to h²/8 of its second derivative.
    torch.testing.assert_close(slope, W.gradient(z.detach()), rtol=0, atol=1e-4)


def test_errors_alone_tell_a_kernel_from_zero() -> None:
    W, generator = made(), torch.Generator().manual_seed(2)
    # Errors of 0.1, and along the first function none worth the name: as along the gauge.
    errors = 0.1 * torch.eye(22, dtype=torch.float64)
    errors[0, 0] = 100.0
    noise = errors @ torch.randn(22, dtype=torch.float64, generator=generator)
    found = RadialInteraction(W.features, W.weights, errors)
    nothing = RadialInteraction(W.features, noise, errors)
    along = RadialInteraction(W.features, 50.0 * torch.eye(22)[0], errors)
    # χ² of 22: the weights of `made` are ten standard errors each.
    assert found.p_value() < 1e-100
    assert nothing.p_value() > 0.01
    assert along.p_value() > 0.99
    assert made().p_value() == 1.0  # no error is known, so nothing is told


def test_an_interaction_that_nobody_asks_for_is_zero_to_its_error():
    data = popdyn.simulate(FreeEnergy("double_well"), particles=500, snapshots=4, dt=0.1, seed=0)
    run = popdyn.fit(data, "weak_form", learn="potential,interaction")
    z = np.array([[0.5, 0.0], [2.0, 0.0]])
    assert not run.energy.interaction_gradient(z).any()
    assert (run.energy.interaction_gradient_std(z)[:, 0] > 0.0).all()
    assert "no interaction is clearly above sampling noise: W is 0 to its error" in run.notes
