"""Time in which nothing was recorded is no silence: the stretch of a session, rates, and what is said of both."""

import logging

import numpy as np
import pytest

import nwb_lrrnn as lr
from nwb_lrrnn.io.reading.observed import observed_intervals, unit_rates
from nwb_lrrnn.io.reading.spike_table import SpikeTable
from small_nwb import add_trials, add_units, new_nwb


def opened(path, spikes, *, invalid=None, **columns):
    with new_nwb(path) as file:
        add_units(file, spikes, **columns)
        if invalid is not None:
            add_trials(file, *np.transpose(invalid), path="intervals/invalid_times")
    return lr.open_nwb(path)


def test_a_session_runs_from_the_first_to_the_last_spike_of_any_unit(tmp_path, rng):
    spikes = [np.sort(rng.uniform(1000, 2500, 5000)) for _ in range(3)]
    recording = opened(tmp_path / "a.nwb", spikes)
    X = recording.spikes(0.1)
    first, last = min(times[0] for times in spikes), max(times[-1] for times in spikes)
    assert float(X.time[0]) == pytest.approx(first + 0.05)
    assert last - 0.1 < float(X.time[-1]) + 0.05 <= last
    assert recording.spikes(0.1, min_rate=3.3).sizes["unit"] == 3  # 5000 / 1500 s, not 5000 / 2500 s
    assert recording.spikes(0.1, window=(0.0, 2500.0)).sizes["time"] == 25_000
    assert f"{first:.2f} to {last:.2f} s (first to last spike), about 3.3 spikes/s per unit" in repr(recording)


def test_a_clock_far_from_zero_does_not_make_rates_small(tmp_path, rng):
    begin = 1.7e9
    recording = opened(tmp_path / "a.nwb", [begin + np.sort(rng.uniform(0, 60, 480)) for _ in range(4)])
    assert "s (first to last spike), about 8 spikes/s per unit" in repr(recording)
    assert recording.spikes(0.5).sizes["time"] == pytest.approx(120, abs=2)


def test_rates_divide_by_the_observed_time_of_each_unit(tmp_path, rng):
    pieces = np.array([[100.0 * k, 100.0 * k + 20] for k in range(10)])
    spikes = np.sort((pieces[:, :1] + np.arange(20) + 0.5).ravel())  # 1 spike/s where observed
    whole = np.arange(0.25, 1000, 2.0)  # 0.5 spikes/s
    recording = opened(tmp_path / "a.nwb", [spikes, whole], obs_intervals=[pieces, np.array([[0.0, 1000.0]])])
    assert recording.spikes(0.5, min_rate=0.9).unit.values.tolist() == [0]
    assert recording.spikes(0.5, min_rate=0.45).unit.values.tolist() == [0, 1]
    with pytest.raises(ValueError, match="no unit reaches 1.1 spikes/s in observed time, the fastest has 1;"):
        recording.spikes(0.5, min_rate=1.1)
    assert "0 to 1000 s (obs_intervals, 600 s observed), about 0.75 spikes/s per unit" in repr(recording)


def test_invalid_times_are_not_observed_and_their_spikes_do_not_count(tmp_path):
    times = np.append(np.arange(0.0, 10.25, 0.25), np.linspace(4.0, 6.0, 400))  # an artefact
    recording = opened(tmp_path / "a.nwb", [np.sort(times)], invalid=[[3.9, 6.1]])
    assert "7.8 s observed), about 4.1 spikes/s" in repr(recording)  # 32 spikes in 7.8 s
    with pytest.raises(ValueError, match="the fastest has 4.1"):
        recording.spikes(0.1, min_rate=5.0)


def test_spikes_outside_of_obs_intervals_are_said(tmp_path, caplog):
    times = np.arange(0.5, 1000, 1.0)
    columns = {"obs_intervals": [np.array([[0.0, 500.0]])] * 2}
    recording = opened(tmp_path / "a.nwb", [times, times[:300]], ids=[7, 8], **columns)

    assert any("unit 7 (500 of 1000)" in problem for problem in recording.problems)
    with caplog.at_level(logging.WARNING, "nwb_lrrnn"):
        X = recording.spikes(1.0)
    assert any("unit 7 (500 of 1000)" in record.message for record in caplog.records)
    assert X.sizes["time"] == 500
    assert int(X.sum()) == 800
    caplog.clear()
    with caplog.at_level(logging.WARNING, "nwb_lrrnn"):
        recording.spikes(1.0, units=[8])
    assert not caplog.records


def test_units_without_obs_intervals_beside_others_keep_their_spikes(tmp_path):
    one, nothing = np.array([[0.0, 10.0]]), np.zeros((0, 2))
    recording = opened(
        tmp_path / "a.nwb", [np.arange(0.5, 10, 1.0), np.arange(0.5, 40, 1.0)], obs_intervals=[one, nothing]
    )
    X = recording.spikes(1.0)
    assert X.sum("time").values.tolist() == [10, 39]  # the last spike lies on the last edge
    assert X.observed.sum("time").values.tolist() == [10, 39]
    assert recording.spikes(1.0, min_rate=0.99).sizes["unit"] == 2


@pytest.mark.parametrize("shift", [0.0, -300.0, 1e6])
def test_rates_do_not_change_with_the_clock(tmp_path, rng, shift):
    spikes = [np.sort(rng.uniform(0, 50, n)) for n in (30, 400, 0)]
    recording = opened(tmp_path / "a.nwb", [times + shift for times in spikes])
    found = unit_rates(SpikeTable(recording.source, "/units", 3, 430), None, None)
    length = max(times.max(initial=0) for times in spikes[:2]) - min(times.min() for times in spikes[:2])
    np.testing.assert_allclose(found.rates, np.array([30, 400, 0]) / length, rtol=1e-6)


def test_observed_intervals_by_hand():
    (first, second) = observed_intervals(
        [np.array([[4.0, 6.0], [0.0, 5.0]]), np.zeros((0, 2))], np.array([[1, 2.0]]), 2
    )
    np.testing.assert_array_equal(np.frombuffer(first).reshape(-1, 2), [[0, 1], [2, 6]])
    np.testing.assert_array_equal(np.frombuffer(second).reshape(-1, 2), [[-np.inf, 1], [2, np.inf]])
    assert observed_intervals(None, None, 2) is None


def test_infinite_obs_intervals_end_with_the_spikes(tmp_path):
    everywhere = [np.array([[-np.inf, np.inf]])] * 2
    recording = opened(tmp_path / "a.nwb", [[2.0, 5.0], [3.0, 12.0]], obs_intervals=everywhere)
    X = recording.spikes(1.0)
    assert float(X.time[0]) == 2.5
    assert X.sizes["time"] == 10
    assert recording.spikes(1.0, min_rate=0.2).sizes["unit"] == 2


def test_trials_outside_of_all_spikes_are_said(tmp_path, rng, caplog):
    spikes = [np.sort(rng.uniform(100, 200, 500)) for _ in range(3)]
    with new_nwb(tmp_path / "a.nwb") as file:
        add_units(file, spikes)
        add_trials(file, [0.0, 50.0, 110.0, 150.0, 300.0], [20.0, 60.0, 130.0, 170.0, 320.0])
    recording = lr.open_nwb(tmp_path / "a.nwb")
    text = "3 of 5 trials lie outside of the time in which any unit has spikes, 100"
    assert any(f"/intervals/trials: {text}" in problem for problem in recording.problems)
    with caplog.at_level(logging.WARNING, "nwb_lrrnn"):
        recording.spikes(0.5, intervals="trials")
    assert text in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING, "nwb_lrrnn"):
        recording.spikes(0.5, trials=[2, 3])
    assert not caplog.records


def test_spike_times_too_coarse_for_their_bins_are_said(tmp_path, rng, caplog):
    with new_nwb(tmp_path / "a.nwb") as file:
        units = add_units(file, [np.sort(rng.uniform(2e5, 2e5 + 60, 400))])
        times = units["spike_times"][()].astype(np.float32)
        del units["spike_times"]
        units["spike_times"] = times
    recording = lr.open_nwb(tmp_path / "a.nwb")
    assert any("float32, which tells times near 200060 s no nearer than 0.016 s" in text for text in recording.problems)
    with caplog.at_level(logging.WARNING, "nwb_lrrnn"):
        recording.spikes(0.02)
    assert "no nearer than 0.016 s apart" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING, "nwb_lrrnn"):
        recording.spikes(0.5)
    assert not caplog.records
