"""`Filter`: zero-phase Butterworth filters on the stretches between gaps."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, sosfiltfilt

from nwb_lrrnn.parameters import positive, whole_number
from nwb_lrrnn.preprocessing.base import RecordingStep
from nwb_lrrnn.preprocessing.rectangles import BlockPlace, Rectangle
from nwb_lrrnn.preprocessing.step_gate import Parts

_FORGOTTEN = 1e-12  # a transient of several poles begins above the signal, and is to end below 1e-9 of it


class Filter(RecordingStep, auto_wrap_output_keys=None):
    """Each unit filtered in time without delay: Butterworth low-, high- or band-pass, run forwards and backwards.

    The filter runs twice, so that its gain is |H(f)|^2: 1/2 at the cutoffs (-6 dB in power, amplitude 0.5). Every
    trial, and every stretch of observed bins between gaps, is filtered by itself; unobserved bins come out as they went
    in. Edges are extended by their odd reflection (`scipy.signal.sosfiltfilt`); a stretch shorter than that extension
    is extended by what it has, down to a single bin, which is taken as a constant: its edge effects fill it, so trials
    should last a few periods of the lowest cutoff.

    A recording on dask is filtered chunk by chunk, with as many neighbouring bins as the filter remembers (until a
    transient has fallen to 1e-12: some 6 periods of a low-pass or high-pass of order 2, 12 of order 4, and longer for
    narrow bands): the result is that of the whole to 1e-9 of its range, and only a few chunks are in memory. Where
    these neighbours are more than a quarter of a trial to each side, all its bins are brought into one chunk; where
    they are many chunks, `Resample` first.

    Parameters
    ----------
    low : float, optional
        Frequencies below are removed, in Hz; in cycles per bin where X has no bin size (neither `X.attrs["bin_size"]`
        nor a time coordinate). None: a low-pass filter.
    high : float, optional
        Frequencies above are removed, likewise. None: a high-pass filter.
    order : int
        Order of the filter in one direction.

    Attributes
    ----------
    n_features_in_, feature_names_in_, unit_ids_, bin_size_
        Form of the training data.

    Raises
    ------
    ValueError
        If neither cutoff is given, one is not in (0, half the sampling rate), low >= high, or `order` is no whole
        number >= 1.

    Examples
    --------
    >>> time = 0.01 * np.arange(400)
    >>> x = np.sin(2 * np.pi * 2 * time) + np.sin(2 * np.pi * 30 * time)
    >>> slow = Filter(high=0.08).fit_transform(x[:, None])  # no bin size: cycles per bin, here 8 Hz
    >>> bool(np.abs(slow[50:-50, 0] - np.sin(2 * np.pi * 2 * time[50:-50])).max() < 1e-3)
    True
    """

    def __init__(self, low: float | None = None, high: float | None = None, order: int = 4):
        self.low = low
        self.high = high
        self.order = order

    def _check(self, parts: Parts) -> None:
        whole_number("order", self.order)
        cutoffs = {name: value for name, value in (("low", self.low), ("high", self.high)) if value is not None}
        if not cutoffs:
            raise ValueError("low, high: got None for both, wanted a cutoff in Hz, e.g. Filter(high=10.0)")
        unit = "Hz" if parts.bin_size_is_known else "cycles per bin, as X has no bin size"
        nyquist = 0.5 / parts.bin_size
        for name, value in cutoffs.items():
            positive(name, value, hint=f" ({unit})")
            if value >= nyquist:
                raise ValueError(
                    f"{name}: got {value:g}, wanted less than half the sampling rate, {nyquist:g} {unit}; "
                    "bins as wide as these hold nothing faster"
                )
        if len(cutoffs) == 2 and cutoffs["low"] >= cutoffs["high"]:
            raise ValueError(f"low: got {self.low:g}, wanted less than high, {self.high:g}; swap them for a band-pass")

    def _apply(self, part: Rectangle, parts: Parts) -> Any:
        if self.low is None or self.high is None:
            kind, cutoff = ("lowpass", self.high) if self.low is None else ("highpass", self.low)
        else:
            kind, cutoff = "bandpass", [self.low, self.high]
        sections: Any = butter(self.order, cutoff, kind, fs=1.0 / parts.bin_size, output="sos")
        return part.map(partial(_filtered, sections=sections), along_time=True, reach=_reach(sections))


def _filtered(values: NDArray, valid: NDArray, place: BlockPlace, *, sections: NDArray) -> NDArray:
    if valid.all():
        return _zero_phase(values, sections, axis=1)
    result = values.copy()
    for trial in range(len(values)):
        for begin, end, units in _runs(valid[trial]):
            result[trial, begin:end, units] = _zero_phase(values[trial, begin:end, units], sections, axis=0)
    return result


def _runs(valid: NDArray[np.bool_]) -> Iterator[tuple[int, int, Any]]:
    """Yield first bin, end and units of every stretch of observed bins of one trial (time, unit)."""
    if (valid == valid[:, :1]).all():
        groups = [slice(None)]
    else:  # units observed alike are filtered together; the pair of an int and a slice or two slices keeps (time, unit)
        groups = [slice(unit, unit + 1) for unit in range(valid.shape[1])]
    for units in groups:
        flags = np.concatenate([[False], valid[:, units][:, 0], [False]]).astype(np.int8)
        change = np.diff(flags)
        for begin, end in zip(np.flatnonzero(change == 1), np.flatnonzero(change == -1), strict=True):
            yield int(begin), int(end), units


_NEVER = 2**62  # bins


def _zero_phase(values: NDArray, sections: NDArray, axis: int) -> NDArray:
    """Return values filtered forwards and backwards; the padding is scipy's, or what a short stretch allows."""
    return sosfiltfilt(sections, values, axis=axis, padlen=min(_padding(sections), values.shape[axis] - 1))


def _padding(sections: NDArray) -> int:
    """Return by how many bins scipy extends the edges."""
    n_trivial = min((sections[:, 2] == 0).sum(), (sections[:, 5] == 0).sum())  # of first order
    return int(3 * (2 * len(sections) + 1 - n_trivial))


def _reach(sections: NDArray) -> int:
    """Return after how many bins a transient of the slowest pole has fallen to `_FORGOTTEN`."""
    slowest = max(np.abs(np.roots(section[3:])).max() for section in sections)
    if slowest > 1 - 1e-9:  # as good as never
        return _NEVER
    return _padding(sections) + int(np.ceil(np.log(_FORGOTTEN) / np.log(max(slowest, 0.1))))
