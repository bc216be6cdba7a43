"""Intervals over trials, given blocks, and windows of one recording: they cover the truth as often as they say."""

import numpy as np
import pytest
import xarray as xr

from nwb_lrrnn.compare import compare_baselines, held_out_scores, paired_difference
from nwb_lrrnn.compare.intervals import (
    blocks_of_windows,
    decorrelation_lag,
    paired_over_blocks,
    paired_over_windows,
)
from nwb_lrrnn.compare.split import folds_of, session_positions
from nwb_lrrnn.models.linear import LinearStateSpace
from nwb_lrrnn.preprocessing import chop
from test_linear import oscillator, simulate


def autoregression(phi, n, repeats, seed):
    """Return (repeat, n) draws of mean 0 with a correlation of phi between neighbours."""
    x = np.random.default_rng(seed).standard_normal((repeats, n))
    x[:, 0] /= np.sqrt(1 - phi**2)
    for t in range(1, n):
        x[:, t] += phi * x[:, t - 1]
    return x


def coverage(draws, positions=None):
    """Return in which share of the draws the interval contains 0: over blocks of windows, and over single windows."""
    positions = np.arange(draws.shape[1]) if positions is None else positions
    ones = np.ones(len(positions))
    over_blocks = [paired_over_windows(x, ones, positions) for x in draws]
    naive = [paired_over_blocks(x, ones) for x in draws]
    return [float(np.mean([p.low < 0 < p.high for p in all_])) for all_ in (over_blocks, naive)]


# --- coverage ---------------------------------------------------------------------------------------------------------


def test_paired_difference_is_the_mean_and_its_standard_error():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 50))
    d, error, low, high = paired_difference(a, b, np.full(50, 4))
    np.testing.assert_allclose(d, (a - b).mean() / 4)
    np.testing.assert_allclose(error, (a - b).std(ddof=1) / np.sqrt(50) / 4)
    np.testing.assert_allclose([low, high], d + np.array([-1, 1]) * 2.009575 * error, rtol=1e-6)
    assert np.isnan(paired_difference(a[:1], b[:1], np.ones(1))[1])


def test_intervals_over_trials_cover_the_true_difference():
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(400):
        bins = rng.integers(5, 30, 40)
        low, high = paired_difference(rng.normal(0.3 * bins, np.sqrt(bins)), np.zeros(40), bins)[2:]
        hits += low < 0.3 < high
    assert 0.915 < hits / 400 < 0.985  # 95 %, three standard errors of 400 draws


def test_one_trial_far_above_does_not_hide_that_all_are_above():
    gains = np.array([1.0, 1.2, 0.9, 1.1, 1.3, 0.8, 1.0, 1.1, 0.9, 40.0])
    d, error, low, high = paired_difference(gains, np.zeros(10), np.ones(10))
    assert d == pytest.approx(4.93)
    assert d - 2.262 * error < 0  # the plain interval
    assert 0.8 < low < 1.1
    assert high == pytest.approx(d + 2.262 * error, rel=1e-3)  # how far above is as open as before
    mirrored = paired_difference(np.zeros(10), gains, np.ones(10))
    np.testing.assert_allclose(mirrored[2:], [-high, -low])


@pytest.mark.parametrize("kind", ["normal", "long tail above", "long tail below", "heavy tails"])
def test_bounds_are_wrong_no_more_often_for_what_is_clipped(kind):
    rng, shape = np.random.default_rng(5), (1000, 10)
    draws = {
        "normal": rng.normal(size=shape),
        "long tail above": rng.exponential(size=shape) - 1,
        "long tail below": 1 - rng.exponential(size=shape),
        "heavy tails": rng.standard_t(3, shape),
    }[kind]
    lows = np.array([paired_difference(x, np.zeros(10), np.ones(10))[2] for x in draws])
    plain = draws.mean(axis=1) - 2.262 * draws.std(axis=1, ddof=1) / np.sqrt(10)
    assert (lows > 0).sum() <= (plain > 0).sum() + 10  # a percentage point


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.8])
def test_intervals_over_windows_cover_the_truth_at_the_nominal_rate(phi):
    over_blocks, naive = coverage(autoregression(phi, 200, 400, seed=2))
    assert 0.915 < over_blocks < 0.985
    # the naive standard error is too short by sqrt((1 - phi) / (1 + phi)): 74 % at 0.5, 49 % at 0.8
    wanted = {0.0: 0.95, 0.5: 0.742, 0.8: 0.486}[phi]
    assert abs(naive - wanted) < 3 * np.sqrt(wanted * (1 - wanted) / 400)


def test_windows_scattered_in_the_session_are_as_dependent_as_their_distance():
    positions = np.sort(np.random.default_rng(0).permutation(400)[:200])
    over_blocks, naive = coverage(autoregression(0.8, 400, 400, seed=3)[:, positions], positions)
    assert 0.905 < over_blocks < 0.985
    assert naive < 0.75


def test_independent_windows_lose_nothing():
    draws = autoregression(0.0, 60, 200, seed=4)
    widths = [
        [
            p.high - p.low
            for p in (paired_over_windows(x, np.ones(60), np.arange(60)), paired_over_blocks(x, np.ones(60)))
        ]
        for x in draws
    ]
    blocks, naive = np.mean(widths, axis=0)
    assert 1.0 <= blocks / naive < 1.1


# --- blocks -----------------------------------------------------------------------------------------------------------


def test_the_lag_is_that_where_the_correlation_is_lost():
    x = autoregression(0.8, 4000, 1, seed=0)[0]
    wanted = np.log(1.96 / np.sqrt(4000)) / np.log(0.8)  # 0.8 ** lag is the noise band: 15.6
    assert abs(decorrelation_lag(x, np.arange(4000)) - wanted) < 6  # correlations of neighbouring lags err together
    assert decorrelation_lag(np.random.default_rng(0).standard_normal(4000), np.arange(4000)) <= 2
    assert decorrelation_lag(np.zeros(10), np.arange(10)) == 1
    assert decorrelation_lag(np.linspace(-1, 1, 50), np.arange(50)) > 10  # a drift
    every_second = decorrelation_lag(x[::2], np.arange(0, 4000, 2))  # no pair at odd lags, the same at even ones
    assert every_second % 2 == 0
    assert abs(every_second - wanted) < 8
    assert decorrelation_lag(np.ones(8), np.arange(8)) == 4  # never lost: half of the windows


def test_blocks_are_at_least_as_long_as_asked_and_end_at_long_gaps():
    blocks, follows = blocks_of_windows(np.arange(11), 3)
    assert blocks.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2]
    assert follows.all()
    blocks, follows = blocks_of_windows(np.array([0, 1, 2, 10, 11, 12, 13, 14, 15]), 3)
    assert blocks.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert follows.tolist() == [False, True]
    blocks, _ = blocks_of_windows(np.array([0, 2, 4, 6, 8, 10]), 6)  # gaps shorter than a block do not end it
    assert blocks.tolist() == [0, 0, 0, 0, 0, 0]
    blocks, follows = blocks_of_windows(np.arange(4), 1)
    assert blocks.tolist() == [0, 1, 2, 3]


def test_the_order_of_the_windows_does_not_matter():
    x, bins = autoregression(0.7, 100, 1, seed=1)[0], np.random.default_rng(0).integers(5, 20, 100)
    shuffled = np.random.default_rng(1).permutation(100)
    a = paired_over_windows(x, bins, np.arange(100))
    b = paired_over_windows(x[shuffled], bins[shuffled], np.arange(100)[shuffled])
    np.testing.assert_allclose(a.numbers, b.numbers)


def test_too_few_or_too_dependent_windows_are_said_to_be():
    few = paired_over_windows(np.random.default_rng(0).standard_normal(7), np.ones(7), np.arange(7))
    assert not few.interval_holds
    drift = paired_over_windows(np.linspace(-1, 2, 40), np.ones(40), np.arange(40))
    assert (drift.n_blocks, drift.block_length, drift.interval_holds) == (5, 8, False)
    fine = paired_over_windows(autoregression(0.5, 200, 1, seed=0)[0], np.ones(200), np.arange(200))
    assert fine.interval_holds
    assert fine.n_blocks >= 8


def test_given_blocks_are_summed():
    d, bins = np.array([1.0, 2.0, 3.0, 4.0, 5.0]), np.array([1, 2, 1, 2, 2])
    blocks = np.array(["b", "a", "b", "a", "c"])
    wanted = paired_difference(np.array([6.0, 4.0, 5.0]), np.zeros(3), np.array([4, 2, 2]))
    np.testing.assert_allclose(paired_difference(d, np.zeros(5), bins, blocks), wanted)


# --- which trials are windows -----------------------------------------------------------------------------------------


def windows(n=12, n_bins=10, **coords):
    X = simulate(oscillator(6), n, n_bins)
    time = (np.arange(n_bins) + 0.5) * 0.1
    return xr.DataArray(X, dims=("trial", "time", "unit"), coords={"time": time, **coords}, attrs={"bin_size": 0.1})


def test_windows_of_one_recording_are_recognised():
    cut = chop(simulate(oscillator(6), 1, 120)[0], 10)
    np.testing.assert_array_equal(session_positions(cut), np.arange(12))
    np.testing.assert_array_equal(session_positions(cut[[1, 5, 9]]), [0, 4, 8])  # as `chop` made them
    tiled = windows(align_time=("trial", 5.0 + np.arange(12.0)))
    np.testing.assert_array_equal(session_positions(tiled), np.arange(12))
    np.testing.assert_array_equal(session_positions(tiled[[3, 2, 8, 9]]), [1, 0, 6, 7])
    overlapping = windows(align_time=("trial", 0.5 * np.arange(12)))
    np.testing.assert_array_equal(session_positions(overlapping), np.arange(12))


@pytest.mark.parametrize(
    "X",
    [
        simulate(oscillator(6), 4, 10),
        list(simulate(oscillator(6), 4, 10)),
        windows(),
        windows(align_time=0.0),
        windows(align_time=("trial", np.zeros(12))),
        windows(align_time=("trial", 3.0 * np.arange(12))),
        windows(align_time=("trial", np.r_[np.nan, np.arange(11.0)])),
    ],
    ids=["array", "list", "no times", "one time", "all at 0", "gaps", "unknown"],
)
def test_trials_are_no_windows(X):
    assert session_positions(X) is None


def test_windows_are_held_out_in_stretches_of_the_session():
    positions = np.array([4, 0, 3, 1, 2, 5])
    held = [set(positions[test]) for _, test in folds_of(3, 6, None, positions, 0)]
    assert held == [{0, 1}, {2, 3}, {4, 5}]
    shuffled = [set(test.tolist()) for _, test in folds_of(3, 6, None, None, 0)]
    assert shuffled != [{0, 1}, {2, 3}, {4, 5}]


def linear(**changes):
    return LinearStateSpace(**({"rank": 1, "tol": 1e-1} | changes))


def test_the_table_says_what_its_intervals_are_over():
    y = simulate(oscillator(6), 1, 120)[0]
    table = compare_baselines(linear(), y, cv=2, window=6, larger_ranks=())
    assert table.attrs["interval_over"] == "windows"
    assert table.attrs["n_blocks"] == table["n_blocks"].min()
    assert 1 <= table.attrs["block_length"] <= 4
    same = compare_baselines(linear(), chop(y, 6), cv=2, larger_ranks=())
    np.testing.assert_array_equal(same["low"], table["low"])
    X = simulate(oscillator(6), 12, 10)
    table = compare_baselines(linear(), X, cv=2, larger_ranks=())
    assert (table.attrs["interval_over"], table.attrs["n_blocks"], table.attrs["block_length"]) == ("trials", 12, 1)
    assert (table["n_blocks"] == 12).all()


def test_blocks_and_groups_are_what_intervals_are_over():
    X, ids = windows(align_time=("trial", np.arange(12.0))), np.repeat(list("abcd"), 3)
    by_blocks = compare_baselines(linear(), X, cv=2, blocks=ids, larger_ranks=())
    assert (by_blocks.attrs["interval_over"], by_blocks.attrs["n_blocks"]) == ("blocks", 4)
    by_groups = compare_baselines(linear(), X, cv=2, groups=ids, larger_ranks=())
    assert (by_groups.attrs["interval_over"], by_groups.attrs["n_blocks"]) == ("blocks", 4)
    both = held_out_scores(linear(), X, cv=2, groups=ids, blocks=np.arange(12) % 6, larger_ranks=())
    assert both["block"].values.tolist() == [*range(6), *range(6)]


@pytest.mark.parametrize(("name", "n"), [("blocks", 7), ("groups", 13)])
def test_blocks_of_another_number_are_refused(name, n):
    X = simulate(oscillator(6), 12, 10)
    fitted = linear().fit(X)
    with pytest.raises(ValueError, match=rf"{name}: got shape \({n},\), wanted \(12,\), one id for each trial of X"):
        compare_baselines(fitted, X, cv="prefit", X_train=X, **{name: np.arange(n)})
