"""`DeltaFOverF`: fluorescence relative to its baseline."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nwb_lrrnn.parameters import positive
from nwb_lrrnn.preprocessing.base import RecordingStep
from nwb_lrrnn.preprocessing.rectangles import BlockPlace, Rectangle
from nwb_lrrnn.preprocessing.step_gate import Parts
from nwb_lrrnn.preprocessing.unit_statistics import Statistic, one_pass


class DeltaFOverF(RecordingStep, auto_wrap_output_keys=None):
    """Change of fluorescence relative to the baseline of each unit: (F - F0) / F0.

    F0 is a percentile of the unit's observed training bins, or with `window` the running percentile around each bin of
    the data at hand (Jia et al. 2011, In vivo two-photon imaging of sensory-evoked dendritic calcium signals, Nat.
    Protoc. 6), for recordings that bleach. Unobserved bins count in neither.

    Parameters
    ----------
    percentile : float
        Of the baseline, 0 to 100.
    window : float, optional
        Length of the window centred on each bin, in seconds (in bins where X has no bin size); at the edges of a trial
        it is what lies inside. None: one F0 for each unit, from `fit`.

    Attributes
    ----------
    baseline_ : array (unit,) or None
        F0; NaN for a unit never observed in training; None with `window`.
    n_features_in_, feature_names_in_, unit_ids_, bin_size_
        Form of the training data.

    Raises
    ------
    ValueError
        If `percentile` is not in [0, 100], `window` is shorter than a bin, or an F0 is not above 0: in `fit`; with
        `window` in `fit` and `transform`, on dask when the result is computed.

    Notes
    -----
    Without `window`, `fit` passes over the data once and brings all bins of a few units into one chunk, as an exact
    percentile must: on dask, training data in chunks of many units are held whole meanwhile. With `window` on dask,
    `fit` computes nothing, and `transform` works chunk by chunk with the neighbouring bins that the window reaches
    (a window longer than half a trial brings all its bins into one chunk).

    Examples
    --------
    >>> DeltaFOverF(percentile=0).fit_transform([[10.0, 2.0], [15.0, 3.0]])
    array([[0. , 0. ],
           [0.5, 0.5]])
    """

    baseline_: NDArray[np.float64] | None
    _unit = "dF/F"
    _positive_only = True

    def __init__(self, percentile: float = 10.0, window: float | None = None):
        self.percentile = percentile
        self.window = window

    def _check(self, parts: Parts) -> None:
        if positive("percentile", self.percentile, zero=True, hint=" and <= 100, e.g. percentile=10") > 100:
            raise ValueError(f"percentile: got {self.percentile!r}, wanted at most 100, e.g. percentile=10")
        if self.window is not None and positive("window", self.window) < parts.bin_size * (1 - 1e-6):
            unit = "s" if parts.bin_size_is_known else "bin, as X has no bin size"
            raise ValueError(f"window: got {self.window!r}, wanted at least one bin, {parts.bin_size:g} {unit}")

    def _learn(self, parts: Parts) -> None:
        self.baseline_ = None
        if self.window is not None:
            for part in parts.parts:
                if not part.is_lazy:  # what cannot be a baseline is refused early where that costs little
                    self._apply(part, parts)
            return
        statistic = partial(_percentile, percentile=float(self.percentile))
        (baseline,) = one_pass(_gathered(parts), statistic, whole=(0, 1))
        low = np.flatnonzero(baseline <= 0)
        if low.size:
            raise ValueError(_too_low(float(baseline[low[0]]), f"unit {parts.unit_ids[low[0]]}"))
        self.baseline_ = baseline

    def _apply(self, part: Rectangle, parts: Parts) -> Any:
        if self.baseline_ is not None:
            return part.map(partial(_relative, baseline=self.baseline_))
        n_bins = max(1, round(float(self.window or 0) / parts.bin_size))
        function = partial(_relative_to_running, n_bins=n_bins, percentile=float(self.percentile))
        return part.map(function, along_time=True, reach=n_bins // 2 + 1)


def _gathered(parts: Parts) -> list[Rectangle]:
    """Return the trials of a list as one part, end to end."""
    found = parts.parts
    if len(found) == 1:
        return found
    if any(part.is_lazy for part in found):
        import dask.array as xp
    else:
        import numpy as xp
    masks = [xp.broadcast_to(xp.asarray(True if p.observed is None else p.observed), p.values.shape) for p in found]
    observed = None if all(p.observed is None for p in found) else xp.concatenate(masks, axis=1)
    return [Rectangle(None, xp.concatenate([p.values for p in found], axis=1), observed, found[0].place)]


def _percentile(values: NDArray, valid: NDArray, *, percentile: float) -> Statistic:
    """Return a percentile of each unit, NaN where it has no bin."""
    masked = np.where(valid, values, np.nan)
    result = np.full(values.shape[1], np.nan)
    some = valid.any(axis=0)
    result[some] = np.nanpercentile(masked[:, some], percentile, axis=0)
    return (result,)


def _relative(values: NDArray, valid: NDArray, place: BlockPlace, *, baseline: NDArray) -> NDArray:
    own = baseline[place.units(values.shape[2])]
    return (values - own) / own


def _relative_to_running(
    values: NDArray, valid: NDArray, place: BlockPlace, *, n_bins: int, percentile: float
) -> NDArray:
    n_trials, n_times, n_units = values.shape
    series = np.where(valid, values, np.nan).transpose(1, 0, 2).reshape(n_times, -1)  # (time, trial * unit)
    rolling = pd.DataFrame(series).rolling(n_bins, center=True, min_periods=1)
    baseline = rolling.quantile(percentile / 100).to_numpy()
    baseline = baseline.reshape(n_times, n_trials, n_units).transpose(1, 0, 2)  # (trial, time, unit)
    low, asked = np.zeros_like(valid), slice(*place.asked)  # the windows of neighbours are cut off
    low[:, asked] = valid[:, asked] & (baseline[:, asked] <= 0)
    if low.any():
        at = np.argwhere(low)[0]
        raise ValueError(_too_low(float(baseline[tuple(at)]), place.of(*at)))
    own = np.where(valid & (baseline > 0), baseline, 1.0)
    return (values - own) / own


def _too_low(baseline: float, where: str) -> str:
    why = "Negative values in data: " if baseline < 0 else ""
    return (
        f"X: {why}the baseline F0 is {baseline:.6g} at {where}, wanted > 0; add back the offset that was subtracted "
        "from the fluorescence, raise percentile=, or leave the unit out"
    )
