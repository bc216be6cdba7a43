"""Averaging and interpolating sampled series into bins."""

import numpy as np
import pytest

from nwb_lrrnn.resample import bin_series


def test_means_of_the_samples_inside():
    times = np.arange(10) * 0.02  # 0.00 .. 0.18
    binned = bin_series(times, np.arange(10), 0.1, [0.0, 0.1], 1)
    np.testing.assert_allclose(binned, [[2.0], [7.0]])
    assert binned.dtype == np.float64


def test_a_slow_series_is_interpolated_at_bin_centres():
    times = np.arange(5) * 0.1
    binned = bin_series(times, times * 10, 0.02, [0.0], 20)
    occupied = np.arange(20) % 5 == 0  # a sample at the left edge of every fifth bin
    np.testing.assert_allclose(binned[0, occupied], [0, 1, 2, 3])
    np.testing.assert_allclose(binned[0, ~occupied], ((np.arange(20) + 0.5) * 0.2)[~occupied])


def test_no_value_is_made_up_before_after_or_across_a_hole():
    times = np.array([0.0, 0.1, 0.2, 0.7, 0.8])
    binned = bin_series(times, np.ones(5), 0.1, [-0.2], 12)[0]
    np.testing.assert_array_equal(np.isnan(binned), [True] * 2 + [False] * 3 + [True] * 4 + [False] * 2 + [True])
    filled = bin_series(times, np.ones(5), 0.1, [-0.2], 12, max_gap=0.5)[0]
    np.testing.assert_array_equal(np.isnan(filled), [True] * 2 + [False] * 9 + [True])
    bare = bin_series(times, np.ones(5), 0.05, [0.0], 4, max_gap=0.0)[0]
    np.testing.assert_array_equal(np.isnan(bare), [False, True, False, True])


def test_nan_samples_are_absent_column_by_column():
    times = np.arange(6) * 0.1
    values = np.stack([np.arange(6.0), np.arange(6.0) * 10], axis=1)
    values[1, 0] = np.nan
    binned = bin_series(times, values, 0.2, [0.0], 3)
    np.testing.assert_allclose(binned[0], [[0, 5], [2.5, 25], [4.5, 45]])
    values[1] = np.nan  # now the same in both columns
    np.testing.assert_allclose(bin_series(times, values, 0.2, [0.0], 3)[0], [[0, 0], [2.5, 25], [4.5, 45]])
    # The gap that a NaN leaves is measured between its neighbours, against the step of the clock.
    alone = bin_series(times, values[:, 0], 0.1, [0.0], 3)
    np.testing.assert_array_equal(np.isnan(alone), [[False, True, False]])


def test_nan_everywhere_and_no_samples():
    assert np.isnan(bin_series([0.0, 0.1], [np.nan, np.nan], 0.1, [0.0], 2)).all()
    assert np.isnan(bin_series([], [], 0.1, [0.0], 2)).all()
    assert bin_series([], np.empty((0, 3)), 0.1, [0.0], 2).shape == (1, 2, 3)
    assert bin_series([0.0], np.empty((1, 0)), 0.1, [0.0], 2).shape == (1, 2, 0)
    assert bin_series([0.0], [1.0], 0.1, [], 2).shape == (0, 2)


def test_trials_in_any_order_and_overlapping_equal_one_at_a_time():
    rng = np.random.default_rng(0)
    times = np.sort(rng.uniform(0, 20, 3000))
    values = rng.normal(size=(3000, 2, 3))
    starts = rng.uniform(-1, 20, 50)
    together = bin_series(times, values, 0.05, starts, 30)
    assert together.shape == (50, 30, 2, 3)
    alone = np.concatenate([bin_series(times, values, 0.05, [start], 30) for start in starts])
    np.testing.assert_array_equal(together, alone)
    for trial in (0, 7):
        for k in (0, 11):
            left = starts[trial] + k * 0.05
            inside = (times >= left) & (times < left + 0.05)
            if inside.any():
                np.testing.assert_allclose(together[trial, k], values[inside].mean(axis=0), rtol=1e-12)


def test_samples_on_an_edge_belong_to_the_bin_that_begins_there():
    times = np.arange(30_000) / 1000  # times and edges are rounded differently
    binned = bin_series(times, np.arange(30_000), 0.01, [0.0], 3000)
    np.testing.assert_array_equal(binned[0], np.arange(3000) * 10 + 4.5)


def test_precision_survives_a_large_mean():
    times = np.arange(100_000) * 0.001
    values = 1e9 + np.tile([0.0, 1.0], 50_000)
    np.testing.assert_array_equal(bin_series(times, values, 0.01, [99.0], 100), 1e9 + 0.5)


def test_angles_are_averaged_and_interpolated_on_the_circle():
    degrees = np.deg2rad([350.0, 10.0, 30.0])
    np.testing.assert_allclose(
        bin_series([0.0, 0.05, 0.1], degrees, 0.1, [0.0], 2, circular=True), [[0.0, np.deg2rad(30)]], atol=1e-12
    )
    slow = bin_series([0.0, 0.3], np.deg2rad([350.0, 20.0]), 0.1, [0.0], 3, circular=True)
    np.testing.assert_allclose(np.rad2deg(slow), [[350.0, 5.0, 15.0]], atol=1e-9)
    signed = bin_series([0.0, 0.3], np.deg2rad([-10.0, -170.0]), 0.1, [0.0], 3, circular=True, max_gap=1.0)
    np.testing.assert_allclose(np.rad2deg(signed), [[-10.0, -90.0, -10.0 - 160 * 2.5 / 3]], atol=1e-9)


def test_angles_that_cancel_have_no_mean():
    assert np.isnan(bin_series([0.0, 0.05], [0.0, np.pi], 0.1, [0.0], 1, circular=True)).all()


@pytest.mark.parametrize(
    ("times", "values", "text"),
    [
        ([0.0, 1.0], [1.0], r"values: got shape \(1,\) for times of shape \(2,\), wanted \(time, ...\)"),
        ([[0.0], [1.0]], [1.0, 2.0], r"times of shape \(2, 1\)"),
        ([0.0, 0.2, 0.1], [1.0, 2.0, 3.0], "times: got 0.1 at index 2, wanted finite times in ascending order"),
        ([0.0, np.nan, 0.1], [1.0, 2.0, 3.0], "times: got nan at index 1"),
    ],
)
def test_samples_that_do_not_fit_are_refused(times, values, text):
    with pytest.raises(ValueError, match=text):
        bin_series(times, values, 0.1, [0.0], 2)


def test_values_must_be_numbers():
    with pytest.raises(TypeError, match="values: got dtype <U1, wanted real numbers"):
        bin_series([0.0], ["a"], 0.1, [0.0], 2)


@pytest.mark.parametrize(
    ("bin_size", "starts", "n_bins", "max_gap", "text"),
    [
        (0.0, [0.0], 2, None, "bin_size: got 0.0, wanted a positive number"),
        (0.1, [np.nan], 2, None, r"starts: got shape \(1,\) with 1 values NaN"),
        (0.1, [0.0], 0, None, "n_bins: got 0, wanted a whole number"),
        (0.1, [0.0], 2, -1.0, "max_gap: got -1.0, wanted a number of seconds"),
    ],
)
def test_bins_that_make_no_sense_are_refused(bin_size, starts, n_bins, max_gap, text):
    with pytest.raises(ValueError, match=text):
        bin_series([0.0, 0.1], [1.0, 2.0], bin_size, starts, n_bins, max_gap=max_gap)
