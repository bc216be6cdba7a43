"""Paired differences between two models and their 95 % intervals: over trials, or over blocks of dependent windows.

Windows cut from one recording depend on their neighbours, and an interval that takes them for independent is too short:
with a correlation of 0.7 between neighbours it covers the truth in about 60 % of cases instead of 95 %. Batch means
(e.g. Flegal & Jones 2010) sum the differences over blocks of neighbours and take the blocks for the sample.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

# Blocks are this many times longer than the lag at which the correlation is lost in noise: at once that length, the
# ends of neighbouring blocks still share a quarter of the variance of an AR(1) process.
_LAGS = 3
_FEWEST = 5  # blocks: with fewer, the quantile of Student's t costs more than longer blocks bring
_FURTHEST = 3.0  # robust standard deviations, beyond which a difference counts as that far
_FEWEST_WINDOWS = 8  # with fewer, the correlation of neighbours cannot be estimated


@dataclass(frozen=True)
class Paired:
    """A paired difference per bin and what its interval rests on.

    Attributes
    ----------
    difference, standard_error, low, high : float
        Nats per bin; the 95 % interval is low to high.
    n_blocks : int
        How many trials or blocks were taken for independent.
    block_length : int
        Windows in a block, at least; 1 where they are trials.
    interval_holds : bool
        False for windows so few or so dependent that blocks as long as their dependence do not fit.
    """

    difference: float
    standard_error: float
    low: float
    high: float
    n_blocks: int
    block_length: int = 1
    interval_holds: bool = True

    @property
    def numbers(self) -> tuple[float, float, float, float]:
        """The difference, its standard error and its interval."""
        return self.difference, self.standard_error, self.low, self.high


def paired_difference(
    a: np.ndarray, b: np.ndarray, n_bins: np.ndarray, blocks: np.ndarray | None = None
) -> tuple[float, float, float, float]:
    """Return the difference a - b per bin, its standard error and 95 % interval, paired over trials.

    Parameters
    ----------
    a, b : arrays (trial,)
        ln p of each trial under two models, nats.
    n_bins : array (trial,)
        Bins of each trial: the difference is a ratio of sums, its error that of a ratio estimator (Cochran 1977).
    blocks : array (trial,), optional
        Ids; trials of one block are not independent, and the interval is over blocks.

    Examples
    --------
    >>> gains, bins = np.array([1.0, 2.0, 3.0, 6.0]), np.full(4, 10)
    >>> [round(x, 3) for x in paired_difference(gains, np.zeros(4), bins)]
    [0.3, 0.108, -0.044, 0.644]
    """
    return paired_over_blocks(a - b, n_bins, blocks).numbers


def paired_over_blocks(difference: np.ndarray, n_bins: np.ndarray, blocks: np.ndarray | None = None) -> Paired:
    """Return the paired difference over independent trials or, where ids of blocks are given, independent blocks."""
    sums, bins = np.asarray(difference, dtype=float), np.asarray(n_bins, dtype=float)
    if blocks is not None:
        ids = np.unique(blocks, return_inverse=True)[1]
        sums, bins = np.bincount(ids, sums), np.bincount(ids, bins)
    ratio = float(sums.sum() / bins.sum())
    return _with_interval(ratio, sums - ratio * bins, float(bins.sum()))


def paired_over_windows(difference: np.ndarray, n_bins: np.ndarray, positions: np.ndarray) -> Paired:
    """Return the paired difference over windows of one recording, whose interval is over blocks of neighbours.

    The blocks are at least three times as long as the lag at which the autocorrelation of the differences is lost in
    its noise (`decorrelation_lag`), unless fewer than 5 would remain. What neighbouring blocks still share is added to
    the variance. Where differences follow an AR(1) process with a correlation of 0 to 0.8 between neighbours, the
    interval covers the truth in 94 to 96 % of cases with 200 windows, in 92 to 95 % with 50, and in 77 to 95 % with 20,
    which hardly show their correlation.

    Parameters
    ----------
    difference, n_bins : arrays (window,)
        ln p under one model minus that under another, nats; bins.
    positions : array (window,), int
        Where each window is in the session, counted in windows; a gap counts as the windows that are missing.
    """
    order = np.argsort(positions, kind="stable")
    difference, n_bins, positions = (np.asarray(values)[order] for values in (difference, n_bins, positions))
    n, total = len(difference), float(n_bins.sum())
    ratio = float(difference.sum() / total)
    residual = difference - ratio * n_bins
    lag = decorrelation_lag(residual, positions)
    wanted = 1 if lag == 1 else _LAGS * lag
    length = min(wanted, max(1, n // _FEWEST))
    blocks, follows = blocks_of_windows(positions, length)
    sums = np.bincount(blocks, residual)
    holds = n >= _FEWEST_WINDOWS and length == wanted
    return _with_interval(ratio, sums, total, _shared(sums, follows), length, holds)


def decorrelation_lag(residual: np.ndarray, positions: np.ndarray) -> int:
    """Return the first lag, in windows, at which the autocorrelation is within its 95 % noise band.

    Of the differences themselves, not of the data: two models that follow the data equally well differ by noise even
    where the data drift, and only the dependence of the differences shortens the interval.

    Parameters
    ----------
    residual : array (window,)
        Differences about their mean.
    positions : array (window,), int
        Increasing; pairs across a gap count at the lag that they have in the session.
    """
    variance = float(np.mean(residual**2))
    furthest = max(1, len(residual) // 2)
    if variance == 0:
        return 1
    for lag in range(1, furthest):
        at = np.minimum(np.searchsorted(positions, positions + lag), len(positions) - 1)
        pairs = positions[at] == positions + lag
        n = int(pairs.sum())
        if n == 0:  # a lag that no two windows have says nothing
            continue
        if np.mean(residual[pairs] * residual[at[pairs]]) / variance < 1.96 / np.sqrt(n):
            return lag
    return furthest


def blocks_of_windows(positions: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the block (window,) of each window, 0, 1, ..., and whether each block (block - 1,) follows on the last.

    A block covers at least `length` windows of session time. A gap as long as a block ends it; a shorter one does not,
    because the windows on its two sides are still dependent.
    """
    gap = np.diff(positions) > length
    stretch = np.concatenate([[0], np.cumsum(gap)])
    blocks, follows, n = np.empty(len(positions), dtype=np.int64), [], 0
    for k in range(int(stretch[-1]) + 1):
        inside = stretch == k
        at = positions[inside] - positions[inside][0]
        span = int(at[-1]) + 1
        ids = np.unique(at * max(1, span // length) // span, return_inverse=True)[1]
        blocks[inside] = n + ids
        more = int(ids[-1])
        follows += [False] * (k > 0) + [True] * more
        n += more + 1
    return blocks, np.array(follows, dtype=bool)


def _shared(sums: np.ndarray, follows: np.ndarray) -> float:
    """Return the correlation of neighbouring blocks, if positive; of residuals of n independent ones it is -1 / n."""
    power = float((sums**2).sum())
    if power == 0:
        return 0.0
    return max(0.0, float((sums[:-1] * sums[1:])[follows].sum()) / power + 1 / len(sums))


def _with_interval(
    ratio: float, residual: np.ndarray, total: float, shared: float = 0.0, length: int = 1, holds: bool = True
) -> Paired:
    n = len(residual)
    if n < 2:
        return Paired(ratio, np.nan, np.nan, np.nan, n, length, holds)
    error = _error(residual, total, shared)
    reach = float(stats.t.ppf(0.975, n - 1))
    low, high = ratio - reach * error, ratio + reach * error
    # One trial in which a model is far above must not hide that it is above in all others. A difference clipped from
    # above is at most the difference itself, so that its lower bound is one of the whole; from below likewise. In 10^5
    # draws each of normal, t, exponential and log-normal differences of 5 to 50 trials, a bound taken so is wrong in
    # 0.3 percentage points more of the samples at most, and nowhere beyond 2.8 % where the plain one was within.
    centre = float(np.median(residual))
    furthest = _FURTHEST * 1.4826 * float(np.median(np.abs(residual - centre)))
    for side in (1.0, -1.0) if furthest > 0 else ():
        clipped = side * np.minimum(side * residual, side * centre + furthest)
        mean = clipped.mean()
        end = ratio + (clipped.sum() / total) - side * reach * _error(clipped - mean, total, shared)
        low, high = (max(low, end), high) if side > 0 else (low, min(high, end))
    return Paired(ratio, error, low, high, n, length, holds)


def _error(residual: np.ndarray, total: float, shared: float) -> float:
    """Return the standard error of a mean per bin from the residuals of its blocks about it."""
    n = len(residual)
    return float(np.sqrt(n / (n - 1) * (residual**2).sum() * (1 + 2 * shared)) / total)
