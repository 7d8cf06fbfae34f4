"""Simulated snapshots: laws, observation, determinism, and what is refused."""

import math
import time

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from popdyn.base.errors import PopdynError
from popdyn.dynamics import FreeEnergy
from popdyn.simulation import simulate
from popdyn.simulation.blocks import simulate_block
from popdyn.simulation.simulate import configure

OU = FreeEnergy("quadratic", diffusivity=0.5)
INTERACTING = FreeEnergy("quadratic", "gaussian_repulsion", 0.1)


def arrays(data):
    return {group: data[group]["x"].values for group in ("train", "test")}


def test_the_defaults_are_those_of_the_design():
    data = simulate(FreeEnergy("styblinski_tang"))
    assert data["train"]["x"].shape == data["test"]["x"].shape == (6, 10_000, 2)
    np.testing.assert_allclose(data["train"]["time"], np.arange(6) * 0.01)
    assert data.attrs["observation"] == "unpaired"
    assert data.attrs["step"] == pytest.approx(0.01 / 20)
    assert data.attrs["scheme"] == "heun"
    start = data["train"]["x"].values[0]
    assert -4 <= start.min() < -3.9 < 3.9 < start.max() <= 4
    assert FreeEnergy.from_spec(data.attrs["dynamics"]).spec() == data.attrs["dynamics"]


@pytest.mark.parametrize("energy", [OU, INTERACTING], ids=["free", "interacting"])
@pytest.mark.parametrize("paired", [False, True])
def test_the_same_seed_gives_the_same_bits(energy, paired):
    options = {"particles": 300, "snapshots": 3, "paired": paired, "block": 128}
    a, b = (arrays(simulate(energy, seed=3, **options)) for _ in range(2))
    c = arrays(simulate(energy, seed=4, **options))
    for group in a:
        assert np.array_equal(a[group], b[group])
        assert not np.isin(a[group], c[group]).any()
    assert not np.isin(a["train"], a["test"]).any()


def test_blocks_do_not_depend_on_each_other():
    config = configure(particles=300, block=100, seed=1)
    whole = simulate(OU, particles=300, block=100, seed=1)["train"]["x"].values
    for k, x in enumerate(simulate_block(OU, config, "train", 1)):
        assert np.array_equal(whole[k, 100:200], x)
    assert len(np.unique(whole[0, :, 0])) == 300  # no block repeats another


@pytest.mark.parametrize("energy", [OU, INTERACTING], ids=["free", "interacting"])
def test_unpaired_snapshots_share_no_particles(energy):
    n = 4000 if energy.W is None else 500
    x = simulate(energy, particles=n, test_particles=0)["train"]["x"].values
    for k in range(5):
        for j in range(2):
            # the correlation of n independent pairs has standard error 1/√n
            assert abs(np.corrcoef(x[k, :, j], x[k + 1, :, j])[0, 1]) < 4 / math.sqrt(n)


def test_paired_snapshots_follow_particles():
    x = simulate(OU, particles=2000, test_particles=0, paired=True, dt=0.1)["train"]["x"].values
    # X₁ = X₀ e^{−τ} + √(β(1 − e^{−2τ})) ξ: the correlation of the start with the increment
    step = x[1] - x[0] * math.exp(-0.1)
    sigma = math.sqrt(0.5 * (1 - math.exp(-0.2)))
    assert step.std() == pytest.approx(sigma, rel=4 / math.sqrt(2 * step.size))
    assert abs(np.corrcoef(x[0].ravel(), step.ravel())[0, 1]) < 4 / math.sqrt(step.size)


def test_the_noise_does_not_know_the_start():
    x = simulate(
        FreeEnergy(diffusivity=0.5), particles=5000, initial="gaussian", paired=True, step=0.01
    )["train"]["x"].values
    first = (x[1] - x[0]).ravel()
    assert abs(np.corrcoef(x[0].ravel(), first)[0, 1]) < 4 / math.sqrt(first.size)


@pytest.mark.parametrize("energy", [OU, INTERACTING], ids=["free", "interacting"])
def test_snapshots_may_differ_in_size_and_spacing(energy):
    counts, times = [50, 7, 60, 60], [0.5, 0.6, 1.0, 3.0]
    data = simulate(energy, particles=counts, test_particles=[1, 2, 3, 4], times=times, block=40)
    x = data["train"]["x"].values
    assert data["train"]["count"].values.tolist() == counts
    assert data["test"]["count"].values.tolist() == [1, 2, 3, 4]
    assert np.isfinite(x).sum(1).tolist() == [[n, n] for n in counts]
    np.testing.assert_allclose(data.attrs["step"], [0.005, 0.02, 0.1])
    # the law at an irregular time is the exact one
    if energy.W is None:
        many = simulate(energy, particles=20_000, test_particles=0, times=times)
        variance = many["train"]["x"].values.var(1)
        for k, t in enumerate(times):
            decay = math.exp(-2 * (t - 0.5))
            expected = 16 / 3 * decay + 0.5 * (1 - decay)
            # heun's bias at step 0.1 is of order h²/4; the rest is 5 standard errors
            np.testing.assert_allclose(variance[k], expected, rtol=0.004 + 5 * math.sqrt(2 / 2e4))


def test_the_step_divides_every_interval():
    config = configure(times=[0, 0.1, 0.35], step=0.1)
    assert [(round(h, 12), n) for _, h, n in config.intervals] == [(0.1, 1), (0.083333333333, 3)]
    assert configure(times=[0, 0.1 + 0.2], step=0.1).intervals[0][2] == 3  # the ratio is above 3


def test_observation_noise_is_added_after_the_dynamics():
    kwargs = {"particles": 5000, "test_particles": 0, "paired": True, "seed": 2}
    clean, noisy = (simulate(OU, noise=f, **kwargs)["train"]["x"].values for f in (0.0, 0.3))
    noise = noisy - clean
    assert noise.std() == pytest.approx(0.3, rel=5 / math.sqrt(2 * noise.size))
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 4 / math.sqrt(1e4)
    assert simulate(OU, particles=5, noise=0.3).attrs["noise"] == 0.3


def test_a_callable_with_autograd_gives_what_the_closed_form_gives():
    closed, traced = FreeEnergy("quadratic"), FreeEnergy(lambda x: 0.5 * x.square().sum(-1))
    a, b = (simulate(e, particles=500)["train"]["x"].values for e in (closed, traced))
    np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)
    assert simulate(traced, particles=5).attrs["dynamics"] is None


def test_a_time_dependent_potential_is_taken_at_the_right_time():
    # V = ½|x − t|²: dx/dt = t − x, so x(t) = t − 1 + (x₀ + 1) e^{−t}
    energy = FreeEnergy(lambda x, t: 0.5 * (x - t).square().sum(-1))
    x = simulate(energy, particles=50, times=[0, 1, 2], paired=True)["train"]["x"].values
    for k, t in enumerate([0, 1, 2]):
        # the local error of heun is h³/6 in each of 20 steps h = 0.05 an interval, times |x₀|
        np.testing.assert_allclose(x[k], t - 1 + (x[0] + 1) * math.exp(-t), atol=2e-3)


@pytest.mark.parametrize("scheme", ["heun", "srk"])
def test_the_long_time_law_is_the_gibbs_density(scheme):
    beta = 0.5
    energy = FreeEnergy("double_well", diffusivity=beta, potential_params={"height": 1.0})
    x = simulate(
        energy,
        particles=20_000,
        test_particles=0,
        times=[0, 12],
        step=0.05,
        scheme=scheme,
        initial="gaussian",
    )["train"]["x"].values[1]

    def weight(v):
        return math.exp(-((v**2 / 4 - 1) ** 2) / beta)

    grid = np.linspace(-6, 6, 1201)
    cdf = integrate.cumulative_trapezoid([weight(v) for v in grid], grid, initial=0.0)
    result = stats.kstest(x[:, 0], lambda v: np.interp(v, grid, cdf / cdf[-1]))
    assert result.pvalue > 1e-5
    assert stats.kstest(x[:, 1], "norm", args=(0, math.sqrt(beta))).pvalue > 1e-5


def test_large_interacting_populations_are_independent_systems():
    data = simulate(INTERACTING, particles=100, block=40, snapshots=2)
    assert "independent interacting systems of 40" in data.attrs["populations"]
    assert "populations" not in simulate(INTERACTING, particles=40, block=40).attrs


def test_an_explosion_is_named_with_the_largest_stable_step():
    with pytest.raises(PopdynError, match="is unstable at time 0") as caught:
        simulate(FreeEnergy("wavy_plateau"), particles=500, dt=0.1, step=0.1)
    line = str(caught.value)
    assert "the step 0.1 of scheme 'heun'" in line
    stable = float(line.split("a step below ")[1].split(",")[0])
    # V″(4) = 6·16 − 6 − π² is the largest curvature in the box: 2/80.1
    assert stable == pytest.approx(2 / 80.1, rel=0.05)
    simulate(FreeEnergy("wavy_plateau"), particles=500, dt=0.1, step=0.95 * stable)


@pytest.mark.parametrize(
    ("scheme", "step"),
    [("heun", 2.5), ("heun", 2.01), ("euler_maruyama", 2.2), ("milstein", 2.2), ("srk", 2.2)],
)
def test_a_step_above_the_stable_one_stops_at_once(scheme, step):
    # Of ½|x|² the Hessian is 1: explicit steps above 2 amplify, yet stay finite for long.
    options = {"particles": 200, "times": [0, 10 * step], "step": step, "scheme": scheme}
    with pytest.raises(PopdynError, match="expected a step below 2, the largest stable one"):
        simulate(FreeEnergy("quadratic", diffusivity=0.25), **options)
    with pytest.raises(PopdynError, match="below 2,"):  # the mean of the force is that of a bowl
        simulate(FreeEnergy(None, "quadratic", 0.25), **options)


def test_steps_below_the_stable_one_run():
    options = {"particles": 200, "times": [0, 19.0], "step": 1.9}
    data = simulate(FreeEnergy("quadratic", diffusivity=0.25), **options)
    assert np.abs(data["train"]["x"].values[1]).max() < 10


def test_a_step_that_becomes_unstable_on_the_way_stops():
    # From the hill between two wells the particles roll to where it curves upwards.
    energy = FreeEnergy(lambda x: ((x.square() - 4.0).square()).sum(-1))
    start = np.full((50, 1), 0.05)  # curvature −16 here, 32 at the minima
    options = {"initial": start, "particles": 50, "scheme": "euler_maruyama"}
    with pytest.raises(PopdynError, match="is unstable at time"):
        simulate(energy, times=[0, 40.0], step=0.08, **options)
    simulate(energy, times=[0, 40.0], step=0.05, **options)


def test_creases_and_hills_are_not_instabilities():
    simulate(FreeEnergy(lambda x: 30 * x.abs().sum(-1)), particles=300, times=[0, 5], step=0.05)
    simulate(FreeEnergy("sphere"), particles=300, times=[0, 0.5], step=0.1)


def test_an_energy_that_repels_to_infinity_is_told_apart_from_a_large_step():
    runaway = FreeEnergy(lambda x: -(x.square().sum(-1) ** 2))
    with pytest.raises(PopdynError, match="to infinity"):
        simulate(runaway, particles=50, dt=10.0)


def test_the_step_of_an_explosion_is_the_first_that_is_not_finite():
    # x ← x + h x³ grows: from 4 with h = 1: 68, 3e5, … to infinity
    x, j = np.float32(4.0), 0
    with np.errstate(over="ignore", invalid="ignore"):
        while np.isfinite(x):
            x, j = x + x**3, j + 1
    energy = FreeEnergy(lambda x: -(x[..., 0] ** 4) / 4)
    start = np.full((3, 1), 4.0)
    with pytest.raises(PopdynError, match=rf"in step {j} after time 0 "):
        simulate(energy, initial=start, times=[0, 40], step=1.0, scheme="euler_maruyama")


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"times": [0, 2, 1]}, "expected strictly increasing"),
        ({"snapshots": 1}, "snapshots is 1"),
        ({"dt": 0.0}, "dt is 0.0"),
        ({"step": -1.0}, "step is -1.0"),
        ({"particles": 0}, "particles is 0"),
        ({"particles": 2.5}, "particles is 2.5"),
        ({"particles": [5, 5]}, "particles has 2 numbers: expected one, or 6"),
        ({"n_particles": 6}, "no option 'n_particles': expected one of particles"),
        ({"test_particles": -1}, "test_particles is -1"),
        ({"particles": [5, 5, 5, 5, 5, 6], "paired": True}, "paired observation needs one"),
        ({"dim": 0}, "dim is 0"),
        ({"noise": -0.1}, "noise is -0.1"),
        ({"seed": -1}, "seed is -1"),
        ({"block": 0}, "block is 0"),
        ({"workers": 0}, "workers is 0"),
        ({"device": "abacus"}, "device is 'abacus'"),
        ({"particles": 10**12}, "of memory, .* are free: expected out"),
    ],
)
def test_bad_options_are_one_clear_line(options, line):
    with pytest.raises(PopdynError, match=line) as caught:
        simulate(OU, **options)
    assert "\n" not in str(caught.value)


def test_a_block_larger_than_memory_is_refused(tmp_path):
    with pytest.raises(PopdynError, match=r"block 1000000000000 needs about .* a smaller block"):
        simulate(OU, particles=10**12, block=10**12, out=tmp_path / "x.zarr")
    assert not (tmp_path / "x.zarr").exists()


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"particles": 10**18}, "coordinates in all"),
        ({"snapshots": 10**8}, "snapshots is 100000000"),
        ({"step": 1e-300}, "step is 1e-300"),
        ({"block": 10**20}, "block is 100000000000000000000"),
        ({"dim": 10**12}, "dim is 1000000000000"),
        ({"particles": 10**11}, "GiB of memory"),
    ],
)
def test_sizes_out_of_reach_are_refused_at_once(options, line):
    begin = time.monotonic()
    with pytest.raises(PopdynError, match=line):
        simulate(OU, **options)
    assert time.monotonic() - begin < 10


def test_a_store_larger_than_its_disk_is_refused(tmp_path):
    with pytest.raises(PopdynError, match="GiB are free on the disk"):
        simulate(OU, particles=10**11, block=1000, out=tmp_path / "x.zarr")
    assert not list(tmp_path.iterdir())


def test_an_odd_kernel_is_refused():
    with pytest.raises(PopdynError, match="even"):
        simulate(FreeEnergy(interaction=lambda z: z.sum(-1)), particles=10)


def test_a_potential_of_a_higher_dimension_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(PopdynError, match="dimension 2 or more"):
        simulate(FreeEnergy("muller_brown"), dim=1, out=tmp_path / "x.zarr")
    assert not list(tmp_path.iterdir())


def test_a_hundred_dimensions():
    data = simulate(FreeEnergy("quadratic", diffusivity=0.1), particles=200, dim=100, dt=0.5)
    variance = data["train"]["x"].values[-1].var()
    expected = 16 / 3 * math.exp(-5) + 0.1 * (1 - math.exp(-5))
    assert variance == pytest.approx(expected, rel=5 * math.sqrt(2 / 20_000))


def test_the_reference_density_stands_beside_the_particles():
    energy = FreeEnergy("quadratic", diffusivity=0.5)
    data = simulate(
        energy,
        particles=4000,
        times=[0, 0.5, 1],
        initial="gaussian",
        dim=1,
        reference=True,
        reference_cells=300,
    )
    rho = data["reference"]["density"].isel(time=2)
    assert rho.shape == (300,)
    width = float(rho["x0"][1] - rho["x0"][0])
    variance = float((rho * rho["x0"] ** 2).sum() * width)
    exact = math.exp(-2) + 0.5 * (1 - math.exp(-2))
    assert variance == pytest.approx(exact, rel=2e-3)
    with pytest.raises(PopdynError, match="has no density"):
        simulate(energy, particles=10, initial=np.zeros((5, 1)), reference=True)


def test_threads_are_recorded_and_restored():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        options = {"particles": 500}, {"particles": 50}, {"particles": 2048, "snapshots": 2}
        energies = OU, INTERACTING, INTERACTING
        two = [simulate(e, step=0.01, **o) for e, o in zip(energies, options, strict=True)]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert [data.attrs["threads"] for data in two] == [1, 1, 2]
    one = simulate(OU, particles=500, step=0.01)
    assert np.array_equal(one["train"]["x"], two[0]["train"]["x"])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("energy", [OU, INTERACTING], ids=["free", "interacting"])
def test_a_cuda_device_follows_the_same_law(energy):
    options = {"particles": 4000, "test_particles": 0, "times": [0, 1]}
    here, there, again = (
        simulate(energy, device=device, **options)["train"]["x"].values
        for device in ("cpu", "cuda", "cuda")
    )
    assert np.array_equal(there, again)
    assert np.array_equal(there[0], here[0])
    for j in range(2):
        assert stats.ks_2samp(here[1, :, j], there[1, :, j]).pvalue > 1e-5
