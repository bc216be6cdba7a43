"""`Smooth`: Gaussian smoothing in time that knows edges and gaps."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate1d

from nwb_lrrnn.parameters import flag, positive
from nwb_lrrnn.preprocessing.base import RecordingStep
from nwb_lrrnn.preprocessing.rectangles import BlockPlace, Rectangle
from nwb_lrrnn.preprocessing.step_gate import Parts

_TRUNCATE = 4.0  # standard deviations


class Smooth(RecordingStep, auto_wrap_output_keys=None):
    """Each unit smoothed in time with a Gaussian, within trials and over observed bins only.

    A normalised convolution (Knutsson & Westin 1993)::

        y_t = sum_s k(t - s) w_s x_s / sum_s k(t - s) w_s,    k(j) = exp(-j^2 / (2 sd^2)),   |j| <= 4 sd

    where w_s is 1 in observed bins of the trial and 0 elsewhere: at edges and beside gaps the kernel is divided by what
    is left of it, so that a constant stays that constant. Unobserved bins come out as they went in. A recording on dask
    is smoothed chunk by chunk, with the neighbouring bins that the kernel reaches.

    Parameters
    ----------
    sd : float
        Standard deviation of the kernel in seconds; in bins where X has no bin size (neither `X.attrs["bin_size"]` nor
        a time coordinate).
    causal : bool
        Whether only the bin itself and those before it count (the future half of the kernel is cut off).

    Attributes
    ----------
    n_features_in_, feature_names_in_, unit_ids_, bin_size_
        Form of the training data.

    Raises
    ------
    ValueError
        If `sd` is not a finite number > 0, or so short (below 0.125 bins) that the kernel is a single bin.

    Examples
    --------
    >>> x = np.zeros((5, 1))
    >>> x[2] = 1.0
    >>> Smooth(sd=0.5).fit_transform(x).ravel().round(3)
    array([0.   , 0.106, 0.787, 0.106, 0.   ])
    """

    def __init__(self, sd: float, causal: bool = False):
        self.sd = sd
        self.causal = causal

    def _check(self, parts: Parts) -> None:
        sd = positive("sd", self.sd, hint=": the kernel's standard deviation in seconds, e.g. sd=0.05")
        flag("causal", self.causal)
        if _reach(sd / parts.bin_size, 1) < 1:
            least = 0.125 * parts.bin_size
            told = f"{least:g} s" if parts.bin_size_is_known else "0.125 bins, as X has no bin size"
            raise ValueError(f"sd: got {self.sd!r}, a kernel of a single bin, wanted at least {told}")

    def _apply(self, part: Rectangle, parts: Parts) -> Any:
        sd = float(self.sd) / parts.bin_size  # in bins
        reach = _reach(sd, part.values.shape[1])
        offsets = np.arange(-reach, reach + 1)
        kernel = np.exp(-0.5 * (offsets / sd) ** 2)
        if self.causal:
            kernel[offsets > 0] = 0.0
        return part.map(partial(_smoothed, kernel=kernel), along_time=True, reach=reach)


def _reach(sd: float, most: int) -> int:
    """Return how many bins the kernel reaches to each side; there is nothing beyond `most`, the bins of a trial."""
    return int(min(_TRUNCATE * sd + 0.5, most))


def _smoothed(values: NDArray, valid: NDArray, place: BlockPlace | None, *, kernel: NDArray) -> NDArray:
    kernel = _cut(kernel, values.shape[1])
    if valid.all():
        weight = correlate1d(np.ones(values.shape[1]), kernel, mode="constant")[:, None]  # (time, 1)
    else:
        weight = correlate1d(valid.astype(np.float64), kernel, axis=1, mode="constant")
    total = correlate1d(values, kernel, axis=1, mode="constant")
    return total / np.where(weight > 0, weight, 1.0)  # 0 only where no bin is observed in reach


def _cut(kernel: NDArray, n_bins: int) -> NDArray:
    """Return the kernel without what reaches beyond a trial of `n_bins` from any of its bins."""
    excess = max(0, len(kernel) // 2 - (n_bins - 1))
    return kernel[excess : len(kernel) - excess]
