"""The edge of what a step can take: X without its bin size, extreme scales, too few bins, odd dask arrays."""

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import nwb_lrrnn as lr
from small_preprocessing import counted, trials


def recording(rng, n_bins=300, bin_size=0.02):
    values = rng.gamma(2.0, size=(n_bins, 3)) + 1.0
    return xr.DataArray(values, dims=("time", "unit"), attrs={"bin_size": bin_size})


@pytest.mark.parametrize(
    "step",
    [
        lr.Resample(rate=10.0),
        lr.Smooth(sd=0.1),
        lr.Filter(high=0.4),
        lr.DeltaFOverF(window=1.5),
    ],
    ids=repr,
)
def test_x_without_a_bin_size_has_the_bins_of_fit(step, rng):
    X = recording(rng)
    expected = step.fit(X).transform(X).values
    np.testing.assert_array_equal(step.transform(X.values), expected)
    np.testing.assert_array_equal(step.transform([X.values])[0], expected)
    np.testing.assert_array_equal(step.transform(da.from_array(X.values)).compute(), expected)
    frame = step.transform(pd.DataFrame(X.values))
    np.testing.assert_array_equal(frame, expected)


def test_bins_of_fit_are_those_that_were_known_there(rng):
    X = recording(rng)
    assert lr.Resample(rate=0.1).fit(X.values).transform(X.values).shape == (30, 3)  # per bin, as at fit
    step = lr.Resample(rate=10.0).fit(X)
    assert step.transform(X.drop_attrs()).attrs["bin_size"] == 0.1
    step.fit(X.drop_attrs().values)  # a second fit forgets the first
    assert step.transform(X.values[:1]).shape == (10, 3)


def chopped_and_refused():
    X = xr.DataArray(np.zeros((20, 2)), dims=("time", "unit"), coords={"time": 0.1 * np.arange(20)})
    uneven, falling = np.r_[0.1 * np.arange(19), 7.0], -0.1 * np.arange(20)
    return [
        (X.assign_coords(time=uneven), "X: the time coordinate is uneven: step 18 from 1.8 to 7 s"),
        (X.assign_coords(time=uneven).assign_attrs(bin_size=0.1), "X: the time coordinate is uneven"),
        (X.assign_coords(time=falling), r"X: the time coordinate does not increase.* call X.sortby\('time'\)"),
        (X.assign_coords(time=pd.date_range("2020", periods=20)), "the time coordinate is of type datetime64"),
        (X.assign_attrs(bin_size=0.2), "bin_size: got 0.2 s, but the time coordinate steps by 0.1 s"),
        (X.assign_attrs(bin_size="x"), "bin_size: got 'x', wanted seconds > 0"),
        (X.assign_attrs(bin_size=0), "bin_size: got 0, wanted seconds > 0"),
        (pd.DataFrame(np.zeros((20, 2)), index=uneven), "X: the time coordinate is uneven"),
    ]


@pytest.mark.parametrize(("X", "message"), chopped_and_refused())
def test_chop_refuses_a_time_that_is_none(X, message):
    with pytest.raises(ValueError, match=message):
        lr.chop(X, 0.5)


def test_chop_of_a_bare_dask_array_computes_nothing(rng):
    X = recording(rng)
    lazy, reads = counted(X, {"time": 70, "unit": 2})
    windows = lr.chop(lazy.data, 40)
    assert windows.chunks is not None
    assert reads == []
    np.testing.assert_array_equal(windows.values, lr.chop(X.values, 40).values)


@pytest.mark.parametrize(
    ("query", "got"),
    [
        ("quality", "values of type "),
        ("unit", "values of type int64"),
        ("rate + 1", "values of type float64"),
        ("1 < 2", r"(np\.)?True"),
        ("1 - 1", "0"),
    ],
)
def test_a_query_is_a_condition(query, got, rng):
    X = trials(rng).assign_coords(quality=("unit", ["good", "mua", "good", "good"]))
    with pytest.raises(ValueError, match=f"{got}.*, wanted a condition, one boolean per unit, e.g. "):
        lr.SelectUnits(query).fit(X)


def test_a_query_may_be_a_boolean_column_and_not_an_assignment(rng):
    X = trials(rng).assign_coords(good=("unit", [True, False, True, False]))
    assert lr.SelectUnits("good").fit(X).selected_.tolist() == [100, 102]
    assert lr.SelectUnits("not good and unit > 101").fit(X).selected_.tolist() == [103]
    with pytest.raises(ValueError, match="query: 'unit = 3' fails"):
        lr.SelectUnits("unit = 3").fit(X)


def test_denoising_needs_more_complete_bins_than_components(rng):
    x = rng.standard_normal((20, 5))
    x[3:, 0] = np.nan
    message = r"X: got 3 bins observed in all units, wanted at least 4, rank \+ 1; lower rank, or drop the units"
    with pytest.raises(ValueError, match=message):
        lr.PCADenoise(rank=3).fit(x)
    complete = x[:3]
    np.testing.assert_allclose(lr.PCADenoise(rank=2).fit(x).transform(complete), complete, atol=1e-12)


@pytest.mark.parametrize("step", [lr.ZScore(), lr.PCADenoise(2), lr.Smooth(0.1)], ids=repr)
def test_dask_of_unknown_shape_or_no_numbers_is_refused_at_once(step, rng):
    X = da.from_array(recording(rng).values).rechunk((100, 3))
    unknown = X[X[:, 0] > 2.0]
    with pytest.raises(ValueError, match=r"X: got chunks of unknown size .* call X.compute_chunk_sizes\(\)"):
        step.fit(unknown)
    with pytest.raises(ValueError, match=r"X\[1\]: got chunks of unknown size .*X\[1\].compute_chunk_sizes\(\)"):
        step.fit([X, unknown])
    with pytest.raises(TypeError, match=r"X: got values of type object, wanted real numbers; call X.astype\(float\)"):
        step.fit(X.astype(object))
    with pytest.raises(TypeError, match="X: got values of type object"):
        step.fit(xr.DataArray(X.astype(object), dims=("time", "unit")))


def test_chop_and_labelled_arrays_refuse_unknown_chunks(rng):
    X = da.from_array(recording(rng).values).rechunk((100, 3))
    unknown = X[X[:, 0] > 2.0]
    with pytest.raises(ValueError, match=r"X: got chunks of unknown size .* call X.compute_chunk_sizes\(\)"):
        lr.chop(unknown, 10)
    labelled = xr.DataArray(unknown, dims=("time", "unit"))
    with pytest.raises(ValueError, match=r"X.data.compute_chunk_sizes\(\)"):
        lr.ZScore().fit(labelled)
    labelled.data.compute_chunk_sizes()  # the advice holds
    assert lr.ZScore().fit(labelled).scale_.shape == (3,)


@pytest.mark.parametrize("factor", [2.0**700, 2.0**-600], ids=["large", "small"])
@pytest.mark.parametrize("lazy", [False, True], ids=["eager", "lazy"])
def test_statistics_hold_at_every_scale(factor, lazy, rng):
    X = trials(rng, gaps=True)
    scaled = X * factor  # a power of two: every digit is the same
    if lazy:
        X, scaled = X.chunk(trial=2, time=7), scaled.chunk(trial=2, time=7)
    one, other = lr.ZScore().fit(X), lr.ZScore().fit(scaled)
    np.testing.assert_array_equal(other.mean_, one.mean_ * factor)
    np.testing.assert_array_equal(other.scale_, one.scale_ * factor)
    few, same = lr.PCADenoise(2).fit(X), lr.PCADenoise(2).fit(scaled)
    np.testing.assert_array_equal(same.mean_, few.mean_ * factor)
    np.testing.assert_array_equal(same.components_, few.components_)
    np.testing.assert_array_equal(same.explained_variance_ratio_, few.explained_variance_ratio_)


def test_units_and_trials_of_unlike_scales_keep_their_own():
    x = np.array([[1.0, 2.0, 3.0], [3.0, 4.0, 3.0]]) * [1e200, 1e-170, 1e300]
    step = lr.ZScore().fit(x)
    np.testing.assert_allclose(step.mean_, [2e200, 3e-170, 3e300], rtol=1e-15)
    np.testing.assert_allclose(step.scale_, [1e200, 1e-170, 1.0], rtol=1e-14)  # the last is constant
    np.testing.assert_allclose(step.transform(x), [[-1, -1, 0], [1, 1, 0]], rtol=1e-14)
    spread = [np.array([[1e-300], [2e-300]]), np.array([[1e250], [3e250]]), np.zeros((2, 1))]
    lazy = lr.ZScore().fit([da.from_array(trial) for trial in spread])
    np.testing.assert_allclose(lazy.mean_, 1e250 * 4 / 6, rtol=1e-14)
    np.testing.assert_allclose(lazy.scale_, 1e250 * np.std([0, 0, 1, 3, 0, 0]), rtol=1e-14)
    assert lr.ZScore().fit([[0.0], [5e-324]]).scale_.tolist() == [1.0]  # half of the least number is 0


@pytest.mark.parametrize("causal", [False, True])
def test_a_kernel_without_end_is_the_mean(causal, rng):
    X = recording(rng)
    wide = lr.Smooth(sd=1e9, causal=causal).fit(X)
    expected = X.values.cumsum(axis=0) / np.arange(1, 301)[:, None] if causal else np.tile(X.values.mean(0), (300, 1))
    np.testing.assert_allclose(wide.transform(X).values, expected, rtol=1e-12)
    np.testing.assert_allclose(wide.transform(X.chunk(time=50)).values, expected, rtol=1e-12)
    np.testing.assert_allclose(lr.Smooth(sd=1e308, causal=causal).fit_transform(X).values, expected, rtol=1e-12)
