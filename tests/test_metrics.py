"""Distances between distributions and spectra of data, against their definitions and their own invariances."""

import tracemalloc

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.ndimage import gaussian_filter1d
from scipy.signal.windows import hann
from scipy.special import logsumexp

from nwb_lrrnn.analysis.metrics import (
    divergence,
    phase_surrogate,
    smooth_and_standardize,
    spectral_distance,
    state_space_divergence,
)

# --- D_stsp ------------------------------------------------------------------------------------------------------


def drawn(states, n_samples, seed):
    """Return the samples that seed 0 of a divergence draws."""
    (rng,) = np.random.default_rng(seed).spawn(1)
    at = rng.integers(len(states), size=n_samples)
    return states[at] + rng.standard_normal((n_samples, states.shape[1]))


def test_divergence_is_that_of_the_kernel_densities_evaluated_directly(rng):
    x, y = rng.standard_normal((700, 5)), 1.5 * rng.standard_normal((600, 5)) + 0.5
    samples = drawn(x, 300, seed=4)

    def log_density(states):
        square = ((samples[:, None] - states) ** 2).sum(axis=2)
        return logsumexp(-0.5 * square - 2.5 * np.log(2 * np.pi), axis=1) - np.log(len(states))

    result = state_space_divergence(x, y, n_samples=300, n_seeds=1, random_state=4)
    expected = (log_density(x) - log_density(y)).mean()
    np.testing.assert_allclose(result.divergence.sel(rule="all"), expected, rtol=0, atol=1e-10)
    # nothing underflows here, so that the rules agree to single precision
    np.testing.assert_allclose(result.divergence.sel(rule="published"), expected, rtol=1e-5)
    assert result.dropped_fraction == 0
    assert np.isnan(result.seed_sd).all()


def test_published_rule_is_a_straightforward_single_precision_one(rng):
    x, y = rng.standard_normal((400, 40)), rng.standard_normal((300, 40)) + 2.1
    samples = drawn(x, 200, seed=0).astype(np.float32)

    def density(states):
        square = ((samples[:, None] - states.astype(np.float32)) ** 2).sum(axis=2)
        return np.exp(-0.5 * square).sum(axis=1) / np.float32(len(states))

    p, q = density(x), density(y)
    kept = (p > 0) & (q > 0)
    assert 0.05 < kept.mean() < 0.95
    result = state_space_divergence(x, y, n_samples=200, n_seeds=1, random_state=0)
    # a density near 1e-45 has one digit, and each sample that rounds otherwise moves the mean by less than 1/200 nat
    np.testing.assert_allclose(
        result.divergence.sel(rule="published"), (np.log(p[kept]) - np.log(q[kept])).mean(), atol=0.02
    )
    np.testing.assert_allclose(result.dropped_fraction, 1 - kept.mean(), atol=0.011)
    assert result.divergence.sel(rule="all") > result.divergence.sel(rule="published") + 1


def test_samples_are_dropped_where_the_density_rounds_to_zero():
    distance = np.sqrt(2 * np.array([102.0, 103.9, 104.1, 800.0]))
    log_density, single = divergence.log_densities(distance[:, None], np.zeros((1, 1)))
    np.testing.assert_allclose(log_density, [-102.0, -103.9, -104.1, -800.0], rtol=1e-14)
    np.testing.assert_array_equal(single > 0, [True, True, False, False])


def test_divergence_of_data_from_themselves_is_zero_and_everything_dropped_is_nan(rng):
    x = rng.standard_normal((4, 50, 3))
    same = state_space_divergence(x, x.reshape(200, 3), n_samples=100, n_seeds=3)
    np.testing.assert_allclose(same.divergence, 0, atol=1e-12)
    np.testing.assert_allclose(same.seed_sd, 0, atol=1e-12)
    far = state_space_divergence(x, x + 100.0, n_samples=50, n_seeds=2)
    assert far.dropped_fraction == 1
    assert np.isnan(far.divergence.sel(rule="published"))
    assert far.divergence.sel(rule="all") > 1e4


def test_divergence_does_not_depend_on_blocks_translation_or_unit_of_measure(rng, monkeypatch):
    x, y = rng.standard_normal((300, 4)), 1.2 * rng.standard_normal((200, 4))
    whole = state_space_divergence(x, y, n_samples=101, n_seeds=2)
    moved = state_space_divergence(1e3 * x + 1e6, 1e3 * y + 1e6, bandwidth=1e3, n_samples=101, n_seeds=2)
    np.testing.assert_allclose(moved.divergence, whole.divergence, rtol=1e-6)  # 1e6 + x has lost six digits of x
    monkeypatch.setattr(divergence, "_BLOCK", 2000)
    blocks = state_space_divergence(x, y, n_samples=101, n_seeds=2)
    np.testing.assert_allclose(blocks.divergence, whole.divergence, rtol=1e-12)


def test_divergence_averages_seeds_and_takes_the_first_points(rng):
    x, y = rng.standard_normal((300, 2)), rng.standard_normal((300, 2)) + 1
    first = state_space_divergence(x, y, max_points=100, n_seeds=4)
    assert first.identical(state_space_divergence(x[:100], y[:100], n_seeds=4))
    assert (first.seed_sd > 0).all()
    assert not first.equals(state_space_divergence(x, y, max_points=100, n_seeds=4, random_state=1))


def test_divergence_of_a_long_recording_needs_little_memory(rng):
    x = rng.standard_normal((10_000, 64))
    tracemalloc.start()
    state_space_divergence(x, x, n_seeds=1, n_samples=400)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6  # two centred copies (10 MB) and some blocks of 16 MB; all distances at once would be 2 GB


# --- D_H and surrogates --------------------------------------------------------------------------------------------


def test_spectral_distance_is_its_definition_on_a_recording(rng):
    x, y = rng.standard_normal((501, 3)), rng.standard_normal((501, 3)).cumsum(axis=0)

    def spectrum(series):
        standard = (series - series.mean()) / series.std()
        power = np.abs(np.fft.rfft(standard[:500])) ** 2
        power = np.maximum(gaussian_filter1d(power, 20), 0)[:-1]
        return power / power.sum()

    roots = [np.sqrt(spectrum(a)) - np.sqrt(spectrum(b)) for a, b in zip(x.T, y.T, strict=True)]
    distances = np.linalg.norm(roots, axis=1) / np.sqrt(2)
    published = 20 / 500  # 20 frequency bins, in cycles per bin
    np.testing.assert_allclose(spectral_distance(x, y, smoothing=published), np.mean(distances), rtol=1e-12)
    np.testing.assert_allclose(
        spectral_distance(x[None], 5 * y[None] - 3, smoothing=published), np.mean(distances), rtol=1e-12
    )


def test_spectral_distance_of_equal_and_of_disjoint_spectra():
    t = np.arange(4000)[:, None] / 200
    slow, fast = np.sin(2 * np.pi * 5 * t), np.sin(2 * np.pi * 60 * t)
    assert spectral_distance(slow, 3 * slow + 1) < 1e-7  # square roots of rounding
    assert spectral_distance(slow, fast) > 1 - 1e-6
    both = np.concatenate([slow, fast], axis=1)
    np.testing.assert_allclose(spectral_distance(both, np.concatenate([slow, 0 * t + 2], axis=1)), 0.5, atol=1e-7)


def oscillation_and_noise(rng, n_trials, n_bins):
    """Return a slow oscillation and two draws of white noise, (trial, time, unit) each."""
    time, phases = np.arange(n_bins)[None, :, None], rng.uniform(0, 2 * np.pi, (n_trials, 1, 8))
    shape = (n_trials, n_bins, 8)
    return np.cos(0.3 * time + phases) + 0.1 * rng.standard_normal(shape), *rng.standard_normal((2, *shape))


@pytest.mark.parametrize("n_bins", [50, 200, 1000, 5000])
def test_noise_is_far_from_a_slow_oscillation_and_near_itself_at_any_length(rng, n_bins):
    slow, white, other = oscillation_and_noise(rng, 30, n_bins)
    assert spectral_distance(slow, white) > 0.55
    assert spectral_distance(white, other) < 0.09  # 1 / (2 sqrt(periodogram values averaged)): 0.07 at 50 bins


def test_smoothing_is_in_hertz_whatever_the_bins_and_the_length(rng):
    slow, white, _ = oscillation_and_noise(rng, 5, 200)
    dims = ("trial", "time", "unit")
    timed = xr.DataArray(slow, dims=dims, attrs={"bin_size": 0.02})
    wanted = spectral_distance(slow, white, smoothing=0.03)
    np.testing.assert_allclose(spectral_distance(timed, white, smoothing=1.5), wanted, rtol=1e-12)
    at_times = xr.DataArray(slow, dims=dims, coords={"time": np.arange(200) * 0.02})
    np.testing.assert_allclose(spectral_distance(at_times, white, smoothing=1.5), wanted, rtol=1e-12)
    frame = pd.DataFrame(slow[0], index=np.arange(200) * 0.02)
    np.testing.assert_allclose(
        spectral_distance(frame, white[0], smoothing=1.5), spectral_distance(slow[0], white[0], smoothing=0.03)
    )
    assert spectral_distance(timed, white) == spectral_distance(slow, white)


def test_a_unit_that_never_changes_is_left_out_and_named(rng, caplog):
    slow, white, _ = oscillation_and_noise(rng, 5, 100)
    wanted = spectral_distance(slow[..., :3], white[..., :3])
    slow[..., 3] = 7.0
    silent = xr.DataArray(slow[..., :4], dims=("trial", "time", "unit"), coords={"unit": list("abcd")})
    assert spectral_distance(silent, white[..., :4]) == wanted
    assert "left out" in caplog.text
    assert caplog.text.rstrip().endswith("units d")


def test_trials_are_averaged_without_the_spectrum_of_their_seams():
    t = np.arange(250) / 100
    phases = np.random.default_rng(0).uniform(0, 2 * np.pi, 60)
    trials = np.sin(2 * np.pi * 10 * t + phases[:, None])[..., None]  # whole periods: one line each
    assert spectral_distance(trials[:30], trials[30:], smoothing=0) < 1e-7
    assert spectral_distance(trials, np.sin(2 * np.pi * 10 * t)[:, None], smoothing=0) < 1e-7
    assert spectral_distance(trials.reshape(-1, 1), np.tile(trials[0], (60, 1)), smoothing=0) > 0.3


@pytest.mark.parametrize("n_bins", [100, 101])
def test_surrogate_keeps_spectra_and_cross_spectra_and_nothing_else(rng, n_bins):
    x = rng.standard_normal((2, n_bins, 3)).cumsum(axis=1)
    y = phase_surrogate(x, random_state=1)
    a, b = np.fft.rfft(x, axis=1), np.fft.rfft(y, axis=1)
    np.testing.assert_allclose(np.abs(b), np.abs(a), atol=1e-10)
    np.testing.assert_allclose(b[..., :1] * b.conj(), a[..., :1] * a.conj(), atol=1e-9)  # entries up to 1e5
    assert np.abs(np.angle(b / a))[:, 1:-1].min() > 1e-6
    assert not np.allclose((b / a)[0], (b / a)[1])
    np.testing.assert_array_equal(y, phase_surrogate(x, random_state=1))


def test_surrogate_and_smoothing_come_in_the_kind_of_the_data(rng):
    values = rng.standard_normal((3, 40, 2))
    trials = xr.DataArray(
        values, dims=("trial", "time", "unit"), coords={"time": np.arange(40) * 0.02, "unit": ["a", "b"]}
    )
    trials.attrs["bin_size"] = 0.02
    frame = pd.DataFrame(values[0], index=np.arange(40) * 0.02, columns=["a", "b"])
    for make in (lambda x: phase_surrogate(x, random_state=0), smooth_and_standardize):
        result = make(trials)
        assert result.attrs == trials.attrs
        xr.testing.assert_equal(result.coords.to_dataset(), trials.coords.to_dataset())
        np.testing.assert_array_equal(result, make(values))
        np.testing.assert_array_equal(make(frame).to_numpy(), make(values[0]))
        assert list(make(frame).columns) == ["a", "b"]


def test_smoothing_is_a_hann_window_and_a_z_score(rng):
    x = rng.standard_normal((200, 3))
    x[:, 2] = 0.1
    y = smooth_and_standardize(x)
    window = hann(15)
    inner = np.stack([np.convolve(column, window, mode="valid") for column in x.T[:2]], axis=1)
    np.testing.assert_allclose(y.std(axis=0), [1, 1, 0], atol=1e-12)
    np.testing.assert_allclose(y.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(np.corrcoef(y[7:-7, 0], inner[:, 0])[0, 1], 1, atol=1e-12)
    np.testing.assert_allclose(smooth_and_standardize(x, n_bins=None)[:, :2], ((x - x.mean(0)) / x.std(0))[:, :2])


def test_the_eeg_has_the_published_figures(data_folder):
    x = np.load(data_folder / "arrays" / "eeg_s001r01_smoothed.npy").astype(np.float64)
    half = x[:4820]
    turned = np.concatenate([half, half[::-1]])
    scores = state_space_divergence(x, turned, n_seeds=1)
    np.testing.assert_allclose(scores.divergence.sel(rule="published"), 1.31, atol=0.5)  # s.d. of a seed 0.12
    published = 20 / len(x)  # cycles per bin
    np.testing.assert_allclose(spectral_distance(x, turned, smoothing=published), 0.052, atol=5e-4)
    assert spectral_distance(x, phase_surrogate(x, random_state=0), smoothing=published) < 0.001
