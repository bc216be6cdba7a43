"""D_H: how far the power spectra that a model generates are from those of the data, and a surrogate that has them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from nwb_lrrnn.analysis.metrics.series import bin_size, like, moving_units, positive, read_pair, read_series

Array = NDArray[np.float64]


SMOOTHING = 0.01  # s.d. over frequency, in cycles per bin: a fiftieth of the highest frequency


def spectral_distance(data: Any, generated: Any, *, smoothing: float | None = None) -> float:
    r"""Return D_H, the mean over units of the Hellinger distance of power spectra: 0 for equal ones, at most 1.

    .. math::

        D_H = \frac{1}{D} \sum_i \frac{1}{\sqrt 2} \lVert \sqrt{p_i} - \sqrt{q_i} \rVert

    p_i and q_i are the spectra of unit i without its mean, \|rfft\|^2, smoothed over frequency, without the last bin
    and normalised (Hess et al. 2023, as in Pals et al. 2024). Trials are not joined, which would add the spectrum
    of the seams: each loses its own mean, and the power is averaged over trials.

    Smoothing is in Hz, so that it spans a number of frequency bins in proportion to the length of the trials, and
    trials of any length are seen with one resolution. By default white noise and a slow oscillation are 0.6 to 0.75
    apart at 50 to 5000 bins. Two draws of one process are not at 0 but near 0.07, 0.03, 0.015 and 0.006 for 30 trials
    of 50, 200, 1000 and 5000 bins, and near 0.35, 0.19, 0.08 and 0.04 for one trial: compare with a second draw.

    Parameters
    ----------
    data, generated : DataArray or array (trial, time, unit) or (time, unit), or DataFrame
        Trials of equal length in both; their numbers may differ. Of an odd length the last bin is not used. The bin
        size is that of data: its `bin_size` or its times, else 1.0 and frequencies are in cycles per bin.
    smoothing : float, optional
        S.d. of the Gaussian filter over frequency, Hz. None: 0.01 cycles per bin, a fiftieth of the highest frequency.
        0 does not smooth. The published one is 20 frequency bins, 20 / duration of a trial in Hz.

    Raises
    ------
    ValueError
        If the arrays have other dims, gaps, units or bins, or no unit of the data changes. A unit of the data that
        never changes is left out, and named in the log; a generated one has distance 1.

    Examples
    --------
    >>> t = np.arange(2000)[:, None] / 100
    >>> slow, fast = np.sin(2 * np.pi * 3 * t), np.sin(2 * np.pi * 30 * t)
    >>> round(spectral_distance(slow, slow + 5.0), 9), round(spectral_distance(slow, fast), 3)
    (0.0, 1.0)
    """
    first, second = read_pair(data, generated, same_bins=True)
    moving = moving_units(data, first)
    width = smoothing_per_bin(smoothing, data)
    if first.shape[1] < 4:
        raise ValueError(f"data: got trials of {first.shape[1]} bins, wanted at least 4 for a spectrum")
    return distance_of_spectra(first[..., moving], second[..., moving], width)


def smoothing_per_bin(smoothing: float | None, data: Any, name: str = "smoothing") -> float:
    """Return an s.d. over frequency in cycles per bin of data from one in Hz."""
    if smoothing is None:
        return SMOOTHING
    size = bin_size(data)
    width = 0.0 if smoothing == 0 else positive(name, smoothing) * size
    if width > 0.5:
        raise ValueError(
            f"{name}: got {smoothing} Hz, wanted less than {0.5 / size:.6g} Hz, the highest frequency of bins of "
            f"{size:.6g} s; it is no number of bins any more: 20 of them are 20 / duration of a trial"
        )
    return width


def distance_of_spectra(first: Array, second: Array, smoothing: float) -> float:
    """Return D_H of units (trial, time, unit), all of which change in the first; smoothing in cycles per bin."""
    p, q = _spectra(first, smoothing), _spectra(second, smoothing)
    distance = np.sqrt(0.5 * ((np.sqrt(p) - np.sqrt(q)) ** 2).sum(axis=0))
    return float(np.where(q.any(axis=0), distance, 1.0).mean())


def _spectra(x: Array, smoothing: float) -> Array:
    """Return normalised spectra (frequency, unit), 0 of units that never change; smoothing in cycles per bin."""
    x = x - x.mean(axis=1, keepdims=True)
    scale = np.sqrt((x**2).mean(axis=(0, 1)))
    moves = np.ptp(x, axis=1).any(axis=0)
    x = x[:, : x.shape[1] // 2 * 2] / np.where(moves, scale, 1.0)
    power = np.zeros((x.shape[1] // 2 + 1, x.shape[2]))
    for trial in x:  # one at a time: the transforms of all would be as large as the recording
        power += np.abs(np.fft.rfft(trial, axis=0)) ** 2
    if smoothing:
        power = gaussian_filter1d(power, smoothing * x.shape[1], axis=0)
    power = np.maximum(power, 0.0)[:-1]
    return np.where(moves, power / np.where(moves, power.sum(axis=0), 1.0), 0.0)


def phase_surrogate(data: Any, *, random_state: int | np.random.Generator | None = None) -> Any:
    """Return data with its spectra and cross-spectra and nothing else: the linear Gaussian process it could be.

    Every frequency is turned by one random phase, the same for all units (Prichard & Theiler 1994); mean and, in an
    even number of bins, the highest frequency stay. Trials get phases of their own. A model of nonlinear dynamics has
    to be nearer to the data than this.

    Parameters
    ----------
    data : DataArray or array (trial, time, unit) or (time, unit), or DataFrame
        A recording.
    random_state : int, Generator or None
        Seed of the phases.

    Returns
    -------
    like data
        Float64, coordinates kept.

    Raises
    ------
    ValueError
        If data has other dims or gaps.

    Examples
    --------
    >>> x = np.random.default_rng(0).standard_normal((100, 2)).cumsum(axis=0)
    >>> y = phase_surrogate(x, random_state=0)
    >>> np.allclose(np.cov(x.T), np.cov(y.T)), np.allclose(x, y)
    (True, False)
    """
    x = read_series("data", data)
    rng = np.random.default_rng(random_state)
    n_trials, n_bins, _ = x.shape
    spectrum = np.fft.rfft(x, axis=1)  # (trial, frequency, unit)
    free = slice(1, (n_bins - 1) // 2 + 1)  # the others are real and stay so
    phases = rng.uniform(0.0, 2.0 * np.pi, size=(n_trials, (n_bins - 1) // 2, 1))
    spectrum[:, free] *= np.exp(1j * phases)
    return like(data, np.fft.irfft(spectrum, n=n_bins, axis=1))
