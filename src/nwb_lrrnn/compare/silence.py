"""Zero-padded time: stretches in which every unit is exactly zero, as no unit is by chance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.trials import Packed

_LIKELY = np.log(1e-6)  # ln of the expected number of such stretches by chance, above which they are no padding
_LONGER = 3  # times the longest silence inside a trial: populations fall silent together, in down states


def padded_bins(trials: Packed, units: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which bins (bin,) hold zeros that were put there.

    Either the same bins of all trials, or the beginning or end of a trial. In both cases every unit is exactly zero,
    chance would not do it (by the share of zeros that each unit has anywhere), and the stretch is more than three times
    as long as any silence inside a trial.
    """
    seen, values = trials.seen[:, units], trials.values[:, units]
    observed = trials.bins
    silent = observed & np.where(seen, values == 0, True).all(axis=1)
    flagged = np.zeros_like(silent)
    if not silent.any() or silent.all():
        return flagged
    zeros = np.where(seen, values == 0, False).sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
    log_p = float(np.log(np.maximum(zeros, 1e-300)).sum())  # of one bin in which all units are zero
    log_n = float(np.log(observed.sum()))
    n_trials = len(trials.lengths)
    first, last, inside = _runs(np.split(silent, np.cumsum(trials.lengths)[:-1]))
    longest_inside = max(inside, default=0)
    for row, (head, tail) in enumerate(zip(first, last, strict=True)):
        here = trials.of_trial(row)
        for run, where in ((head, slice(here.start, here.start + head)), (tail, slice(here.stop - tail, here.stop))):
            if run > _LONGER * longest_inside and run * log_p + log_n < _LIKELY:
                flagged[where] = True
    n_silent, longest = np.bincount(trials.time[silent]), int(trials.lengths.max())
    always = np.flatnonzero(n_silent == n_trials)
    # dependent bins: only the trials are counted as independent draws
    if n_trials >= 3 and len(always) and n_trials * log_p + np.log(longest) < _LIKELY:
        flagged[np.isin(trials.time, always)] = True
    return flagged


def _runs(trials: list[NDArray[np.bool_]]) -> tuple[list[int], list[int], list[int]]:
    """Return the silent bins at the beginning and at the end of each trial, and the lengths of all runs inside."""
    first, last, inside = [], [], []
    for silent in trials:
        loud = np.flatnonzero(~silent)
        if not len(loud):
            first.append(len(silent))
            last.append(0)
            continue
        first.append(int(loud[0]))
        last.append(int(len(silent) - 1 - loud[-1]))
        inside += [int(gap) for gap in np.diff(loud) - 1 if gap > 0]
    return first, last, inside
