"""Recording.series whose timestamps jitter, are too coarse, descend or stand for nothing; series wider than long."""

import logging

import numpy as np
import pytest
from xarray.indexes import RangeIndex

from nwb_lrrnn.io.errors import InvalidTimestampsError
from nwb_lrrnn.io.reading.clock import JITTER
from small_nwb import add_region, add_series, add_table, add_trials, ramp


def jittered(n, step, share, rng, start=0.0):
    return start + step * (np.arange(n) + rng.uniform(-share, share, n))


@pytest.mark.parametrize("start", [0.0, -3.0, 1e6])
def test_jitter_of_less_than_a_quarter_step_is_regular_and_said(make, rng, caplog, start):
    times = jittered(500, 1 / 30, 0.2, rng, start)
    recording = make(lambda file: add_series(file, "acquisition/x", ramp(500), timestamps=times))
    with caplog.at_level(logging.WARNING, "nwb_lrrnn"):
        X = recording.series("x")
    assert isinstance(X.xindexes["time"], RangeIndex)
    assert X.attrs["bin_size"] == pytest.approx(1 / 30, rel=1e-9)
    assert np.abs(X.time.values - times).max() < JITTER / 30
    assert "acquisition/x/timestamps jitter by up to 0.2 of a step, less than the 0.25 that are taken" in caplog.text
    assert "the samples are read at 30 Hz" in caplog.text
    np.testing.assert_array_equal(X, ramp(500))
    assert not recording.problems


def test_bins_take_samples_at_their_own_times(make, rng):
    times = jittered(400, 0.05, 0.2, rng, 1.0)
    recording = make(lambda file: add_series(file, "acquisition/x", np.arange(400.0), timestamps=times))
    X = recording.series("x", bin_size=0.5, window=(1.5, 20.0))
    edges = 1.5 + 0.5 * np.arange(38)
    expected = [np.mean(np.flatnonzero((times >= a) & (times < b))) for a, b in zip(edges[:-1], edges[1:], strict=True)]
    np.testing.assert_allclose(X[:, 0], expected)


@pytest.mark.parametrize("share", [0.4, 0.9])
def test_more_jitter_names_bin_size(make, rng, caplog, share):
    times = np.sort(jittered(500, 1 / 30, share, rng))
    recording = make(
        lambda file: (
            add_series(file, "acquisition/x", ramp(500), timestamps=times),
            add_trials(file, [1.0, 4.0], [2.0, 5.0]),
        )
    )
    with caplog.at_level(logging.WARNING, "nwb_lrrnn"):
        X = recording.series("x")
    assert "bin_size" not in X.attrs
    assert "pass bin_size=" in caplog.text
    with pytest.raises(
        ValueError, match="unevenly spaced .*steps off an even grid, wanted at most 0.25.*pass bin_size="
    ):
        recording.series("x", intervals="trials")
    assert recording.series("x", bin_size=0.1, intervals="trials").shape == (2, 10, 2)


def test_a_clock_that_drifts_is_not_regular(make, caplog):
    times = np.cumsum(np.linspace(0.95, 1.05, 1000)) / 30  # each step alike to the next
    recording = make(lambda file: add_series(file, "acquisition/x", ramp(1000), timestamps=times))
    assert "bin_size" not in recording.series("x").attrs


def test_trials_of_jittered_samples_with_gaps_hold_each_sample_once(make, rng):
    times = jittered(300, 0.1, 0.2, rng)
    times[150:] += 7.3
    recording = make(
        lambda file: (
            add_series(file, "acquisition/x", np.arange(300.0), timestamps=times),
            add_trials(file, [2.0, 9.0, 30.0], [5.0, 12.0, 33.0]),
        )
    )
    X = recording.series("x", align="start_time", window=(0.0, 3.0))
    assert X.sizes["time"] == 30
    first = [np.searchsorted(times, 2.0), np.searchsorted(times, 9.0), np.searchsorted(times, 30.0)]
    for trial, sample in zip(X.values[..., 0], first, strict=True):
        np.testing.assert_array_equal(np.diff(trial), 1.0)
        assert abs(trial[0] - sample) <= 1


def test_coarse_times_are_said_and_their_repair_is_refused(make):
    times = (7200 + np.arange(3000) / 30_000).astype(np.float32)
    recording = make(lambda file: add_series(file, "acquisition/x", ramp(3000), timestamps=times))
    lost = 3000 - len(np.unique(times))
    for repair in (None, "sort"):
        with pytest.raises(
            InvalidTimestampsError, match=rf"float32, too coarse.*would leave out {lost} of 3000 samples"
        ):
            recording.series("x", repair=repair)
    assert any("float32, too coarse" in problem for problem in recording.problems)


def test_descending_times_are_sorted_without_loss(make, caplog):
    recording = make(lambda file: add_series(file, "acquisition/x", np.arange(10.0), timestamps=np.arange(10.0)[::-1]))
    with pytest.raises(InvalidTimestampsError, match="repair='sort' sorts the samples and leaves out 0 of 10"):
        recording.series("x")
    with caplog.at_level(logging.WARNING, "nwb_lrrnn"):
        X = recording.series("x", repair="sort")
    assert X[:, 0].values.tolist() == list(range(9, -1, -1))
    assert "leaves out" not in caplog.text


def test_what_a_repair_leaves_out_is_said_before_and_after(make, caplog):
    times = np.array([0.0, 0.1, 0.1, 0.2, 0.3, 0.4])
    recording = make(lambda file: add_series(file, "acquisition/x", np.arange(6.0), timestamps=times))
    with pytest.raises(InvalidTimestampsError, match="leaves out 1 of 6, repeated or without a time"):
        recording.series("x")
    with caplog.at_level(logging.WARNING, "nwb_lrrnn"):
        recording.series("x", repair="sort")
    assert "repair='sort' leaves out 1 of 6 samples" in caplog.text


@pytest.mark.parametrize("n", [1, 3])
def test_nan_stands_for_no_samples(make, n):
    recording = make(lambda file: add_series(file, "acquisition/x", np.zeros(n), timestamps=np.full(n, np.nan)))
    for repair in (None, "sort"):
        with pytest.raises(
            InvalidTimestampsError, match=f"all {n} times are NaN, a placeholder for no samples or events"
        ):
            recording.series("x", repair=repair)
    assert any("placeholder for no samples or events" in problem for problem in recording.problems)


def test_more_columns_than_samples_are_said(make):
    recording = make(lambda file: add_series(file, "acquisition/x", np.ones((10, 5000)), rate=100.0))
    with pytest.warns(UserWarning, match=r"10 samples of 5000 columns.* time may come second"):
        assert recording.series("x").shape == (10, 5000)
    assert any("time may come second" in problem for problem in recording.problems)


def test_more_columns_than_samples_are_in_order_where_a_length_tells(make):
    def build(file):
        table = add_table(file, "rois", "DynamicTable", range(50), x=np.arange(50.0))
        group = add_series(file, "acquisition/x", np.ones((10, 50)), "RoiResponseSeries", rate=100.0)
        add_region(group, "rois", range(50), table)
        add_series(file, "acquisition/y", np.ones((10, 50)), timestamps=np.arange(10.0))
        add_series(file, "acquisition/z", np.ones((15, 25)), rate=1.0)

    recording = make(build)
    assert recording.series("x").shape == (10, 50)
    assert recording.series("y").shape == (10, 50)
    assert recording.series("z").shape == (15, 25)
    assert not recording.problems
