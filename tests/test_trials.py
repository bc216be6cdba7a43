"""The input gate: every kind of recording goes in, and results come back in the same kind."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from xarray.indexes import RangeIndex

from nwb_lrrnn.trials import as_trials


def recording(rng, trials=3, bins=5, units=4, **coords):
    """Return counts (trial, time, unit) with the coordinates that io attaches."""
    X = xr.DataArray(
        rng.poisson(2.0, size=(trials, bins, units)),
        dims=("trial", "time", "unit"),
        coords={
            "trial": np.arange(trials) + 10,
            "time": (np.arange(bins) + 0.5) * 0.02,
            "unit": [f"u{k}" for k in range(units)],
            "align_time": ("trial", np.arange(trials) * 3.0),
            "depth": ("unit", np.linspace(0, 1, units)),
            "unit_kind": "unit",
        },
        attrs={"bin_size": 0.02, "source": "somewhere.nwb", "comment": "mine"},
    )
    return X.assign_coords(coords)


def halves(trials):
    """Return two results per bin that show which bin they are for."""
    return trials.values[..., :2] + 0.5


# --- what goes in, what comes back -----------------------------------------------------------------------------------


@pytest.mark.parametrize("lazy", [False, True], ids=["numpy", "dask"])
def test_dataarray_of_trials(rng, lazy):
    X = recording(rng)
    trials = as_trials(X.chunk(trial=1, time=2) if lazy else X)
    np.testing.assert_array_equal(trials.values, X)
    assert trials.values.dtype == np.float64
    assert trials.observed is None
    np.testing.assert_array_equal(trials.lengths, [5, 5, 5])
    np.testing.assert_array_equal(trials.unit_ids, X.unit)
    assert (trials.bin_size, trials.bin_size_is_known) == (0.02, True)
    assert trials.n_observed_bins == 15
    latents = trials.restore(halves(trials))
    assert latents.dims == ("trial", "time", "latent")
    assert set(latents.coords) == {"trial", "time", "align_time", "latent"}
    assert latents.name == "latents"
    labels = {"long_name": "latents", "units": "a.u."}
    assert latents.attrs == {"bin_size": 0.02, "source": "somewhere.nwb"} | labels
    np.testing.assert_array_equal(latents, X[..., :2] + 0.5)
    np.testing.assert_array_equal(latents.align_time, X.align_time)


def test_dataarray_of_one_trial(rng):
    X = recording(rng).isel(trial=1)
    trials = as_trials(X)
    np.testing.assert_array_equal(trials.values, X.values[None])
    latents = trials.restore(halves(trials))
    assert latents.dims == ("time", "latent")
    assert latents.trial.item() == 11
    np.testing.assert_array_equal(latents, X[..., :2] + 0.5)


def test_dataarray_without_coordinates(rng):
    X = xr.DataArray(rng.normal(size=(2, 3, 4)), dims=("trial", "time", "unit"))
    trials = as_trials(X)
    np.testing.assert_array_equal(trials.unit_ids, range(4))
    assert (trials.bin_size, trials.bin_size_is_known) == (1.0, False)
    assert list(trials.restore(halves(trials)).coords) == ["latent"]


def test_dataarray_keeps_indexes(rng):
    X = recording(rng).drop_vars(["trial", "time", "align_time"])
    names = pd.MultiIndex.from_product([["left"], [0, 1, 2]], names=["side", "repeat"])
    X = X.assign_coords(xr.Coordinates.from_pandas_multiindex(names, "trial"))
    X = X.assign_coords(xr.Coordinates.from_xindex(RangeIndex.arange(0.01, 0.1, 0.02, dim="time")))
    latents = as_trials(X).restore(np.zeros((3, 5, 2)))
    assert isinstance(latents.xindexes["time"], RangeIndex)
    assert isinstance(latents.indexes["trial"], pd.MultiIndex)
    np.testing.assert_array_equal(latents.trial, X.trial)


def test_restore_as_units(rng):
    trials = as_trials(recording(rng))
    rates = trials.restore(trials.values, "unit", trials.unit_ids)
    assert rates.dims == ("trial", "time", "unit")
    np.testing.assert_array_equal(rates.unit, ["u0", "u1", "u2", "u3"])
    frame = as_trials(pd.DataFrame(np.ones((2, 2)), columns=["a", "b"]))
    assert list(frame.restore(frame.values, "unit", frame.unit_ids).columns) == ["a", "b"]


def test_arrays(rng):
    X = rng.normal(size=(3, 5, 4))
    trials = as_trials(X)
    np.testing.assert_array_equal(trials.values, X)
    np.testing.assert_array_equal(trials.unit_ids, range(4))
    back = trials.restore(halves(trials))
    assert type(back) is np.ndarray
    np.testing.assert_array_equal(back, X[..., :2] + 0.5)
    trials = as_trials(X[0])
    assert trials.values.shape == (1, 5, 4)
    np.testing.assert_array_equal(trials.restore(halves(trials)), X[0, :, :2] + 0.5)


def test_dask_array(rng):
    dask_array = pytest.importorskip("dask.array")
    X = rng.normal(size=(3, 5, 4))
    trials = as_trials(dask_array.from_array(X, chunks=(1, 5, 2)))
    np.testing.assert_array_equal(trials.values, X)
    assert trials.restore(halves(trials)).shape == (3, 5, 2)


def test_dataframe(rng):
    X = pd.DataFrame(rng.normal(size=(5, 3)), index=pd.Index(np.arange(5) * 0.1, name="t"), columns=["a", "b", "c"])
    X.attrs["bin_size"] = 0.1
    trials = as_trials(X)
    np.testing.assert_array_equal(trials.unit_ids, ["a", "b", "c"])
    assert trials.bin_size == 0.1
    back = trials.restore(halves(trials))
    assert list(back.columns) == ["latent0", "latent1"]
    pd.testing.assert_index_equal(back.index, X.index)
    assert back.attrs == X.attrs
    np.testing.assert_array_equal(back, X.iloc[:, :2] + 0.5)


def test_list_of_lists_of_numbers_is_one_array():
    trials = as_trials([[1, 2, 3], [4, 5, 6]])
    np.testing.assert_array_equal(trials.values, [[[1, 2, 3], [4, 5, 6]]])
    back = trials.restore(halves(trials))
    assert type(back) is np.ndarray
    assert back.shape == (2, 2)


def ragged(rng, kind):
    lengths = (2, 5, 3)
    if kind == "DataArray":
        return [recording(rng, bins=n).isel(trial=0) for n in lengths]
    arrays = [rng.normal(size=(n, 3)) for n in lengths]
    if kind == "DataFrame":
        return [pd.DataFrame(a, columns=["a", "b", "c"], index=np.arange(len(a)) + 7) for a in arrays]
    return tuple(arrays) if kind == "tuple" else [a.tolist() for a in arrays] if kind == "nested" else arrays


@pytest.mark.parametrize("kind", ["array", "tuple", "nested", "DataArray", "DataFrame"])
def test_ragged_trials(rng, kind):
    X = ragged(rng, kind)
    trials = as_trials(X)
    np.testing.assert_array_equal(trials.lengths, [2, 5, 3])
    assert trials.values.shape[:2] == (3, 5)
    assert trials.n_observed_bins == 10
    for k, trial in enumerate(X):
        n = len(trial)
        np.testing.assert_array_equal(trials.values[k, :n], np.asarray(trial))
        np.testing.assert_array_equal(trials.values[k, n:], 0)  # padding is 0, never NaN
        np.testing.assert_array_equal(trials.bins[k], np.arange(5) < n)
    back = trials.restore(halves(trials))
    assert isinstance(back, list)
    for one, trial in zip(back, X, strict=True):
        assert type(one) is (np.ndarray if kind in ("nested", "tuple") else type(trial))
        np.testing.assert_array_equal(one, np.asarray(trial)[:, :2] + 0.5)
    if kind == "DataFrame":
        pd.testing.assert_index_equal(back[1].index, X[1].index)
    if kind == "DataArray":
        assert back[1].dims == ("time", "latent")
        np.testing.assert_array_equal(back[1].time, X[1].time)


def test_list_of_equal_trials_has_no_mask(rng):
    trials = as_trials([rng.normal(size=(4, 2)), rng.normal(size=(4, 2))])
    assert trials.observed is None
    assert len(trials.restore(trials.values)) == 2


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, bool, np.float32, np.float16, object])
@pytest.mark.parametrize("dims", [2, 3])
def test_number_types_become_float64(dtype, dims):
    X = np.array([[[1, 0, 1], [0, 1, 1]]]).astype(dtype)[0 if dims == 2 else slice(None)]
    trials = as_trials(X)
    assert trials.values.dtype == np.float64
    np.testing.assert_array_equal(trials.values[0], [[1, 0, 1], [0, 1, 1]])


def test_nullable_pandas_columns_and_their_gaps():
    X = pd.DataFrame({"a": pd.array([1, None, 3], dtype="Int64"), "b": [1.0, 2.0, 3.0]})
    trials = as_trials(X, allow_nan=True)
    np.testing.assert_array_equal(trials.observed[0], [[True, True], [False, True], [True, True]])
    again = as_trials([X, X], allow_nan=True)
    np.testing.assert_array_equal(again.observed[1], trials.observed[0])


def test_the_gate_never_writes_to_X(rng):
    X = rng.normal(size=(2, 4, 3))
    X[0, 1] = np.nan
    before = X.copy()
    trials = as_trials(X, allow_nan=True)
    assert trials.values[0, 1, 0] == 0.0
    np.testing.assert_array_equal(X, before)


def test_many_trials_pass_in_no_time(rng, monkeypatch):
    # as a count, not a clock: numbers of trials must not become numbers of calls
    calls = []
    real = np.asarray
    monkeypatch.setattr(np, "asarray", lambda *a, **k: calls.append(1) or real(*a, **k))
    trials = as_trials(real(rng.poisson(1.0, size=(20_000, 3, 2)), dtype=np.uint8))
    trials.restore(trials.values)
    assert len(calls) < 200


# --- what is observed ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dims", [("trial", "time", "unit"), ("trial", "time"), ("time", "unit"), ("time",), ("unit",)])
def test_observed_coordinate(rng, dims):
    X = recording(rng, trials=4, bins=4)  # square, so that no axis can stand for another unseen
    flag = xr.DataArray(rng.random(size=(4,) * len(dims)) < 0.6, dims=dims)
    flag.values[(0,) * len(dims)] = True
    X = X.assign_coords(observed=flag)
    expected = flag.broadcast_like(X.drop_vars("observed")).transpose("trial", "time", "unit").values
    trials = as_trials(X)
    np.testing.assert_array_equal(trials.observed, expected)
    np.testing.assert_array_equal(trials.values, np.where(expected, X.values, 0))
    np.testing.assert_array_equal(trials.bins, expected.any(2))
    assert trials.n_observed_bins == expected.any(2).sum()


def test_observed_coordinate_of_transposed_or_trial_and_unit_dims(rng):
    X = recording(rng, trials=4, bins=4)
    flag = xr.DataArray(rng.random(size=(4, 4)) < 0.6, dims=("unit", "trial"))
    trials = as_trials(X.assign_coords(observed=flag))
    np.testing.assert_array_equal(trials.observed, np.broadcast_to(flag.values.T[:, None], (4, 4, 4)))


def test_observed_coordinate_of_ragged_trials(rng):
    X = ragged(rng, "DataArray")
    X[1] = X[1].assign_coords(observed=("time", [True, False, True, True, True]))
    trials = as_trials(X)
    np.testing.assert_array_equal(trials.bins.sum(1), [2, 4, 3])
    assert not trials.bins[1, 1]


def test_observed_everywhere_is_no_mask_and_integers_are_flags(rng):
    X = recording(rng)
    assert as_trials(X.assign_coords(observed=("time", np.ones(5, dtype=bool)))).observed is None
    assert as_trials(X.assign_coords(observed=("time", [1, 1, 0, 1, 1]))).n_observed_bins == 12


def test_unobserved_entries_may_hold_anything(rng):
    X = recording(rng).astype(float).assign_coords(observed=("time", [True, True, False, True, True]))
    X[:, 2] = [np.nan, np.inf, 5.0, np.nan]
    np.testing.assert_array_equal(as_trials(X).values[:, 2], 0)


def test_nan_joins_the_mask_where_allowed(rng):
    X = recording(rng).astype(float).assign_coords(observed=("time", [True, True, False, True, True]))
    X[1, 3, 0] = np.nan
    trials = as_trials(X, allow_nan=True)
    assert not trials.observed[1, 3, 0]
    assert trials.observed.sum() == 3 * 4 * 4 - 1
    assert np.isfinite(trials.values).all()
    short = [np.array([[np.nan, 1.0]]), np.ones((3, 2))]
    trials = as_trials(short, allow_nan=True)
    np.testing.assert_array_equal(trials.observed[0], [[False, True], [False, False], [False, False]])


# --- bin size --------------------------------------------------------------------------------------------------------


def test_bin_size_comes_from_attrs_then_the_constructor_then_the_time_step(rng):
    X = recording(rng)
    bare = X.drop_attrs()
    assert as_trials(X, bin_size=0.5).bin_size == 0.02
    assert as_trials(bare.drop_vars("time"), bin_size=0.5).bin_size == 0.5
    assert as_trials(bare).bin_size == pytest.approx(0.02)
    assert as_trials(bare.assign_attrs(bin_size=None)).bin_size_is_known
    assert as_trials(X.values, bin_size=0.5).bin_size_is_known
    nothing = as_trials(X.values)
    assert (nothing.bin_size, nothing.bin_size_is_known) == (1.0, False)
    assert as_trials(bare.isel(time=[0])).bin_size == 1.0
    for number in (np.float32(0.02), np.array(0.02)):
        assert as_trials(X.assign_attrs(bin_size=number)).bin_size == pytest.approx(0.02)
    assert as_trials([X[0].drop_attrs().drop_vars("time"), X[1]]).bin_size == 0.02  # any trial may say it


# --- selections ------------------------------------------------------------------------------------------------------


def test_take(rng):
    X, u = ragged(rng, "array"), [np.ones((n, 2)) * n for n in (2, 5, 3)]
    trials = as_trials(X, inputs=u)
    some = trials.take([2, 0])
    assert some.values.shape == (2, 3, 3)
    np.testing.assert_array_equal(some.lengths, [3, 2])
    np.testing.assert_array_equal(some.values[0], X[2])
    np.testing.assert_array_equal(some.inputs[0], u[2])
    np.testing.assert_array_equal(some.bins.sum(1), [3, 2])
    assert trials.take([1]).observed is None
    np.testing.assert_array_equal(trials.take(np.array([False, True, False])).values[0], X[1])
    assert trials.take([]).values.shape == (0, 0, 3)


def test_cut(rng):
    X = recording(rng, trials=1).assign_coords(observed=("time", [False, True, True, True, True]))
    trials = as_trials(X, inputs=np.arange(5.0)[None, :, None])
    part = trials.cut(1, 4)
    np.testing.assert_array_equal(part.values[0], X[0, 1:4])
    np.testing.assert_array_equal(part.inputs[0, :, 0], [1, 2, 3])
    np.testing.assert_array_equal(part.lengths, [3])
    assert part.observed is None
    np.testing.assert_array_equal(trials.cut(0, 2).observed[0, 0], False)
    np.testing.assert_array_equal(trials.cut(3, 99).lengths, [2])
    np.testing.assert_array_equal(as_trials(ragged(rng, "array")).cut(1, 4).lengths, [1, 3, 2])


def test_selections_have_no_kind_to_go_back_to(rng):
    trials = as_trials(rng.normal(size=(3, 4, 2)))
    for part in (trials.take([0, 1]), trials.cut(0, 2)):
        with pytest.raises(ValueError, match="restore: these trials are a selection made by take or cut"):
            part.restore(part.values)


def test_even_times_at_a_fixed_rate_are_not_written_out(monkeypatch):
    time = RangeIndex.linspace(3.0, 5.0, 2001, endpoint=True, dim="time")
    X = xr.DataArray(np.zeros((2001, 1)), dims=("time", "unit"), coords=xr.Coordinates.from_xindex(time))
    for part in (X, X[100:], X[::3]):
        times = part["time"].values
        assert as_trials(part).bin_size == (times[-1] - times[0]) / (len(times) - 1)
    with pytest.raises(ValueError, match="does not increase"):
        as_trials(X[::-1])

    def written_out(*_):
        raise AssertionError("all times were written out")

    monkeypatch.setattr("nwb_lrrnn.trials.labels.np.diff", written_out)
    assert as_trials(X).bin_size == pytest.approx(0.001)
