"""Steps that change the scale of each unit: square root, z-score, soft normalisation."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.parameters import positive
from nwb_lrrnn.preprocessing.base import InvertibleStep, RecordingStep
from nwb_lrrnn.preprocessing.rectangles import BlockPlace, Rectangle
from nwb_lrrnn.preprocessing.step_gate import Parts
from nwb_lrrnn.preprocessing.unit_statistics import extremes, merge_extremes, merge_moments, moments, one_pass


class SquareRoot(RecordingStep, auto_wrap_output_keys=None):
    """Square root of counts, the transform that makes their variance (nearly) the same at every rate.

    For Poisson counts of mean lambda, Var[sqrt(k)] -> 1/4 as lambda grows (Bartlett 1936, The square root
    transformation in analysis of variance, Suppl. J. R. Stat. Soc. 3).

    Attributes
    ----------
    n_features_in_, feature_names_in_, unit_ids_, bin_size_
        Form of the training data.

    Raises
    ------
    ValueError
        If an observed value is negative: in `fit` and `transform`; where X is on dask, when the result is computed.

    Examples
    --------
    >>> SquareRoot().fit_transform([[4.0, 9.0], [0.0, 1.0]])
    array([[2., 3.],
           [0., 1.]])
    """

    _unit = "sqrt({})"
    _positive_only = True

    def _learn(self, parts: Parts) -> None:
        for part in parts.parts:
            if not part.is_lazy:
                self._apply(part, parts)

    def _apply(self, part: Rectangle, parts: Parts) -> Any:
        return part.map(_square_root)


def _square_root(values: NDArray, valid: NDArray, place: BlockPlace) -> NDArray:
    negative = values < 0
    if negative.any():
        at = np.argwhere(negative)[0]
        raise ValueError(
            f"X: Negative values in data: {values[tuple(at)]:.6g} at {place.of(*at)}; the square root wants counts or "
            "rates >= 0; put SquareRoot before the steps that centre"
        )
    return np.sqrt(values)


class ZScore(InvertibleStep, auto_wrap_output_keys=None):
    """Deviation from the unit's mean in its standard deviations: (x - mean) / sd over the observed training bins.

    A unit that is constant (or never observed) in training is divided by 1. One pass over the training data.

    Attributes
    ----------
    mean_ : array (unit,)
    scale_ : array (unit,)
        Standard deviation (over n, not n - 1), 1 for constant units.
    n_features_in_, feature_names_in_, unit_ids_, bin_size_
        Form of the training data.

    Examples
    --------
    >>> ZScore().fit_transform([[0.0, 5.0], [2.0, 5.0]])
    array([[-1.,  0.],
           [ 1.,  0.]])
    """

    mean_: NDArray[np.float64]
    scale_: NDArray[np.float64]
    _unit = "standard deviations"

    def _learn(self, parts: Parts) -> None:
        super()._learn(parts)
        n, mean, square, size = one_pass(parts.parts, moments, merge_moments)  # mean, square relative to size
        variance = square / np.maximum(n, 1.0)
        rounding = n * np.finfo(np.float64).eps  # a constant far from 0 has a variance of this relative size
        constant = variance <= rounding * variance + (rounding * mean) ** 2
        sd = np.sqrt(variance) * size
        self.mean_ = mean * size
        self.scale_ = np.where(constant | (sd == 0), 1.0, sd)  # half of the least number above 0 is 0

    def _apply(self, part: Rectangle, parts: Parts) -> Any:
        return part.map(partial(_scaled, shift=self.mean_, scale=self.scale_))

    def _revert(self, part: Rectangle) -> Any:
        return part.map(partial(_unscaled, shift=self.mean_, scale=self.scale_))


class SoftNormalise(InvertibleStep, auto_wrap_output_keys=None):
    """Each unit divided by its range plus an offset: x / (max - min + offset) over the observed training bins.

    Strong units come to a range near 1, weak ones stay below it, so that noise is not blown up (Churchland et al. 2012,
    Neural population dynamics during reaching, Nature 487, Methods: offset 5 spikes/s). One pass over the training
    data.

    Parameters
    ----------
    offset : float
        In the units of X: for counts in bins of `bin_size` seconds, 5 spikes/s are `5 * bin_size`.

    Attributes
    ----------
    range_ : array (unit,)
    scale_ : array (unit,)
        range_ + offset, 1 where that is 0.
    n_features_in_, feature_names_in_, unit_ids_, bin_size_
        Form of the training data.

    Raises
    ------
    ValueError
        If `offset` is not a finite number >= 0.

    Examples
    --------
    >>> SoftNormalise(offset=5.0).fit_transform([[0.0, 0.0], [45.0, 5.0]])
    array([[0. , 0. ],
           [0.9, 0.5]])
    """

    range_: NDArray[np.float64]
    scale_: NDArray[np.float64]
    _unit = "1"

    def __init__(self, offset: float = 5.0):
        self.offset = offset

    def _check(self, parts: Parts) -> None:
        positive("offset", self.offset, zero=True, hint=", in the units of X, e.g. offset=5.0 for spikes/s")

    def _learn(self, parts: Parts) -> None:
        super()._learn(parts)
        low, high = one_pass(parts.parts, extremes, merge_extremes)
        self.range_ = np.where(high >= low, high - low, 0.0)  # 0 where a unit was never observed
        scale = self.range_ + self.offset
        self.scale_ = np.where(scale > 0, scale, 1.0)

    def _apply(self, part: Rectangle, parts: Parts) -> Any:
        return part.map(partial(_scaled, shift=np.zeros_like(self.scale_), scale=self.scale_))

    def _revert(self, part: Rectangle) -> Any:
        return part.map(partial(_unscaled, shift=np.zeros_like(self.scale_), scale=self.scale_))


def _scaled(values: NDArray, valid: NDArray, place: BlockPlace, *, shift: NDArray, scale: NDArray) -> NDArray:
    units = place.units(values.shape[2])
    return (values - shift[units]) / scale[units]


def _unscaled(values: NDArray, valid: NDArray, place: BlockPlace, *, shift: NDArray, scale: NDArray) -> NDArray:
    units = place.units(values.shape[2])
    return values * scale[units] + shift[units]
