"""The extended Kalman filter and smoother: exact where the network is linear, and what must not matter to it."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from nwb_lrrnn.dynamics import LowRankDynamics
from nwb_lrrnn.dynamics.likelihoods import Likelihood
from nwb_lrrnn.models.least_squares import filtering, torch_filter
from nwb_lrrnn.models.least_squares.filtering import smooth
from nwb_lrrnn.models.linear import LinearStateSpace
from nwb_lrrnn.trials import as_trials

TURN = 0.9 * np.array([[np.cos(0.5), -np.sin(0.5)], [np.sin(0.5), np.cos(0.5)]])


def linear(likelihood="gaussian", n_units=4, **changes):
    """Return a network of identity neurons that turns, with more neurons than latents."""
    rng = np.random.default_rng(0)
    left = rng.standard_normal((6, 2))
    right = 6 * np.linalg.lstsq(left.T, (TURN - 0.8 * np.eye(2)).T / 0.2, rcond=None)[0]
    observed = {
        "gaussian": {"offset": np.arange(n_units), "observation_variance": np.full(n_units, 0.5)},
        "poisson": {"offset": np.full(n_units, 15.0), "link": "softplus"},
    }[likelihood]
    scale = {"gaussian": 1.0, "poisson": 6.0}[likelihood]
    return LowRankDynamics(
        left, right, dt=0.1, tau=0.5, nonlinearity="identity", drive=[0.3, -0.2],
        latent_noise=[[0.2, 0.05], [0.05, 0.1]],
        initial_mean=[0.5, 0.1], loadings=scale * rng.standard_normal((n_units, 2)), likelihood=likelihood,
        **observed, **changes,
    )  # fmt: skip


def damaged(y):
    """Return trials of unequal length, some bins and some entries of which are missing."""
    y = np.array(y, dtype=float)
    y[1, 1:3], y[2, 0, 1] = np.nan, np.nan
    return as_trials([trial[: len(trial) - 2 * k] for k, trial in enumerate(y)], allow_nan=True, bin_size=0.1)


def test_a_linear_network_has_its_joint_density():
    net = linear()
    y = net.simulate(2, 6, random_state=1).observations.values
    drive = net.step(np.zeros(2))
    means, cov = [net.initial_mean], np.zeros((6, 6, 2, 2))
    cov[0, 0] = np.eye(2)
    for t in range(1, 6):
        means.append(TURN @ means[-1] + drive)
        for s in range(t):
            cov[t, s] = TURN @ cov[t - 1, s]
            cov[s, t] = cov[t, s].T
        cov[t, t] = TURN @ cov[t - 1, t - 1] @ TURN.T + net.latent_noise
    of_latents = cov.transpose(0, 2, 1, 3).reshape(12, 12)
    read = np.kron(np.eye(6), net.loadings)
    mean = (np.array(means) @ net.loadings.T + net.offset).ravel()
    law = multivariate_normal(mean, read @ of_latents @ read.T + 0.5 * np.eye(24))
    found = smooth(net, as_trials(y))
    np.testing.assert_allclose(found.log_likelihood, [law.logpdf(trial.ravel()) for trial in y], atol=1e-9)
    gain = of_latents @ read.T @ np.linalg.inv(law.cov)
    expected = np.array(means).ravel() + (gain @ (y.reshape(2, -1) - mean).T).T
    np.testing.assert_allclose(found.smoothed.reshape(2, -1), expected, atol=1e-10)


def test_it_is_the_linear_state_space_model_where_that_is_exact():
    model = LinearStateSpace.from_dynamics(linear())
    trials = damaged(linear().simulate(4, 15, random_state=2).observations)
    found, exact = smooth(linear(), trials), model._moments(trials)
    for name in ("smoothed", "filtered", "predicted", "covariances", "log_likelihood"):
        np.testing.assert_allclose(getattr(found, name), getattr(exact, name), atol=1e-9)
    np.testing.assert_allclose(found.pattern_cross, exact.pattern_cross[exact.pattern], atol=1e-10)


def test_counts_of_a_linear_network_have_the_evidence_of_many_particles():
    net = linear("poisson", 12)
    trials = damaged(net.simulate(6, 20, random_state=3).observations)
    exact = LinearStateSpace.from_dynamics(net).set_params(n_particles=1000)
    found = smooth(net, trials)
    per_bin = (found.log_likelihood - exact._log_evidence(trials)).sum() / trials.n_observed_bins
    assert abs(per_bin) < 0.01
    np.testing.assert_allclose(found.smoothed, exact._moments(trials).smoothed, atol=0.15)


def test_the_evidence_of_a_bin_of_counts_is_its_integral():
    net = linear("poisson", 12)
    y = net.simulate(1, 1, random_state=4).observations.values
    x, w = np.polynomial.hermite_e.hermegauss(60)
    grid = np.stack(np.meshgrid(x, x), -1).reshape(-1, 2) + net.initial_mean
    log_p = net.log_likelihood(np.broadcast_to(y[0], (len(grid), 12)), grid).sum(1)
    expected = np.log((np.outer(w, w).ravel() / w.sum() ** 2) @ np.exp(log_p - log_p.max())) + log_p.max()
    np.testing.assert_allclose(smooth(net, as_trials(y)).log_likelihood, expected, atol=0.01)


@pytest.mark.parametrize("likelihood", ["gaussian", "poisson"])
def test_a_nonlinear_network_moves_by_its_step_and_jacobian(likelihood):
    net = turning(likelihood)
    trials = as_trials(net.simulate(2, 12, random_state=5).observations)
    found = smooth(net, trials)
    np.testing.assert_allclose(found.predicted[:, 1:], net.step(found.filtered[:, :-1]), atol=1e-10)
    last = smooth(net, trials, goes_back=False).covariances[:, -2]  # of the filter
    jacobian = net.jacobian(found.filtered[:, -2])
    before = jacobian @ last @ jacobian.transpose(0, 2, 1) + net.latent_noise
    gain = last @ jacobian.transpose(0, 2, 1) @ np.linalg.inv(before)
    step = found.smoothed[:, -1] - found.predicted[:, -1]
    np.testing.assert_allclose(
        found.smoothed[:, -2], found.filtered[:, -2] + (gain @ step[..., None])[..., 0], atol=1e-10
    )
    np.testing.assert_array_equal(found.smoothed[:, -1], found.filtered[:, -1])


def test_currents_inputs_and_thresholds_take_part():
    rng = np.random.default_rng(0)
    net = LowRankDynamics(
        rng.standard_normal((5, 2)), rng.standard_normal((5, 2)), dt=0.1, tau=0.3, nonlinearity="clipped_relu",
        bias=rng.standard_normal(5), thresholds=np.ones(5), input_weights=rng.standard_normal((5, 1)),
        latent_input_weights=rng.standard_normal((2, 1)), initial_input_weights=rng.standard_normal((2, 1)),
        filter_inputs=True, readout="currents", loadings=np.ones(5), offset=np.arange(5.0),
        observation_variance=np.full(5, 1e-8), drive=np.ones(2), initial_covariance=1e-12 * np.eye(2),
        latent_noise=1e-12 * np.eye(2),
    )  # fmt: skip
    u = rng.standard_normal((3, 10, 1))
    told = net.simulate(3, 10, inputs=u, random_state=1)
    found = smooth(net, as_trials(told.observations.values, inputs=u, bin_size=0.1))
    np.testing.assert_allclose(found.predicted, told.latents, atol=1e-4)  # a wrong sign of anything is of order 1


def test_what_must_not_matter():
    net = turning("gaussian")
    y = net.simulate(3, 12, random_state=5).observations.values
    together = smooth(net, as_trials([y[0], y[1, :7], y[2, :1]]))
    alone = smooth(net, as_trials([y[1, :7]]))
    np.testing.assert_array_equal(together.smoothed[1, :7], alone.smoothed[0])
    np.testing.assert_allclose(together.log_likelihood[1], alone.log_likelihood[0], rtol=1e-12)
    assert not together.smoothed[1, 7:].any()
    hidden = y.copy()
    hidden[:, 8:] = np.nan  # unseen bins tell nothing
    shorter = smooth(net, as_trials(y[:, :8]))
    longer = smooth(net, as_trials(hidden, allow_nan=True))
    np.testing.assert_allclose(longer.log_likelihood, shorter.log_likelihood, rtol=1e-12)
    np.testing.assert_allclose(longer.smoothed[:, :8], shorter.smoothed, atol=1e-10)


CASES = {"gaussian": "identity", "poisson": "softplus", "negative_binomial": "exp", "bernoulli": "logit"}


def turning(likelihood, n_units=8):
    """Return a small network of tanh neurons that turns, about one count a bin."""
    rng = np.random.default_rng(1)
    left = rng.standard_normal((10, 2))
    right = 2.0 * left @ np.array([[1.0, 0.6], [-0.6, 1.0]])
    offset = {"gaussian": 0.0, "poisson": 12.0, "negative_binomial": 2.0, "bernoulli": 0.1}[likelihood]
    size = {"gaussian": 1.0, "poisson": 5.0, "negative_binomial": 0.4, "bernoulli": 0.3}[likelihood]
    return LowRankDynamics(
        left, right, dt=0.1, tau=0.3, latent_noise=0.02 * np.eye(2), loadings=size * rng.standard_normal((n_units, 2)),
        offset=np.full(n_units, offset), likelihood=likelihood, link=CASES[likelihood],
        observation_variance=np.ones(n_units), dispersion=np.full(n_units, 3.0),
    )  # fmt: skip


@pytest.mark.parametrize("likelihood", CASES)
def test_plain_torch_says_what_the_kernel_says(likelihood):
    net = turning(likelihood)
    trials = damaged(net.simulate(3, 10, random_state=6).observations)
    fused, plain = (smooth(net, trials, kernels=kernels) for kernels in (True, False))
    for name in ("smoothed", "filtered", "predicted", "covariances", "pattern_cross", "log_likelihood"):
        np.testing.assert_allclose(getattr(plain, name), getattr(fused, name), atol=1e-6)


@pytest.mark.parametrize("likelihood", ["gaussian", "poisson"])
def test_the_filter_runs_on_the_meta_device_without_a_host_sync(likelihood):
    net = turning(likelihood)
    trials = as_trials(net.simulate(3, 2, random_state=6).observations)

    def meta(array):
        return array if isinstance(array, float) else torch.as_tensor(array).to("meta")

    parts = [type(part)(*map(meta, part)) for part in filtering.parts_of(net, trials)]
    found = torch_filter.posterior(
        net.nonlinearity, Likelihood(likelihood, CASES[likelihood], 0.1), meta(trials.lengths), *parts,
        [meta(array) for array in filtering.nodes(2)], True,
    )  # fmt: skip
    assert [tuple(tensor.shape) for tensor in (found.smoothed, found.cross, found.increments)] == [
        (3, 2, 2), (3, 1, 2, 2), (3, 2)
    ]  # fmt: skip


@pytest.mark.parametrize("rank", [1, 2, 3, 6])
def test_nodes_integrate_a_normal_law(rank):
    points, weights = filtering.nodes(rank)
    assert weights.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(weights @ points, 0.0, atol=1e-12)
    np.testing.assert_allclose((weights[:, None] * points).T @ points, np.eye(rank), atol=1e-10)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"loadings": None}, "without a readout"),
        ({"readout": "rates"}, "readout='rates'"),
        ({"readout": "currents", "private_noise": np.ones(10)}, "private_noise"),
        ({"observation_variance": np.zeros(10)}, "observation_variance > 0"),
    ],
)
def test_networks_that_it_does_not_know_are_refused(change, expected):
    net = turning("gaussian", 10)
    change = ({"loadings": np.ones(10)} if "readout" in change else {}) | change
    with pytest.raises(ValueError, match=expected):
        filtering.check_filterable(net.replace(**change))
