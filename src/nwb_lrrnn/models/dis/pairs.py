"""Pairs of bins: what the units showed in the bins before, and what they show now; never across trials or gaps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.trials import Trials

Array = NDArray[np.floating]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Pairs:
    """Bins whose history is known, one a row, trial after trial.

    Attributes
    ----------
    features : array (pair, feature)
        What the encoder reads: the features of the `n_lags` bins before, the latest first.
    targets : array (pair, unit)
        The bin itself.
    inputs : array (pair, input)
        Inputs of the bin itself; no columns where there are none.
    trial, time : arrays (pair,), int
        Where each bin is.
    """

    features: Array
    targets: Array
    inputs: Array
    trial: NDArray[np.int64]
    time: NDArray[np.int64]

    def take(self, rows) -> Pairs:
        """Return some of the pairs."""
        return Pairs(self.features[rows], self.targets[rows], self.inputs[rows], self.trial[rows], self.time[rows])


def whole_bins(trials: Trials) -> Mask:
    """Return which bins are observed in all units (trial, time): the encoder reads no others."""
    return np.asarray(trials.seen.all(axis=2), dtype=bool)


def history(features: Array, known: Mask, n_lags: int) -> tuple[Array, Mask]:
    """Return the features of the `n_lags` bins before each bin, and where all of these are known.

    Parameters
    ----------
    features : array (trial, time, feature)
    known : array (trial, time), bool
        Bins whose features are known: all units are observed there.
    n_lags : int

    Returns
    -------
    array (trial, time, n_lags * feature)
        The latest bin first, 0 before a trial begins.
    array (trial, time), bool

    Examples
    --------
    >>> before, known = history(np.array([[[1.0], [2.0], [3.0]]]), np.ones((1, 3), dtype=bool), 1)
    >>> before[0, :, 0], known[0]
    (array([0., 1., 2.]), array([False,  True,  True]))
    """
    n_trials, n_bins, n_features = features.shape
    before = np.zeros((n_trials, n_bins, n_lags, n_features))
    complete = np.ones((n_trials, n_bins), dtype=bool)
    for lag in range(1, n_lags + 1):
        before[:, lag:, lag - 1] = features[:, : n_bins - lag] if lag < n_bins else 0.0
        complete[:, :lag] = False
        complete[:, lag:] &= known[:, : max(n_bins - lag, 0)]
    return before.reshape(n_trials, n_bins, n_lags * n_features), complete


def pairs_of(before: Array, complete: Mask, values: Array, known: Mask, inputs: Array | None) -> Pairs:
    """Return the pairs of bins that are known and whose history is.

    Parameters
    ----------
    before, complete : arrays (trial, time, feature), (trial, time)
        As of `history`.
    values : array (trial, time, unit)
    known : array (trial, time), bool
    inputs : array (trial, time, input) or None
    """
    rows = complete & known
    trial, time = np.nonzero(rows)
    given = np.zeros((len(trial), 0)) if inputs is None else inputs[rows]
    return Pairs(before[rows], values[rows], given, trial, time)


def folds(pairs: Pairs, n_folds: int = 5) -> list[NDArray[np.int64]]:
    """Return the rows held out in each fold: whole trials, or stretches where there are fewer trials than folds.

    Stretches, because neighbouring bins of one trial nearly repeat each other.
    """
    n_trials = len(np.unique(pairs.trial))
    if n_trials >= n_folds:
        order = np.unique(pairs.trial, return_inverse=True)[1]
        fold = order * n_folds // n_trials
    else:
        fold = np.arange(len(pairs.trial)) * n_folds // max(len(pairs.trial), 1)
    return [np.flatnonzero(fold == k) for k in range(n_folds) if (fold == k).any()]
