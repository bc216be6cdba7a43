"""Long recordings on dask, worked on in stretches: the numbers of the whole in any chunks, each chunk read once."""

import numpy as np
import pytest
import xarray as xr

import nwb_lrrnn as lr
from nwb_lrrnn.preprocessing import dask_stretches
from small_preprocessing import counted

N_BINS = 4000


def recording(rng, *, gaps=False, offset=0.0):
    """Return a wandering recording (time, unit) far from zero; with `gaps`, holes in all units and in one."""
    values = np.cumsum(rng.standard_normal((N_BINS, 3)), axis=0) + offset
    X = xr.DataArray(values, dims=("time", "unit"), coords={"time": 0.01 * np.arange(N_BINS)}, attrs={"bin_size": 0.01})
    if not gaps:
        return X
    X.values[1200:1205] = np.nan
    X.values[2500:2503, 1] = np.nan
    observed = np.ones(N_BINS, dtype=bool)
    observed[[3, 1100, 3990]] = observed[1996:2010] = observed[2600:3100] = False
    return X.assign_coords(observed=("time", observed))


def largest(X):
    return float(np.nanmax(np.abs(X.values)))


FILTERS = [
    lr.Filter(high=5.0),
    lr.Filter(high=3.0, order=1),
    lr.Filter(low=2.0, order=2),
    lr.Filter(low=3.0, high=20.0),
    lr.Filter(low=9.0, high=11.0, order=3),
    lr.Filter(high=20.0, order=10),
]
OTHERS = [
    lr.Smooth(sd=0.05),
    lr.Smooth(sd=0.3, causal=True),
    lr.Resample(rate=50.0),
    lr.Resample(rate=40.0),  # 2.5 old bins in a new one
    lr.Resample(rate=100.0 / np.pi),
    lr.Resample(rate=100.0),
    lr.Resample(rate=270.0),
    lr.Resample(rate=40.0, max_gap=0.2),
    lr.Resample(rate=20.0, how="sum"),
    lr.Resample(rate=30.0, circular=360.0, max_gap=0.1),
    lr.DeltaFOverF(window=0.31),
    lr.DeltaFOverF(window=0.4, percentile=50.0),
]


@pytest.mark.parametrize(
    ("gaps", "chunk"), [pytest.param(False, 1999, marks=pytest.mark.slow), (True, 1999), (True, 150)]
)
@pytest.mark.parametrize("step", [*FILTERS, *OTHERS], ids=repr)
def test_any_chunks_give_the_numbers_of_the_whole(step, gaps, chunk, rng):
    X = recording(rng, gaps=gaps, offset=1000.0)
    whole = step.fit(X).transform(X)
    lazy = step.fit(X.chunk(time=chunk, unit=2)).transform(X.chunk(time=chunk, unit=2))
    assert lazy.data.numblocks[0] > 1
    np.testing.assert_allclose(lazy.values, whole.values, rtol=0, atol=1e-9 * largest(X))
    assert lazy.coords.identical(whole.coords)
    assert lazy.attrs == whole.attrs


def test_the_filter_forgets_to_far_below_the_signal(rng):
    X = recording(rng)
    worst = max(
        np.abs(step.fit(X).transform(X.chunk(time=50)).values - step.transform(X).values).max() for step in FILTERS
    )
    assert worst < 1e-10 * largest(X)


def test_counts_stay_integers_and_are_unobserved_where_one_bin_is(rng):
    X = recording(rng, gaps=True)
    X = X.copy(data=rng.poisson(3.0, X.shape).astype(np.uint8))
    step = lr.Resample(rate=20.0)
    whole, lazy = step.fit_transform(X), step.fit_transform(X.chunk(time=333))
    assert lazy.dtype == whole.dtype == np.int64
    np.testing.assert_array_equal(lazy.values, whole.values)
    flags = X["observed"].chunk(time=100)
    masked = step.fit_transform(X.chunk(time=333).assign_coords(observed=flags))
    np.testing.assert_array_equal(masked["observed"].values, whole["observed"].values)


def test_a_filter_that_remembers_the_whole_recording_sees_all_of_it(rng):
    X, step = recording(rng), lr.Filter(low=0.05)
    np.testing.assert_allclose(
        step.fit(X).transform(X.chunk(time=500)).values, step.transform(X).values, rtol=0, atol=1e-12 * largest(X)
    )


NEAR = [lr.Filter(high=20.0), lr.Smooth(sd=0.05), lr.Resample(rate=30.0)]


@pytest.mark.parametrize("step", NEAR, ids=repr)
def test_a_part_of_the_result_reads_the_chunks_around_it_once(step, rng):
    X, reads = counted(recording(rng), {"time": 250})
    lazy = step.fit(X).transform(X)
    assert reads == []
    at = lazy.sizes["time"] // 2
    lazy.isel(time=slice(at, at + 5)).compute()
    assert 1 <= len(reads) == len(set(reads)) <= 4
    reads.clear()
    lazy.compute()
    assert len(reads) == len(set(reads)) == 16


@pytest.mark.parametrize("step", [lr.Filter(high=10.0), lr.Resample(rate=270.0), lr.Smooth(sd=0.02)], ids=repr)
def test_results_are_cut_and_units_grouped_where_they_are_large(step, rng, monkeypatch):
    X = recording(rng, gaps=True)
    expected = step.fit_transform(X)
    monkeypatch.setattr(dask_stretches, "_RESULT_BYTES", 300 * 3 * 8)
    monkeypatch.setattr(dask_stretches, "_GROUP_BYTES", 1)
    lazy = step.fit_transform(X.chunk(time=250))
    assert max(lazy.chunks[0]) <= 300
    np.testing.assert_allclose(lazy.values, expected.values, rtol=0, atol=1e-9 * largest(X))


def test_the_same_work_has_the_same_name_and_other_work_another(rng):
    X = recording(rng).chunk(time=500)
    steps = lr.Filter(high=9.0), lr.Filter(high=9.0), lr.Filter(high=8.0)
    names = [step.fit_transform(X).data.name for step in steps]
    assert names[0] == names[1] != names[2]


def test_what_is_wrong_is_named_by_its_place_in_the_whole(rng):
    X = recording(rng)
    X.values[2345, 2] = np.inf
    lazy = lr.Filter(high=20.0).fit_transform(X.chunk(time=500, unit=2))
    with pytest.raises(ValueError, match=r"X: infinity \(inf\) at trial 0, time 23.45, unit 2; wanted finite values"):
        lazy.compute()


@pytest.mark.parametrize("chunk", [7, 12, 13, 40])
def test_windows_cut_off_at_the_ends_of_stretches_refuse_nothing(chunk):
    x = np.ones((200, 1))
    x[10:190:20] = x[11:190:20] = 0.0  # two zeros in a window of five, or in what is left of it
    X = xr.DataArray(x, dims=("time", "unit"))
    step = lr.DeltaFOverF(window=5, percentile=50.0)
    np.testing.assert_array_equal(step.fit_transform(X.chunk(time=chunk)).values, step.fit_transform(X).values)
