"""A larger linear model that starts from its smaller sibling explains the training trials at least as well."""

import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from nwb_lrrnn.compare import held_out_scores
from nwb_lrrnn.models.linear import FactorAnalysis, LinearStateSpace
from nwb_lrrnn.models.linear.larger_start import grown_systems, of_units
from nwb_lrrnn.trials import as_trials
from test_linear import oscillator, random_system, simulate


def fitted(rank, X, smaller=None, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LinearStateSpace(rank, **({"tol": 1e-3, "max_iter": 60} | options))
        return (model if smaller is None else model.start_from(smaller)).fit(X)


def slow_and_fast(n_trials=12, n_bins=40, seed=0):
    """Return ten units of two oscillations, the second of which hides in the noise."""
    rng = np.random.default_rng(seed)
    time, out = np.arange(n_bins), 0.0
    for frequency, size in ((0.1, 2.0), (0.5, 0.4)):
        phase = frequency * time + rng.uniform(0, 2 * np.pi, (n_trials, 1))
        wave = np.stack([np.cos(phase), np.sin(phase)], axis=2)
        out = out + size * wave @ rng.standard_normal((2, 10))
    return out + rng.standard_normal((n_trials, n_bins, 10))


@pytest.mark.parametrize("seed", range(4))
def test_the_training_likelihood_is_never_below_that_of_the_sibling(seed):
    X = slow_and_fast(seed=seed)
    smaller = fitted(2, X)
    scores = [smaller.score(X)]
    for rank in (4, 8):
        larger = fitted(rank, X, smaller)
        scores.append(larger.score(X))
        smaller = larger
    assert np.all(np.diff(scores) > -1e-4)
    assert scores[1] > scores[0] + 0.1  # the second oscillation is found


def test_the_training_likelihood_of_counts_is_never_below_that_of_the_sibling():
    X = np.random.default_rng(0).poisson(np.logaddexp(0, 1 + 0.5 * slow_and_fast(8, 30)))
    smaller = fitted(2, X, tol=1e-2)
    larger = fitted(4, X, smaller, tol=1e-2)
    ends = [
        float(model.history_["log_likelihood"][-1]) for model in (smaller, larger)
    ]  # the approximation that EM climbs
    assert ends[1] > ends[0] - 1e-3


def test_the_start_is_taken_once_and_needs_a_fitted_sibling():
    X = slow_and_fast(6, 20)
    model = LinearStateSpace(4, max_iter=2, tol=1e-1)
    with pytest.raises(ValueError, match="not fitted"):
        model.start_from(LinearStateSpace(2))
    smaller = fitted(2, X, max_iter=3)
    with_start = model.start_from(smaller).fit(X).score(X)
    assert with_start >= smaller.score(X)
    again = model.fit(X).score(X)
    assert again == LinearStateSpace(4, max_iter=2, tol=1e-1).fit(X).score(X)


def test_a_grown_system_shows_nearly_what_the_smaller_one_shows():
    system = random_system(n_inputs=1)
    residual = np.random.default_rng(0).standard_normal((50, 3))
    grown = list(grown_systems(system, 3, residual, np.ones(3)))
    assert [one.rank for one in grown] == [3, 3, 3]
    for one in grown:
        np.testing.assert_array_equal(one.transition[:2, :2], system.transition)
        np.testing.assert_array_equal(one.transition[:2, 2:], 0)
        np.testing.assert_array_equal(one.loadings[:, :2], system.loadings)
        assert one.input_weights.shape == (3, 1)
    assert np.linalg.norm(grown[-1].loadings[:, 2]) < 0.2 < np.linalg.norm(grown[0].loadings[:, 2])
    kept = np.array([True, False, True])
    assert of_units(system, kept).loadings.shape == (2, 2)


def test_masked_trials_with_inputs_can_be_grown_too():
    truth = oscillator(6).replace(input_weights=np.ones((3, 1)))
    u = np.random.default_rng(0).standard_normal((10, 20, 1))
    X = simulate(truth, 10, 20, 3, u)
    X[2, 5:9] = np.nan
    X[3, 4, 1] = np.nan
    smaller = LinearStateSpace(2, tol=1e-2).fit(X, inputs=u)
    larger = LinearStateSpace(4, tol=1e-2).start_from(smaller).fit(X, inputs=u)
    assert larger.score(X, inputs=u) > smaller.score(X, inputs=u) - 1e-4
    assert as_trials(X, allow_nan=True).observed is not None


def test_a_comparison_starts_larger_models_from_smaller_ones():
    X = slow_and_fast(8, 30)
    folds = [(np.arange(6), [6, 7])]
    options = {"tol": 1e-1, "max_iter": 3}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        scores = held_out_scores(FactorAnalysis(2, **options), X, cv=folds, larger_ranks=(4,))
    smaller = LinearStateSpace(2).fit(X[:6])
    wanted = LinearStateSpace(4).start_from(smaller).fit(X[:6]).score_trials(X[6:])
    got = scores["log_likelihood"].sel(model="linear state space (rank 4)")[6:]
    np.testing.assert_allclose(got, wanted)
