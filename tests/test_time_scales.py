"""Windows of a recording are long enough for its own dynamics, and what it is too short for is said."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from nwb_lrrnn.compare.split import split
from nwb_lrrnn.preprocessing import choose_window
from nwb_lrrnn.preprocessing.time_scales import time_scale


def turning(n_bins, period, seed=0, n_units=12, noise=1.0):
    rng = np.random.default_rng(seed)
    phase = 2 * np.pi * np.arange(n_bins)[:, None] / period
    wave = np.concatenate([np.cos(phase), np.sin(phase)], axis=1) @ rng.standard_normal((2, n_units))
    return wave + noise * rng.standard_normal((n_bins, n_units))


def decaying(n_bins, phi, seed=0, n_units=12):
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((n_bins, 2))
    for t in range(1, n_bins):
        z[t] += phi * z[t - 1]
    return z @ rng.standard_normal((2, n_units)) + 2 * rng.standard_normal((n_bins, n_units))


def scale_of(y, seen=None):
    return time_scale(y, np.ones(y.shape, bool) if seen is None else seen)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("period", [12, 65, 300])
def test_the_period_of_an_oscillation(period, seed):
    scale, is_period = scale_of(turning(3000, period, seed))
    assert is_period
    assert abs(scale / period - 1) < 0.1


@pytest.mark.parametrize("seed", range(3))
def test_the_period_of_counts(seed):
    rate = np.exp(0.4 * turning(3000, 65, seed, noise=0.0)) * 0.3
    scale, is_period = scale_of(np.random.default_rng(seed).poisson(rate).astype(float))
    assert is_period
    assert abs(scale / 65 - 1) < 0.15


@pytest.mark.parametrize("seed", range(3))
def test_what_decays_has_an_autocorrelation_time(seed):
    scale, is_period = scale_of(decaying(20_000, 0.9, seed))
    assert not is_period
    assert 12 < scale < 28  # 19


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n_units", [1, 12, 200])
def test_noise_has_none(n_units, seed):
    rng = np.random.default_rng(seed)
    assert scale_of(rng.standard_normal((1000, n_units))) == (None, False)
    assert scale_of(rng.poisson(0.3, (1000, n_units)).astype(float)) == (None, False)


def test_units_of_measure_order_trends_and_constants_do_not_matter():
    y = turning(2000, 50)
    wanted = scale_of(y)
    rng = np.random.default_rng(1)
    assert scale_of(y[:, rng.permutation(12)]) == wanted
    assert scale_of(1e6 * y - 3) == wanted
    assert scale_of(y + np.linspace(0, 40, 2000)[:, None]) == pytest.approx(wanted, rel=0.1)
    assert scale_of(np.concatenate([y, np.full((2000, 2), 3.3)], axis=1)) == pytest.approx(wanted)
    assert scale_of(np.zeros((100, 3))) == (None, False)
    gap = np.ones(y.shape, bool)
    gap[300:500], gap[700:900, 3] = False, False
    assert scale_of(np.where(gap, y, 0.0), gap) == pytest.approx(wanted, rel=0.1)


def test_windows_hold_two_periods_and_as_many_as_asked_where_that_is_enough():
    assert choose_window(turning(2000, 65), 40).length == pytest.approx(130, rel=0.1)
    assert choose_window(turning(2000, 12), 40).length == 50
    assert choose_window(np.random.default_rng(0).standard_normal((2000, 5)), 40).length == 50
    assert choose_window(turning(2000, 1500), 40).length == 500  # four windows are left
    assert choose_window(np.zeros((3, 2)), 40).length == 2
    for kind in (pd.DataFrame, lambda y: xr.DataArray(y, dims=("time", "unit")).chunk(time=100)):
        assert choose_window(kind(turning(2000, 65)), 40) == choose_window(turning(2000, 65), 40)


def test_what_a_recording_is_too_short_for_is_said():
    choice = choose_window(turning(1000, 65), 40)
    assert choice.reason(0.1, "s").startswith("the period of the population is 6.")
    assert choice.reason(0.1, "s").endswith("s, of which a window holds 2")
    assert choice.shortage(0.25) == (
        f"the recording holds {1000 / choice.scale:.2g} periods, and 8 held-out windows of 2 would take about 64"
    )
    assert choose_window(turning(9000, 65), 40).shortage(0.25) == ""
    noise = choose_window(np.random.default_rng(0).standard_normal((20, 5)), 40)
    assert noise.shortage(0.25) == ""
    assert noise.reason(1.0, "bins") == "bins of the population are unrelated to each other"


def test_a_comparison_cuts_what_is_fitted_and_what_is_held_out_alike():
    y = xr.DataArray(turning(2400, 60), dims=("time", "unit"), coords={"time": 0.1 * np.arange(2400)})
    parts = split(y[1800:], cv="prefit", X_train=y[:1800])
    assert parts.X.sizes["time"] == parts.X_train.sizes["time"] == choose_window(y[:1800], 50).length
    assert split(y, cv=3).X.sizes["time"] == pytest.approx(120, rel=0.1)
