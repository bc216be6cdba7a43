"""Spike times that are not in s are said to be so, with the scale that mends it; too many bins are refused."""

import subprocess
import sys
import warnings

import numpy as np
import pytest

import nwb_lrrnn as lr
from nwb_lrrnn.io.files import memory
from small_nwb import add_series, add_trials, add_units, new_nwb

SECONDS = 900.0


def trains(rng, rate=10.0, n_units=4, seconds=SECONDS):
    return [np.sort(rng.uniform(0, seconds, int(rate * seconds))) for _ in range(n_units)]


def opened(path, spikes, *, trials=False, rate=None, **columns):
    with new_nwb(path) as file:
        add_units(file, spikes, **columns)
        if trials:
            start = np.arange(20) * 40.0
            add_trials(file, start, start + 30)
        if rate:
            add_series(file, "acquisition/raw", np.zeros((10, 2)), rate=rate)
    return lr.open_nwb(path)


UNITS = {
    "samples": (
        lambda t: np.round(t * 30_000),
        "sample indices, at 30 kHz for instance; if so, pass time_scale=1/30000",
    ),
    "ms": (lambda t: t * 1000, "in ms; if so, pass time_scale=0.001"),
    "whole ms": (lambda t: np.round(t * 1000), "in ms; if so, pass time_scale=0.001"),
    "microseconds": (lambda t: t * 1e6, "in microseconds; if so, pass time_scale=1e-6"),
}


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("trials", [False, True])
def test_another_unit_is_said_with_its_scale(tmp_path, rng, unit, trials):
    scaled, text = UNITS[unit]
    recording = opened(tmp_path / "a.nwb", [scaled(times) for times in trains(rng)], trials=trials)
    assert any(text in problem for problem in recording.problems)
    with pytest.warns(UserWarning, match=text.partition(";")[0]):
        recording.spikes(50.0, window=(0.0, 900.0))


def test_the_sampling_rate_is_that_of_the_file_or_fits_all_else(tmp_path, rng):
    spikes = [np.round(times * 20_000) for times in trains(rng)]
    (tmp_path / "b").mkdir()
    assert any("1/20000 " in problem for problem in opened(tmp_path / "a.nwb", spikes, trials=True).problems)
    assert any("1/24000 " in p for p in opened(tmp_path / "b" / "a.nwb", spikes, rate=24_000.0).problems)


@pytest.mark.parametrize(
    ("spikes", "trials"),
    [
        (lambda rng: trains(rng), True),
        (lambda rng: trains(rng, rate=0.2), False),  # rare, as spikes in s may be
        (lambda rng: trains(rng, rate=0.03, seconds=3600.0), False),
        (lambda rng: trains(rng, rate=0.02), True),  # very rare, but as long as the trials
        (lambda rng: [np.round(times) for times in trains(rng, rate=0.8)], False),
        (lambda rng: [times + 1.7e9 for times in trains(rng)], False),
        (lambda rng: trains(rng, rate=5.0, seconds=20_000.0), True),  # trials at the beginning alone
    ],
)
@pytest.mark.filterwarnings("error")
def test_seconds_are_left_alone(tmp_path, rng, spikes, trials):
    recording = opened(tmp_path / "a.nwb", spikes(rng), trials=trials)
    assert not [problem for problem in recording.problems if "time_scale" in problem]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        recording.spikes(1.0)


def test_scaled_counts_are_those_in_seconds(tmp_path, rng):
    spikes = trains(rng, seconds=60.0)
    expected = opened(tmp_path / "s.nwb", [np.round(times * 30_000) / 30_000 for times in spikes]).spikes(0.5)
    recording = opened(tmp_path / "a.nwb", [np.round(times * 30_000) for times in spikes])
    got = recording.spikes(0.5, time_scale=1 / 30_000)
    np.testing.assert_array_equal(got.values, expected.values)
    np.testing.assert_allclose(got.time, expected.time, rtol=1e-12)


@pytest.mark.parametrize("scale", [1.0, 30_000.0])  # of the intervals in the file
def test_obs_intervals_may_be_in_seconds_beside_samples(tmp_path, rng, scale):
    spikes = [np.round(times * 30_000) for times in trains(rng, seconds=60.0)]
    observed = [np.array([[0.0, 25.0], [30.0, 60.0]]) * scale] * 4
    recording = opened(tmp_path / "a.nwb", spikes, obs_intervals=observed)
    X = recording.spikes(0.5, time_scale=1 / 30_000)
    assert X.sizes["time"] == 120
    assert int(X.observed.sum()) == 110


def test_bins_that_fill_the_memory_are_refused_with_the_amounts(tmp_path, rng, monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda: 4 * 2**30)
    recording = opened(tmp_path / "a.nwb", [np.round(times * 30_000) for times in trains(rng)], trials=True)
    with pytest.raises(
        ValueError, match=r"bin_size: 1.35e\+09 bins .* 3.*GiB .* 4 GiB are free.*window=.*time_scale=1/30000"
    ):
        recording.spikes(0.02)
    with pytest.raises(ValueError, match="in each of 20 trials.* are free.*bin_size=.*window="):
        recording.spikes(1e-6, align="start_time", window=(0.0, 30.0), time_scale=1 / 30_000)
    with pytest.raises(ValueError, match="in each of 20 trials.* are free.*bin_size=.*window="):
        recording.spikes(1e-6, intervals="trials", time_scale=1 / 30_000)
    assert recording.spikes(0.02, time_scale=1 / 30_000).sizes["time"] > 44_000


def test_series_in_bins_that_fill_the_memory_are_refused(tmp_path, rng, monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda: 2**30)
    recording = opened(tmp_path / "a.nwb", trains(rng), rate=1e-3)
    with pytest.raises(ValueError, match="bin_size: .* 1 GiB are free.*a larger bin_size="):
        recording.series("raw", bin_size=1e-4)
    assert recording.series("raw", bin_size=1.0).sizes["time"] == 10_000


def test_free_memory_heeds_the_limit_of_the_process():
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30));"
        "from nwb_lrrnn.io.files.memory import free_memory; print(free_memory())"
    )
    pytest.importorskip("resource")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 0 < int(done.stdout) < 2**30
    assert memory.free_memory() > 2**20


@pytest.mark.parametrize("scale", [0, -1.0, np.nan, "ms"])
def test_a_scale_is_a_positive_number(tmp_path, scale):
    recording = opened(tmp_path / "a.nwb", [[0.1, 2.0]])
    with pytest.raises(ValueError, match="time_scale: got .*wanted a positive number"):
        recording.spikes(0.5, time_scale=scale)
