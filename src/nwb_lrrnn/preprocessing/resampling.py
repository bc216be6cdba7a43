"""`Resample`: other bins, within trials and inside gap limits."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from nwb_lrrnn.parameters import choose, positive
from nwb_lrrnn.preprocessing.base import RecordingStep, described
from nwb_lrrnn.preprocessing.rectangles import BlockPlace, Rectangle
from nwb_lrrnn.preprocessing.step_gate import Parts, remembered
from nwb_lrrnn.preprocessing.unit_statistics import extremes, merge_extremes, one_pass
from nwb_lrrnn.resample import bin_series
from nwb_lrrnn.trials import as_frame, is_list_of_trials, is_pynapple, like_pynapple

_HOW = ("auto", "mean", "sum")
_ROUNDING = 1e-6  # of a bin


class Resample(RecordingStep, auto_wrap_output_keys=None):
    """X in bins of 1 / rate, trial by trial: counts are summed, everything else is averaged or interpolated.

    A new bin gets the mean of the observed old bins whose centre it holds. A new bin that holds none gets the value on
    the line between its two neighbours, where these are at most `max_gap` apart. All others are NaN, and False in
    `observed` where X has that coordinate. Counts are summed, and then a new bin is observed only if all of its old
    bins are; integers stay integers (0 where unobserved). New bins begin where the trial begins; what is left over at
    its end is dropped. Other coordinates along time take the value of the old bin at the centre of the new one. A
    recording on dask is resampled chunk by chunk (unless `max_gap` is more than a quarter of a trial).

    Inputs of a model are resampled by a `Resample` of their own, before the pipeline.

    Parameters
    ----------
    rate : float
        New bins per second; per old bin where X has no bin size (neither `X.attrs["bin_size"]` nor a time coordinate).
    how : {"auto", "mean", "sum"}
        "auto" sums what is of integer type or whose `X.attrs["units"]` is "counts", and averages the rest. Sums need
        new bins that are a whole number of old ones: counts can be neither split nor shared between bins.
    circular : bool or float
        True: values are angles in radians, averaged and interpolated on the circle. A number: the same, that being the
        full circle (360.0 for degrees). Results are in [0, circle) if no training value is negative, else in
        (-circle / 2, circle / 2]. Then `fit` passes over the data once.
    max_gap : float, optional
        Widest distance between the centres of two observed bins to interpolate across, in seconds (old bins where X has
        no bin size). None: 1.5 old bins, or one new bin where that is more.

    Attributes
    ----------
    is_signed_ : bool
        With `circular`: whether a training value was negative.
    n_features_in_, feature_names_in_, unit_ids_, bin_size_
        Form of the training data.

    Raises
    ------
    ValueError
        If a parameter is not as described, a trial is shorter than a new bin, or counts would be split.

    Examples
    --------
    >>> counts = xr.DataArray([[1], [2], [0], [4]], dims=("time", "unit"), attrs={"bin_size": 0.1})
    >>> slower = Resample(rate=5.0).fit_transform(counts)
    >>> slower.values.ravel(), slower.attrs["bin_size"]
    (array([3, 4]), 0.2)
    """

    is_signed_: bool

    def __init__(
        self,
        rate: float,
        how: Literal["auto", "mean", "sum"] = "auto",
        circular: bool | float = False,
        max_gap: float | None = None,
    ):
        self.rate = rate
        self.how = how
        self.circular = circular
        self.max_gap = max_gap

    def _check(self, parts: Parts) -> None:
        rate = positive("rate", self.rate, hint=": new bins per second, e.g. rate=50.0")
        choose("how", self.how, _HOW)
        if self.max_gap is not None:
            positive("max_gap", self.max_gap, zero=True)
        circle = self._circle()
        ratio = 1.0 / (rate * parts.bin_size)  # old bins in a new one
        if self._sums(parts):
            if circle is not None:
                raise ValueError("how: got 'sum' with circular, wanted 'mean': angles are not added; leave one out")
            if ratio < 1 - _ROUNDING or abs(ratio - round(ratio)) > _ROUNDING * ratio:
                fix = f"rate={1.0 / (parts.bin_size * max(1, round(ratio))):.6g}"
                raise ValueError(
                    f"rate: got {rate:g}, {ratio:.6g} old bins in a new one, wanted a whole number: counts cannot be "
                    f"split; pass {fix}, bin the spike times anew, or how='mean' for values per bin that may be"
                )
        for part in parts.parts:
            n_old = part.values.shape[1]
            if _n_bins(n_old, ratio) < 1:
                raise ValueError(
                    f"rate: got {rate:g}, bins longer than trial {part.place.trial_ids[0]}, {n_old} bins of "
                    f"{parts.bin_size:g}; wanted at least rate={1.0 / (n_old * parts.bin_size):.6g}"
                )

    def _circle(self) -> float | None:
        """Return the length of the circle, None for values on a line."""
        if isinstance(self.circular, (bool, np.bool_)):
            return 2 * np.pi if self.circular else None
        return positive("circular", self.circular, hint=", True (radians) or False, e.g. circular=360.0 for degrees")

    def _sums(self, parts: Parts) -> bool:
        if self.how != "auto":
            return self.how == "sum"
        return self._circle() is None and all(_are_counts(part.source) for part in parts.parts)

    def _learn(self, parts: Parts) -> None:
        if self._circle() is not None:
            low, _ = one_pass(parts.parts, extremes, merge_extremes)
            self.is_signed_ = bool((low < 0).any())

    def _restored(self, parts: Parts) -> Any:
        width = 1.0 / float(self.rate)  # of a new bin, in the time of X
        sums, circle, back = self._sums(parts), self._circle(), []
        for part in parts.parts:
            n_bins = _n_bins(part.values.shape[1], width / parts.bin_size)
            max_gap = max(1.5 * parts.bin_size, width) if self.max_gap is None else float(self.max_gap)
            on_line: Any = partial(_averaged, old=parts.bin_size, new=width, max_gap=max_gap)
            form = {"n_bins": n_bins, "ratio": width / parts.bin_size, "reach": max_gap / parts.bin_size + 1}
            if sums:
                form |= {"ratio": round(width / parts.bin_size), "reach": 0}
                on_line = partial(_summed, ratio=form["ratio"])
            function = on_line if circle is None else partial(on_line, circle=circle, is_signed=self.is_signed_)
            values = part.resize(function, **form)
            values = _as_counts(values) if sums and _are_integers(part.source) else values
            seen = _observed(part, on_line, form)
            back.append(_rebinned(part.source, values, seen, parts, width, described(self)))
        return back if is_list_of_trials(parts.source) else back[0]


def _n_bins(n_old: int, ratio: float) -> int:
    return int(np.floor(n_old / ratio + _ROUNDING))


def _are_integers(source: Any) -> bool:
    if isinstance(source, pd.DataFrame):
        return all(pd.api.types.is_integer_dtype(dtype) for dtype in source.dtypes)
    return np.dtype(getattr(source, "dtype", None) or np.asarray(source).dtype).kind in "iu"


def _are_counts(source: Any) -> bool:
    return _are_integers(source) or getattr(source, "attrs", {}).get("units") == "counts"


def _as_counts(values: Any) -> Any:
    """Return sums as integers, 0 where unobserved."""
    if isinstance(values, np.ndarray):
        return np.nan_to_num(values).astype(np.int64)
    return values.map_blocks(np.nan_to_num, dtype=values.dtype, meta=values._meta).astype(np.int64)


def _summed(values: NDArray, valid: NDArray, place: BlockPlace, *, bins: range, ratio: int) -> NDArray:
    """Return sums over `ratio` old bins (trial, bins, unit), NaN where one of them is not observed."""
    begin, shape = bins.start * ratio - place.time, (len(values), len(bins), ratio, values.shape[2])
    own = slice(begin, begin + len(bins) * ratio)
    complete = valid[:, own].reshape(shape).all(axis=2)
    return np.where(complete, values[:, own].reshape(shape).sum(axis=2), np.nan)


def _averaged(
    values: NDArray,
    valid: NDArray,
    place: BlockPlace,
    *,
    bins: range,
    old: float,
    new: float,
    max_gap: float,
    circle: float | None = None,
    is_signed: bool = True,
) -> NDArray:
    """Return means or interpolated values (trial, bins, unit), NaN where there is neither."""
    series = np.where(valid, values, np.nan).transpose(1, 0, 2)  # (time, trial, unit)
    turn = 1.0 if circle is None else 2 * np.pi / circle
    centres = (place.time + np.arange(len(series)) + 0.5) * old  # in the time of the whole trial
    is_angle, begin = circle is not None, [bins.start * new]
    binned = bin_series(centres, turn * series, new, begin, len(bins), max_gap=max_gap, circular=is_angle)[0]
    if new < old * (1 - _ROUNDING):  # the outer half of a bin at an edge has no neighbour, but lies in that bin
        inside = ((np.arange(bins.start, bins.stop) + 0.5) * new / old).astype(np.intp) - place.time
        binned = np.where(np.isnan(binned), turn * series[inside], binned)
    if is_angle:  # one range for all blocks
        binned = binned % (2 * np.pi)
        binned[binned == 2 * np.pi] = 0.0  # what a rounding error below zero wraps to
        binned = np.where(binned > np.pi, binned - 2 * np.pi, binned) if is_signed else binned
    return (binned / turn).transpose(1, 0, 2)


def _observed(part: Rectangle, function: Any, form: dict[str, Any]) -> Any:
    """Return which new bins are observed, with the axes of `part.observed`; None where X does not say."""
    if part.observed is None or part.observed.shape[1] == 1:
        return part.observed
    import dask.array as da

    xp = np if isinstance(part.observed, np.ndarray) else da
    ones = xp.ones_like(part.observed, dtype=np.float64)
    place = BlockPlace(np.arange(ones.shape[0]), np.arange(ones.shape[2]))
    return ~xp.isnan(Rectangle(None, ones, part.observed, place).resize(function, **form))


def _rebinned(source: Any, values: Any, seen: Any, parts: Parts, width: float, step: str) -> Any:
    """Return values (trial, time, unit) in the kind of `source`, its labels along time replaced."""
    n_bins, old = values.shape[1], parts.bin_size
    centres = (np.arange(n_bins) + 0.5) * width / old  # in old bins, from the left edge
    nearest = np.minimum(centres.astype(np.intp), source.shape[-2] - 1) if hasattr(source, "shape") else None
    if isinstance(source, xr.DataArray):
        kept = source.coords.to_dataset().drop_vars(["time", "observed"], errors="ignore")
        result = xr.DataArray(
            values if source.ndim == 3 else values[0],
            dims=source.dims,
            coords=kept.isel(time=nearest, missing_dims="ignore").coords,
            name=source.name,
        )
        if "time" in source.coords:
            result = result.assign_coords(time=float(source["time"][0]) + (centres - 0.5) * old)
        if seen is not None:
            dims = [dim for dim in ("trial", "time", "unit") if dim in source["observed"].dims]
            shape = [result.sizes[dim] for dim in dims]
            result = result.assign_coords(observed=(dims, seen.reshape(shape)))
    elif isinstance(source, pd.DataFrame):
        result = pd.DataFrame(values[0], index=_index(source.index, centres, nearest), columns=source.columns)
    elif is_pynapple(source):
        times = float(source.t[0]) + (centres - 0.5) * parts.bin_size
        return like_pynapple(source, values[0], list(as_frame(source).columns), times)
    else:
        return values if getattr(source, "ndim", None) == 3 else values[0]
    attrs: dict[Any, Any] = remembered(source.attrs, step)
    result.attrs = {**attrs, **({"bin_size": width} if parts.bin_size_is_known else {})}
    return result


def _index(index: pd.Index, centres: NDArray, nearest: Any) -> pd.Index:
    """Return labels of the new bins: times where the index holds times, else those of the old bins there."""
    if isinstance(index, pd.RangeIndex):
        return pd.RangeIndex(len(centres))
    if pd.api.types.is_float_dtype(index.dtype) and len(index) > 1:
        step = (index[-1] - index[0]) / (len(index) - 1)
        return pd.Index(index[0] + (centres - 0.5) * step, name=index.name)
    return index[nearest]
