"""Bins that hold 0 or 1: the Bernoulli likelihood against scipy, sums and integrals, in every model that has it."""

import warnings

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit, logit
from sklearn.exceptions import ConvergenceWarning

from nwb_lrrnn import DisRNN, LowRankRNN, SMCLowRankRNN
from nwb_lrrnn.compare import compare_baselines
from nwb_lrrnn.dynamics import LIKELIHOODS, LowRankDynamics
from nwb_lrrnn.dynamics.likelihoods import Likelihood
from nwb_lrrnn.models.kernels import observation
from nwb_lrrnn.models.linear import LinearStateSpace, MeanRate, VectorAutoregression

BIN = 0.002
MODEL = Likelihood("bernoulli", "logit", BIN)
FITS = {  # small, and long enough
    "linear": LinearStateSpace(2, likelihood="bernoulli", max_iter=30, tol=1e-3, n_particles=32),
    "low rank": LowRankRNN(
        2, n_neurons=20, likelihood="bernoulli", max_epochs=40, patience=60, random_state=0, shooting_window=None
    ),
    "smc": SMCLowRankRNN(
        2, n_neurons=20, likelihood="bernoulli", max_epochs=3, patience=10, n_particles=16, random_state=0
    ),
}


def oscillator(n_units=12, rate=-2.0, seed=1):
    """Return a noisy rotation of two latents, seen by units that hold 0 or 1."""
    rng = np.random.default_rng(seed)
    angle = 2 * np.pi / 30
    turn = 0.97 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return LowRankDynamics(
        np.eye(2), 2 * turn.T, dt=BIN, tau=BIN, nonlinearity="identity", latent_noise=0.05 * np.eye(2),
        loadings=1.2 * rng.standard_normal((n_units, 2)), offset=rate + 0.3 * rng.standard_normal(n_units),
        likelihood="bernoulli",
    )  # fmt: skip


def seen(net, n_trials, n_steps, seed):
    """Return latents and observations of a network as DataArrays."""
    drawn = net.simulate(n_trials, n_steps, random_state=seed)
    return drawn.latents, drawn.observations


@pytest.fixture(scope="module")
def data():
    return seen(oscillator(), 28, 60, 0)


@pytest.fixture(scope="module", params=FITS)
def fitted(request, data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # few epochs do
        return FITS[request.param].fit(data[1][:20])


# --- the density -----------------------------------------------------------------------------------------------------


def test_network_has_the_density_the_mean_and_the_draws_of_scipy():
    net = oscillator()
    assert net.link == "logit"
    z = np.random.default_rng(0).standard_normal((50, 2))
    p = expit(z @ net.loadings.T + net.offset)
    np.testing.assert_allclose(net.expected(z), p, rtol=1e-12)
    y = (np.random.default_rng(1).random(p.shape) < p).astype(int)
    np.testing.assert_allclose(net.log_likelihood(y, z), stats.bernoulli.logpmf(y, p), rtol=1e-10)
    drawn = net.simulate(20_000, 1, initial_latents=z[0], random_state=0).observations.values[:, 0]
    assert set(np.unique(drawn)) == {0, 1}
    assert drawn.dtype.kind == "i"
    assert (np.abs(drawn.mean(0) - p[0]) < 5 * np.sqrt(p[0] * (1 - p[0]) / 20_000)).all()
    again = LowRankDynamics.from_dataset(net.to_dataset())
    assert (again.likelihood, again.link) == ("bernoulli", "logit")
    np.testing.assert_array_equal(again.log_likelihood(y, z), net.log_likelihood(y, z))


@pytest.mark.parametrize("y", [0.0, 1.0])
def test_values_slopes_and_information_are_those_of_the_density_far_out_too(y):
    eta, h = np.array([-600.0, -50.0, -36.0, -2.0, 0.0, 0.7, 30.0, 45.0, 600.0]), 1e-5
    value, slope, fisher, curvature = MODEL.terms(np.full_like(eta, y), eta)
    near = np.abs(eta) < 10
    up, down = (MODEL.value(np.full_like(eta, y), eta + s) for s in (h, -h))
    np.testing.assert_allclose(slope[near], ((up - down) / (2 * h))[near], rtol=1e-7)
    np.testing.assert_allclose(curvature[near], (-(up - 2 * value + down) / h**2)[near], rtol=1e-3)
    np.testing.assert_allclose(fisher, expit(eta) * expit(-eta))
    np.testing.assert_allclose(value, -np.logaddexp(0, -eta if y else eta), rtol=1e-12, atol=1e-13)
    for k, x in enumerate(eta):
        ours = observation.terms(MODEL.code, y, x, 1.0, 1.0)
        np.testing.assert_allclose(ours, (value[k], slope[k], max(fisher[k], 1e-300)), rtol=1e-9, atol=1e-13)
        np.testing.assert_allclose(observation.value(MODEL.code, y, x, 1.0, 1.0), value[k], rtol=1e-12, atol=1e-13)
        prior = [float(a[k]) for a in MODEL.prior(eta)]
        np.testing.assert_allclose(observation.prior(MODEL.code, x), prior, rtol=1e-9, atol=1e-15)


def test_deviance_and_link_go_back_and_forth():
    p = np.linspace(0.01, 0.99, 9)
    np.testing.assert_allclose(expit(MODEL.eta_of(p)), p, rtol=1e-12)
    np.testing.assert_allclose(MODEL.g.slope(logit(p)), p * (1 - p))
    family = LIKELIHOODS["bernoulli"]
    for y in (0.0, 1.0):
        np.testing.assert_allclose(family.deviance(np.full(9, y), p), -2 * stats.bernoulli.logpmf(y, p))


# --- scores against integrals ----------------------------------------------------------------------------------------


def by_grid(net, y):
    """Return ln p(y) of one trial of a linear network of rank 1, integrated over a grid of its latent."""
    z = np.linspace(-8, 8, 2001)
    width = z[1] - z[0]
    density = stats.norm.pdf(z, net.initial_mean[0], np.sqrt(net.initial_covariance[0, 0]))
    noise = 0.0 if net.latent_noise is None else net.latent_noise[0, 0]
    step = stats.norm.pdf(z[:, None], net.step(z[:, None])[:, 0], np.sqrt(noise)) if noise else None
    total = 0.0
    for t in range(len(y)):
        if t:
            density = step @ density * width
        density = density * np.exp(net.log_likelihood(y[t], z[:, None]).sum(1))
        mass = density.sum() * width
        total, density = total + np.log(mass), density / mass
    return total


def line(noise):
    return LowRankDynamics(
        [[1.0]], [[0.9]], dt=BIN, tau=BIN, nonlinearity="identity", latent_noise=noise, initial_mean=[0.3],
        initial_covariance=[[0.5]], loadings=np.linspace(-1.5, 1.5, 6)[:, None], offset=np.linspace(-2, 0.5, 6),
        likelihood="bernoulli",
    )  # fmt: skip


@pytest.mark.parametrize("kind", [LinearStateSpace, SMCLowRankRNN])
def test_score_of_a_known_model_is_the_integral_over_its_latents(kind):
    net = line([[0.2]])
    X = net.simulate(4, 25, random_state=0).observations
    model = kind.from_dataset(net.to_dataset()).set_params(n_particles=500)
    wanted = np.mean([by_grid(net, y) for y in X.values]) / 25
    assert abs(model.score(X) - wanted) < 0.01


def test_score_of_low_rank_rnn_is_the_integral_over_the_first_latent():
    net = line(None)
    X = net.simulate(6, 12, random_state=0).observations
    z = np.linspace(-6, 6, 4001)
    prior = stats.norm.logpdf(z, 0.3, np.sqrt(0.5))
    wanted = []
    for y in X.values:
        path = 0.9 ** np.arange(12)[:, None] * z  # (time, grid)
        log_p = prior + net.log_likelihood(y[:, None, :], path[..., None]).sum((0, 2))
        wanted.append(np.log(np.exp(log_p).sum() * (z[1] - z[0])))
    model = LowRankRNN.from_dataset(net.to_dataset())
    assert abs(model.score(X) - np.mean(wanted) / 12) < 0.01  # Laplace's integral is not exact


def test_mean_rate_is_independent_coins():
    X = (np.random.default_rng(0).random((5, 40, 3)) < [0.01, 0.3, 0.99]).astype(float)
    model = MeanRate(likelihood="bernoulli", bin_size=BIN).fit(X)
    p = (X.sum((0, 1)) + 0.5) / 201
    np.testing.assert_allclose(model.mean_, p)
    np.testing.assert_allclose(model.score(X), stats.bernoulli.logpmf(X, p).sum() / 200, rtol=1e-12)


# --- fits ------------------------------------------------------------------------------------------------------------


def test_a_planted_oscillation_is_found(fitted, data):
    latents, X = (part[20:] for part in data)
    truth = LinearStateSpace.from_dynamics(oscillator()).score(X)
    constant = MeanRate(likelihood="bernoulli").fit(data[1][:20]).score(X)
    assert fitted.score(X) - constant > 0.5 * (truth - constant) > 0
    p = fitted.inverse_transform(fitted.transform(X))
    assert ((p.values > 0) & (p.values < 1)).all()
    np.testing.assert_allclose(fitted.rates(fitted.transform(X)).values, p.values / BIN)
    known = oscillator().expected(latents.values)
    assert np.corrcoef(p.values.ravel(), known.ravel())[0, 1] > 0.75


def test_a_fit_goes_through_a_dataset_and_simulates(fitted, data):
    again = type(fitted).from_dataset(fitted.to_dataset())
    X = data[1][20:23]
    assert again.likelihood_ == "bernoulli"
    np.testing.assert_allclose(again.transform(X).values, fitted.transform(X).values, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(again.score(X), fitted.score(X), rtol=1e-9)
    drawn = again.simulate(3, 20, random_state=0).observations.values
    assert set(np.unique(drawn)) <= {0, 1}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_order_of_the_units_does_not_matter(data):
    X = data[1][:10]
    order = np.random.default_rng(0).permutation(X.sizes["unit"])
    one, other = (LinearStateSpace(2, likelihood="bernoulli", max_iter=5, tol=0.5).fit(x) for x in (X, X[..., order]))
    p, q = (m.inverse_transform(m.transform(x)).values for m, x in ((one, X), (other, X[..., order])))
    np.testing.assert_allclose(q, p[..., order], rtol=1e-5, atol=1e-7)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_coins_alone_are_no_better_explained_than_by_the_mean_rate():
    X = (np.random.default_rng(3).random((40, 30, 8)) < 0.15).astype(float)
    train, test = X[:25], X[25:]
    model = LowRankRNN(1, n_neurons=20, likelihood="bernoulli", bin_size=BIN, max_epochs=30, random_state=0).fit(train)
    rate = MeanRate(likelihood="bernoulli", bin_size=BIN).fit(train)
    gain = (model.score_trials(test) - rate.score_trials(test)).values
    assert gain.mean() < 3 * gain.std() / np.sqrt(len(gain))


def test_autoregression_finds_who_drives_whom():
    rng = np.random.default_rng(0)
    X = np.zeros((20, 300, 2))
    for t in range(300):
        before = X[:, t - 1, 0] if t else np.zeros(20)
        X[:, t] = rng.random((20, 2)) < np.stack([np.full(20, 0.2), expit(-2.0 + 2.5 * before)], axis=1)
    model = VectorAutoregression(likelihood="bernoulli", alpha=1.0, bin_size=BIN).fit(X)
    assert model.link_ == "logit"
    found = model.coefficients_[0]
    np.testing.assert_allclose(found, [[0, 0], [2.5, 0]], atol=0.35)
    assert model.score(X) > MeanRate(likelihood="bernoulli", bin_size=BIN).fit(X).score(X)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_every_baseline_stands_beside_a_model(data):
    model = LinearStateSpace(1, likelihood="bernoulli", max_iter=3, tol=0.5, n_particles=8)
    table = compare_baselines(model, data[1][:10, :30, :4], cv=2, larger_ranks=())
    assert np.isfinite(table["log_likelihood"]).all()
    assert table.attrs["link"] == "logit"
    assert {"mean rate", "VAR(1)"} <= set(table.index)


# --- damage ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [*FITS.values(), MeanRate(likelihood="bernoulli")], ids=[*FITS, "mean rate"])
@pytest.mark.parametrize(
    ("value", "what"), [(2, "too large a value 2"), (-1, "negative value -1"), (0.5, "fractional")]
)
def test_what_is_not_0_or_1_is_refused_by_place(model, value, what, data):
    X = data[1][:5].astype(float).copy()
    X[3, 7, 2] = value
    place = rf"X: {what}.* at trial 3, time .*unit 2; bernoulli wants 0 or 1 in every bin; bin more finely"
    with pytest.raises(ValueError, match=place):
        model.fit(X)


def test_a_fitted_model_refuses_counts_too(fitted, data):
    X = data[1][:2].copy()
    X[1, 0, 0] = 3
    with pytest.raises(ValueError, match=r"X: too large a value 3 at trial 1.*likelihood='poisson' for counts"):
        fitted.transform(X)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(("name", "always"), [("linear", 0), ("linear", 1), ("low rank", 0), ("smc", 1)])
def test_a_unit_that_hardly_ever_changes_leaves_everything_finite(name, always, data):
    X = data[1][:10, :30].copy()
    X[..., 4] = always
    X[0, 0, 4] = 1 - always
    params = {"max_iter": 3, "tol": 0.5} if name == "linear" else {"max_epochs": 1}
    model = type(FITS[name])(**FITS[name].get_params() | params).fit(X)
    assert np.isfinite(model.score(X))
    p = model.inverse_transform(model.transform(X)).values[..., 4]
    assert abs(p.mean() - always) < 0.2


def test_it_is_never_chosen_by_itself_and_other_links_and_models_are_refused(data):
    X = data[1][:5]
    assert MeanRate().fit(X).likelihood_ == "poisson"
    with pytest.raises(ValueError, match="link: got 'softplus', wanted one of 'logit'"):
        LinearStateSpace(2, likelihood="bernoulli", link="softplus").fit(X)
    with pytest.raises(ValueError, match="link: got 'logit', wanted one of 'softplus', 'exp'"):
        LinearStateSpace(2, likelihood="poisson", link="logit").fit(X)
    with pytest.raises(ValueError, match="likelihood: got 'bernoulli', wanted one of 'auto', 'gaussian', 'poisson'"):
        DisRNN(2, likelihood="bernoulli").fit(X)
    with pytest.raises(ValueError, match="link: got 'exp' with likelihood='bernoulli', wanted 'logit'"):
        oscillator().replace(link="exp")
    with pytest.raises(ValueError, match="link_gain: got one for Bernoulli units, wanted None"):
        oscillator().replace(link_gain=np.ones(12))
    one = LowRankDynamics(
        np.ones((3, 1)), np.ones((3, 1)), dt=1, tau=1, readout="currents", loadings=np.ones(3), likelihood="bernoulli"
    )
    with pytest.raises(ValueError, match="got likelihood='bernoulli', which DisRNN has not"):
        DisRNN.from_dataset(one.to_dataset())
