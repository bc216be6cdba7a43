"""Strengths of modes, overlaps of their left and right vectors, and gains of neurons, as laws at midpoints.

Of M modes of strengths D in N neurons: effective rank (sum D²)² / (N sum D⁴) = alpha PR, with alpha = M / N and PR that
of the D² (Eqs. 7 to 12 of Clark, Marschall, van Meegen & Litwin-Kumar 2025, PRX 15, 041019).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nwb_lrrnn.analysis.theory.ensembles import Overlaps
from nwb_lrrnn.analysis.theory.roots import root
from nwb_lrrnn.parameters import choose, positive

Array = NDArray[np.floating]

SPECTRA = ("flat", "exponential", "power")
_STEEPNESS = 16.0  # of the change of sign of the overlaps along the modes


def participation(values: ArrayLike) -> float:
    """Return (mean v²)² / mean v⁴, from 1 / number to 1."""
    squares = np.square(np.asarray(values, dtype=float))
    return float(squares.mean() ** 2 / (squares**2).mean())


def mode_strengths(spectrum: str, effective_rank: float, n_neurons: int) -> Array:
    """Return strengths D (M,), not yet scaled, of M modes in N neurons that make up an effective rank.

    "flat": M = effective rank times N equal modes. "exponential", D_a ~ exp(-beta a / M), and "power", D_a ~ a^-p:
    M = N modes; an effective rank above 1 is that many equal modes.
    """
    choose("spectrum", spectrum, SPECTRA)
    effective_rank = positive("effective_rank", effective_rank)
    if spectrum == "flat" or effective_rank >= 1.0:
        return np.ones(max(1, round(effective_rank * n_neurons)))
    place = (np.arange(n_neurons) + 0.5) / n_neurons

    def strengths(steepness: float) -> Array:
        return np.exp(-steepness * place) if spectrum == "exponential" else (n_neurons * place) ** -steepness

    def missed(log_steepness: float) -> float:
        return np.log(participation(strengths(np.exp(log_steepness))) / effective_rank)

    low, high = np.log(1e-6), np.log(1e3 if spectrum == "exponential" else 3.0)
    if missed(high) > 0:
        raise ValueError(
            f"effective_rank: got {effective_rank}, but one mode of {n_neurons} neurons is {1 / n_neurons:.2g}; "
            "ask for more, or for more neurons"
        )
    return strengths(float(np.exp(root(missed, low, high))))


def scaled(strengths: Array, g: float, n_neurons: int) -> Array:
    """Return strengths whose coupling strength, sqrt(sum D² / N), is g."""
    return strengths * g / np.sqrt(np.sum(strengths**2) / n_neurons)


def smooth_overlaps(strengths: Array, size: float) -> Array:
    """Return overlaps rho (M,) from `size` at the first modes to -`size` at the last, with mean D rho = 0 (Eq. K35)."""
    if not -1.0 < size < 1.0:
        raise ValueError(f"overlap: got {size}, wanted the correlation of left and right vectors, between -1 and 1")
    place = (np.arange(len(strengths)) + 0.5) / len(strengths)

    def rho(turn: float) -> Array:
        return size * (1.0 - 2.0 / (1.0 + np.exp(-_STEEPNESS * (place - turn))))

    if size == 0.0:
        return np.zeros(len(strengths))
    turn = root(lambda at: float(np.mean(strengths * rho(at))) / size, -1.0, 2.0)
    return rho(turn)


def overlapping_modes(g: float, effective_rank: float, overlap: float, n_modes: int = 200) -> Overlaps:
    """Return the law of exponential modes, as many as neurons, whose vectors overlap as in `smooth_overlaps`."""
    strengths = scaled(mode_strengths("exponential", effective_rank, n_modes), g, n_modes)
    return Overlaps(strengths, smooth_overlaps(strengths, overlap), len(strengths) / n_modes)


def gains_of(gains: float | ArrayLike, n_neurons: int, rng: np.random.Generator) -> Array:
    """Return gains (N,): those given, or log-normal ones of the participation ratio given, of mean square 1."""
    values = np.asarray(gains, dtype=float)
    if values.ndim:
        if values.shape != (n_neurons,) or not (np.isfinite(values) & (values > 0)).all():
            raise ValueError(f"gains: got shape {values.shape}, wanted ({n_neurons},) numbers > 0, or one number")
        return values
    if not 0 < values <= 1:
        raise ValueError(f"gains: got {gains}, wanted the participation ratio <G²>² / <G⁴>, above 0 and at most 1")
    if values == 1.0:
        return np.ones(n_neurons)
    normal = np.sort(rng.standard_normal(n_neurons))
    ends = (0.0, 4.0 * np.sqrt(-np.log(float(values))) + 4.0)

    def missed(width: float) -> float:
        return participation(np.exp(width * (normal - normal.max()))) - float(values)

    drawn = np.exp(root(missed, *ends) * normal)  # exactly this participation ratio, whatever the draw
    return (drawn / np.sqrt(np.mean(drawn**2)))[rng.permutation(n_neurons)]
