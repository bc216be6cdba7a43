"""Recordings for the tests of preprocessing: small, in every kind of X, and on dask with every read noted."""

import numpy as np
import pandas as pd
import xarray as xr


class Noted:
    """An array that notes what is read of it."""

    def __init__(self, values, reads):
        self.values, self.reads = values, reads
        self.shape, self.dtype, self.ndim = values.shape, values.dtype, values.ndim

    def __getitem__(self, key):
        if self.values[key].size:  # dask asks for nothing to learn the type
            self.reads.append(str(key))
        return self.values[key]


def counted(X, chunks):
    """Return a DataArray on dask, and the list of what is read of it from then on."""
    import dask.array as da

    reads = []
    sizes = tuple(chunks.get(dim, -1) for dim in X.dims)
    data = da.from_array(Noted(X.values, reads), chunks=sizes, name=False, meta=np.empty((0,) * X.ndim, X.dtype))
    reads.clear()
    return X.copy(data=data), reads


def trials(rng, *, gaps=False, shape=(5, 40, 4)):
    """Return a positive recording (trial, time, unit) with coordinates of every kind; with `gaps`, holes in it too."""
    n_trials, n_bins, n_units = shape
    values = rng.gamma(2.0, 2.0, size=shape) + 1.0
    X = xr.DataArray(
        values,
        dims=("trial", "time", "unit"),
        coords={
            "trial": np.arange(n_trials) + 10,
            "time": 0.05 * np.arange(n_bins) - 1.0,
            "unit": np.arange(n_units) + 100,
            "area": ("unit", np.array(["M1", "PMd"] * n_units)[:n_units]),
            "align_time": ("trial", 3.0 * np.arange(n_trials)),
            "phase": ("time", np.arange(n_bins)),
        },
        name="activity",
        attrs={"bin_size": 0.05, "source": "here"},
    )
    if gaps:
        X.values[1, 3:6, 0] = np.nan
        X.values[2, 20, :] = np.nan
        observed = np.ones(shape[:2], dtype=bool)
        observed[0, 10:14] = observed[3, :2] = observed[4, 37:] = False
        X = X.assign_coords(observed=(("trial", "time"), observed))
        X.values[0, 10:14] = 1e6  # what must never be seen
    return X


def kinds(X):
    """Return a DataArray (trial, time, unit) in the kinds of X: name -> (X, how to get (trial, time, unit) back)."""
    one = X[0]
    frame = pd.DataFrame(one.values, index=one["time"].values, columns=[f"u{k}" for k in range(X.sizes["unit"])])
    frame.attrs = {"bin_size": 0.05}
    return {
        "trials": X,
        "one trial": one,
        "array": X.values,
        "one array": one.values,
        "frame": frame,
        "ragged arrays": [X.values[0], X.values[1, :30]],
        "ragged trials": [X[0], X[1, :30]],
        "numbers": one.values.tolist(),
    }


CHUNKS = {
    "whole": {},
    "trial": {"trial": 2},
    "time": {"time": 7},
    "unit": {"unit": 3},
    "all": {"trial": 2, "time": 9, "unit": 2},
}
