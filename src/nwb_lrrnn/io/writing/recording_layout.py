"""Where in session time the trials of a population lie, and where in its bins the spikes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from nwb_lrrnn.io.writing.columns import storable

_DIMS = ("trial", "time", "unit")
_REDRAWS = 50
_CLOCK = 30_000.0  # ticks a second: what most recording systems sample spikes at


@dataclass(frozen=True)
class RecordingLayout:
    """A population of units and its place in session time."""

    values: NDArray[Any]  # (trial, time, unit): counts or samples
    bin_size: float  # s
    starts: NDArray[np.float64]  # (trial,): session time of the left edge of the first bin, s
    observed: NDArray[np.bool_] | None  # (trial, time[, unit]); None for all
    trials: pd.DataFrame  # a row a trial, ordered as X: start_time, stop_time, the event at time 0, more; index `id`
    units: pd.DataFrame  # a row a unit: its scalar coordinates; index `id`

    @property
    def centres(self) -> NDArray[np.float64]:
        """Session times of the bin centres, shape (trial, time)."""
        return self.starts[:, None] + (np.arange(self.values.shape[1]) + 0.5) * self.bin_size


def lay_out(
    X: Any,
    *,
    bin_size: float | None,
    align_column: str,
    trials: Mapping[str, ArrayLike] | pd.DataFrame | None,
    gap: float,
) -> RecordingLayout:
    """Return a population, (trial, time, unit) or (time, unit), laid out in session time.

    Trials stay at their `align_time` where X has it, and follow each other with a gap where it has not. `bin_size` None
    takes X.attrs["bin_size"] or the step of X.time. For the rest, and for what is raised, see `write_recording`.
    """
    X = _as_population(X)
    width, first_edge = _bins(X, bin_size)
    n_trials, n_bins, _ = X.shape
    duration = n_bins * width
    if "align_time" in X.coords:
        align = np.broadcast_to(X["align_time"].values.astype(np.float64), n_trials)
    else:
        if not gap >= 0:
            raise ValueError(f"gap: got {gap!r}, wanted seconds of at least 0")
        align = gap + max(0.0, -first_edge) + np.arange(n_trials) * (duration + gap)
    starts = align + first_edge
    order = np.argsort(starts, kind="stable")
    early = np.flatnonzero(np.diff(starts[order]) < duration * (1 - 1e-6))
    if early.size:
        pair = [X["trial"].values[order[early[0] + k]] for k in (0, 1)]
        raise ValueError(
            f"X: got trials {pair[0]} and {pair[1]} whose windows overlap in session time, so that one spike would "
            "stand for two; wanted windows apart: X.drop_vars('align_time') lays the trials out one after another"
        )
    table = _trial_table(X, align, starts, duration, align_column, trials)
    observed = None
    if "observed" in X.coords:
        flags = X["observed"].transpose(*(dim for dim in _DIMS if dim in X["observed"].dims))
        observed = np.broadcast_to(flags.values if "trial" in flags.dims else flags.values[None], X.shape[: flags.ndim])
    units = _scalar_coords(X, "unit")
    units.index = _ids(X, "unit", units)
    return RecordingLayout(np.asarray(X.values), width, starts, observed, table, units)


def draw_spike_times(layout: RecordingLayout, random_state: Any) -> list[NDArray[np.float64]]:
    """Return sorted session times of spikes of each unit, drawn uniformly inside the bins, on the recording clock.

    Counted in the same bins they give the same counts; unobserved bins have no spikes.
    """
    rng = np.random.default_rng(random_state)
    tick = clock_step(layout.bin_size)
    margin = max(tick, 1e-5 * layout.bin_size)  # rounding to the clock must not carry a spike across an edge
    n_trials, n_bins, n_units = layout.values.shape
    edges = (layout.starts[:, None] + np.arange(n_bins) * layout.bin_size).reshape(-1)  # (trial * time,)
    trains = []
    for unit in range(n_units):
        counts = layout.values[:, :, unit].astype(np.intp)  # (trial, time)
        if layout.observed is not None:
            counts *= layout.observed if layout.observed.ndim == 2 else layout.observed[:, :, unit]
        left = np.repeat(edges, counts.reshape(-1))
        ticks = np.round((left + rng.uniform(margin, layout.bin_size - margin, left.size)) / tick)
        for _ in range(_REDRAWS):  # a unit spikes once a tick; where bins hold more spikes than ticks, some stay twice
            again = np.setdiff1d(np.arange(len(ticks)), np.unique(ticks, return_index=True)[1])
            if not again.size:
                break
            ticks[again] = np.round((left[again] + rng.uniform(margin, layout.bin_size - margin, again.size)) / tick)
        trains.append(np.sort(ticks) * tick)
    return trains


def clock_step(bin_size: float) -> float:
    """Return the step in s of the clock that spike times are rounded to: 1 / 30 000, or bin_size / 1000 below 1 ms.

    >>> clock_step(0.02) == 1 / 30_000
    True
    """
    return 1 / _CLOCK if bin_size >= 1e-3 else bin_size / 1000


def observed_intervals(layout: RecordingLayout) -> list[NDArray[np.float64]]:
    """Return the stretches (interval, 2) of session time in which each unit was observed; trials that touch are one."""
    n_trials, n_bins, n_units = layout.values.shape
    mask = np.ones((n_trials, n_bins), dtype=bool) if layout.observed is None else layout.observed
    if mask.ndim == 2:
        return [_runs(mask, layout)] * n_units
    return [_runs(mask[:, :, unit], layout) for unit in range(n_units)]


def _runs(mask: NDArray[np.bool_], layout: RecordingLayout) -> NDArray[np.float64]:
    order = np.argsort(layout.starts)
    padded = np.zeros((mask.shape[0], mask.shape[1] + 2), dtype=np.int8)
    padded[:, 1:-1] = mask[order]
    trial, first = np.nonzero(np.diff(padded, axis=1) == 1)
    _, end = np.nonzero(np.diff(padded, axis=1) == -1)
    begins = layout.starts[order][trial] + first * layout.bin_size
    stops = layout.starts[order][trial] + end * layout.bin_size
    opens = np.append(True, begins[1:] > stops[:-1] + 1e-6 * layout.bin_size)[: begins.size]
    return np.stack([begins[opens], stops[np.append(opens[1:], True)[: begins.size]]], axis=1)  # (interval, 2)


def _as_population(X: Any) -> xr.DataArray:
    """Return X as a DataArray (trial, time, unit) with trial and unit coordinates, or raise."""
    if not isinstance(X, xr.DataArray):
        array = np.asarray(X)
        if array.ndim not in (2, 3):
            raise ValueError(f"X: got shape {array.shape}, wanted (trial, time, unit) or (time, unit)")
        X = xr.DataArray(array, dims=_DIMS[3 - array.ndim :])
    if X.dims == _DIMS[1:]:
        X = X.expand_dims("trial")
    if X.dims != _DIMS:
        fix = "; X.transpose('trial', 'time', 'unit') reorders them" if set(X.dims) == set(_DIMS) else ""
        raise ValueError(f"X: got dims {X.dims}, wanted ('trial', 'time', 'unit') or ('time', 'unit'){fix}")
    if X.dtype.kind not in "fiub":
        raise TypeError(f"X: got dtype {X.dtype}, wanted real numbers")
    if 0 in X.shape:
        raise ValueError(f"X: got shape {X.shape}, wanted at least one trial, one bin and one unit")
    return X.assign_coords({dim: np.arange(X.sizes[dim]) for dim in ("trial", "unit") if dim not in X.coords})


def _bins(X: xr.DataArray, bin_size: float | None) -> tuple[float, float]:
    """Return the bin size and the left edge of the first bin relative to the alignment, or raise."""
    time = X["time"].values.astype(np.float64) if "time" in X.coords else None
    step = float(np.median(np.diff(time))) if time is not None and time.size > 1 else None
    width = X.attrs.get("bin_size", step) if bin_size is None else bin_size
    if width is None:
        raise ValueError("bin_size: X carries none, wanted seconds; pass bin_size=, for instance 0.02")
    width = float(width)
    if not (np.isfinite(width) and width > 0):
        raise ValueError(f"bin_size: got {width!r}, wanted a positive number of seconds")
    if time is None:
        return width, 0.0
    uneven = np.abs(np.diff(time) - width) > 1e-3 * width
    if uneven.any():
        k = int(uneven.argmax())
        raise ValueError(
            f"X: got time steps of {time[k + 1] - time[k]:g} s from index {k} to {k + 1} where bin_size is {width:g} "
            "s; wanted even steps of one bin"
        )
    return width, float(time[0]) - width / 2


def _trial_table(
    X: xr.DataArray,
    align: NDArray[np.float64],
    starts: NDArray[np.float64],
    duration: float,
    align_column: str,
    extra: Mapping[str, ArrayLike] | pd.DataFrame | None,
) -> pd.DataFrame:
    """Return the trials table in the order of X, or raise."""
    table = pd.DataFrame({"start_time": starts, "stop_time": starts + duration, align_column: align})
    coords = _scalar_coords(X, "trial").drop(columns=["align_time"], errors="ignore")
    moved = "align_time" not in X.coords  # start_time and stop_time of another clock would be wrong here
    if not moved and {"start_time", "stop_time"} <= set(coords):
        table[["start_time", "stop_time"]] = coords[["start_time", "stop_time"]].to_numpy()
    if align_column in coords and not np.array_equal(storable(coords[align_column].to_numpy()), align):
        raise ValueError(
            f"align_column: got {align_column!r}, but X has a trial coordinate of this name with other times than its "
            "align_time; pass another name for the column of time 0"
        )
    for name in coords.columns.difference([*table.columns], sort=False):
        table[name] = coords[name].to_numpy()
    for name, values in {} if extra is None else dict(extra).items():
        column = storable(values)
        if column.shape != (len(table),):
            raise ValueError(f"trials[{name!r}]: got shape {column.shape}, wanted ({len(table)},): one value a trial")
        table[name] = column
    table.index = _ids(X, "trial", table)
    return table


def _scalar_coords(X: xr.DataArray, dim: str) -> pd.DataFrame:
    """Return every coordinate with one value along `dim`, but its ids."""
    columns = {
        str(name): storable(coord.values)
        for name, coord in X.coords.items()
        if coord.dims == (dim,) and name not in (dim, "unit_kind", "observed")
    }
    return pd.DataFrame(columns, index=range(X.sizes[dim]))


def _ids(X: xr.DataArray, dim: str, table: pd.DataFrame) -> pd.Index:
    """Return integer ids along `dim`; ids of another kind become a column."""
    ids = X[dim].values
    if ids.dtype.kind in "iu" and np.unique(ids).size == ids.size:
        return pd.Index(ids, name="id")
    table[f"{dim}_name"] = storable(ids)
    return pd.Index(np.arange(ids.size), name="id")
