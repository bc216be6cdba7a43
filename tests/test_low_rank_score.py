"""The density of `LowRankRNN` against exact and sampled integrals, and what it must not depend on."""

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from nwb_lrrnn.dynamics import LowRankDynamics
from nwb_lrrnn.models.low_rank import LowRankRNN


def linear_network(inputs=False):
    rng = np.random.default_rng(0)
    rank, units, neurons = 2, 5, 7
    m, n = rng.standard_normal((neurons, rank)), rng.standard_normal((neurons, rank))
    with_inputs = {"input_weights": rng.standard_normal((neurons, 1)), "initial_input_weights": [[0.5], [-1.0]]}
    return LowRankDynamics(
        m, n, dt=0.1, tau=0.4, nonlinearity="identity", bias=rng.standard_normal(neurons), drive=[0.3, -0.2],
        initial_mean=[0.5, -1.0], initial_covariance=[[1.0, 0.3], [0.3, 0.5]],
        loadings=rng.standard_normal((units, rank)), offset=rng.standard_normal(units),
        observation_variance=rng.uniform(0.5, 2.0, units), **(with_inputs if inputs else {}),
    )  # fmt: skip


NODE = np.array([[0.2, 0.05], [0.05, 0.1]])


def joint_gaussian(net, n_steps, window, u=None):
    """Return mean and covariance of (time, latent), flattened: noise enters only at the nodes."""
    jac, rank = net.jacobian(np.zeros(2)), net.rank
    v = np.zeros((n_steps, net.n_inputs)) if u is None else u
    mean, cov = np.zeros((n_steps, rank)), np.zeros((n_steps, rank, n_steps, rank))
    mean[0] = net.initial_mean + (net.initial_input_weights @ v[0] if net.n_inputs else 0)
    cov[0, :, 0] = net.initial_covariance
    for t in range(n_steps - 1):
        mean[t + 1] = net.step(mean[t], v[t] if net.n_inputs else None)
        for s in range(t + 1):
            cov[t + 1, :, s] = jac @ cov[t, :, s]
            cov[s, :, t + 1] = cov[t + 1, :, s].T
        cov[t + 1, :, t + 1] = jac @ cov[t, :, t] @ jac.T + (NODE if (t + 1) % window == 0 else 0)
    return mean, cov.reshape(n_steps * rank, n_steps * rank)


def model_of(net, window_bins):
    dataset = net.to_dataset().assign(node_covariance=(("latent", "latent_"), NODE))
    return LowRankRNN.from_dataset(dataset.assign_attrs(shooting_bins_=window_bins))


@pytest.mark.parametrize("inputs", [False, True])
@pytest.mark.parametrize("window", [12, 5])
def test_score_and_latents_of_a_linear_network_equal_the_joint_gaussian(window, inputs):
    net, n_steps = linear_network(inputs), 12
    rng = np.random.default_rng(1)
    u = rng.standard_normal((3, n_steps, 1)) if inputs else None
    y = rng.standard_normal((3, n_steps, 5))
    observed = rng.random((3, n_steps, 5)) > 0.2
    X = xr.DataArray(y, dims=("trial", "time", "unit"), coords={"observed": (("trial", "time", "unit"), observed)})
    X.attrs["bin_size"] = 0.1
    model = model_of(net, window)
    log_p, posterior = [], []
    for k in range(3):
        mean, cov = joint_gaussian(net, n_steps, window, None if u is None else u[k])
        read = np.kron(np.eye(n_steps), net.loadings)[observed[k].ravel()]
        noise = np.diag(np.tile(net.observation_variance, n_steps)[observed[k].ravel()])
        expected = read @ mean.ravel() + np.tile(net.offset, n_steps)[observed[k].ravel()]
        total, seen = read @ cov @ read.T + noise, y[k].ravel()[observed[k].ravel()]
        log_p.append(stats.multivariate_normal(expected, total).logpdf(seen))
        posterior.append(mean + (cov @ read.T @ np.linalg.solve(total, seen - expected)).reshape(n_steps, 2))
    np.testing.assert_allclose(model.score_trials(X, inputs=u), log_p, rtol=1e-6)
    n_bins = observed.any(2).sum()
    np.testing.assert_allclose(model.score(X, inputs=u), np.sum(log_p) / n_bins, rtol=1e-6)
    np.testing.assert_allclose(model.transform(X, inputs=u).values, posterior, atol=1e-6)


def test_laplace_score_of_a_nonlinear_poisson_network_equals_importance_sampling():
    rng = np.random.default_rng(0)
    m = rng.standard_normal((40, 2))
    net = LowRankDynamics(
        m, m @ np.array([[1.8, 0.7], [-0.7, 1.8]]), dt=0.02, tau=0.1, loadings=15 * rng.standard_normal((20, 2)),
        offset=np.full(20, 15.0), likelihood="poisson",
    )  # fmt: skip
    X = net.simulate(4, 60, random_state=1).observations
    model = LowRankRNN.from_dataset(net.to_dataset())
    n = 5_000
    for k, laplace in enumerate(model.score_trials(X).values):
        centre = model.transform(X[k : k + 1]).values[0, 0]
        proposal = stats.multivariate_t(centre, 0.02 * np.eye(2), df=5, seed=k)
        z1 = proposal.rvs(n)
        z, log_w = z1, stats.multivariate_normal(np.zeros(2)).logpdf(z1) - proposal.logpdf(z1)
        for t in range(60):
            log_w = log_w + net.log_likelihood(X.values[k, t], z).sum(-1)
            z = net.step(z)
        weights = np.exp(log_w - log_w.max())
        assert weights.sum() ** 2 / (weights**2).sum() > 500  # the sampled value is good to about 0.05 nats
        sampled = log_w.max() + np.log(weights.mean())
        assert abs(laplace - sampled) < 0.01 * 60  # 0.01 nats per bin


@pytest.fixture(scope="module")
def chain():
    net = linear_network()
    rng = np.random.default_rng(2)
    lengths = [12, 31, 7]
    return model_of(net, 5), [rng.standard_normal((n, 5)) for n in lengths]


def test_a_trial_is_the_same_alone_and_in_a_ragged_batch(chain):
    model, trials = chain
    together, scores = model.transform(trials), model.score_trials(trials).values
    for k, trial in enumerate(trials):
        np.testing.assert_allclose(model.transform([trial])[0], together[k], atol=1e-6)
        np.testing.assert_allclose(model.score_trials([trial]).values[0], scores[k], atol=1e-6)


def test_an_unobserved_bin_is_the_same_whatever_it_holds(chain):
    model, _ = chain
    rng = np.random.default_rng(3)
    X = xr.DataArray(rng.standard_normal((2, 12, 5)), dims=("trial", "time", "unit"), attrs={"bin_size": 0.1})
    observed = np.ones((2, 12), bool)
    observed[0, 4] = False
    a = X.assign_coords(observed=(("trial", "time"), observed))
    b = a.copy(data=np.where(observed[..., None], X.values, 1e6))
    assert model.score(a) == model.score(b)
    np.testing.assert_array_equal(model.transform(a).values, model.transform(b).values)


def test_score_is_a_density_in_the_users_units(chain):
    model, trials = chain
    net = model.dynamics_
    ten = net.replace(
        loadings=10 * net.loadings, offset=10 * net.offset, observation_variance=100 * net.observation_variance
    )
    scaled = model_of(ten, 5)
    np.testing.assert_allclose(scaled.score([10 * y for y in trials]), model.score(trials) - 5 * np.log(10), atol=1e-9)
