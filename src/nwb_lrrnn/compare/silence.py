"""Zero-padded time: stretches in which every unit is exactly zero, as no unit is by chance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.trials import Trials

_LIKELY = np.log(1e-6)  # ln of the expected number of such stretches by chance, above which they are no padding
_LONGER = 3  # times the longest silence inside a trial: populations fall silent together, in down states


def padded_bins(trials: Trials, units: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which bins (trial, time) hold zeros that were put there.

    Either the same bins of all trials, or the beginning or end of a trial. In both cases every unit is exactly zero,
    chance would not do it (by the share of zeros that each unit has anywhere), and the stretch is more than three times
    as long as any silence inside a trial.
    """
    seen = trials.seen[..., units]
    values = trials.values[..., units]
    silent = trials.bins & np.where(seen, values == 0, True).all(axis=2)
    none = np.zeros_like(silent)
    if not silent.any() or silent.all():
        return none
    zeros = np.where(seen, values == 0, False).sum(axis=(0, 1)) / np.maximum(seen.sum(axis=(0, 1)), 1)
    log_p = float(np.log(np.maximum(zeros, 1e-300)).sum())  # of one bin in which all units are zero
    log_n = float(np.log(trials.bins.sum()))
    first, last, inside = _runs(silent, trials.lengths)
    longest_inside = max(inside, default=0)
    flagged = none.copy()
    for row, (head, tail, length) in enumerate(zip(first, last, trials.lengths, strict=True)):
        for run, where in ((head, slice(0, head)), (tail, slice(length - tail, length))):
            if run > _LONGER * longest_inside and run * log_p + log_n < _LIKELY:
                flagged[row, where] = True
    always = silent.all(axis=0)
    if len(silent) >= 3 and always.any():
        # dependent bins: only the trials are counted as independent draws
        if len(silent) * log_p + np.log(silent.shape[1]) < _LIKELY:
            flagged[:, always] = True
    return flagged


def _runs(silent: NDArray[np.bool_], lengths: NDArray[np.int64]) -> tuple[list[int], list[int], list[int]]:
    """Return the silent bins at the beginning and at the end of each trial, and the lengths of all runs inside."""
    first, last, inside = [], [], []
    for row, length in zip(silent, lengths, strict=True):
        loud = np.flatnonzero(~row[:length])
        if not len(loud):
            first.append(int(length))
            last.append(0)
            continue
        first.append(int(loud[0]))
        last.append(int(length - 1 - loud[-1]))
        inside += [int(gap) for gap in np.diff(loud) - 1 if gap > 0]
    return first, last, inside
