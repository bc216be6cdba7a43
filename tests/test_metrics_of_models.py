"""Scores of what a network generates, of hidden units and of forecasts, against known answers."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import poisson

from nwb_lrrnn.analysis.metrics import (
    bits_per_spike,
    co_smoothing,
    co_smoothing_r2,
    compare_activity,
    forecast_scores,
    forecasts,
    generation_scores,
    mean_rate_error,
    smooth_and_standardize,
    spectral_distance,
    state_space_divergence,
)
from nwb_lrrnn.dynamics import LowRankDynamics
from nwb_lrrnn.models.linear import LinearStateSpace

TURN = 0.98 * np.array([[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]])


def linear(n_units=8, likelihood="gaussian", **changes):
    """Return a network of identity neurons that turns and decays, as an estimator."""
    loadings = np.random.default_rng(3).standard_normal((n_units, 2))
    fields = {
        "left_vectors": np.eye(2),
        "right_vectors": 2 * TURN.T,
        "dt": 0.02,
        "tau": 0.02,
        "nonlinearity": "identity",
        "latent_noise": 0.04 * np.eye(2),
        "loadings": 0.5 * loadings if likelihood == "poisson" else loadings,
        "likelihood": likelihood,
        "link": "exp" if likelihood == "poisson" else None,
        "offset": np.full(n_units, np.log(25.0) if likelihood == "poisson" else 0.3),
        "observation_variance": np.full(n_units, 0.2),
    }
    return LinearStateSpace.from_dynamics(LowRankDynamics(**(fields | changes)))


# --- generation ----------------------------------------------------------------------------------------------------


def test_generations_of_the_true_network_are_near_and_of_another_far():
    model = linear()
    data = model.simulate(5, 200, random_state=9).observations
    scores = generation_scores(model, data, n_generations=4, n_discarded=20, smoothing=5)
    still = linear(right_vectors=0.1 * np.eye(2))
    other = generation_scores(still, data, n_generations=4, smoothing=5)
    assert scores.divergence_median.sel(rule="all") < other.divergence_median.sel(rule="all")
    assert scores.spectral_distance_median < 0.1 < other.spectral_distance_median
    assert scores.identical(generation_scores(model, data, n_generations=4, n_discarded=20, smoothing=5))
    middle = np.median(scores.divergence, axis=0)
    np.testing.assert_array_equal(scores.divergence_median, middle)
    np.testing.assert_array_equal(scores.divergence_mad, np.median(np.abs(scores.divergence - middle), axis=0))


def test_a_model_that_runs_away_is_said_to_and_scores_as_far_as_can_be(caplog):
    model = linear()
    data = model.simulate(3, 60, random_state=9).observations
    for growth in (6.0, 1e30):  # to 3^60, and to infinity
        caplog.clear()
        scores = generation_scores(linear(right_vectors=growth * np.eye(2)), data, n_generations=3)
        assert "3 of 3 generations run away, the first from step" in caplog.text
        assert scores.ran_away.all()
        assert not any(np.isnan(scores[name]).any() for name in scores.data_vars)
        assert np.isposinf(scores.divergence_median).all()
        assert scores.spectral_distance_median == 1.0
    assert not generation_scores(model, data, n_generations=3).ran_away.any()


def test_units_silent_in_the_data_are_left_out_of_generation_scores(caplog):
    model = linear()
    data = model.simulate(3, 60, random_state=9).observations
    scores = generation_scores(model, data.where(data.unit != data.unit[1], 0.0), n_generations=2)
    assert scores.attrs["left_out"] == str(data.unit.values[1])
    assert "left out" in caplog.text
    assert np.isfinite(scores.divergence).all()


def test_the_spectral_smoothing_of_generations_is_passed_on():
    model = linear()
    data = model.simulate(2, 60, random_state=9).observations
    blurred = generation_scores(model, data, n_generations=1, spectral_smoothing=0.4 / data.attrs["bin_size"])
    sharp = generation_scores(model, data, n_generations=1, spectral_smoothing=0)
    assert blurred.spectral_distance[0] < 0.1 * sharp.spectral_distance[0]


def test_a_generation_is_scored_as_its_parts_are():
    model = linear(latent_input_weights=np.ones((2, 1)))
    data = model.simulate(1, 120, inputs=np.ones((120, 1)), random_state=9).observations[0]
    drive = np.ones((110, 1))
    scores = generation_scores(
        model.dynamics_, data, n_generations=1, n_steps=100, n_discarded=10, inputs=drive, random_state=2
    )
    seed, sampling = np.random.default_rng(2).integers(2**31, size=(1, 2))[0]
    made = model.simulate(1, 110, inputs=drive, random_state=int(seed)).observations[0, 10:]
    made, wanted = (smooth_and_standardize(x, n_bins=None) for x in (made, data[:100]))
    np.testing.assert_allclose(scores.spectral_distance[0], spectral_distance(wanted, made), rtol=1e-12)
    expected = state_space_divergence(wanted, made, n_seeds=1, random_state=int(sampling))
    np.testing.assert_allclose(scores.divergence[0], expected.divergence, rtol=1e-12)


def test_mean_rate_error_and_activity_are_their_definitions(rng):
    x, y = rng.poisson([1.0, 2.0, 4.0], (50, 3)), rng.poisson([1.0, 2.0, 4.0], (2, 25, 3))
    gap = x.sum(axis=0) - y.sum(axis=(0, 1))
    np.testing.assert_allclose(mean_rate_error(x, y), (gap**2).mean() / 50)
    frame = pd.DataFrame(x, columns=["a", "b", "c"])
    table = compare_activity(frame, y)
    np.testing.assert_allclose(table["mean"].sel(source="data", unit="b"), x[:, 1].mean())
    np.testing.assert_allclose(table.standard_deviation.sel(source="generated"), y.reshape(50, 3).std(axis=0))
    correlation = table.correlation.sel(source="data").values[2]
    assert (table.unit_a[2], table.unit_b[2]) == ("b", "c")
    np.testing.assert_allclose(correlation, np.corrcoef(x[:, 1], x[:, 2])[0, 1])
    assert table.agreement.sel(statistic="mean") > 0.9
    silent = compare_activity(x[:, :1], np.zeros((10, 1)))
    assert np.isnan(silent.agreement).all()


# --- co-smoothing --------------------------------------------------------------------------------------------------


def test_bits_per_spike_is_a_likelihood_ratio(rng):
    k, rate, mean = rng.poisson(0.5, (30, 4)), rng.uniform(0.1, 1, (30, 4)), rng.uniform(0.1, 1, 4)
    gain = poisson.logpmf(k, rate).sum() - poisson.logpmf(k, np.broadcast_to(mean, k.shape)).sum()
    np.testing.assert_allclose(bits_per_spike(k, rate, mean), gain / np.log(2) / k.sum(), rtol=1e-10)
    assert bits_per_spike(k, np.broadcast_to(mean, k.shape), mean) == 0


def test_co_smoothing_is_what_hiding_units_by_hand_gives():
    model = linear(10, "poisson")
    X = model.simulate(24, 40, random_state=0).observations
    train, test = X[:12], X[12:].assign_coords(observed=("time", np.arange(40) < 36))
    scores = co_smoothing(model, train, test, [7, 2])
    hidden = np.zeros((12, 40, 10), dtype=bool)
    hidden[:, :36] = ~np.isin(np.arange(10), [2, 7])
    masked = test.assign_coords(observed=(("trial", "time", "unit"), hidden))
    masked = masked.where(hidden, 99).astype(int)  # whatever stands there
    rates = model.inverse_transform(model.transform(masked)).values[:, :36, [2, 7]]
    counts, mean = test.values[:, :36, [2, 7]], train.values.mean(axis=(0, 1))[[2, 7]]
    expected = bits_per_spike(counts, rates, mean)
    np.testing.assert_allclose(scores.bits_per_spike, expected, rtol=1e-10)
    assert scores.bits_per_spike > 0.05
    np.testing.assert_array_equal(scores.unit, [2, 7])
    np.testing.assert_array_equal(scores.n_spikes, counts.sum(axis=(0, 1)))
    by_unit = (scores.unit_bits_per_spike * scores.n_spikes).sum() / scores.n_spikes.sum()
    np.testing.assert_allclose(by_unit, expected, rtol=1e-10)
    # arrays, lists of trials and booleans say the same
    again = co_smoothing(model, train.values, list(test.values[:, :36]), np.isin(np.arange(10), [2, 7]))
    np.testing.assert_allclose(again.bits_per_spike, expected, rtol=1e-8)


def test_co_smoothing_takes_inputs_and_a_unit_silent_in_the_test_has_no_bits():
    model = linear(8, "poisson", latent_input_weights=np.ones((2, 1)))
    u = np.sin(np.arange(40) / 4)[None, :, None] * np.ones((20, 1, 1))
    X = model.simulate(20, 40, inputs=u, random_state=0).observations
    test = X[10:].copy()
    test[..., 5] = 0
    scores = co_smoothing(model, X[:10], test, [4, 5], inputs=u[10:])
    np.testing.assert_array_equal(np.isnan(scores.unit_bits_per_spike), [False, True])
    with pytest.raises(ValueError, match="inputs: got None, wanted 1 inputs as in fit"):
        co_smoothing(model, X[:10], test, [4, 5])


def test_co_smoothing_r2_of_continuous_data():
    model = linear(8)
    X = model.simulate(20, 40, random_state=0).observations
    scores = co_smoothing_r2(model, X[:10], X[10:], [1, 6])
    hidden = np.broadcast_to(~np.isin(np.arange(8), [1, 6]), (10, 40, 8))
    masked = X[10:].assign_coords(observed=(("trial", "time", "unit"), hidden))
    guess = model.inverse_transform(model.transform(masked)).values[..., [1, 6]]
    y, mean = X.values[10:, :, [1, 6]], X.values[:10, :, [1, 6]].mean(axis=(0, 1))
    error, spread = ((y - guess) ** 2).sum(axis=(0, 1)), ((y - mean) ** 2).sum(axis=(0, 1))
    np.testing.assert_allclose(scores.unit_r2, 1 - error / spread, rtol=1e-8)
    np.testing.assert_allclose(scores.r2, 1 - error.sum() / spread.sum(), rtol=1e-8)
    assert scores.r2 > 0.5


# --- forecasts -----------------------------------------------------------------------------------------------------


def test_a_noise_free_linear_network_is_forecast_perfectly():
    model = linear(latent_noise=None, observation_variance=np.full(8, 1e-12))
    X = model.simulate(10, 60, random_state=0).observations
    scores = forecast_scores(model, X, [1, 5, 20])
    np.testing.assert_allclose(scores.r2, 1, atol=1e-6)  # the filter shrinks by the observation variance
    assert (scores.persistence_r2 < 0.95).all()
    np.testing.assert_allclose(scores.horizon_time, [0.02, 0.1, 0.4])
    np.testing.assert_array_equal(scores.n_values, [10 * (60 - k) * 8 for k in (1, 5, 20)])


@pytest.mark.parametrize(("is_known", "units"), [(True, "s"), (False, "bins")])
def test_horizons_are_in_seconds_where_bins_of_one_second_are_known(is_known, units):
    X = linear().simulate(4, 20, random_state=0).observations.values
    model = LinearStateSpace(2, max_iter=2, tol=1e3, bin_size=1.0 if is_known else None).fit(X)
    assert (model.bin_size_, model.bin_size_is_known_) == (1.0, is_known)
    assert forecast_scores(model, X, [1]).horizon_time.attrs["units"] == units


@pytest.mark.parametrize("likelihood", ["gaussian", "poisson"])
def test_forecasts_are_what_stepping_each_bin_by_hand_gives(likelihood, monkeypatch):
    model = linear(5, likelihood, input_weights=np.ones((2, 1)), filter_inputs=True, tau=0.05)
    u = np.random.default_rng(0).standard_normal((3, 25, 1))
    X = model.simulate(3, 25, inputs=u, random_state=1).observations
    seen = np.ones((3, 25, 5), dtype=bool)
    seen[1, 7:9, 2] = False
    X = X.assign_coords(observed=(X.dims, seen))
    monkeypatch.setattr(forecasts, "_BLOCK", 20)  # ten bins at a time
    scores = forecast_scores(model, X, 4, inputs=u)
    net, z = model.dynamics_, model.transform(X, inputs=u, posterior="filtered").values
    v = net.filtered_inputs(u)
    y, guess, held = [], [], []
    for trial, t in np.ndindex(3, 21):
        state = z[trial, t]
        for k in range(4):
            state = net.step(state, v[trial, t + k], u[trial, t + k])
        known = seen[trial, t] & seen[trial, t + 4]
        y.append(np.where(known, X.values[trial, t + 4], np.nan))
        guess.append(net.expected(state, v[trial, t + 4]))
        held.append(X.values[trial, t] if likelihood == "gaussian" else net.expected(z[trial, t], v[trial, t]))

    def loss(values, mean):
        if likelihood == "gaussian":
            return np.nansum((values - mean) ** 2)
        return np.nansum(2 * (poisson.logpmf(values, values) - poisson.logpmf(values, mean)))

    y = np.array(y)
    zero = loss(y, np.nanmean(y, axis=0) * np.ones_like(y))
    model_column, held_column = list(scores.data_vars)[:2]
    np.testing.assert_allclose(scores[model_column], 1 - loss(y, np.array(guess)) / zero, rtol=1e-9)
    np.testing.assert_allclose(scores[held_column], 1 - loss(y, np.array(held)) / zero, rtol=1e-9)
    assert scores.n_values == np.isfinite(y).sum()


def test_forecasts_of_ragged_trials_leave_the_padding_out():
    model = linear()
    X = model.simulate(2, 30, random_state=0).observations.values
    scores = forecast_scores(model, [X[0], X[1, :12]], [2, 15])
    np.testing.assert_array_equal(scores.n_values, [(28 + 10) * 8, 15 * 8])
