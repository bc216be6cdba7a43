"""Mean rate, factor analysis and autoregression against densities written out, and on data planted for each."""

import numpy as np
import pytest
from scipy import stats

from nwb_lrrnn.models.linear import FactorAnalysis, LinearStateSpace, MeanRate, VectorAutoregression
from nwb_lrrnn.models.linear.autoregression import masked_normal, ridge


def gaussian_var(n_trials=60, n_steps=30, seed=0):
    """y_t = c + A y_{t-1} + e, e correlated, started at its stationary law."""
    rng = np.random.default_rng(seed)
    A = np.array([[0.7, 0.2, 0.0], [-0.2, 0.6, 0.0], [0.0, 0.3, 0.4]])
    root = np.array([[1.0, 0, 0], [0.8, 0.6, 0], [0, 0, 1.0]])
    y = np.zeros((n_trials, n_steps + 50, 3))
    for t in range(1, n_steps + 50):
        y[:, t] = y[:, t - 1] @ A.T + 1.0 + rng.standard_normal((n_trials, 3)) @ root.T
    return y[:, 50:], A, root @ root.T


def test_mean_rate_is_independent_densities():
    rng = np.random.default_rng(0)
    X, test = rng.normal(3, 2, (5, 20, 4)), rng.normal(3, 2, (2, 20, 4))
    wanted = stats.norm(X.mean((0, 1)), X.std((0, 1))).logpdf(test).sum() / 40
    np.testing.assert_allclose(MeanRate().fit(X).score(test), wanted)
    counts, more = rng.poisson(1.5, (5, 20, 4)), rng.poisson(1.5, (2, 20, 4))
    rate = (counts.sum((0, 1)) + 0.5) / 100
    model = MeanRate().fit(counts)
    np.testing.assert_allclose(model.score(more), stats.poisson(rate).logpmf(more).sum() / 40)
    per_trial = model.score_trials(more)
    np.testing.assert_allclose(float(per_trial.sum()) / 40, model.score(more))


def test_mean_rate_of_negative_binomial_counts():
    X = np.random.default_rng(0).negative_binomial(2, 0.4, (20, 50, 3))
    model = MeanRate(likelihood="negative_binomial").fit(X)
    np.testing.assert_allclose(model.dispersion_, 2.0, rtol=0.3)  # three standard errors of 1000 counts
    r, mean = model.dispersion_, model.mean_
    wanted = stats.nbinom(r, r / (r + mean)).logpmf(X).sum() / 1000
    np.testing.assert_allclose(model.score(X), wanted)
    assert model.score(X) > MeanRate().fit(X).score(X)


def test_units_nearly_silent_in_training_are_not_impossible_later():
    rng = np.random.default_rng(0)
    X, test = rng.poisson(0.5, (6, 20, 3)), rng.poisson(0.5, (2, 20, 3))
    X[..., 1] = 0
    X[0, 0, 1] = 1
    options = {"bin_size": 0.1, "likelihood": "poisson"}
    for model in (
        MeanRate(**options),
        FactorAnalysis(1, **options, tol=1e-2),
        VectorAutoregression(**options),
        LinearStateSpace(1, **options, tol=1e-2),
    ):
        assert np.isfinite(model.fit(X).score(test))


def test_masked_bins_are_skipped_by_every_baseline():
    X = gaussian_var(20)[0]
    masked = X.copy()
    masked[3, 10:14] = np.nan
    masked[4, 2, 1] = np.nan
    for model in (MeanRate(), FactorAnalysis(1), VectorAutoregression(), VectorAutoregression(2)):
        model.fit(masked)
        a = model.score_trials(masked)
        np.testing.assert_array_equal(a["n_bins"][[3, 4]], [26, 30])
        ragged = [trial[:n] for trial, n in zip(X, (30, 12, 5, *[30] * 17), strict=True)]
        alone = [float(model.score_trials([trial])[0]) for trial in ragged]
        np.testing.assert_allclose(model.score_trials(ragged), alone, rtol=1e-9)


def test_factor_analysis_is_the_density_of_independent_bins():
    rng = np.random.default_rng(1)
    C = rng.standard_normal((6, 2))
    X = rng.standard_normal((20, 30, 2)) @ C.T + rng.standard_normal((20, 30, 6)) + 2
    model = FactorAnalysis(2, tol=1e-7, max_iter=500).fit(X)
    dynamics = model.dynamics_
    noise = dynamics.initial_covariance
    np.testing.assert_array_equal(model.transition_matrix(), np.zeros((2, 2)))
    np.testing.assert_allclose(noise, dynamics.latent_noise, atol=1e-12)
    cov = dynamics.loadings @ noise @ dynamics.loadings.T + np.diag(dynamics.observation_variance)
    mean = dynamics.loadings @ dynamics.initial_mean + dynamics.offset
    wanted = stats.multivariate_normal(mean, cov).logpdf(X.reshape(-1, 6)).mean()
    np.testing.assert_allclose(model.score(X), wanted, rtol=1e-9)
    from sklearn.decomposition import FactorAnalysis as Reference

    reference = Reference(2, tol=1e-9, max_iter=5000).fit(X.reshape(-1, 6)).score(X.reshape(-1, 6))
    np.testing.assert_allclose(model.score(X), reference, atol=1e-3)  # both climb to the same maximum
    # A = 0: the past says nothing about a bin
    np.testing.assert_allclose(model.transform(X, posterior="delayed"), np.zeros((20, 30, 2)), atol=1e-6)


def test_autoregression_recovers_planted_coefficients_and_density():
    X, A, cov = gaussian_var(200)
    model = VectorAutoregression().fit(X)
    np.testing.assert_allclose(model.coefficients_[0], A, atol=0.05)  # standard error 0.01
    test = gaussian_var(50, seed=5)[0]
    exact = stats.multivariate_normal(np.zeros(3), cov).logpdf(test[:, 1:] - test[:, :-1] @ A.T - 1.0).sum(axis=1)
    mean = np.linalg.solve(np.eye(3) - A, np.ones(3))
    from scipy.linalg import solve_discrete_lyapunov

    exact += stats.multivariate_normal(mean, solve_discrete_lyapunov(A, cov)).logpdf(test[:, 0])
    # 15 parameters of 6000 bins cost some 1e-3 nats, the first bins of 200 trials some more
    assert abs(model.score(test) - exact.mean() / 30) < 0.01
    np.testing.assert_allclose(VectorAutoregression(2).fit(X).coefficients_[1], 0, atol=0.05)


def test_autoregression_does_not_depend_on_units_of_measure():
    X = gaussian_var()[0]
    scale = np.array([10.0, 1e-3, 1.0])
    a, b = VectorAutoregression().fit(X), VectorAutoregression().fit(X * scale)
    np.testing.assert_allclose(b.score(X * scale), a.score(X) - np.log(scale).sum(), rtol=1e-9)


def test_ridge_strength_by_cross_validation_shrinks_noise_and_keeps_signal():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((80, 60))
    strength = [ridge(x, x @ w + rng.standard_normal((80, 1)), None)[3] for w in (np.zeros((60, 1)), np.ones((60, 1)))]
    assert strength[0] > 100 * strength[1]


def test_masked_normal_is_the_marginal():
    rng = np.random.default_rng(0)
    root = rng.standard_normal((3, 3))
    cov, r = root @ root.T + np.eye(3), rng.standard_normal((2, 3))
    seen = np.array([[True, False, True], [False, False, False]])
    wanted = stats.multivariate_normal(np.zeros(2), cov[np.ix_([0, 2], [0, 2])]).logpdf(r[0, [0, 2]])
    np.testing.assert_allclose(masked_normal(r, seen, cov), [wanted, 0.0])


@pytest.mark.parametrize("link", ["softplus", "exp"])
def test_count_autoregression_recovers_planted_coefficients(link):
    rng = np.random.default_rng(0)
    A = np.array([[0.5, -0.3], [0.4, 0.3]]) * (1.0 if link == "softplus" else 0.15)
    y = np.zeros((80, 60, 2))
    for t in range(1, 60):
        eta = y[:, t - 1] @ A.T + 1.0
        y[:, t] = rng.poisson(np.logaddexp(0, eta) if link == "softplus" else np.exp(eta))
    model = VectorAutoregression(link=link, likelihood="poisson").fit(y[:, 5:])
    np.testing.assert_allclose(model.coefficients_[0], A, atol=0.1)  # standard error 0.02, and the ridge
    eta = y[:, 5:-1] @ A.T + 1.0
    rate = np.logaddexp(0, eta) if link == "softplus" else np.exp(eta)
    exact = stats.poisson(rate).logpmf(y[:, 6:]).sum(axis=2).mean()
    assert abs(model.score(y[:, 5:]) - exact) < 0.03  # the first bins have their marginal law
    free = VectorAutoregression(link=link, likelihood="poisson", alpha=0.0).fit(y[:, 5:])
    assert free.score(y[:, 5:]) >= model.score(y[:, 5:]) - 1e-6


def test_autoregression_of_unrelated_counts_is_as_good_as_mean_rate():
    rng = np.random.default_rng(0)
    X, test = rng.poisson(1.0, (20, 30, 10)), rng.poisson(1.0, (20, 30, 10))
    assert abs(VectorAutoregression().fit(X).score(test) - MeanRate().fit(X).score(test)) < 0.03
    counts = rng.negative_binomial(2, 0.5, (20, 30, 4))
    a = VectorAutoregression(likelihood="negative_binomial").fit(counts)
    b = MeanRate(likelihood="negative_binomial").fit(counts)
    assert abs(a.score(counts) - b.score(counts)) < 0.05


def test_inputs_are_accepted_and_change_nothing():
    X = gaussian_var(10)[0]
    u = np.random.default_rng(0).standard_normal((10, 30, 2))
    for model in (MeanRate(), FactorAnalysis(1), VectorAutoregression()):
        plain = model.fit(X).score(X)
        np.testing.assert_allclose(model.fit(X, inputs=u).score(X, inputs=u), plain, rtol=1e-12)
    latents = FactorAnalysis(1).fit(X, inputs=u).transform(X, inputs=u)
    assert latents.shape == (10, 30, 1)


def test_baselines_without_latents_say_so():
    X = gaussian_var(10)[0]
    model = MeanRate().fit(X)
    assert not hasattr(model, "transform")
    with pytest.raises(AttributeError, match="MeanRate has no transform: it models the units without latents"):
        model.transform(X)
    with pytest.raises(AttributeError, match="VectorAutoregression has no simulate"):
        VectorAutoregression().fit(X).simulate(1, 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_lags": 0}, "n_lags: got 0"),
        ({"alpha": -1.0}, "alpha: got -1.0"),
        ({"link": "exp"}, "link: got 'exp', wanted one of 'identity'"),
    ],
)
def test_bad_parameters_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        VectorAutoregression(**changes).fit(gaussian_var(5)[0])
