"""`PCADenoise`: what a few principal components say of every unit."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.parameters import whole_number
from nwb_lrrnn.preprocessing.base import RecordingStep
from nwb_lrrnn.preprocessing.rectangles import BlockPlace, Rectangle
from nwb_lrrnn.preprocessing.step_gate import Parts
from nwb_lrrnn.preprocessing.unit_statistics import comoments, merge_comoments, one_pass


class PCADenoise(RecordingStep, auto_wrap_output_keys=None):
    """Every bin projected onto the leading principal components of the training data, and back into the unit space.

    y = mean + W W' (x - mean), W the `rank` leading eigenvectors of the covariance over units (Pearson 1901, On lines
    and planes of closest fit, Phil. Mag. 2). Bins with an unobserved unit are not used in training; in `transform` the
    observed units of such a bin are projected by least squares and only they are replaced. One pass over the training
    data; on dask all units of a bin are brought into one chunk.

    Parameters
    ----------
    rank : int
        Number of components kept.

    Attributes
    ----------
    mean_ : array (unit,)
    components_ : array (rank, unit)
        Rows are orthonormal, by falling variance; the largest entry of each is positive.
    explained_variance_ratio_ : array (rank,)
    n_features_in_, feature_names_in_, unit_ids_, bin_size_
        Form of the training data.

    Raises
    ------
    ValueError
        If `rank` is no whole number from 1 to the number of units, or not more than `rank` bins are observed in all
        units.

    Examples
    --------
    >>> PCADenoise(rank=1).fit_transform([[0.0, 1.0], [2.0, 3.0], [1.0, 2.0]]).round(6)
    array([[0., 1.],
           [2., 3.],
           [1., 2.]])
    """

    mean_: NDArray[np.float64]
    components_: NDArray[np.float64]
    explained_variance_ratio_: NDArray[np.float64]

    def __init__(self, rank: int = 3):
        self.rank = rank

    def _check(self, parts: Parts) -> None:
        whole_number("rank", self.rank, most=len(parts.unit_ids), hint=", the number of units; lower rank")

    def _learn(self, parts: Parts) -> None:
        n, mean, square, size = one_pass(parts.parts, comoments, merge_comoments, whole=(2,))  # relative to size
        if n[0] <= self.rank:  # n bins span n - 1 directions about their mean
            raise ValueError(
                f"X: got {int(n[0])} bins observed in all units, wanted at least {self.rank + 1}, rank + 1; "
                "lower rank, or drop the units with most gaps, e.g. "
                "X.isel(unit=X.isnull().mean(('trial', 'time')).values < 0.1)"
            )
        self.mean_ = mean * size
        variances, vectors = np.linalg.eigh(square / n[0])
        leading = vectors[:, ::-1][:, : self.rank].T  # (rank, unit)
        at = np.abs(leading).argmax(axis=1)
        self.components_ = leading * np.where(leading[np.arange(len(leading)), at] < 0, -1.0, 1.0)[:, None]
        variances = np.maximum(variances[::-1], 0.0)
        total = variances.sum()
        self.explained_variance_ratio_ = variances[: self.rank] / (total if total > 0 else 1.0)

    def _apply(self, part: Rectangle, parts: Parts) -> Any:
        function = partial(_projected, mean=self.mean_, components=self.components_)
        return part.map(function, across_units=True)


def _projected(values: NDArray, valid: NDArray, place: BlockPlace, *, mean: NDArray, components: NDArray) -> NDArray:
    n_units = values.shape[2]
    rows, seen = values.reshape(-1, n_units), valid.reshape(-1, n_units)
    result = mean + (rows - mean) @ components.T @ components
    partly = np.flatnonzero(~seen.all(axis=1) & seen.any(axis=1))
    if len(partly):
        patterns, which = np.unique(seen[partly], axis=0, return_inverse=True)
        for k, pattern in enumerate(patterns):
            bins = partly[which.reshape(-1) == k]
            scores = (rows[np.ix_(bins, pattern)] - mean[pattern]) @ np.linalg.pinv(components[:, pattern])
            result[bins] = mean + scores @ components
    return result.reshape(values.shape)
