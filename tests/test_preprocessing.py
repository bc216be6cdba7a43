"""`chop`: windows hold what the recording held, in every kind the user may give."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from nwb_lrrnn.preprocessing import chop
from small_preprocessing import counted


def recording():
    values = np.arange(26 * 3).reshape(26, 3)
    return xr.DataArray(
        values,
        dims=("time", "unit"),
        coords={
            "time": 10.01 + 0.02 * np.arange(26),
            "unit": [4, 7, 9],
            "area": ("unit", ["a", "b", "c"]),
            "observed": ("time", np.arange(26) != 7),
        },
        attrs={"bin_size": 0.02, "source": "here"},
    )


def test_windows_of_a_data_array_keep_coordinates_and_attributes():
    X = recording()
    windows = chop(X, 0.1)
    assert windows.dims == ("trial", "time", "unit")
    assert windows.shape == (5, 5, 3)
    np.testing.assert_array_equal(windows.values.reshape(25, 3), X.values[:25])
    np.testing.assert_allclose(windows["time"], 0.01 + 0.02 * np.arange(5))
    np.testing.assert_allclose(windows["align_time"], 10 + 0.1 * np.arange(5))
    assert windows["unit"].values.tolist() == [4, 7, 9]
    assert windows["area"].values.tolist() == ["a", "b", "c"]
    assert windows["observed"].dims == ("trial", "time")
    assert np.argwhere(~windows["observed"].values).tolist() == [[1, 2]]
    assert windows.attrs == {
        "bin_size": 0.02,
        "source": "here",
        "dropped_bins": 1,
        "preprocessing": ["chop(duration=0.1)"],
    }
    assert windows.dtype == X.dtype


def test_arrays_and_frames_are_cut_too():
    X = recording()
    np.testing.assert_array_equal(chop(X.values, 5).values, chop(X, 0.1).values)
    frame = pd.DataFrame(X.values, index=X["time"].values, columns=[4, 7, 9])
    windows = chop(frame, 0.1)
    np.testing.assert_array_equal(windows.values, chop(X, 0.1).values)
    np.testing.assert_allclose(windows["align_time"], chop(X, 0.1)["align_time"])
    assert windows["unit"].values.tolist() == [4, 7, 9]
    plain = chop(pd.DataFrame(X.values), 13)
    assert plain.shape == (2, 13, 3)
    assert plain.attrs["dropped_bins"] == 0
    assert "bin_size" not in plain.attrs
    assert "time" not in plain.coords  # which would be read as seconds, and contradict a model's own bin size
    assert plain["align_time"].values.tolist() == [0.0, 13.0]


def test_dask_arrays_stay_lazy_and_nothing_is_computed():
    X, reads = counted(recording(), {"time": 10})
    windows = chop(X, 0.1)
    assert reads == []
    np.testing.assert_array_equal(windows.values, chop(recording(), 0.1).values)
    assert len(reads) == len(set(reads)) == 3
    flags = recording()["observed"].chunk(time=4)
    assert chop(recording().assign_coords(observed=flags), 0.1)["observed"].chunks is not None


@pytest.mark.parametrize(
    ("X", "duration", "error", "message"),
    [
        (np.zeros((4, 3)), 0.2, ValueError, "duration: got 0.2, wanted at least one bin, 1 bins"),
        (np.zeros((4, 3)), 5, ValueError, "duration: got 5 bins, wanted at most the recording, 4 bins"),
        (recording(), 0.001, ValueError, "duration: got 0.001, wanted at least one bin, 0.02 s"),
        (recording().T, 0.1, ValueError, r"got dims \('unit', 'time'\), wanted"),
        (np.zeros((2, 4, 3)), 2, ValueError, r"got shape \(2, 4, 3\), wanted \(time, unit\)"),
        (recording().to_dataset(name="spikes"), 2, TypeError, "got a Dataset of"),
    ],
)
def test_what_cannot_be_cut_is_refused(X, duration, error, message):
    with pytest.raises(error, match=message):
        chop(X, duration)


def test_windows_of_a_recording_know_their_place_in_the_session():
    X = xr.DataArray(
        np.zeros((10, 2)), dims=("time", "unit"), coords={"time": np.arange(10) * 0.5 + 0.25, "align_time": 7.0}
    )
    np.testing.assert_allclose(chop(X, 2.0).align_time, [7.0, 9.0])


def test_one_trial_of_several_is_cut_too():
    trials = xr.DataArray(
        np.arange(60.0).reshape(2, 10, 3),
        dims=("trial", "time", "unit"),
        coords={"trial": [7, 8], "align_time": ("trial", [1.0, 20.0]), "side": ("trial", ["left", "right"])},
        attrs={"bin_size": 0.5},
    )
    windows = chop(trials[1], 2.0)  # X[1] keeps `trial` as a coordinate without a dim
    np.testing.assert_array_equal(windows.values.reshape(8, 3), trials.values[1, :8])
    assert windows["trial"].values.tolist() == [0, 1]
    np.testing.assert_allclose(windows["align_time"], [20.0, 22.0])
    assert windows["side"].item() == "right"
