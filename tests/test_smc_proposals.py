"""What `SMCLowRankRNN` scores: Kalman's likelihood of linear networks, without bias, whatever the trials come with."""

import numpy as np
import pytest
import torch

from nwb_lrrnn.dynamics import LowRankDynamics
from nwb_lrrnn.models.kernels.particle_types import NEVER
from nwb_lrrnn.models.linear import LinearStateSpace
from nwb_lrrnn.models.linear.smoothing import smooth
from nwb_lrrnn.models.linear.system import from_dynamics
from nwb_lrrnn.models.smc import SMCLowRankRNN, bound, filtering, inference, network
from nwb_lrrnn.models.smc.bound import Plan
from nwb_lrrnn.models.smc.data import trial_data
from nwb_lrrnn.models.smc.proposals import own_sites
from nwb_lrrnn.trials import as_trials
from small_filter import filter_parts, linear_dynamics


def model_of(dynamics, n_particles=1000, **parameters):
    dataset = dynamics.to_dataset().assign_attrs(n_particles_=n_particles)
    return SMCLowRankRNN.from_dataset(dataset).set_params(dtype="float64", bin_size=0.1, **parameters)


def draw_trials(dynamics, n_trials=6, n_steps=20, lengths=None, seed=0):
    """Return lists of trials (time, unit) and, where the network has inputs, of inputs."""
    rng = np.random.default_rng(seed)
    u = rng.standard_normal((n_trials, n_steps, dynamics.n_inputs)) if dynamics.n_inputs else None
    y = dynamics.simulate(n_trials, n_steps, inputs=u, random_state=seed)["observations"].values
    lengths = [n_steps] * n_trials if lengths is None else lengths
    X = [trial[:n].astype(np.float64) for trial, n in zip(y, lengths, strict=True)]
    return X, None if u is None else [trial[:n] for trial, n in zip(u, lengths, strict=True)]


def gap(dynamics, X, u=None, n_runs=8, **parameters):
    """Return how far the mean score of some runs lies above that of the linear model, nats per bin."""
    model = model_of(dynamics, **parameters)
    scores = [model.set_params(random_state=seed).score(X, inputs=u) for seed in range(n_runs)]
    exact = LinearStateSpace.from_dynamics(dynamics).set_params(random_state=0)
    if dynamics.likelihood != "gaussian":
        exact.set_params(n_particles=100)  # it looks ahead: 16 would do
    return np.mean(scores) - exact.score(X, inputs=u)


# --- the level of the score ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("proposal", "scheme", "when"),
    [
        ("optimal", "systematic", "low_ess"),
        ("optimal", "stratified", "before_step"),
        ("optimal", "multinomial", "every_step"),
        ("laplace", "stratified", "low_ess"),
        ("bootstrap", "multinomial", "before_step"),
        ("bootstrap", "systematic", "every_step"),
    ],
)
@pytest.mark.parametrize("readout", ["latents", pytest.param("currents", marks=pytest.mark.slow)])
def test_score_of_a_linear_network_equals_kalman(proposal, scheme, when, readout):
    dynamics = linear_dynamics(readout=readout)
    X, _ = draw_trials(dynamics)
    assert abs(gap(dynamics, X, proposal=proposal, resampling=scheme, resample_when=when)) < 0.01


@pytest.mark.parametrize("filter_inputs", [False, True])
@pytest.mark.parametrize("readout", ["latents", "currents"])
def test_score_with_inputs_masks_and_unequal_lengths_equals_kalman(readout, filter_inputs):
    dynamics = linear_dynamics(readout=readout, inputs=2, filter_inputs=filter_inputs)
    X, u = draw_trials(dynamics, lengths=[20, 7, 20, 1, 13, 20])
    rng = np.random.default_rng(1)
    for trial in X[:4]:
        trial[rng.random(trial.shape) < 0.2] = np.nan
    X[0][[0, 5, 19]] = np.nan
    X[3][0, 0] = 0.3
    X[4][3:8] = np.nan
    assert abs(gap(dynamics, X, u)) < 0.01


@pytest.mark.parametrize(
    ("proposal", "when"), [("laplace", "low_ess"), ("laplace", "before_step"), ("bootstrap", "low_ess")]
)
@pytest.mark.parametrize("link", ["softplus", "exp"])
def test_score_of_linear_counts_equals_the_bound_of_the_linear_model(proposal, when, link):
    rng = np.random.default_rng(2)
    size = 5.0 if link == "softplus" else 0.4
    dynamics = linear_dynamics(
        "poisson", link=link, loadings=size * rng.standard_normal((4, 2)),
        offset=np.full(4, 10.0 if link == "softplus" else 2.0),
    )  # fmt: skip
    X, _ = draw_trials(dynamics)
    X[1] = X[1][:11]
    X[0][4] = np.nan
    X[2][6, 1] = np.nan
    assert abs(gap(dynamics, X, n_runs=4, proposal=proposal, resample_when=when)) < 0.02


def test_thresholds_of_neurons_that_have_none_change_nothing():
    rng = np.random.default_rng(0)
    fields = {"nonlinearity": "relu", "latent_noise": 0.1 * np.eye(2)}
    X = rng.standard_normal((2, 5, 4))
    plain = model_of(linear_dynamics(**fields), 8).score(X)
    assert model_of(linear_dynamics(**fields, thresholds=np.ones(6)), 8).score(X) == plain


def test_a_model_made_of_dynamics_reads_what_they_read():
    rates = linear_dynamics(readout="rates")  # of identity neurons: currents
    X, _ = draw_trials(rates, 2, 6)
    currents = model_of(linear_dynamics(readout="currents"), 8, proposal="laplace").score(X)
    np.testing.assert_allclose(model_of(rates, 8).score(X), currents, rtol=1e-9)


# --- without bias ----------------------------------------------------------------------------------------------------

RUNS, FEW = 6000, 4


def estimates(net, y, plan, sites=None, seed=0):
    """Return ln of independent estimates of p(Y) of one trial."""
    data = trial_data(as_trials(np.repeat(y[None], RUNS, axis=0), bin_size=0.1, allow_nan=True), "cpu")
    generator = torch.Generator().manual_seed(seed)
    like = net.cell.left_vectors
    noise = bound.draw_noise(plan.scheme, data.y.shape[:2], plan.n_particles, like.shape[1], like, generator)
    if sites is None:
        increments, _ = bound.run(net, data, plan, noise)
    else:
        fixed, constant, seen = filter_parts(net, data, plan)
        increments, _ = filtering.run(*fixed, sites(constant), seen, noise)
    return increments[0].sum(1).numpy()


def assert_unbiased(log_estimates, log_p):
    ratio = np.exp(log_estimates - log_p)
    error = ratio.std() / np.sqrt(len(ratio))
    assert error < 0.03  # or the test would see nothing
    assert abs(ratio.mean() - 1.0) < 4 * error


def wrong_sites(constant):
    """Return sites that have nothing to do with the observations: they cost precision only."""
    rng = np.random.default_rng(3)
    root = 0.7 * torch.tensor(rng.standard_normal((1, 1, constant.shape[2], 2, 2))).expand(1, RUNS, -1, -1, -1)
    slope = 0.5 * torch.tensor(rng.standard_normal((1, 1, constant.shape[2], 2))).expand(1, RUNS, -1, -1)
    return own_sites(root @ root.mT, slope, constant)


@pytest.mark.parametrize("when", ["every_step", "low_ess", "before_step", "never"])
@pytest.mark.parametrize(
    ("proposal", "scheme"),
    [
        ("optimal", "systematic"),
        ("optimal", "multinomial"),
        ("laplace", "stratified"),
        ("bootstrap", "systematic"),
        ("bootstrap", "multinomial"),
        ("given", "stratified"),
    ],
)
def test_the_estimate_of_the_likelihood_has_no_bias(proposal, scheme, when, monkeypatch):
    monkeypatch.setitem(bound.WHEN, "never", NEVER)
    dynamics = linear_dynamics(observation_variance=np.full(4, 3.0))
    y = dynamics.simulate(1, 3, random_state=1)["observations"].values[0]
    y[1, 2] = np.nan
    log_p = float(LinearStateSpace.from_dynamics(dynamics).score_trials(y[None])[0])
    net = network.from_dynamics(dynamics, dtype=torch.float64, device="cpu")
    plan = Plan(proposal, FEW, scheme, when)
    sites = wrong_sites if proposal == "given" else None
    assert_unbiased(estimates(net, y, plan, sites), log_p)


@pytest.mark.parametrize("when", ["every_step", "low_ess", "before_step"])
@pytest.mark.parametrize(
    ("likelihood", "proposal"), [("poisson", "laplace"), ("negative_binomial", "laplace"), ("poisson", "bootstrap")]
)
def test_the_estimate_of_nonlinear_counts_has_no_bias(likelihood, proposal, when):
    rng = np.random.default_rng(4)
    dynamics = LowRankDynamics(
        2 * rng.standard_normal((5, 1)), 8 * rng.standard_normal((5, 1)), dt=0.1, tau=0.2, latent_noise=[[0.3]],
        initial_covariance=[[0.8]], loadings=[[8.0], [-5.0]], offset=[10.0, 15.0], likelihood=likelihood,
        dispersion=[2.0, 3.0] if likelihood == "negative_binomial" else None,
    )  # fmt: skip
    y = np.array([[2.0, 1.0], [0.0, 4.0], [1.0, 1.0]])
    z = np.linspace(-8, 8, 1601)[:, None]
    move = np.exp(-0.5 * (z.T - dynamics.step(z)) ** 2 / 0.3) / np.sqrt(2 * np.pi * 0.3) * 0.01
    law = np.exp(-0.5 * z[:, 0] ** 2 / 0.8) / np.sqrt(2 * np.pi * 0.8) * 0.01
    for t in range(3):
        law = (law if t == 0 else law @ move) * np.exp(dynamics.log_likelihood(y[t], z).sum(1))
    net = network.from_dynamics(dynamics, dtype=torch.float64, device="cpu")
    assert_unbiased(estimates(net, y, Plan(proposal, FEW, when=when)), np.log(law.sum()))


# --- what a score must not depend on ---------------------------------------------------------------------------------


@pytest.mark.parametrize("likelihood", ["gaussian", "poisson"])
def test_score_is_equal_alone_in_a_ragged_batch_in_any_order_and_in_chunks(likelihood, monkeypatch):
    dynamics = linear_dynamics(likelihood, inputs=1, nonlinearity="tanh")
    X, u = draw_trials(dynamics, 4, lengths=[20, 5, 12, 20])
    X[0][3] = np.nan
    X[2][6, 1] = np.nan
    model = model_of(dynamics, 32, random_state=3)
    together = model.score_trials(X, inputs=u).values
    alone = [float(model.score_trials([x], inputs=[v])[0]) for x, v in zip(X, u, strict=True)]
    np.testing.assert_allclose(together, alone, rtol=1e-6)
    order = [2, 0, 3, 1]
    mixed = model.score_trials([X[k] for k in order], inputs=[u[k] for k in order]).values
    np.testing.assert_allclose(mixed, together[order], rtol=1e-6)
    marginal = model.marginal_forecast_score(X, 3, inputs=u)
    np.testing.assert_allclose(
        model.marginal_forecast_score([X[k] for k in order], 3, inputs=[u[k] for k in order]), marginal, rtol=1e-6
    )
    monkeypatch.setattr(inference, "_AT_ONCE", 1000)
    np.testing.assert_allclose(model.score_trials(X, inputs=u).values, together, rtol=1e-6)
    np.testing.assert_allclose(model.marginal_forecast_score(X, 3, inputs=u), marginal, rtol=1e-6)


# --- forecasts -------------------------------------------------------------------------------------------------------

AHEAD = 3


@pytest.mark.parametrize("inputs", [0, 1])
def test_forecast_score_equals_the_gain_of_kalman_over_shortened_trials(inputs):
    dynamics = linear_dynamics(inputs=inputs)
    X, u = draw_trials(dynamics, 6, 15, lengths=[15, 9, 12, 15, 15, 4])
    X[1][-2] = np.nan
    exact = LinearStateSpace.from_dynamics(dynamics)
    gain = exact.score_trials(X, inputs=u).values.sum()
    gain -= exact.score_trials([x[:-AHEAD] for x in X], inputs=u and [v[:-AHEAD] for v in u]).values.sum()
    model = model_of(dynamics)
    scores = [model.set_params(random_state=k).forecast_score(X, AHEAD, inputs=u) for k in range(8)]
    assert abs(np.mean(scores) - gain / (6 * AHEAD - 1)) < 0.02


@pytest.mark.parametrize("inputs", [0, 1])
def test_marginal_forecast_score_equals_the_gaussian_predictions_of_single_bins(inputs):
    dynamics = linear_dynamics(inputs=inputs)
    X, u = draw_trials(dynamics, 6, 15, lengths=[15, 9, 12, 15, 15, 4])
    X[1][-2] = np.nan
    system, total = from_dynamics(dynamics), 0.0
    for k, x in enumerate(X):
        end = len(x) - AHEAD
        moments = smooth(system, as_trials([x[:end]], inputs=u and [u[k][:end]], allow_nan=True))
        mean, cov = moments.smoothed[0, -1], moments.covariances[0, -1]
        drive, _ = system.drives(None if u is None else u[k][None], 1, len(x))
        for t in range(end, len(x)):
            mean = system.transition @ mean + drive[0, t - 1]
            cov = system.transition @ cov @ system.transition.T + system.noise
            if np.isnan(x[t]).any():
                continue
            spread = system.loadings @ cov @ system.loadings.T + np.diag(system.variance)
            error = x[t] - system.loadings @ mean - system.offset
            total -= 0.5 * (error @ np.linalg.solve(spread, error) + np.linalg.slogdet(2 * np.pi * spread)[1])
    model = model_of(dynamics)
    scores = [model.set_params(random_state=k).marginal_forecast_score(X, AHEAD, inputs=u) for k in range(8)]
    assert abs(np.mean(scores) - total / (6 * AHEAD - 1)) < max(4 * np.std(scores) / np.sqrt(8), 0.005)


@pytest.mark.parametrize("verb", ["forecast_score", "marginal_forecast_score"])
def test_too_many_forecast_bins_are_refused(verb):
    dynamics = linear_dynamics()
    X, _ = draw_trials(dynamics, 2, 6, lengths=[6, 4])
    with pytest.raises(ValueError, match="n_steps: got 4, wanted fewer than the 4 bins of the shortest trial"):
        getattr(model_of(dynamics, 8), verb)(X, 4)
    with pytest.raises(ValueError, match="n_steps"):
        getattr(model_of(dynamics, 8), verb)(X, 0)
