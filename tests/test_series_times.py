"""Recording.series where times are odd: gaps, invalid times, jitter, timestamps that are damaged."""

import logging

import numpy as np
import pytest
from xarray.indexes import RangeIndex

from nwb_lrrnn.io.errors import InvalidTimestampsError
from small_nwb import add_series, add_trials, ramp


def gapped(file):
    """Add a series at 10 Hz with 1 s missing after 1.9 s, and trials before, across and after the gap."""
    times = np.concatenate([np.arange(20) / 10, 2.9 + np.arange(20) / 10])
    add_series(file, "acquisition/x", ramp(40) + 1, timestamps=times)
    add_trials(file, [0.5, 1.5, 3.0], [1.0, 2.0, 3.5], ids=[1, 2, 3])


def test_gap_at_own_rate_is_a_boundary(make, caplog):
    with caplog.at_level(logging.WARNING):
        X = make(gapped).series()
    assert X.segment.values.tolist() == [0] * 20 + [1] * 20
    assert "bin_size" not in X.attrs
    assert X.time.values[19:21] == pytest.approx([1.9, 2.9])
    assert "has 1 gaps in its timestamps (the first at 2.9 s)" in caplog.text
    assert any("1 gaps in the timestamps" in text for text in make(gapped).problems)


def test_bins_in_a_gap_are_unobserved(make):
    X = make(gapped).series(bin_size=0.5)
    assert X.observed.values.tolist() == [True] * 4 + [False] + [True] * 4
    assert X[4].values.tolist() == [0.0, 0.0]
    assert not X.isnull().any()
    bridged = make(gapped).series(bin_size=0.5, max_gap=2.0)
    assert bridged[4, 0] == pytest.approx(20 + 0.35)  # at 2.25 s, on the line from 20 at 1.9 s to 21 at 2.9 s
    assert "observed" not in bridged.coords


@pytest.mark.parametrize("bin_size", [None, 0.1])
def test_trials_across_a_gap_are_dropped(make, bin_size):
    X = make(gapped).series(bin_size=bin_size, align="start_time", window=(0.0, 1.0))
    assert X.trial.values.tolist() == [1, 3]
    assert X.attrs["dropped_trials"] == ["2: its window crosses a gap in the timestamps"]
    assert X[..., 0].values.round(6).tolist() == [list(range(6, 16)), list(range(22, 32))]


def test_invalid_times_are_unobserved(make):
    def build(file):
        add_series(file, "acquisition/x", ramp(40), rate=10.0)
        add_trials(file, [1.0], [2.0], path="intervals/invalid_times")

    assert make(build).series(bin_size=1.0).observed.values.tolist() == [True, False, True, True]
    assert make(build).series().observed.values.sum() == 30


def test_regular_timestamps_become_a_rate(make):
    jitter = np.random.default_rng(0).uniform(-1e-7, 1e-7, 50)
    X = make(lambda file: add_series(file, "acquisition/x", ramp(50), timestamps=np.arange(50) / 100 + jitter)).series()
    assert isinstance(X.xindexes["time"], RangeIndex)
    assert X.attrs["bin_size"] == pytest.approx(0.01)


def test_uneven_timestamps_need_bins_for_trials(make):
    def build(file):
        times = np.sort(np.random.default_rng(0).uniform(0, 4, 100))
        add_series(file, "acquisition/x", ramp(100), timestamps=times)
        add_trials(file, [1.0], [2.0])

    recording = make(build)
    assert not isinstance(recording.series().xindexes["time"], RangeIndex)
    with pytest.raises(ValueError, match="are unevenly spaced .*pass bin_size= in s"):
        recording.series(align="start_time", window=(0.0, 0.5))
    assert recording.series(bin_size=0.25, align="start_time", window=(0.0, 0.5)).shape == (1, 2, 2)


@pytest.mark.parametrize(
    ("timestamps", "text"),
    [
        (np.zeros((2, 6)), r"got shape \(2, 6\) for 6 samples, wanted \(6,\)"),
        (np.arange(5.0), r"got shape \(5,\) for 6 samples"),
        ([0.0, 1.0, 0.5, 2.0, 3.0, 4.0], r"do not ascend at index 2 \(0.5 after 1\).*repair='sort'"),
        ([0.0, 1.0, 1.0, 2.0, 3.0, 4.0], r"the times repeat at index 2 \(1 after 1\)"),
        ([0.0, 1.0, np.nan, 2.0, 3.0, 4.0], r"do not ascend at index 2 \(nan after 1\)"),
        ([np.nan, 1.0, 1.5, 2.0, 3.0, 4.0], r"do not ascend at index 0 \(nan\)"),
    ],
)
def test_invalid_timestamps(make, timestamps, text):
    recording = make(lambda file: add_series(file, "acquisition/x", ramp(6, 3), timestamps=timestamps))
    with pytest.raises(InvalidTimestampsError, match=text):
        recording.series("x")
    assert any("/acquisition/x/timestamps" in problem for problem in recording.problems)


def test_repair_sorts_samples_and_leaves_out_repeated_times(make):
    times = [0.3, 0.1, 0.2, 0.2, np.nan, 0.0]
    recording = make(lambda file: add_series(file, "acquisition/x", ramp(6, 3), timestamps=times))
    X = recording.series(repair="sort")
    assert X.time.values.tolist() == [0.0, 0.1, 0.2, 0.3]
    assert X[:, 0].values.tolist() == [5, 1, 2, 0]
    binned = recording.series(bin_size=0.2, repair="sort")
    assert binned[:, 0].values.tolist() == [3, 1]
    with pytest.raises(ValueError, match="repair: got 'drop', wanted None or 'sort'"):
        recording.series(repair="drop")


def test_starting_time_that_is_an_array(make):
    def build(file, start):
        group = add_series(file, "acquisition/x", ramp(6), rate=2.0)
        del group["starting_time"]
        group["starting_time"] = start
        group["starting_time"].attrs["rate"] = 2.0

    assert make(lambda file: build(file, [3.0])).series().time[0] == 3.0  # one number in an array: what MatNWB writes
    with pytest.raises(InvalidTimestampsError, match="got starting_time None and rate 2.0 without timestamps"):
        make(lambda file: build(file, [3.0, 4.0])).series("x")
