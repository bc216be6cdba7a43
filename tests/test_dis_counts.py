"""Counts in `DisRNN`: the likelihood and its derivatives, the modes, and Laplace's evidence against exact integrals."""

import numpy as np
import pytest
from scipy import stats
from scipy.special import logsumexp

import planted_groups as planted
from nwb_lrrnn import DisRNN
from nwb_lrrnn.dynamics.likelihoods import LIKELIHOODS
from nwb_lrrnn.models.dis.counts import laplace_update, log_prob, update_readout
from nwb_lrrnn.models.dis.regression import Linear
from nwb_lrrnn.models.dis.units import Units
from scores_of_groups import group_r2

LINKS = ("softplus", "exp")
FAMILIES = (None, 3.0)  # Poisson; dispersion of the negative binomial


def units_of(n, link, dispersion, mean=1.5):
    name = "poisson" if dispersion is None else "negative_binomial"
    return Units(name, "tanh", np.zeros(n), np.full(n, 4 * mean), np.zeros(n), 0.25, link)


def problem(link, dispersion, rank=2, n_units=30, n_bins=12, sd=0.5):
    """Return priors of latents, a model of counts and counts drawn from it."""
    rng = np.random.default_rng(1)
    decoder = rng.standard_normal((n_units, rank)) / np.sqrt(rank)
    units = units_of(n_units, link, dispersion)
    covariance = sd**2 * (0.7 * np.eye(rank) + 0.3)
    prior = 0.7 * rng.standard_normal((n_bins, rank))
    offset = np.full(n_units, 0.2)
    z = prior + rng.standard_normal((n_bins, rank)) @ np.linalg.cholesky(covariance).T
    mean = expected(units, z @ decoder.T + offset)
    y = rng.poisson(mean if dispersion is None else mean * rng.gamma(dispersion, 1 / dispersion, mean.shape))
    no = np.zeros((n_units, 0))
    linear = Linear(decoder, no[:rank], np.zeros(rank), offset, no, covariance, np.ones(n_units))
    dispersions = None if dispersion is None else np.full(n_units, dispersion)
    return prior, covariance, y.astype(float), linear, units, dispersions


def expected(units, x):
    return units.exposure * (np.exp(x) if units.link == "exp" else np.logaddexp(0, x))


def update(prior, covariance, y, linear, units, dispersion, seen=None):
    kind = np.zeros(len(prior), dtype=np.int64)
    shift = np.broadcast_to(linear.offset, y.shape)
    seen = np.ones(y.shape, dtype=bool) if seen is None else seen
    return laplace_update(prior, covariance[None], kind, y, shift, seen, linear, units, dispersion)


def log_density(z, bin_, y, linear, units, dispersion):
    """Return ln p(y | z) of one bin at many z (..., latent), by scipy."""
    mean = expected(units, z @ linear.decoder.T + linear.offset)
    if dispersion is None:
        return stats.poisson(mean).logpmf(y[bin_]).sum(-1)
    return stats.nbinom(dispersion, dispersion / (dispersion + mean)).logpmf(y[bin_]).sum(-1)


@pytest.mark.parametrize("dispersion", FAMILIES)
@pytest.mark.parametrize("link", LINKS)
def test_the_likelihood_is_scipys_and_its_derivatives_are_differences_of_it(link, dispersion):
    x, y = (a.ravel() for a in np.meshgrid(np.r_[np.linspace(-6, 4, 21), -29.9, -31], [0.0, 1.0, 2.0, 7.0]))
    units = units_of(len(x), link, dispersion)
    r = None if dispersion is None else np.full(len(x), dispersion)
    value, slope, information, curvature = log_prob(units, r, y, x)
    constants = LIKELIHOODS[units.likelihood].constants(y, r, units.exposure)
    mean = expected(units, x)
    wanted = stats.poisson(mean) if r is None else stats.nbinom(r, r / (r + mean))
    known = x > -10  # below, scipy forms 1 - p of a p that rounds to 1
    np.testing.assert_allclose((value + constants)[known], wanted.logpmf(y)[known], rtol=1e-9, atol=1e-9)
    h = 1e-5
    near = [log_prob(units, r, y, x + k * h) for k in (-1, 1)]
    # central differences: error h^2, and rounding / h
    np.testing.assert_allclose((near[1][0] - near[0][0]) / (2 * h), slope, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose((near[0][1] - near[1][1]) / (2 * h), curvature, rtol=1e-6, atol=1e-7)
    assert (information >= 0).all()


@pytest.mark.parametrize("dispersion", FAMILIES)
@pytest.mark.parametrize("link", LINKS)
def test_the_fisher_information_is_the_mean_curvature(link, dispersion):
    x = np.linspace(-3, 2, 6)[:, None]
    y = np.arange(2000.0)[None]
    units = Units("poisson", "tanh", np.zeros(1), np.full(1, 2.0), np.zeros(1), 1.0, link)
    r = None if dispersion is None else np.full(1, dispersion)
    value, _, information, curvature = log_prob(units, r, y, np.broadcast_to(x, (6, 2000)))
    mean = expected(units, x)
    weight = stats.poisson(mean).pmf(y) if r is None else stats.nbinom(r, r / (r + mean)).pmf(y)
    np.testing.assert_allclose((weight * curvature).sum(1), information[:, 0], rtol=1e-9)


@pytest.mark.parametrize("dispersion", FAMILIES)
@pytest.mark.parametrize("link", LINKS)
def test_modes_solve_the_gradient_equation(link, dispersion):
    prior, covariance, y, linear, units, r = problem(link, dispersion)
    seen = np.ones(y.shape, dtype=bool)
    seen[1, ::2] = seen[2] = False
    found, spread = update(prior, covariance, y, linear, units, r, seen)
    x = found.means @ linear.decoder.T + linear.offset
    slope = np.where(seen, log_prob(units, r, y, x)[1], 0.0) @ linear.decoder
    pull = np.linalg.solve(covariance, (found.means - prior).T).T
    np.testing.assert_allclose(slope, pull, atol=1e-6)  # steps stop at 1e-15 nats, and slopes go by their root
    np.testing.assert_array_equal(found.means[2], prior[2])
    assert found.log_likelihood[2] == 0.0
    np.testing.assert_allclose(spread[2], covariance, rtol=1e-9)
    # unseen counts tell nothing
    other = update(prior, covariance, np.where(seen, y, 50.0), linear, units, r, seen)[0]
    np.testing.assert_array_equal(other.means, found.means)
    np.testing.assert_array_equal(other.log_likelihood, found.log_likelihood)


@pytest.mark.parametrize("dispersion", FAMILIES)
@pytest.mark.parametrize("link", LINKS)
def test_evidence_and_moments_of_one_latent_are_those_of_numerical_integration(link, dispersion):
    prior, covariance, y, linear, units, r = problem(link, dispersion, rank=1, n_units=20, sd=0.4)
    found, spread = update(prior, covariance, y, linear, units, r)
    grid = np.linspace(-6, 6, 4001)
    for b in range(len(y)):
        log_p = log_density(grid[:, None], b, y, linear, units, r) + stats.norm(
            prior[b, 0], np.sqrt(covariance[0, 0])
        ).logpdf(grid)
        exact = logsumexp(log_p) + np.log(grid[1] - grid[0])
        weight = np.exp(log_p - exact) * (grid[1] - grid[0])
        assert found.log_likelihood[b] == pytest.approx(exact, abs=0.01)  # Laplace's own error, some 1e-3 here
        mean = weight @ grid
        assert found.means[b, 0] == pytest.approx(mean, abs=0.03)  # a mode stands for a mean
        assert spread[b, 0, 0] == pytest.approx(weight @ (grid - mean) ** 2, rel=0.1)


@pytest.mark.parametrize("dispersion", FAMILIES)
@pytest.mark.parametrize("link", LINKS)
def test_evidence_is_that_of_importance_sampling_within_a_hundredth_of_a_nat(link, dispersion):
    prior, covariance, y, linear, units, r = problem(link, dispersion)
    found, spread = update(prior, covariance, y, linear, units, r)
    rng = np.random.default_rng(2)
    exact = np.zeros(len(y))
    for b in range(len(y)):
        proposal = stats.multivariate_t(found.means[b], 1.2 * spread[b], df=8)
        z = proposal.rvs(4000, random_state=rng)
        weight = log_density(z, b, y, linear, units, r)
        weight = weight + stats.multivariate_normal(prior[b], covariance).logpdf(z) - proposal.logpdf(z)
        exact[b] = logsumexp(weight) - np.log(len(z))  # standard error some 6e-3
    assert found.log_likelihood.mean() == pytest.approx(exact.mean(), abs=0.01)
    np.testing.assert_allclose(found.log_likelihood, exact, atol=0.03)


def test_the_readout_of_known_latents_is_found():
    _, _, _, linear, units, _ = problem("softplus", None, n_units=6)
    rng = np.random.default_rng(3)
    z, inputs = rng.standard_normal((8_000, 2)), rng.standard_normal((8_000, 1))
    of_inputs = rng.standard_normal((6, 1)) / 2
    y = rng.poisson(expected(units, z @ linear.decoder.T + linear.offset + inputs @ of_inputs.T)).astype(float)
    start = Linear(
        np.zeros((6, 2)), np.zeros((2, 6)), np.zeros(2), np.zeros(6), np.zeros((6, 1)), np.eye(2), np.ones(6)
    )
    seen = np.ones(y.shape, dtype=bool)
    for _ in range(3):
        start, _ = update_readout(start, units, None, y, seen, inputs, z, np.zeros((len(z), 2, 2)))
    # 8,000 bins of some 1.5 counts: errors of about 0.01
    np.testing.assert_allclose(start.decoder, linear.decoder, atol=0.05)
    np.testing.assert_allclose(start.offset, linear.offset, atol=0.05)
    np.testing.assert_allclose(start.input_weights, of_inputs, atol=0.05)


@pytest.fixture(scope="module")
def counted():
    recording = planted.counts(planted.network(n_units=20), 1, 1000, mean=2.0)
    return recording, DisRNN(4, random_state=0, n_bootstraps=0, likelihood="poisson").fit(recording.observations)


def test_groups_of_counts_are_found(counted):
    recording, model = counted
    scores = [
        group_r2(recording.latents, model.transform(recording.observations, posterior=p), (2, 2))
        for p in ("smoothed", "filtered", "delayed")
    ]
    assert scores[0] > 0.9
    assert scores[0] > scores[1] > scores[2] > 0.5
    assert model.noise_ == "readout"


def test_the_network_of_counts_is_one_of_currents(counted):
    recording, model = counted
    net = model.dynamics_
    assert (net.likelihood, net.link, net.readout) == ("poisson", "softplus", "currents")
    mean = model.inverse_transform(model.transform(recording.observations))
    np.testing.assert_allclose(mean.mean((0, 1)), recording.observations.mean((0, 1)), rtol=0.1)
    connectivity = recording.network.left_vectors @ recording.network.right_vectors
    found = model.connectivity().values
    assert np.corrcoef(found.ravel(), connectivity.ravel())[0, 1] > 0.8
    simulated = model.simulate(4, 400, random_state=0)
    np.testing.assert_array_equal(simulated.observations, np.round(simulated.observations))
    np.testing.assert_allclose(
        simulated.latents.std(("trial", "time")), np.sqrt(np.diag(net.latent_covariance)), rtol=0.25
    )


@pytest.mark.parametrize("link", LINKS)
def test_negative_binomial_units_have_a_dispersion(link):
    recording = planted.counts(planted.network(n_units=8), 1, 300, mean=3.0)
    model = DisRNN(4, likelihood="negative_binomial", link=link, n_bootstraps=0, random_state=0)
    model.fit(recording.observations)
    assert model.dynamics_.dispersion.shape == (8,)
    assert (model.dynamics_.dispersion > 3).all()  # Poisson: the more the nearer
    again = DisRNN.from_dataset(model.to_dataset())
    assert again.score(recording.observations) == model.score(recording.observations)
