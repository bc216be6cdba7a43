"""The input gate: inputs beside X, the memory of the fitted units, and every refusal by its words."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import xarray as xr
from sklearn.base import BaseEstimator

from nwb_lrrnn.trials import as_trials


def recording(trials=2, bins=4, units=3, **coords):
    X = xr.DataArray(
        np.arange(trials * bins * units, dtype=float).reshape(trials, bins, units),
        dims=("trial", "time", "unit"),
        coords={"trial": [f"t{k}" for k in range(trials)], "time": np.arange(bins) * 0.1, "unit": np.arange(units) + 5},
    )
    return X.assign_coords(coords)


def with_value(value, X=None):
    X = recording() if X is None else X
    return X.where((X.trial != "t1") | (X.time < 0.25) | (X.unit != 6), value)


X = recording()
REFUSALS = {
    "transposed": (X.transpose("unit", "time", "trial"), r"call X\.transpose\('trial', 'time', 'unit'\)"),
    "one trial transposed": (X[0].T, r"X: got dims \('unit', 'time'\), .*call X\.transpose\('time', 'unit'\)"),
    "other dims": (
        X.rename(unit="neuron"),
        r"got dims \('trial', 'time', 'neuron'\), wanted .*rename\(neuron='unit'\)",
    ),
    "no time": (X[:, 0], r"got dims \('trial', 'unit'\), wanted \('trial', 'time', 'unit'\)"),
    "one dim": (X[0, :, 0], r"got dims \('time',\), wanted"),
    "four dims": (X.expand_dims("probe"), r"got dims \('probe', 'trial', 'time', 'unit'\), wanted"),
    "4-D array": (np.ones((1, 2, 3, 4)), r"X: got an array of shape \(1, 2, 3, 4\), wanted \(trial, time, unit\)"),
    "1-D array": (np.ones(3), "Expected 2D array, got 1D array instead"),
    "1-D list": ([1.0, 2.0], "Expected 2D array, got 1D array instead"),
    "scalar": (3.0, "Expected 2D array, got scalar array instead"),
    "nothing": (None, "Expected 2D array, got scalar array instead"),
    "empty list": ([], "Expected 2D array, got 1D array instead"),
    "series": (pd.Series([1.0, 2.0]), "Expected a 2-dimensional container"),
    "list of 3-D": ([np.ones((2, 3, 4))], "Found array with dim 4"),
    "no trials": (X[:0], r"X: got no trials \(shape \(0, 4, 3\)\), wanted at least one; check the selection"),
    "no bins": (X[:, :0], "X: got no times"),
    "no units": (X[:, :, :0], "X: got no units"),
    "no trials in an array": (np.ones((0, 4, 3)), "X: got no trials"),
    "no samples": (np.ones((0, 3)), "Found array with 0 sample"),
    "no bins in a trial": ([np.ones((2, 3)), np.ones((0, 3))], r"X\[1\]: got no times"),
    "strings": (np.array([["a", "b"]]), "could not convert string to float: .*'a'"),
    "complex": (np.ones((2, 2)) * 1j, "Complex data not supported"),
    "complex trials": (np.ones((2, 2, 2)) * 1j, "Complex data not supported"),
    "ragged lists": ([[1.0, 2.0], [3.0]], "inhomogeneous"),
    "ragged nested lists": (
        [[[1.0, 2.0], [3.0]]],
        r"X\[0\]: got rows of unequal length, wanted a rectangle of numbers",
    ),
    "masked": (np.ma.masked_equal(np.ones((3, 2)), 1), "X: got a masked array, wanted a boolean coordinate 'observed'"),
    "masked trial": ([np.ma.masked_equal(np.ones((3, 2)), 1)], r"X\[0\]: got a masked array"),
    "nan": (with_value(np.nan), r"X: NaN at trial t1, time 0.3, unit 6; wanted finite values; mark such bins in"),
    "inf": (with_value(np.inf), r"X: infinity \(inf\) at trial t1, time 0.3, unit 6; wanted finite values; remove it"),
    "nan in one trial": (with_value(np.nan)[1], r"X: NaN at trial t1, time 0.3, unit 6"),
    "nan in a list": ([X[0], with_value(np.nan)[1]], r"X: NaN at trial t1, time 0.3, unit 6"),
    "nan in an array": (np.full((2, 3, 4), np.nan), r"X: NaN at trial 0, time 0, unit 0"),
    "nan in ragged arrays": ([np.ones((3, 2)), [[1.0, 1.0], [1.0, np.nan]]], r"X: NaN at trial 1, time 1, unit 1"),
    "nan in a frame": (
        pd.DataFrame({"a": [1.0, np.nan]}, index=pd.to_datetime(["2024-01-01", "2024-01-02"])),
        "X: NaN at trial 0, time 2024-01-02 00:00:00, unit a",
    ),
    "nan in a frame of names": (
        pd.DataFrame({"a": [1.0, np.nan]}, index=["x", "y"]),
        "X: NaN at trial 0, time y, unit a",
    ),
    "uneven": (
        recording(time=[0.0, 0.1, 0.3, 0.4]),
        "X: the time coordinate is uneven: step 1 from 0.1 to 0.3 s differs from the median step 0.1 s; bin or ",
    ),
    "uneven trial": ([X[0], recording(time=[0.0, 0.1, 0.3, 0.4])[0]], r"X\[1\]: the time coordinate is uneven: step 1"),
    "falling": (
        X[:, ::-1],
        r"X: the time coordinate does not increase: 0.3 is followed by 0.2; call X.sortby\('time'\)",
    ),
    "standing": (X[:, [0, 0]], "X: the time coordinate does not increase: 0 is followed by 0"),
    "time with gaps": (recording(time=[0.0, 0.1, np.nan, 0.3]), "X: the time coordinate is not finite at bin 2"),
    "dates": (
        recording(time=pd.date_range("2024-01-01", periods=4, freq="s")),
        r"time coordinate is of type datetime64.*wanted seconds as numbers; call X\.assign_coords\(time=\(X\.time",
    ),
    "durations": (recording(time=pd.to_timedelta(np.arange(4), unit="s")), "time coordinate is of type timedelta64"),
    "named times": (
        recording(time=list("abcd")),
        r"time coordinate is of type <U1, wanted seconds as numbers; convert",
    ),
    "repeated units": (recording(unit=[5, 6, 5]), "X: unit 5 occurs twice, wanted unique ids along unit"),
    "units of mixed types": (recording(unit=np.array([5, "a", 5], dtype=object)), "X: unit 5 occurs twice"),
    "repeated columns": (pd.DataFrame(np.ones((2, 2)), columns=["a", "a"]), "X: unit a occurs twice"),
    "units of two levels": (
        X.drop_vars("unit").assign_coords(
            xr.Coordinates.from_pandas_multiindex(
                pd.MultiIndex.from_product([["p"], [1, 2, 3]], names=["probe", "id"]), "unit"
            )
        ),
        r"X: units are named by several levels \(probe, id\), wanted one id each; flatten the index",
    ),
    "columns of two levels": (
        pd.DataFrame(np.ones((2, 2)), columns=pd.MultiIndex.from_product([["p"], [1, 2]])),
        "X: units are named by several levels",
    ),
    "3-D in a list": ([X[0], X], "X: trial 1 has 3 dims, wanted \\(time, unit\\) like the first"),
    "1-D in a list": ([np.ones((2, 3)), np.ones(3)], "X: trial 1 has 1 dims, wanted"),
    "more units in a trial": ([np.ones((2, 3)), np.ones((2, 4))], "X: trial 1 has 4 units, wanted 3 like trial 0"),
    "other units in a trial": ([X[0], X[1].assign_coords(unit=[5, 7, 6])], "X: unit 1 of trial 1 is 7, wanted 6: the"),
    "nothing observed": (
        recording(observed=("time", np.zeros(4, dtype=bool))),
        "X: no bin is observed, wanted at least",
    ),
    "doubtful flags": (
        recording(observed=("time", [1.0, np.nan, 1.0, 1.0])),
        "observed: got values of type float64, want",
    ),
    "bin size of zero": (X.assign_attrs(bin_size=0.0), "bin_size: got 0.0, wanted seconds > 0"),
    "bin size of text": (X.assign_attrs(bin_size="20 ms"), "bin_size: got '20 ms', wanted seconds > 0"),
    "bin size of truth": (X.assign_attrs(bin_size=True), "bin_size: got True, wanted seconds > 0"),
    "bin size in ms": (
        X.assign_attrs(bin_size=100),
        r"bin_size: got 100 s, but the time coordinate steps by 0.1 s; correct X.attrs\['bin_size'\] or the coordinate",
    ),
    "bins of two sizes": (
        [X[0], recording(time=np.arange(4) * 0.2)[0]],
        r"X\[1\]: got bins of 0.2 s, wanted 0.1 s like X\[0\]; bin all trials alike",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_as_trials_refuses(case):
    wrong, message = REFUSALS[case]
    with pytest.raises(ValueError, match=message):
        as_trials(wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (xr.Dataset({"spikes": X}), r"X: got a Dataset of \['spikes'\], wanted one DataArray; pass X\['name'\]"),
        (scipy.sparse.csr_array(np.eye(3)), "Sparse data was passed"),
        (np.ones((2, 2)).astype("datetime64[s]"), r"X: got values of type datetime64\[s\], wanted numbers"),
        (np.ones((2, 2, 2)).astype("timedelta64[s]"), r"X: got values of type timedelta64\[s\], wanted numbers"),
    ],
)
def test_as_trials_refuses_types(wrong, message):
    with pytest.raises(TypeError, match=message):
        as_trials(wrong)


def test_as_trials_refuses_the_constructors_bin_size_by_its_name():
    with pytest.raises(ValueError, match=r"bin_size: got 0.2 s, but the time .* 0.1 s; correct bin_size= or the coord"):
        as_trials(X, bin_size=0.2)
    with pytest.raises(ValueError, match=r"bin_size: got -1, wanted seconds > 0"):
        as_trials(X.values, bin_size=-1)


def test_infinity_is_refused_even_where_nan_is_allowed():
    with pytest.raises(ValueError, match=r"X: infinity \(inf\) at trial t1, time 0.3, unit 6"):
        as_trials(with_value(np.inf), allow_nan=True)
    with pytest.raises(ValueError, match="X: no bin is observed, wanted at least one"):
        as_trials(X * np.nan, allow_nan=True)


def test_two_times_in_single_precision_are_even():
    even = recording(time=(np.arange(4) * 0.1).astype(np.float32))
    assert as_trials(even).bin_size == pytest.approx(0.1, rel=1e-6)


# --- inputs ----------------------------------------------------------------------------------------------------------


def drive(X, inputs=2):
    u = xr.zeros_like(X[..., :1].drop_vars("unit").rename(unit="input")) + np.arange(inputs)
    return u.assign_coords(input=["light", "sound"][:inputs])


def test_inputs_of_every_kind():
    u = drive(X)
    trials = as_trials(X, inputs=u)
    np.testing.assert_array_equal(trials.inputs, u)
    np.testing.assert_array_equal(trials.input_ids, ["light", "sound"])
    np.testing.assert_array_equal(as_trials(X, inputs=u.chunk()).inputs, u)
    np.testing.assert_array_equal(as_trials(X, inputs=u.values).inputs, u)
    np.testing.assert_array_equal(as_trials(X, inputs=u.values.astype(bool)).inputs, u)
    np.testing.assert_array_equal(as_trials(X[0], inputs=u[0]).inputs[0], u[0])
    np.testing.assert_array_equal(as_trials(X[0].values, inputs=u.values[0]).inputs[0], u[0])
    np.testing.assert_array_equal(as_trials(X[0].values, inputs=u.values[0].tolist()).inputs[0], u[0])
    frame = as_trials(X[0].values, inputs=pd.DataFrame(u.values[0], columns=["a", "b"]))
    np.testing.assert_array_equal(frame.input_ids, ["a", "b"])
    ragged = as_trials([X[0], X[1, :2]], inputs=[u[0], u[1, :2]])
    np.testing.assert_array_equal(ragged.inputs[1, :2], u[1, :2])
    np.testing.assert_array_equal(ragged.inputs[1, 2:], 0)
    np.testing.assert_array_equal(ragged.input_ids, ["light", "sound"])
    arrays = as_trials([np.ones((2, 3)), np.ones((1, 3))], inputs=[[[1.0], [2.0]], [[3.0]]])
    np.testing.assert_array_equal(arrays.inputs[..., 0], [[1, 2], [3, 0]])


U = drive(X)
BAD_INPUTS = {
    "transposed": (U.T, r"inputs: got dims .*call inputs\.transpose\('trial', 'time', 'input'\)"),
    "other dims": (U.rename(input="unit"), r"inputs: got dims .*rename\(neuron='input'\)"),
    "fewer trials": (U[:1], r"inputs: got 1 trials, wanted 2, the trials of X"),
    "one trial": (U[0], r"inputs: got 1 trials, wanted 2"),
    "fewer bins": (U[:, :3], r"inputs: got shape \(3, 2\) in trial 0, wanted \(4, 2\), \(time, input\) with the bins"),
    "other times": (U.assign_coords(time=U.time + 0.05), "inputs: its time coordinate differs from that of X"),
    "other trials": (U.assign_coords(trial=["t1", "t0"]), "inputs: its trial coordinate differs from that of X"),
    "uneven": (U.assign_coords(time=[0.0, 0.1, 0.2, 0.4]), "inputs: the time coordinate is uneven"),
    "nan": (U.where(U.input != "sound"), r"inputs: not finite at trial 0, bin 0, input sound; wanted finite values"),
    "one dim": (np.ones(4), r"inputs: got shape \(4,\), wanted \(trial, time, input\) or \(time, input\)"),
    "scalar": (1.0, r"inputs: got shape \(\), wanted"),
    "none": (np.ones((2, 4, 0)), r"inputs: got no inputs \(shape \(2, 4, 0\)\)"),
    "no trials": (np.ones((0, 4, 1)), "inputs: got no trials"),
    "repeated": (U.assign_coords(input=["light", "light"]), "inputs: input light occurs twice"),
    "masked": (np.ma.masked_equal(U.values, 1), "inputs: got a masked array"),
    "ragged": ([[1.0], [2.0, 3.0]], "inputs: got rows of unequal length"),
    "list of fewer": ([U[0]], "inputs: got 1 trials, wanted 2"),
    "list of other times": (
        [U[0], U[1].assign_coords(time=U.time + 1)],
        "inputs: its time coordinate differs from that of X",
    ),
    "list of other inputs": ([np.ones((4, 1)), np.ones((4, 2))], "inputs: trial 1 has 2 inputs, wanted 1 like trial 0"),
}


@pytest.mark.parametrize("case", BAD_INPUTS)
def test_inputs_are_refused(case):
    wrong, message = BAD_INPUTS[case]
    recorded = [X[0], X[1]] if case.startswith("list of other times") else X
    with pytest.raises(ValueError, match=message):
        as_trials(recorded, inputs=wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (xr.Dataset({"a": X, "b": X}), r"inputs: got a Dataset of \['a', 'b'\], wanted one DataArray"),
        (np.full((2, 4, 1), "on"), "inputs: got values that are no numbers"),
        (np.ones((2, 4, 1)) * 1j, "inputs: got values of type complex128, wanted real numbers"),
        ([np.full((4, 1), "on"), np.full((4, 1), "on")], "inputs: got values that are no numbers"),
    ],
)
def test_inputs_of_other_types_are_refused(wrong, message):
    with pytest.raises(TypeError, match=message):
        as_trials(X, inputs=wrong)


# --- the memory of fit -----------------------------------------------------------------------------------------------


class Model(BaseEstimator):
    """Something for the gate to write on."""


@pytest.fixture
def fitted():
    """Return a maker of an estimator that has seen X."""

    def fit(X, **kwargs):
        model = Model()
        as_trials(X, estimator=model, **kwargs)
        return model

    return fit


def test_fit_remembers_units_and_bins(fitted):
    model = fitted(X)
    np.testing.assert_array_equal(model.unit_ids_, [5, 6, 7])
    assert model.bin_size_ == pytest.approx(0.1)
    assert model.n_features_in_ == 3
    for same in (X, X[:1], X[0, :1], [X[1], X[0]], X.values, X.drop_vars(["unit", "time"])):
        as_trials(same, estimator=model, reset=False)
    frames = pd.DataFrame(np.ones((4, 2)), columns=["a", "b"])
    for frame in (frames, [frames, frames]):
        model = fitted(frame)
        np.testing.assert_array_equal(model.feature_names_in_, ["a", "b"])
        as_trials([frames], estimator=model, reset=False)
        as_trials(frames, estimator=model, reset=False)


@pytest.mark.parametrize(
    ("seen", "now", "message"),
    [
        (
            X,
            X.assign_coords(unit=[5, 6, 8]),
            "X: unit 8 was not in the data the model was fitted to; select the fitted",
        ),
        (X, X[..., ::-1], r"X: the units come in another order than at fit \(first 7, wanted 5\); call X.sel\(unit="),
        (recording(unit=[0, 1, 2]), recording(unit=[2, 1, 0]), "X: the units come in another order than at fit"),
        (recording(unit=[0, 1, 2]), X, "X: unit 5 was not in .* fitted to an array without names, pass X without them"),
        (X, [X[0, :, ::-1]], "X: the units come in another order than at fit"),
        (X, X.assign_coords(unit=["5", "6", "7"]), "X: unit '5' was not in the data"),
        (X, X[..., :2], "X has 2 features, but Model is expecting 3 features as input"),
        (X, X.values[..., :2], "X has 2 features, but Model is expecting 3 features as input"),
        (X, recording(time=np.arange(4) * 0.2), "X: got bins of 0.2 s, wanted 0.1 s as at fit; bin the data again"),
    ],
)
def test_other_data_than_at_fit_are_refused(fitted, seen, now, message):
    with pytest.raises(ValueError, match=message):
        as_trials(now, estimator=fitted(seen), reset=False)


def test_columns_in_another_order_are_refused_in_scikit_learns_words(fitted):
    frame = pd.DataFrame(np.ones((4, 2)), columns=["a", "b"])
    for now in (frame[["b", "a"]], [frame[["b", "a"]]]):
        with pytest.raises(ValueError, match="Feature names must be in the same order as they were in fit"):
            as_trials(now, estimator=fitted(frame), reset=False)


def test_fit_refuses_one_sample(fitted):
    with pytest.raises(ValueError, match="Found array with 1 sample"):
        fitted(np.ones((1, 3)))


def test_a_refused_fit_leaves_the_units_of_the_last_one(fitted):
    model = fitted(X)
    with pytest.raises(ValueError, match="inputs: got 1 trials"):
        as_trials(X.assign_coords(unit=[1, 2, 3]), inputs=U[:1], estimator=model)
    np.testing.assert_array_equal(model.unit_ids_, [5, 6, 7])
