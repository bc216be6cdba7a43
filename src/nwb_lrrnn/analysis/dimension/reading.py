"""A recording as pieces of bounded size, whatever it lies in: a session that is one long trial is cut along time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwb_lrrnn.trials import LazyTrials, Trials, as_frame, as_trials, is_lazy, read_trials

Array = NDArray[np.floating]

PIECE_BYTES = 32 * 2**20  # of float64
KEPT_BYTES = 256 * 2**20  # of what was read, for the next pass
_LARGEST = 4  # pieces: a chunk of dask up to this size is computed whole


@dataclass(frozen=True)
class Piece:
    """Neighbouring bins of one trial, 0 where unobserved."""

    trial: int
    begin: int
    values: Array  # (bin, unit)
    seen: NDArray[np.bool_] | None  # (bin, unit); None: all


class Recorded:
    """What is asked of a recording. It is read anew in every pass over `pieces`, but for what can be kept.

    Attributes
    ----------
    lengths : array (trial,), int
    unit_ids : array (unit,)
    bin_size : float
        Seconds, 1.0 where it is not known.
    is_known : bool
        Whether the bin size is known.
    starts : array (trial,) or None
        When trials begin in the session, in bins; None where nobody knows, and trials are independent.
    """

    def __init__(self, X: Any, bin_size: float | None = None):
        self._given = bin_size
        X = as_frame(X)
        long = _as_long(X)
        form = read_trials(X if long is None else long, allow_nan=True, bin_size=bin_size)
        self._long, self._trials = long, form
        self.lengths = form.lengths
        self.unit_ids = form.unit_ids
        self.bin_size, self.is_known = form.bin_size, form.bin_size_is_known
        self.starts = _starts(X, form)
        self._kept: dict[int, Piece] = {}
        self._kept_bytes = 0

    @property
    def n_units(self) -> int:
        """Number of units."""
        return len(self.unit_ids)

    def pieces(self) -> Iterator[Piece]:
        """Yield all bins, trials in order within what is read at once, and each from its beginning."""
        if self._long is not None:
            yield from self._slices(self._long)
            return
        for rows, block in self._trials.blocks():
            for row, k in enumerate(rows):
                length = block.lengths[row]
                seen = None if block.observed is None else block.observed[row, :length]
                yield Piece(int(k), 0, block.values[row, :length], seen)

    def _slices(self, X: xr.DataArray) -> Iterator[Piece]:
        for k, (begin, end) in enumerate(_spans(X)):
            if k in self._kept:
                yield self._kept[k]
                continue
            part = X[begin:end].compute()
            block = as_trials(part, bin_size=self._given, allow_nan=True, is_part=True)
            piece = Piece(0, begin, block.values[0], None if block.observed is None else block.observed[0])
            if self._kept_bytes + piece.values.nbytes <= KEPT_BYTES:
                self._kept[k] = piece
                self._kept_bytes += piece.values.nbytes
            yield piece


def _as_long(X: Any) -> xr.DataArray | None:
    """Return a recording that is one trial larger than a piece as a DataArray (time, unit) on dask; others: None."""
    if isinstance(X, xr.DataArray) and X.ndim == 3 and X.dims[:1] == ("trial",) and X.shape[0] == 1:
        X = X[0]
    elif isinstance(X, np.ndarray) and X.ndim == 3 and X.shape[0] == 1:
        X = X[0]
    if not isinstance(X, (xr.DataArray, np.ndarray)) or X.ndim != 2 or X.size * 8 <= PIECE_BYTES:
        return None
    if not isinstance(X, xr.DataArray):
        X = xr.DataArray(X, dims=("time", "unit"))
    if X.dims != ("time", "unit"):
        return None  # the gate says what is wrong
    return X if is_lazy(X) else X.chunk(time=max(1, PIECE_BYTES // (8 * X.shape[1])))


def _spans(X: xr.DataArray) -> Iterator[tuple[int, int]]:
    """Yield begin and end of stretches of about a piece that follow the chunks."""
    size = max(1, PIECE_BYTES // (8 * max(1, X.shape[1])))
    begin = end = 0
    for chunk in X.chunks[0] if X.chunks else (len(X),):
        if end > begin and end + chunk - begin > size:
            yield begin, end
            begin = end
        end += chunk
        while end - begin > _LARGEST * size:
            yield begin, begin + size
            begin += size
    if end > begin:
        yield begin, end


def _starts(X: Any, form: Trials | LazyTrials) -> Array | None:
    """Return when trials begin, in bins of the session: their time 0 plus the time of their first bin."""
    if not isinstance(X, xr.DataArray) or X.ndim != 3 or "align_time" not in X.coords or "time" not in X.coords:
        return None
    zero = np.asarray(X["align_time"].values, dtype=float)
    if zero.shape != (len(form.lengths),) or not np.isfinite(zero).all():
        return None
    return (zero + float(X["time"].values[0])) / form.bin_size - 0.5
