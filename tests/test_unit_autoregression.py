"""What single units do by themselves: planted coefficients come back, the density is exact, other units say nothing."""

import numpy as np
import pytest
from scipy import stats

from nwb_lrrnn.models.linear import MeanRate, UnitAutoregression

WEIGHTS = np.array([[1.2, 0.5], [-0.5, 0.0]])  # (lag, unit): an oscillation and a decay


def values(n_trials=40, n_bins=60, seed=0, burn=40):
    """Return two units that follow themselves, with noise of standard deviation 1 and means of 3 and -1."""
    rng = np.random.default_rng(seed)
    x = np.zeros((n_trials, n_bins + burn, 2))
    for t in range(2, n_bins + burn):
        x[:, t] = WEIGHTS[0] * x[:, t - 1] + WEIGHTS[1] * x[:, t - 2] + rng.standard_normal((n_trials, 2))
    return x[:, burn:] + np.array([3.0, -1.0])


def counts(n_trials=60, n_bins=60, seed=0):
    """Return two units whose expected count is 1 + 0.5 times the last one, and 2."""
    rng = np.random.default_rng(seed)
    x = np.zeros((n_trials, n_bins, 2))
    for t in range(n_bins):
        before = x[:, t - 1, 0] if t else np.full(n_trials, 2.0)
        rate = np.stack([np.logaddexp(0, 1.0 + 0.5 * before), np.full(n_trials, 2.0)], axis=1)
        x[:, t] = rng.poisson(rate)
    return x


def test_planted_coefficients_and_their_number_come_back():
    model = UnitAutoregression().fit(values())
    assert model.n_lags_ == 2
    np.testing.assert_allclose(model.coefficients_, WEIGHTS, atol=0.06)  # 3 standard errors of 2400 bins


def test_the_score_is_the_density():
    X, test = values(200), values(5, seed=1)
    model = UnitAutoregression().fit(X)
    past = test - np.array([3.0, -1.0])
    residual = past[:, 2:] - WEIGHTS[0] * past[:, 1:-1] - WEIGHTS[1] * past[:, :-2]
    inner = stats.norm.logpdf(residual).sum(axis=(1, 2))
    # the first two bins have the stationary law of an AR(2): r0 = (1 - a2) / ((1 + a2) ((1 - a2)^2 - a1^2))
    a, b = WEIGHTS
    variance = (1 - b) / ((1 + b) * ((1 - b) ** 2 - a**2))
    rho = a / (1 - b)
    first = stats.norm.logpdf(past[:, 0], scale=np.sqrt(variance)).sum(axis=1)
    second = stats.norm.logpdf(past[:, 1], rho * past[:, 0], np.sqrt(variance * (1 - rho**2))).sum(axis=1)
    np.testing.assert_allclose(model.score_trials(test), inner + first + second, atol=0.6)  # of 120 entries


def test_it_is_blind_to_other_units_and_to_units_of_measure():
    X, test = values(), values(seed=1)
    both = UnitAutoregression(1).fit(X).score_trials(test)
    alone = [UnitAutoregression(1).fit(X[..., k : k + 1]).score_trials(test[..., k : k + 1]) for k in (0, 1)]
    np.testing.assert_allclose(both, alone[0].values + alone[1].values)
    scale = np.array([1e6, 1e-3])
    scaled = UnitAutoregression(1).fit(X * scale + 5).score_trials(test * scale + 5)
    np.testing.assert_allclose(scaled, both - 60 * np.log(scale).sum(), rtol=1e-6)


def test_on_white_noise_it_is_the_mean_rate():
    X, test = (np.random.default_rng(k).standard_normal((40, 50, 6)) for k in (0, 1))
    model = UnitAutoregression().fit(X)
    assert model.n_lags_ == 1
    assert abs(model.score(test) - MeanRate().fit(X).score(test)) < 0.01  # 6 weights of 2000 bins


def test_bins_that_are_not_observed_are_skipped():
    X = values(30)
    masked = X.copy()
    masked[3, 10:20, 0] = np.nan
    model = UnitAutoregression().fit(masked)
    np.testing.assert_allclose(model.coefficients_, UnitAutoregression().fit(X).coefficients_, atol=0.02)
    score = model.score_trials(masked)
    assert np.isfinite(score).all()
    cut = X.copy()
    cut[3, 10:20, 0] = 1e3  # nothing behind the mask is seen
    cut[3, 10:20, 0] = np.nan
    np.testing.assert_array_equal(model.score_trials(cut), score)


def test_counts_that_follow_themselves():
    X, test = counts(), counts(seed=1)
    model = UnitAutoregression().fit(X)
    assert model.likelihood_ == "poisson"
    assert model.n_lags_ == 1
    np.testing.assert_allclose(model.coefficients_[0], [0.5, 0.0], atol=0.06)
    truth = np.logaddexp(0, 1.0 + 0.5 * test[:, :-1, 0])
    wanted = stats.poisson.logpmf(test[:, 1:, 0], truth).sum() + stats.poisson.logpmf(test[:, 1:, 1], 2.0).sum()
    first = MeanRate().fit(X[:, :1]).score_trials(test[:, :1]).sum()
    assert abs(float(model.score_trials(test).sum()) - wanted - float(first)) < 0.01 * 60 * 60
    assert model.score(test) > MeanRate().fit(X).score(test) + 0.05


@pytest.mark.parametrize("likelihood", ["poisson", "negative_binomial", "bernoulli"])
def test_sparse_units_stay_finite(likelihood):
    X = np.zeros((12, 20, 3))
    X[0, 0, 0] = X[2, 3, 1] = 1
    X[:, ::2, 2] = 1
    model = UnitAutoregression(likelihood=likelihood).fit(X)
    late = X.copy()
    late[:, 5, 0] = 1
    assert np.isfinite(model.score_trials(late)).all()
    assert model.score(X) > MeanRate(likelihood=likelihood).fit(X).score(X)  # the third unit alternates


def test_short_trials_have_short_pasts():
    X = values(30, n_bins=2)
    assert UnitAutoregression().fit(X).n_lags_ == 1
    ragged = [trial[: 5 + k % 7] for k, trial in enumerate(values(30))]
    assert np.isfinite(UnitAutoregression().fit(ragged).score_trials(ragged)).all()
    single = np.random.default_rng(0).standard_normal((20, 1, 3))
    assert abs(UnitAutoregression().fit(single).score(single) - MeanRate().fit(single).score(single)) < 0.1


def test_max_lags_is_checked():
    with pytest.raises(ValueError, match="max_lags: got 0, wanted a whole number >= 1"):
        UnitAutoregression(0).fit(values(5))
