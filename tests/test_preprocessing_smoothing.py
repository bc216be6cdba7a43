"""`Smooth` and `Filter`: closed forms, edges and gaps."""

import numpy as np
import pytest
import xarray as xr
from scipy.signal import butter, sosfreqz

import nwb_lrrnn as lr


def pulse(n=41, at=20):
    x = np.zeros((n, 1))
    x[at] = 1.0
    return x


def timed(x, bin_size=0.01):
    return xr.DataArray(x, dims=("time", "unit"), attrs={"bin_size": bin_size})


def test_a_pulse_becomes_the_truncated_gaussian():
    j = np.arange(-20, 21)
    kernel = np.where(np.abs(j) <= 8, np.exp(-(j**2) / (2 * 2.0**2)), 0.0)
    np.testing.assert_allclose(lr.Smooth(sd=2.0).fit_transform(pulse())[:, 0], kernel / kernel.sum(), atol=1e-15)
    past = np.where(j >= 0, kernel, 0.0)  # the response follows the pulse
    np.testing.assert_allclose(
        lr.Smooth(sd=2.0, causal=True).fit_transform(pulse())[:, 0], past / past.sum(), atol=1e-15
    )


def test_sd_is_in_seconds_where_bins_are_known():
    expected = lr.Smooth(sd=3.0).fit_transform(pulse())
    np.testing.assert_allclose(lr.Smooth(sd=0.03).fit_transform(timed(pulse())), expected, rtol=1e-12)
    clocked = xr.DataArray(pulse(), dims=("time", "unit"), coords={"time": 0.01 * np.arange(41)})
    np.testing.assert_allclose(lr.Smooth(sd=0.03).fit_transform(clocked), expected, rtol=1e-9)


@pytest.mark.parametrize("causal", [False, True])
def test_a_constant_stays_constant_at_edges_and_beside_gaps(causal):
    x = np.full((2, 30, 3), 7.25)
    x[0, 5:9, 1] = np.nan
    x[1, 28:] = np.nan
    smooth = lr.Smooth(sd=50.0, causal=causal).fit_transform(x)  # wider than the trial
    np.testing.assert_array_equal(np.isnan(smooth), np.isnan(x))
    np.testing.assert_allclose(smooth[~np.isnan(x)], 7.25, rtol=1e-14)


def test_the_kernel_is_renormalised_over_what_is_observed():
    x = np.array([[1.0], [5.0], [np.nan], [2.0]])
    k = np.exp(-(np.arange(4) ** 2) / 2.0)
    expected = (k[3] * 1.0 + k[2] * 5.0 + k[0] * 2.0) / (k[3] + k[2] + k[0])
    assert lr.Smooth(sd=1.0).fit_transform(x)[3, 0] == pytest.approx(expected, rel=1e-14)


def test_trials_do_not_leak_into_each_other():
    x = np.stack([np.zeros((20, 1)), np.ones((20, 1))])
    np.testing.assert_array_equal(lr.Smooth(sd=4.0).fit_transform(x)[0], 0.0)
    np.testing.assert_allclose(lr.Filter(high=0.1).fit_transform(x)[0], 0.0, atol=1e-12)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (lr.Smooth(sd=0.0), r"sd: got 0.0, wanted a finite number > 0: the kernel's standard deviation in seconds"),
        (lr.Smooth(sd="wide"), r"sd: got 'wide', wanted"),
        (lr.Smooth(sd=0.001), r"sd: got 0.001, a kernel of a single bin, wanted at least 0.00125 s"),
        (lr.Smooth(sd=0.1, causal=1), "causal: got 1, wanted True or False"),
        (lr.Filter(), r"low, high: got None for both, wanted a cutoff in Hz, e.g. Filter\(high=10.0\)"),
        (lr.Filter(high=60.0), "high: got 60, wanted less than half the sampling rate, 50 Hz"),
        (lr.Filter(low=-1.0), r"low: got -1.0, wanted a finite number > 0 \(Hz\)"),
        (lr.Filter(low=5.0, high=5.0), "low: got 5, wanted less than high, 5"),
        (lr.Filter(high=5.0, order=0), "order: got 0, wanted a whole number >= 1"),
    ],
)
def test_wrong_parameters_are_refused(step, message):
    with pytest.raises(ValueError, match=message):
        step.fit(timed(pulse()))


def test_without_a_bin_size_the_messages_speak_of_bins():
    with pytest.raises(ValueError, match="wanted at least 0.125 bins, as X has no bin size"):
        lr.Smooth(sd=0.05).fit(pulse())
    with pytest.raises(ValueError, match="wanted less than half the sampling rate, 0.5 cycles per bin"):
        lr.Filter(high=10.0).fit(pulse())


@pytest.mark.parametrize(
    ("step", "kind", "cutoff"),
    [
        (lr.Filter(high=10.0, order=3), "lowpass", 10.0),
        (lr.Filter(low=4.0, order=2), "highpass", 4.0),
        (lr.Filter(low=4.0, high=12.0, order=2), "bandpass", [4.0, 12.0]),
    ],
)
@pytest.mark.parametrize("frequency", [2.0, 7.0, 12.0, 20.0])
def test_the_gain_is_the_squared_butterworth_gain_without_delay(step, kind, cutoff, frequency):
    time = 0.01 * np.arange(2000)
    wave = np.sin(2 * np.pi * frequency * time)
    filtered = step.fit_transform(timed(wave[:, None])).values[:, 0]
    _, response = sosfreqz(butter(step.order, cutoff, kind, fs=100.0, output="sos"), [frequency], fs=100.0)
    # transients at the edges have died out in the middle
    np.testing.assert_allclose(filtered[800:1200], abs(response[0]) ** 2 * wave[800:1200], atol=1e-6)


def test_the_gain_at_the_cutoff_is_one_half():
    wave = np.sin(2 * np.pi * 0.1 * np.arange(2001) + np.pi / 2)  # cycles per bin
    assert lr.Filter(high=0.1).fit_transform(wave[:, None])[1000, 0] == pytest.approx(0.5, abs=1e-6)


def test_every_stretch_between_gaps_is_filtered_by_itself(rng):
    x = rng.standard_normal((3, 120, 4))
    x[1, 50:60] = np.nan
    x[2, 30:33, 2] = np.nan
    step = lr.Filter(low=0.05, high=0.2, order=2).fit(x)
    y = step.transform(x)
    np.testing.assert_allclose(y[0], step.transform(x[0]), atol=1e-13)
    np.testing.assert_allclose(y[1, :50], step.transform(x[1, :50]), atol=1e-13)
    np.testing.assert_allclose(y[1, 60:], step.transform(x[1, 60:]), atol=1e-13)
    full = step.transform(np.nan_to_num(x[2]))
    np.testing.assert_allclose(y[2, 33:, 2], step.transform(np.nan_to_num(x[2, 33:]))[:, 2], atol=1e-13)
    np.testing.assert_allclose(y[2][:, [0, 1, 3]], full[:, [0, 1, 3]], atol=1e-13)


@pytest.mark.parametrize("n_bins", [1, 2, 5])
def test_a_stretch_shorter_than_the_padding_is_still_filtered(n_bins):
    x = np.full((2, n_bins, 1), 3.0)  # at DC a low-pass passes and a high-pass stops
    np.testing.assert_allclose(lr.Filter(high=0.2).fit_transform(x), 3.0, rtol=1e-6)
    np.testing.assert_allclose(lr.Filter(low=0.2).fit_transform(x), 0.0, atol=1e-6)
