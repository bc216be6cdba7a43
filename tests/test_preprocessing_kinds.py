"""What holds for every step: kinds of X, coordinates, attributes, gaps, dask, refusals."""

import tracemalloc

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from sklearn.base import clone

import nwb_lrrnn as lr
from small_preprocessing import CHUNKS, counted, kinds, trials

STEPS = [
    lr.Smooth(sd=0.06),
    lr.Smooth(sd=0.06, causal=True),
    lr.SquareRoot(),
    lr.ZScore(),
    lr.SoftNormalise(offset=2.0),
    lr.Filter(high=5.0, order=2),
    lr.Filter(low=1.0, high=5.0, order=1),
    lr.DeltaFOverF(percentile=30.0),
    lr.DeltaFOverF(percentile=30.0, window=0.4),
    lr.PCADenoise(rank=2),
]
OTHERS = [lr.Resample(rate=10.0), lr.SelectUnits(min_rate=0.0), lr.Resample(rate=10.0, circular=True)]
ids = repr


@pytest.mark.parametrize("kind", list(kinds(trials(np.random.default_rng(0)))))
@pytest.mark.parametrize("step", STEPS, ids=ids)
def test_every_kind_comes_back_as_it_was_given(step, kind, rng):
    if kind in ("array", "one array", "ragged arrays", "numbers"):  # without a bin size: in bins of 0.05 s
        per_bin = {"sd": 20.0, "window": 20.0, "low": 0.05, "high": 0.05}
        said = {name: value for name, value in step.get_params().items() if value is not None}
        step = clone(step).set_params(**{name: per_bin[name] * said[name] for name in per_bin if name in said})
    X = kinds(trials(rng))[kind]
    before = [np.array(part) for part in X] if isinstance(X, list) else X.copy()
    Y = step.fit_transform(X)
    assert type(Y) is (np.ndarray if kind == "numbers" else type(X))
    for x, y in zip(X, Y, strict=True) if "ragged" in kind else [(X, Y)]:
        assert np.shape(y) == np.shape(x)
        if isinstance(x, xr.DataArray):
            assert y.coords.identical(x.coords)
            assert (y.name, y.dims) == (x.name, x.dims)
            assert y.attrs["preprocessing"][0].startswith(type(step).__name__)
            assert "preprocessing" not in x.attrs
        if isinstance(x, pd.DataFrame):
            pd.testing.assert_index_equal(y.index, x.index)
            pd.testing.assert_index_equal(y.columns, x.columns)
            assert len(y.attrs["preprocessing"]) == 1
            assert "preprocessing" not in x.attrs
    for x, y in zip(X if isinstance(X, list) else [X], before if isinstance(X, list) else [before], strict=True):
        np.testing.assert_array_equal(x, y)  # the user's numbers are theirs


@pytest.mark.parametrize("step", STEPS, ids=ids)
def test_a_trial_is_the_same_in_a_list_and_alone(step, rng):
    X = trials(rng, gaps=True)
    whole = step.fit(X).transform(X)
    for k, y in enumerate(step.transform(list(X))):
        np.testing.assert_allclose(y, whole[k], rtol=1e-12)
    np.testing.assert_allclose(step.transform(X[[3, 1]]), whole[[3, 1]], rtol=1e-12)


@pytest.mark.parametrize("step", STEPS, ids=ids)
def test_what_is_unobserved_comes_out_as_it_went_in_and_touches_nothing(step, rng):
    X = trials(rng, gaps=True)
    hidden = np.isnan(X.values) | ~X["observed"].values[..., None]
    Y = step.fit_transform(X)
    np.testing.assert_array_equal(Y.values[hidden], X.values[hidden])
    assert np.isfinite(Y.values[~hidden]).all()
    other = X.where(~hidden, -7e5)  # other numbers where nobody looks
    other = other.assign_coords(observed=(X.dims, ~hidden))
    np.testing.assert_allclose(step.fit_transform(other).values[~hidden], Y.values[~hidden], rtol=1e-12)


@pytest.mark.parametrize("chunks", list(CHUNKS))
@pytest.mark.parametrize("step", [*STEPS, *OTHERS], ids=ids)
def test_dask_gives_the_same_numbers_in_any_chunks(step, chunks, rng):
    X = trials(rng, gaps=True)
    eager = step.fit(X).transform(X)
    lazy_X, reads = counted(X, CHUNKS[chunks])
    step.fit(lazy_X)
    needs_data = not isinstance(step, (lr.Smooth, lr.SquareRoot, lr.Filter)) and not getattr(step, "window", None)
    needs_data &= not (isinstance(step, lr.Resample) and not step.circular)
    assert len(reads) == (np.prod(lazy_X.data.numblocks) if needs_data else 0)  # one pass
    assert len(set(reads)) == len(reads)
    reads.clear()
    lazy = step.transform(lazy_X)
    assert reads == []
    assert lazy.chunks is not None
    np.testing.assert_allclose(lazy.values, eager.values, rtol=1e-12, atol=1e-12)
    assert lazy.dtype == eager.dtype
    assert lazy.coords.identical(eager.coords)
    assert lazy.attrs == eager.attrs
    assert len(set(reads)) == len(reads) == np.prod(lazy_X.data.numblocks)  # no block is computed twice


@pytest.mark.parametrize("step", [*STEPS, *OTHERS], ids=ids)
def test_lists_of_lazy_trials_stay_lazy(step, rng):
    X = trials(rng, gaps=True)
    listed = [X[0], X[1, :31], X[4]]
    lazy = [trial.chunk(time=8, unit=3) for trial in listed]
    expected = step.fit_transform(listed)
    for y, trial in zip(step.fit_transform(lazy), expected, strict=True):
        assert y.chunks is not None
        np.testing.assert_allclose(y.values, trial.values, rtol=1e-12, atol=1e-12)


def test_bare_dask_arrays_and_lazy_masks_stay_lazy(rng):
    X = trials(rng)
    Y = lr.ZScore().fit_transform(X.chunk(trial=2).data)
    assert hasattr(Y, "dask")
    np.testing.assert_allclose(Y.compute(), lr.ZScore().fit_transform(X.values), rtol=1e-12, atol=1e-12)
    gappy = trials(rng, gaps=True)
    flags = gappy["observed"].chunk(time=11)
    lazy = lr.Smooth(0.1).fit_transform(gappy.chunk(time=9).assign_coords(observed=flags))
    assert lazy["observed"].chunks is not None
    np.testing.assert_allclose(lazy.values, lr.Smooth(0.1).fit_transform(gappy).values, rtol=1e-12)
    lazy = lr.Resample(10.0).fit_transform(gappy.chunk(time=9).assign_coords(observed=flags))
    np.testing.assert_array_equal(lazy["observed"].values, lr.Resample(10.0).fit_transform(gappy)["observed"].values)


def test_steps_are_remembered_in_order_whatever_was_there(rng):
    X = trials(rng)
    steps = lr.ZScore().fit_transform(lr.Smooth(sd=0.05).fit_transform(X)).attrs["preprocessing"]
    assert steps == ["Smooth(sd=0.05)", "ZScore()"]
    noted = lr.Filter(low=1, high=np.float64(5)).fit_transform(X.assign_attrs(preprocessing="by hand"))
    assert noted.attrs["preprocessing"] == ["by hand", "Filter(low=1, high=5.0, order=4)"]
    lr.ZScore().fit_transform(noted)
    assert len(noted.attrs["preprocessing"]) == 2
    assert lr.chop(lr.SquareRoot().fit_transform(X[0]), 0.5).attrs["preprocessing"] == [
        "SquareRoot()",
        "chop(duration=0.5)",
    ]


def test_the_unit_of_measure_says_what_the_numbers_are(rng):
    X = trials(rng).assign_attrs(units="counts")
    assert lr.Smooth(0.1).fit_transform(X).attrs["units"] == "counts"
    assert lr.SquareRoot().fit_transform(X).attrs["units"] == "sqrt(counts)"
    z = lr.ZScore().fit(X)
    assert z.transform(X).attrs["units"] == "standard deviations"
    assert z.inverse_transform(z.transform(X)).attrs == X.attrs


REFUSED = [
    (lambda X: X.transpose("time", "trial", "unit"), ValueError, r"call X.transpose\('trial', 'time', 'unit'\)"),
    (lambda X: X.rename(unit="neuron"), ValueError, r"rename them, e.g. X.rename\(neuron='unit'\)"),
    (lambda X: X.to_dataset(), TypeError, "got a Dataset of"),
    (lambda X: X.assign_coords(time=np.arange(40.0) ** 2), ValueError, "the time coordinate is uneven"),
    (lambda X: X.assign_attrs(bin_size=0.1), ValueError, "but the time coordinate steps by 0.05 s"),
    (lambda X: X.assign_coords(observed=("time", np.arange(40.0))), ValueError, "wanted booleans"),
    (lambda X: X[:, :0], ValueError, "got no times"),
]


@pytest.mark.parametrize("lazy", [False, True], ids=["eager", "lazy"])
@pytest.mark.parametrize(("change", "error", "message"), REFUSED)
def test_the_refusals_of_the_models_hold_here_too(change, error, message, lazy, rng):
    X = change(trials(rng))
    with pytest.raises(error, match=message):
        lr.ZScore().fit(X.chunk() if lazy else X)


@pytest.mark.parametrize("lazy", [False, True], ids=["eager", "lazy"])
def test_other_units_and_bins_are_refused_by_name(lazy, rng):
    X = trials(rng)
    X = X.chunk(trial=1) if lazy else X
    step = lr.ZScore().fit(X)
    with pytest.raises(ValueError, match="the units come in another order than at fit"):
        step.transform(X[..., ::-1])
    with pytest.raises(ValueError, match="unit 7 was not in the data"):
        step.transform(X.assign_coords(unit=[100, 101, 7, 103]))
    with pytest.raises(ValueError, match="X has 3 features, but ZScore is expecting 4 features"):
        step.transform(X[..., :3])
    with pytest.raises(ValueError, match="got bins of 0.1 s, wanted 0.05 s"):
        step.transform(X[:, ::2].assign_attrs(bin_size=0.1))


def test_an_infinity_is_named_and_an_unobserved_one_is_not_seen(rng):
    X = trials(rng)
    X.values[2, 5, 1] = np.inf
    message = r"X: infinity \(inf\) at trial 12, time -0.75, unit 101"
    with pytest.raises(ValueError, match=message):
        lr.ZScore().fit(X)
    with pytest.raises(ValueError, match=message):
        lr.ZScore().fit(X.chunk(trial=1, time=4, unit=1))
    with pytest.raises(ValueError, match=message):
        lr.SquareRoot().fit(X.chunk(trial=1)).transform(X.chunk(trial=2)).compute()
    lr.ZScore().fit(X.assign_coords(observed=(X.dims, np.isfinite(X.values))))


LONG = [
    lr.Smooth(sd=2.0),
    lr.SoftNormalise(),
    lr.ZScore(),
    lr.PCADenoise(2),
    lr.Filter(low=0.02, high=0.2),
    lr.Resample(rate=0.3),
]


@pytest.mark.parametrize(
    "step", [pytest.param(step, marks=pytest.mark.slow if k % 2 else []) for k, step in enumerate(LONG)], ids=repr
)
def test_a_long_recording_is_never_in_memory_as_a_whole(step):
    block = np.random.default_rng(0).gamma(2.0, size=(2000, 16)) + 1.0  # 256 kB
    data = da.map_blocks(lambda: block.copy(), dtype=float, chunks=((2000,) * 50, (16,)))
    X = xr.DataArray(data, dims=("time", "unit"))
    with dask.config.set(scheduler="synchronous"):
        step.fit(X[:4000]).transform(X[:4000]).mean("time").compute()  # what is imported and kept once
        tracemalloc.start()
        mean = step.fit(X).transform(X).mean("time").compute()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert np.isfinite(mean).all()
    assert peak < 0.5 * X.nbytes
