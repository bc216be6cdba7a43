"""`Resample`: sums, means, lines and angles, inside gap limits, with the labels of the new bins."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import nwb_lrrnn as lr
from small_preprocessing import trials


def recording(values, bin_size=0.1, **coords):
    values = np.asarray(values)
    values = values[:, None] if values.ndim == 1 else values
    time = 2.0 + bin_size * (np.arange(len(values)) + 0.5)
    return xr.DataArray(
        values, dims=("time", "unit"), coords={"time": time, **coords}, attrs={"bin_size": bin_size, "source": "here"}
    )


def test_counts_are_summed_and_stay_integers():
    X = recording(np.array([1, 2, 0, 4, 5, 9, 3], dtype=np.uint8))
    Y = lr.Resample(rate=5.0).fit_transform(X)
    assert Y.values.ravel().tolist() == [3, 4, 14]  # the last bin is left over
    assert Y.dtype == np.int64
    np.testing.assert_allclose(Y["time"], 2.0 + 0.2 * (np.arange(3) + 0.5))
    assert Y.attrs == {"bin_size": 0.2, "source": "here", "preprocessing": ["Resample(rate=5.0, how='auto')"]}
    by_name = lr.Resample(rate=5.0).fit_transform(X.astype(float).assign_attrs(units="counts"))
    np.testing.assert_array_equal(by_name, Y)
    assert by_name.dtype == np.float64
    frame = pd.DataFrame({"a": [1, 2, 3, 4]})
    assert lr.Resample(rate=0.5).fit_transform(frame)["a"].tolist() == [3, 7]


def test_a_sum_over_250_ones_in_uint8_does_not_wrap():
    X = recording(np.full(600, 200, dtype=np.uint8), bin_size=0.01)
    assert lr.Resample(rate=0.5).fit_transform(X).values.tolist() == [[40000]] * 3


def test_everything_else_is_averaged():
    X = recording([1.0, 2.0, 0.0, 4.0])
    np.testing.assert_allclose(lr.Resample(rate=5.0).fit_transform(X).values.ravel(), [1.5, 2.0], rtol=1e-14)
    counts = recording(np.array([1, 2, 0, 4]))
    np.testing.assert_allclose(lr.Resample(rate=5.0, how="mean").fit_transform(counts).values.ravel(), [1.5, 2.0])
    uneven = lr.Resample(rate=4.0).fit_transform(recording(np.arange(10.0)))  # bins of 0.25 s hold 2 or 3 of 0.1 s
    np.testing.assert_allclose(uneven.values.ravel(), [0.5, 3.0, 5.5, 8.0], rtol=1e-14)


def test_a_line_is_a_line_in_finer_bins_and_edges_take_their_own_bin():
    X = recording(np.arange(6.0))
    Y = lr.Resample(rate=20.0).fit_transform(X)
    centres = (np.arange(12) + 0.5) / 2 - 0.5
    np.testing.assert_allclose(Y["time"], 2.05 + 0.1 * centres)
    # a bin whose left edge is an old centre holds that sample; the others are interpolated; edges know one bin only
    expected = np.where(np.arange(12) % 2, np.floor(centres) + 0.0, centres)
    expected[1::2] = np.arange(6)
    expected[0] = 0.0
    np.testing.assert_allclose(Y.values.ravel(), expected, atol=1e-12)


def test_gaps_are_crossed_up_to_max_gap_only():
    values = np.array([0.0, 1.0, np.nan, 3.0, np.nan, np.nan, 6.0, 7.0])
    near = lr.Resample(rate=10.0, max_gap=0.2).fit_transform(recording(values))
    np.testing.assert_allclose(near.values.ravel(), [0, 1, 2, 3, np.nan, np.nan, 6, 7], atol=1e-12)
    np.testing.assert_allclose(lr.Resample(rate=10.0).fit_transform(recording(values)).values.ravel(), values)
    X = recording(np.nan_to_num(values, nan=99.0), observed=("time", np.isfinite(values)))
    Y = lr.Resample(rate=10.0, max_gap=0.2).fit_transform(X)
    np.testing.assert_allclose(Y.values, near.values)
    assert Y["observed"].values.tolist() == [True, True, True, True, False, False, True, True]


def test_a_sum_is_observed_only_where_all_its_bins_are():
    observed = np.array([[True, True], [True, False], [True, True], [True, True]])
    X = recording(np.arange(8).reshape(4, 2), observed=(("time", "unit"), observed))
    Y = lr.Resample(rate=5.0).fit_transform(X)
    assert Y.values.tolist() == [[2, 0], [10, 12]]
    assert Y["observed"].values.tolist() == [[True, False], [True, True]]
    np.testing.assert_array_equal(
        lr.Resample(rate=0.5, how="sum").fit_transform([[1.0], [2.0], [3.0], [np.nan]]), [[3.0], [np.nan]]
    )


@pytest.mark.parametrize(("circular", "circle"), [(True, 2 * np.pi), (360.0, 360.0)])
def test_angles_are_averaged_on_the_circle(circular, circle):
    turns = np.array([0.95, 0.05, 0.4, 0.5])
    step = lr.Resample(rate=5.0, circular=circular)
    np.testing.assert_allclose(
        step.fit_transform(recording(turns * circle)).values.ravel(), np.array([0.0, 0.45]) * circle, atol=1e-12
    )
    signed = (turns + 0.3 + 0.5) % 1 - 0.5  # -0.75 .. of a turn, in (-1/2, 1/2]
    back = step.fit_transform(recording(signed * circle)).values.ravel() / circle
    np.testing.assert_allclose(back, [0.3, -0.25], atol=1e-12)
    assert step.is_signed_


def test_the_range_of_angles_is_that_of_the_training_data():
    step = lr.Resample(rate=10.0, circular=360.0).fit(recording([-90.0, 20.0]))
    np.testing.assert_allclose(step.transform(recording([270.0, 180.0])).values.ravel(), [-90.0, 180.0])
    assert np.isnan(lr.Resample(rate=5.0, circular=360.0).fit_transform(recording([0.0, 180.0])).values).all()


def test_labels_follow_the_bins(rng):
    X = trials(rng, gaps=True)
    Y = lr.Resample(rate=10.0).fit_transform(X)
    assert Y.shape == (5, 20, 4)
    np.testing.assert_allclose(Y["time"], -1.025 + 0.1 * (np.arange(20) + 0.5))
    assert Y["phase"].values.tolist() == list(range(1, 40, 2))
    for name in ("trial", "unit", "area", "align_time"):
        assert Y[name].identical(X[name].assign_coords()) or np.array_equal(Y[name], X[name])
    assert Y["observed"].dims == ("trial", "time")
    assert np.argwhere(~Y["observed"].values).tolist() == [[0, 5], [0, 6], [3, 0], [4, 19]]
    assert Y.attrs["bin_size"] == 0.1
    assert X.attrs["bin_size"] == 0.05
    index = pd.Index([0.05, 0.15, 0.25, 0.35], name="t")
    frame = lr.Resample(rate=5.0).fit_transform(pd.DataFrame({"a": [1.0, 2.0, 3.0, 4.0]}, index=index))  # seconds
    np.testing.assert_allclose(frame.index, [0.1, 0.3])
    assert frame.index.name == "t"
    named = pd.DataFrame({"a": [1.0, 2.0, 3.0, 4.0]}, index=list("wxyz"))
    assert lr.Resample(rate=0.5).fit_transform(named).index.tolist() == ["x", "z"]


def test_ragged_trials_keep_their_lengths_in_time():
    X = [np.arange(10.0)[:, None], np.arange(7.0)[:, None]]
    assert [len(y) for y in lr.Resample(rate=0.5).fit_transform(X)] == [5, 3]
    assert lr.Resample(rate=0.5).fit_transform(np.zeros((3, 9, 2))).shape == (3, 4, 2)


COUNTS = recording(np.arange(12))


@pytest.mark.parametrize(
    ("step", "X", "message"),
    [
        (lr.Resample(rate=0), COUNTS, "rate: got 0, wanted a finite number > 0: new bins per second"),
        (lr.Resample(rate=20.0), COUNTS, "rate: got 20, 0.5 old bins in a new one, .* cannot be split; pass rate=10"),
        (lr.Resample(rate=4.0), COUNTS, "rate: got 4, 2.5 old bins in a new one, wanted a whole number.* pass rate=5"),
        (lr.Resample(rate=0.5), COUNTS, "bins longer than trial 0, 12 bins of 0.1; wanted at least rate=0.8333"),
        (lr.Resample(rate=5.0, how="median"), COUNTS, "how: got 'median', wanted one of 'auto', 'mean', 'sum'"),
        (lr.Resample(rate=5.0, how="sum", circular=True), COUNTS, "how: got 'sum' with circular, wanted 'mean'"),
        (lr.Resample(rate=5.0, circular=-1.0), COUNTS, r"circular: got -1.0, wanted a finite number > 0, True"),
        (lr.Resample(rate=5.0, max_gap=-1.0), COUNTS, "max_gap: got -1.0, wanted a finite number >= 0"),
    ],
)
def test_wrong_parameters_are_refused(step, X, message):
    with pytest.raises(ValueError, match=message):
        step.fit(X)
