"""Recording.series(like=): behaviour and stimuli at the trials and bins of a population."""

import logging

import numpy as np
import pytest

from small_nwb import add_series, add_trials, add_units, ramp


def behaviour(file):
    """Add spikes over 4 s, a hand position at 20 Hz and one at 1 Hz, a heading, and trials."""
    add_units(file, [np.arange(400) / 100])
    add_series(file, "processing/behavior/Position/hand", ramp(80), "SpatialSeries", rate=20.0, units="m")
    add_series(file, "processing/behavior/BehavioralTimeSeries/slow", np.arange(5.0), rate=1.0)
    heading = np.tile([0.1, 2 * np.pi - 0.1], 40)
    add_series(
        file, "processing/behavior/CompassDirection/heading", heading, "SpatialSeries", rate=20.0, units="radians"
    )
    degrees = np.rad2deg(heading)
    add_series(file, "processing/behavior/CompassDirection/deg", degrees, "SpatialSeries", rate=20.0, units="degrees")
    add_trials(file, [1.0, 2.0], [2.0, 3.0], side=["left", "right"])


def test_inputs_at_the_bins_of_trials(make):
    recording = make(behaviour)
    X = recording.spikes(0.1, align="start_time", window=(0.0, 0.3))
    inputs = recording.series("hand", like=X)
    assert inputs.dims == ("trial", "time", "input")
    assert inputs.input.values.tolist() == ["hand_x", "hand_y"]
    assert inputs.sel(input="hand_x").values.tolist() == [[20.5, 22.5, 24.5], [40.5, 42.5, 44.5]]
    assert inputs.side.values.tolist() == ["left", "right"]
    for name in ("trial", "time", "align_time"):
        assert inputs[name].equals(X[name])
    assert inputs.attrs["units"] == "m"
    one = recording.series("hand", like=X, units=[1])
    assert one.input.values.tolist() == ["hand_y"]
    assert one.values.tolist() == inputs.values[..., 1:].tolist()


def test_inputs_at_the_bins_of_a_recording(make):
    recording = make(behaviour)
    X = recording.spikes(0.5, window=(1.0, 3.0))
    slow = recording.series("slow", like=X)
    assert slow.dims == ("time", "input")
    np.testing.assert_allclose(slow[:, 0], [1.0, 1.75, 2.0, 2.75])  # a sample in the bin, or the line to the next
    part = recording.series("slow", like=X[1:3])
    np.testing.assert_allclose(part, slow[1:3])


def test_bins_without_samples_are_nan_and_told(make, caplog):
    recording = make(behaviour)
    X = recording.spikes(0.5)
    with caplog.at_level(logging.WARNING):
        hand = recording.series("hand", like=X.assign_coords(time=X.time + 3.0))
    assert hand.isnull().any("input").values.tolist() == [False] * 2 + [True] * 5
    assert "has no samples in 5 of 7 bins of like=: they are NaN" in caplog.text


def test_inputs_are_zero_where_the_population_is_padding(make):
    def build(file):
        add_units(file, [np.arange(400) / 100])
        add_series(file, "stimulus/presentation/light", np.ones(20), rate=10.0)
        add_trials(file, [0.0, 1.8], [1.0, 2.0])

    recording = make(build)
    X = recording.spikes(0.1, intervals="trials")
    light = recording.series("light", like=X)
    assert light[0, :, 0].values.tolist() == [1.0] * 10
    assert light[1, :, 0].values.tolist() == [1.0] * 2 + [0.0] * 8


@pytest.mark.parametrize(("name", "period"), [("heading", 2 * np.pi), ("deg", 360.0)])
def test_angles_are_averaged_on_the_circle(make, name, period):
    recording = make(behaviour)
    X = recording.spikes(0.1, window=(0.0, 1.0))
    angle = recording.series(name, like=X).values
    distance = np.minimum(angle % period, period - angle % period)
    assert distance.max() < 1e-9 * period  # the arithmetic mean is half a turn away


def test_like_errors(make):
    recording = make(behaviour)
    X = recording.spikes(0.1)
    with pytest.raises(ValueError, match="name: wanted the series to read at the bins of like="):
        recording.series(like=X)
    with pytest.raises(ValueError, match="like: got bin_size, align too, but like= already says trials and bins"):
        recording.series("hand", bin_size=0.1, align="x", like=X)
    with pytest.raises(TypeError, match="like: got ndarray, wanted a DataArray"):
        recording.series("hand", like=X.values)
    lone = X.isel(time=[0]).drop_attrs()
    with pytest.raises(ValueError, match="like: X has one bin and no attrs"):
        recording.series("hand", like=lone)
