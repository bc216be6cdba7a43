"""Simulated networks: their law against exact moments, their seeds, inputs and refusals."""

import numpy as np
import pytest
from scipy.linalg import solve_discrete_lyapunov
from scipy.stats import ortho_group

from nwb_lrrnn.dynamics import LowRankDynamics
from nwb_lrrnn.dynamics.nonlinearity import phi


def linear_network(rng, **changes):
    """Return a stable linear network of 3 latents, its one-step matrix A and the noise of a step."""
    a = 0.9 * ortho_group.rvs(3, random_state=rng)
    noise = np.diag([1.0, 0.5, 0.1])
    m = rng.normal(size=(6, 3))
    n = 6 * np.linalg.pinv(m).T @ ((a - 0.5 * np.eye(3)) / 0.5).T  # so that (1 - alpha) I + alpha n^T m / N = A
    net = LowRankDynamics(m, n, dt=0.1, tau=0.2, nonlinearity="identity", latent_noise=noise, **changes)
    np.testing.assert_allclose(net.jacobian(np.zeros(3)), a, atol=1e-12)
    return net, a, noise


def test_simulated_latents_have_the_stationary_moments_of_the_linear_network(rng):
    net, a, noise = linear_network(rng, drive=np.array([1.0, -1.0, 0.5]))
    covariance = solve_discrete_lyapunov(a, noise)
    mean = np.linalg.solve(np.eye(3) - a, 0.5 * net.drive)
    net = net.replace(initial_mean=mean, initial_covariance=covariance)  # it starts where it stays
    z = net.simulate(20_000, 4, random_state=1).latents.values
    for t in (0, 3):
        sd = np.sqrt(np.diag(covariance) / 20_000)
        np.testing.assert_array_less(np.abs(z[:, t].mean(0) - mean), 5 * sd)
        # the standard error of a covariance is at most sqrt(2 / n) of the variances; five of them
        np.testing.assert_allclose(np.cov(z[:, t].T), covariance, atol=5 * np.sqrt(2 / 20_000) * covariance.max())
    lagged = (z[:, 3] - mean).T @ (z[:, 2] - mean) / 20_000
    np.testing.assert_allclose(lagged, a @ covariance, atol=5 * np.sqrt(2 / 20_000) * covariance.max())


def test_simulated_noise_may_be_singular(rng):
    net, _, _ = linear_network(rng)
    net = net.replace(latent_noise=np.outer([1.0, 1.0, 0.0], [1.0, 1.0, 0.0]), initial_covariance=np.zeros((3, 3)))
    z = net.simulate(200, 2, random_state=0).latents.values
    np.testing.assert_array_equal(z[:, 0], 0)
    np.testing.assert_allclose(z[:, 1, 0], z[:, 1, 1], atol=1e-12)
    np.testing.assert_allclose(z[:, 1, 2], 0, atol=1e-7)  # the root of an eigenvalue that rounding left above 0
    assert z[:, 1, 0].std() == pytest.approx(1.0, abs=0.2)


def test_initial_latents_have_their_law(make_network):
    net = make_network(inputs=1)
    u = np.full((3, 1), 2.0)
    z = net.simulate(20_000, 3, inputs=u, random_state=0).latents.values[:, 0]
    error = 5 * np.sqrt(np.diag(net.initial_covariance) / 20_000)
    np.testing.assert_array_less(np.abs(z.mean(0) - net.initial_mean - 2 * net.initial_input_weights[:, 0]), error)
    largest = np.abs(net.initial_covariance).max()
    np.testing.assert_allclose(np.cov(z.T), net.initial_covariance, atol=5 * np.sqrt(2 / 20_000) * largest)
    filtered = net.replace(filter_inputs=True).simulate(20_000, 3, inputs=u, random_state=0).latents.values[:, 0]
    np.testing.assert_array_less(np.abs(filtered.mean(0) - net.initial_mean), error)  # v_1 = 0
    bare = LowRankDynamics([[1.0]], [[1.0]], dt=0.1, tau=1.0).simulate(20_000, 1, random_state=0).latents.values
    assert bare.mean() == pytest.approx(0.0, abs=5 / np.sqrt(20_000))
    assert bare.var() == pytest.approx(1.0, abs=5 * np.sqrt(2 / 20_000))


@pytest.mark.parametrize("filtered", [False, True])
def test_simulate_repeats_the_steps(make_network, rng, filtered):
    net = make_network("relu", filter_inputs=filtered, latent_noise=None)
    u, start = rng.normal(size=(3, 7, 2)), rng.normal(size=(3, 2))
    z = net.simulate(3, 7, inputs=u, initial_latents=start, random_state=0).latents.values
    v = net.filtered_inputs(u)
    np.testing.assert_array_equal(z[:, 0], start)
    for t in range(6):
        np.testing.assert_allclose(z[:, t + 1], net.step(z[:, t], v[:, t], u[:, t]), atol=1e-14)


@pytest.mark.parametrize("tau", [0.4, 0.1], ids=["coloured", "white"])
def test_private_noise_is_stationary_and_drives_the_latents(rng, tau):
    # one neuron of phi = x and no recurrence but its own noise: y - x shows e, and z sums it
    net = LowRankDynamics(
        [[0.0]],
        [[1.0]],
        dt=0.1,
        tau=tau,
        nonlinearity="identity",
        private_noise=[2.0],
        readout="currents",
        loadings=[3.0],
        offset=[1.0],
    )
    drawn = net.simulate(20_000, 4, initial_latents=[0.0], random_state=0)
    e = (drawn.observations.values[..., 0] - 1.0) / 3.0
    alpha, z = 0.1 / tau, drawn.latents.values[..., 0]
    error = 5 * np.sqrt(2 / 20_000) * 2.0
    for lag in range(4):
        assert (e[:, 0] * e[:, lag]).mean() == pytest.approx(2.0 * (1 - alpha) ** lag, abs=error)
    assert e[:, 3].var() == pytest.approx(2.0, abs=error)
    np.testing.assert_allclose(z[:, 1:], (1 - alpha) * z[:, :-1] + alpha * e[:, :-1], atol=1e-14)


def test_step_is_the_mean_over_private_noise(make_network, rng):
    net = make_network("erf", private_noise=np.full(12, 1.5), latent_noise=None, inputs=1)
    start, u = rng.normal(size=2), rng.normal(size=(2, 1))
    after = net.simulate(50_000, 2, inputs=u, initial_latents=start, random_state=0).latents.values[:, 1]
    error = 5 * after.std(0) / np.sqrt(50_000)
    np.testing.assert_array_less(np.abs(after.mean(0) - net.step(start, u[0])), error)


@pytest.mark.parametrize("gain", [None, np.linspace(0.5, 3, 5)], ids=["plain", "gain"])
@pytest.mark.parametrize("likelihood", ["gaussian", "poisson", "negative_binomial", "bernoulli"])
def test_observations_have_the_moments_of_their_likelihood(make_network, rng, likelihood, gain):
    net = make_network(
        likelihood=likelihood,
        dt=0.5,
        dispersion=np.linspace(0.5, 3, 5),
        link_gain=None if likelihood in ("gaussian", "bernoulli") else gain,
        inputs=1,
        unit_ids=np.arange(5) + 7,
    )
    start = rng.normal(size=2)
    drawn = net.simulate(50_000, 1, inputs=[[0.5]], initial_latents=start, random_state=0).observations
    mean = net.expected(start, [0.5])
    variance = {
        "gaussian": net.observation_variance,
        "poisson": mean,
        "negative_binomial": mean + mean**2 / net.dispersion,
        "bernoulli": mean * (1 - mean),
    }[likelihood]
    y = drawn.values[:, 0]
    np.testing.assert_array_less(np.abs(y.mean(0) - mean), 5 * np.sqrt(variance / 50_000))
    kurtosis = ((y - y.mean(0)) ** 4).mean(0) / y.var(0) ** 2
    np.testing.assert_array_less(np.abs(y.var(0) / variance - 1), 5 * np.sqrt((kurtosis - 1) / 50_000))
    assert (y.dtype.kind == "i") == (likelihood != "gaussian")
    assert drawn.dims == ("trial", "time", "unit")
    np.testing.assert_array_equal(drawn.unit, np.arange(5) + 7)
    assert drawn.attrs["bin_size"] == 0.5
    assert drawn.time.item() == 0.25  # the centre of the first bin


def test_a_gaussian_readout_without_variance_is_exact(make_network, rng):
    net = make_network(observation_variance=None)
    u = rng.normal(size=(5, 2))
    drawn = net.simulate(3, 5, inputs=u, random_state=0)
    np.testing.assert_allclose(drawn.observations, net.expected(drawn.latents.values, np.stack([u] * 3)), atol=1e-14)
    unobserved = LowRankDynamics([[1.0]], [[1.0]], dt=0.1, tau=1.0).simulate(1, 2, random_state=0)
    assert set(unobserved.data_vars) == {"latents"}


def test_rates_that_units_read_are_averaged_over_private_noise(make_network, rng):
    net = make_network("relu", readout="rates", private_noise=np.full(12, 0.5), observation_variance=None)
    u = rng.normal(size=(3, 2))
    drawn = net.simulate(2, 3, inputs=u, random_state=0)
    expected = net.expected(drawn.latents.values, np.stack([u] * 2))
    np.testing.assert_allclose(drawn.observations, expected, atol=1e-14)
    quiet = net.loadings * phi("relu", net.currents(drawn.latents.values, np.stack([u] * 2)))
    assert not np.allclose(expected, quiet + u @ net.readout_input_weights.T + net.offset)


def test_simulate_is_reproducible_and_touches_no_global_seed(make_network):
    net, u = make_network(private_noise=np.ones(12)), np.ones((4, 2))
    np.random.seed(3)  # noqa: NPY002 (the state that must not change)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    a, b, c = (net.simulate(2, 4, inputs=u, random_state=seed) for seed in (5, np.random.default_rng(5), 6))
    assert a.identical(b)
    assert not np.allclose(a.latents, c.latents)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_inputs_and_initial_latents_broadcast(make_network, rng):
    net, u = make_network(), rng.normal(size=(4, 2))
    one = net.simulate(3, 4, inputs=u, initial_latents=[0.1, 0.2], random_state=0)
    each = net.simulate(3, 4, inputs=np.stack([u] * 3), initial_latents=np.tile([0.1, 0.2], (3, 1)), random_state=0)
    assert one.identical(each)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"n_trials": 0}, "n_trials: got 0, wanted a whole number of at least 1"),
        ({"n_trials": None}, "n_trials: got None, wanted a whole number"),
        ({"n_steps": 2.5}, "n_steps: got 2.5, wanted a whole number"),
        ({"n_steps": float("nan")}, "n_steps: got nan, wanted a whole number"),
        ({"n_steps": "4"}, "n_steps: got '4', wanted a whole number"),
        ({"inputs": None}, r"inputs: got None, wanted \(trial, time, 2\): this network is driven by inputs"),
        ({"inputs": np.ones((4, 3))}, r"inputs: got shape \(4, 3\), wanted \(\.\.\., 2\)"),
        ({"inputs": np.ones((5, 2))}, r"inputs: got shape \(5, 2\), wanted \(3, 4, 2\)"),
        ({"inputs": np.ones((2, 4, 2))}, r"inputs: got shape \(2, 4, 2\), wanted \(3, 4, 2\)"),
        ({"inputs": np.full((4, 2), np.nan)}, "inputs: got values that are not finite"),
        ({"initial_latents": np.ones((2, 2))}, r"initial_latents: got shape \(2, 2\), wanted \(3, 2\)"),
        ({"initial_latents": np.ones(3)}, r"latents: got shape \(3,\), wanted \(\.\.\., 2\)"),
    ],
)
def test_simulate_refuses(make_network, call, message):
    with pytest.raises(ValueError, match=message):
        make_network().simulate(**({"n_trials": 3, "n_steps": 4, "inputs": np.ones((4, 2))} | call))


def test_simulate_takes_whole_floats_and_refuses_inputs_of_an_undriven_network():
    net = LowRankDynamics([[1.0]], [[1.0]], dt=0.1, tau=1.0)
    assert net.simulate(2.0, np.int64(3), random_state=0).latents.shape == (2, 3, 1)
    with pytest.raises(ValueError, match=r"inputs: got shape \(3, 1\), wanted \(\.\.\., 0\)"):
        net.simulate(2, 3, inputs=np.ones((3, 1)))
