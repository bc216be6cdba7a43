"""Where trials end, and what to do where one long trial among short ones makes an array that is mostly padding.

Padded to the longest, such trials cost many times what was observed. So they are read block by block, trials of like
length are worked on together, and `fit` sees the long ones in pieces.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwb_lrrnn.trials.kinds import is_list_of_trials
from nwb_lrrnn.trials.labels import observed_flags

Lengths = NDArray[np.int64]

MOSTLY_PADDING = 0.5  # of (trials, longest trial): where less of it is inside a trial


def is_mostly_padding(lengths: NDArray) -> bool:
    """Return whether trials of such lengths (trial,), padded to the longest, fill less than half of an array."""
    return bool(lengths.sum() < MOSTLY_PADDING * len(lengths) * lengths.max(initial=0))


def ends_of(bins: NDArray[np.bool_], lengths: Lengths, forecasts: bool = True) -> Lengths:
    """Return how many bins each trial has (trial,), given which are observed (trial, time).

    What follows the last observed bin of a trial is its own (a forecast) unless most of the array is such: then it is
    the padding of trials that are much shorter than the longest, and they end there. Where no forecasts are asked for,
    the longest trial need not be among them.
    """
    ends = np.minimum(last_bins(bins), lengths).astype(np.int64)
    longest = int((ends if forecasts else lengths).max(initial=0))
    return ends if ends.sum() < MOSTLY_PADDING * len(ends) * longest else lengths


def last_bins(bins: NDArray[np.bool_]) -> Lengths:
    """Return how many bins there are up to and with the last True one of (trial, time), at least 1."""
    if bins.shape[1] == 0:
        return np.zeros(len(bins), dtype=np.int64)
    last = bins.shape[1] - np.argmax(bins[:, ::-1], axis=1)
    return np.where(bins.any(axis=1), last, 1).astype(np.int64)


def ends_by_label(X: Any, lengths: Lengths, forecasts: bool = True) -> Lengths:
    """Return the same of a labelled recording whose values are not read: by its coordinate `observed`."""
    if not isinstance(X, xr.DataArray) or X.dims[:2] != ("trial", "time") or "observed" not in X.coords:
        return lengths
    bins = np.asarray(observed_flags(X.coords["observed"].variable).any(axis=2))
    return ends_of(np.broadcast_to(bins, X.shape[:2]), lengths, forecasts)


def has_long_trials(X: Any, forecasts: bool = True) -> bool:
    """Return whether X in memory is mostly padding, or a list of trials that would be once they are padded."""
    if is_list_of_trials(X):
        arrays = all(isinstance(trial, (np.ndarray, xr.DataArray)) and trial.ndim == 2 for trial in X)
        return arrays and is_mostly_padding(np.array([len(trial) for trial in X]))
    if not isinstance(X, xr.DataArray) or X.ndim != 3:
        return False
    lengths = np.full(len(X), X.shape[1], dtype=np.int64)
    return not np.array_equal(ends_by_label(X, lengths, forecasts), lengths)


def alike(lengths: Lengths) -> list[Lengths]:
    """Return which trials go together so that each fills at least half of the array of its group; long ones first.

    All of them where they are not mostly padding.
    """
    if not is_mostly_padding(lengths):
        return [np.arange(len(lengths))]
    order = np.argsort(-lengths, kind="stable")
    groups, begin = [], 0
    for k in range(1, len(order) + 1):
        if k == len(order) or lengths[order[k]] < MOSTLY_PADDING * lengths[order[begin]]:
            groups.append(np.sort(order[begin:k]))
            begin = k
    return groups


def piece_size(lengths: Lengths) -> int:
    """Return the bins of the longest pieces that are not mostly padding once all trials are cut into such."""
    size = int(lengths.max(initial=1))
    while size > 1 and lengths.sum() < MOSTLY_PADDING * -(-lengths // size).sum() * size:
        size = int(0.9 * size)
    return size


def pieces_of(lengths: Lengths, size: int) -> list[tuple[int, int, int]]:
    """Return trial, first bin and end of pieces of at most `size` bins, those of one trial about as long."""
    spans = []
    for k, n in enumerate(lengths.tolist()):
        edges = np.linspace(0, n, -(-n // size) + 1).round().astype(int).tolist()
        spans += [(k, a, b) for a, b in zip(edges, edges[1:], strict=False)]
    return spans
