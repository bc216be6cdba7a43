"""Counting spikes and masking bins."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nwb_lrrnn.binning import clean_spike_times, count_spikes, observed_bins, outside_intervals, window_bins

TICKS_PER_SECOND = 30_000


def test_count_spikes_by_hand():
    counts = count_spikes([np.array([0.01, 0.05, 0.15]), np.array([]), np.array([0.1, 0.3])], 0.1, [0.0], 3)
    assert counts.dtype == np.int16
    np.testing.assert_array_equal(counts[0], [[2, 0, 0], [1, 0, 1], [0, 0, 0]])


def test_count_spikes_in_overlapping_unsorted_windows():
    times = np.array([0.05, 0.15, 0.25, 0.35])
    counts = count_spikes([times], 0.1, [0.2, 0.0, 0.1], 2)
    np.testing.assert_array_equal(counts[:, :, 0], [[1, 1], [1, 1], [1, 1]])
    counts = count_spikes([times], 0.1, [5.0, -0.1, 0.3], 2)
    np.testing.assert_array_equal(counts[:, :, 0], [[0, 0], [0, 1], [1, 0]])


@settings(max_examples=25, deadline=None)
@given(
    ticks=st.lists(st.integers(-300, 60_000), max_size=200),
    ticks_per_bin=st.sampled_from([30, 75, 300, 600]),
    start_ticks=st.lists(st.integers(0, 50_000), min_size=1, max_size=4),
    n_bins=st.integers(1, 80),
    offset=st.sampled_from([0, 30_000 * 86_400]),
)
def test_count_spikes_equals_integer_ticks(ticks, ticks_per_bin, start_ticks, n_bins, offset):
    spikes = np.sort(np.array(ticks, dtype=np.int64)) + offset
    starts = np.array(start_ticks) + offset
    expected = np.zeros((len(starts), n_bins), dtype=np.int64)
    for trial, start in enumerate(starts):
        bins = (spikes - start) // ticks_per_bin
        np.add.at(expected[trial], bins[(bins >= 0) & (bins < n_bins)], 1)
    counts = count_spikes(
        [spikes / TICKS_PER_SECOND], ticks_per_bin / TICKS_PER_SECOND, starts / TICKS_PER_SECOND, n_bins
    )
    np.testing.assert_array_equal(counts[:, :, 0], expected)


def test_every_clock_tick_of_a_minute_is_in_its_bin():
    ticks = np.arange(60 * TICKS_PER_SECOND)
    for ticks_per_bin in (30, 300, 600):
        n_bins = ticks.size // ticks_per_bin
        counts = count_spikes([ticks / TICKS_PER_SECOND], ticks_per_bin / TICKS_PER_SECOND, [0.0], n_bins)
        np.testing.assert_array_equal(counts, np.full((1, n_bins, 1), ticks_per_bin))


def test_one_long_window_equals_many_short_ones():
    rng = np.random.default_rng(1)
    units = [np.sort(rng.uniform(-1, 11, size)) for size in (0, 1, 400, 5000)]
    whole = count_spikes(units, 0.01, [0.0], 1000)
    pieces = count_spikes(units, 0.01, np.arange(10) * 1.0, 100)
    np.testing.assert_array_equal(pieces.reshape(1000, 4), whole[0])


@pytest.mark.parametrize(("n_spikes", "dtype"), [(255, np.int16), (32_767, np.int16), (32_768, np.int32)])
def test_counts_widen_when_they_overflow(n_spikes, dtype):
    many = np.full(n_spikes, 0.05)
    counts = count_spikes([np.array([0.15]), many, np.array([0.05])], 0.1, [0.0], 2)
    assert counts.dtype == dtype
    np.testing.assert_array_equal(counts[0], [[0, n_spikes, 1], [1, 0, 0]])


def test_no_units_and_no_trials():
    assert count_spikes([], 0.1, [0.0], 3).shape == (1, 3, 0)
    assert count_spikes([np.array([0.1])], 0.1, [], 3).shape == (0, 3, 1)


@pytest.mark.parametrize("bad", [[0.2, 0.1], [0.1, np.nan, 0.2], [np.nan], [0.1, np.inf]])
def test_count_spikes_refuses_times_that_are_not_clean(bad):
    with pytest.raises(ValueError, match=r"spike_times\[1\]: got times that are not finite .* clean_spike_times"):
        count_spikes([np.array([0.1]), np.array(bad)], 0.1, [0.0], 3)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (([np.zeros((2, 2))], 0.1, [0.0], 3), r"spike_times\[0\]: got shape \(2, 2\)"),
        (([], 0.0, [0.0], 3), "bin_size: got 0.0, wanted a positive number of seconds"),
        (([], np.nan, [0.0], 3), "bin_size: got nan"),
        (([], 0.1, [0.0, np.nan], 3), r"starts: got shape \(2,\) with 1 values NaN"),
        (([], 0.1, [[0.0]], 3), r"starts: got shape \(1, 1\)"),
        (([], 0.1, [0.0], 0), "n_bins: got 0, wanted a whole number"),
        (([], 0.1, [0.0], 2.5), "n_bins: got 2.5"),
    ],
)
def test_count_spikes_names_the_wrong_argument(arguments, text):
    with pytest.raises(ValueError, match=text):
        count_spikes(*arguments)


def test_clean_spike_times_leaves_clean_times_alone():
    times = np.array([0.1, 0.1, 0.2])
    cleaned, problem = clean_spike_times(times)
    assert cleaned is times
    assert problem is None
    assert clean_spike_times([])[1] is None


def test_clean_spike_times_sorts_and_drops():
    cleaned, problem = clean_spike_times([0.3, np.nan, 0.1, np.inf])
    np.testing.assert_array_equal(cleaned, [0.1, 0.3])
    assert problem == "2 of 4 times NaN or infinite (dropped), not in ascending order from index 1 on (sorted)"
    cleaned, problem = clean_spike_times(np.array([3, 1], dtype=np.int32))
    assert cleaned.dtype == np.float64
    assert problem == "not in ascending order from index 1 on (sorted)"


def test_clean_spike_times_raises_on_request():
    with pytest.raises(ValueError, match="times: got 1 of 2 times NaN or infinite, wanted finite times"):
        clean_spike_times([np.nan, 1.0], on_bad_spikes="raise")
    assert clean_spike_times([0.5, 1.0], on_bad_spikes="raise")[1] is None


def test_clean_spike_times_names_the_wrong_argument():
    with pytest.raises(ValueError, match="on_bad_spikes: got 'sorted', wanted one of sort, raise; did you mean 'sort'"):
        clean_spike_times([0.1], on_bad_spikes="sorted")
    with pytest.raises(ValueError, match=r"times: got shape \(1, 2\), wanted \(spike,\)"):
        clean_spike_times([[0.1, 0.2]])
    with pytest.raises(TypeError, match="times: got dtype <U1, wanted real numbers"):
        clean_spike_times(["a"])


def test_window_bins_drops_the_last_partial_bin():
    n_bins, centres = window_bins((-0.25, 0.45), 0.02)
    assert n_bins == 35
    np.testing.assert_allclose(centres[[0, -1]], [-0.24, 0.44], atol=1e-12)
    assert window_bins((0.0, 0.3), 0.1)[0] == 3  # 0.3 / 0.1 is 2.9999999999999996
    assert window_bins((0.0, 0.39), 0.1)[0] == 3


@pytest.mark.parametrize("window", [(0.2, 0.1), (0.0, np.nan), (0.0, 0.1, 0.2)])
def test_window_bins_refuses_what_is_not_a_window(window):
    with pytest.raises(ValueError, match=r"window: got .* wanted \(start, stop\)"):
        window_bins(window, 0.1)


def test_window_bins_refuses_a_window_without_a_whole_bin():
    with pytest.raises(ValueError, match="shorter than one bin of 0.1 s"):
        window_bins((0.0, 0.05), 0.1)
    with pytest.raises(ValueError, match="bin_size: got -1"):
        window_bins((0.0, 1.0), -1)


def test_observed_bins_by_hand():
    # 0.25-0.4 and 0.4-0.6 touch and count as one; 0.55-0.58 lies inside; the NaN row observes nothing.
    intervals = [[0.4, 0.6], [0.25, 0.4], [0.55, 0.58], [np.nan, 9.0], [0.8, 0.7]]
    observed = observed_bins(intervals, 0.1, [0.0, 0.25], 7)
    np.testing.assert_array_equal(observed[0], [False, False, False, True, True, True, False])
    np.testing.assert_array_equal(observed[1], [True, True, True, False, False, False, False])


def test_observed_bins_without_intervals_and_for_ever():
    assert not observed_bins(np.empty((0, 2)), 0.1, [0.0], 3).any()
    assert not observed_bins([[np.nan, 1.0]], 0.1, [0.0], 3).any()
    assert observed_bins([[-np.inf, np.inf]], 0.1, [0.0, 1e6], 3).all()


def test_observed_bins_equals_the_definition():
    rng = np.random.default_rng(2)
    ticks = rng.integers(0, 400, size=(30, 2))
    starts = rng.integers(0, 300, size=20)
    seen = np.zeros(401, dtype=bool)  # one entry a tick of 10 ms
    for begin, end in ticks:
        seen[begin:end] = True
    expected = [[seen[start + 5 * k : start + 5 * k + 5].all() for k in range(12)] for start in starts]
    np.testing.assert_array_equal(observed_bins(ticks / 100, 0.05, starts / 100, 12), expected)


def test_observed_bins_refuses_a_flat_list():
    with pytest.raises(ValueError, match=r"intervals: got shape \(2,\), wanted \(interval, 2\)"):
        observed_bins([0.0, 1.0], 0.1, [0.0], 3)


def test_outside_intervals_are_the_complement():
    np.testing.assert_array_equal(outside_intervals([[4, 5], [1, 2], [2, 3]]), [[-np.inf, 1], [3, 4], [5, np.inf]])
    np.testing.assert_array_equal(outside_intervals([]), [[-np.inf, np.inf]])
    assert outside_intervals([[-np.inf, np.inf]]).shape == (0, 2)
    # A bin that any invalid time touches is unobserved.
    observed = observed_bins(outside_intervals([[0.14, 0.16]]), 0.1, [0.0], 3)
    np.testing.assert_array_equal(observed, [[True, False, True]])
