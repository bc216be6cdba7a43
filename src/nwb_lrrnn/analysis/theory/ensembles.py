"""What the kinds of connectivity make of covariances across neurons.

With C12 = C(w1) C(w2) and S12 = S(w1) S(w2) of single neurons, Psi(w1, w2) / C12 of the rates is a function of the
responses S alone. Equation numbers are those of Clark, Marschall, van Meegen & Litwin-Kumar (2025, PRX 15, 041019).
All of them hold for every g in chaos; only random signs and sizes of the modes are needed, and many modes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
ComplexArray = NDArray[np.complexfloating]

Rates = Literal["normalised", "raw", "readout"]
RATES: tuple[str, ...] = ("normalised", "raw", "readout")


@dataclass(frozen=True)
class RandomModes:
    """Independent modes or free singular vectors: `kappa` is 1 / effective rank, or 1 / PR of singular values - 2.

    0: independent connections (Eq. E5). Above 0: random modes (Eq. 38). Of matrices U S Vᵀ with free U and V the same
    formula holds with kappa from the exact singular values, which is -1 where all are equal: at most one alternating
    block J Jᵀ J Jᵀ enters the average over U and V, and it brings their fourth free cumulant.
    """

    kappa: float = 0.0

    def factor(self, g: float, s1: ComplexArray, s2: ComplexArray) -> Array:
        """Return Psi / C12 of the rates."""
        a = g**2 * s1 * s2
        return (1.0 + self.kappa * np.abs(a) ** 2) / np.abs(1.0 - a) ** 2


@dataclass(frozen=True)
class Gains:
    """Random modes and a gain of every neuron, of participation ratio `gain_pr` = <G²>² / <G⁴> (Eqs. 46a, 46b, J18)."""

    kappa: float = 0.0
    gain_pr: float = 1.0
    rates: Rates = "normalised"

    def factor(self, g: float, s1: ComplexArray, s2: ComplexArray) -> Array:
        """Return Psi / C12, of the rates with or without their gains, or read with gains that belong to others."""
        a = g**2 * s1 * s2
        power, spread = np.abs(a) ** 2, 1.0 / self.gain_pr - 1.0
        if self.rates == "normalised":
            above = 1.0 + (spread + self.kappa) * power
        elif self.rates == "raw":
            above = 1.0 + spread + self.kappa * power
        else:
            above = spread * (np.abs(1.0 - a) ** 2 + power) + 1.0 + self.kappa * power
        return above / np.abs(1.0 - a) ** 2


@dataclass(frozen=True)
class PartialSymmetry:
    """Independent connections but for `reciprocity`, the correlation of J_ij with J_ji (Eqs. H1, H16, H19)."""

    reciprocity: float

    def drive(self, g: float, s: ComplexArray) -> tuple[Array, ComplexArray]:
        """Return the power of the drive over C(w), and what a neuron hears of itself, R(w)."""
        return np.full(s.shape, g**2), self.reciprocity * g**2 * s

    def factor(self, g: float, s1: ComplexArray, s2: ComplexArray) -> Array:
        """Return Psi / C12 of the rates."""
        own = self.reciprocity * g**2 * np.conj(s1) * s2
        return (1.0 - np.abs(own) ** 2) / np.abs(1.0 - own) ** 2 / np.abs(1.0 - g**2 * s1 * s2) ** 2


@dataclass(frozen=True, eq=False)
class Overlaps:
    """Modes of strengths D (M,) whose left and right vectors overlap by rho (M,), `ratio` = M / N (Eqs. 47 to 51)."""

    strengths: Array
    overlaps: Array
    ratio: float

    @property
    def g(self) -> float:
        """Coupling strength sqrt(ratio <D²>)."""
        return float(np.sqrt(self.ratio * np.mean(self.strengths**2)))

    def drive(self, g: float, s: ComplexArray) -> tuple[Array, ComplexArray]:
        """Return the power of the drive over C(w), and what a neuron hears of itself, R(w)."""
        own = self.strengths * self.overlaps
        through = 1.0 - own[:, None] * s
        power = self.ratio * np.mean(self.strengths[:, None] ** 2 / np.abs(through) ** 2, axis=0)
        return power, self.ratio * np.mean(own[:, None] / through, axis=0)

    def factor(self, g: float, s1: ComplexArray, s2: ComplexArray) -> Array:
        """Return Psi / C12 of the rates; s1 (F, 1), s2 (1, G)."""
        d, own = self.strengths[:, None], (self.strengths * self.overlaps)[:, None]
        first, second = s1.ravel() / (1.0 - own * s1.ravel()), s2.ravel() / (1.0 - own * s2.ravel())  # (M, F), (M, G)

        def mean(weight: Array, left: ComplexArray, right: ComplexArray) -> ComplexArray:
            return self.ratio / len(d) * ((weight * left).T @ right)

        one, two = np.abs(first) ** 2, np.abs(second) ** 2
        u = mean(d**2, first, second)
        v = mean(d**4, one, two).real
        w = mean(own**2, np.conj(first), second)
        x12, x21 = mean(d**2 * own, first, two), mean(d**2 * own, one, second)
        both = (1.0 + x12) * (1.0 + np.conj(x21)) / (1.0 - np.conj(w))
        return (v - 1.0 + 2.0 * both.real) / np.abs(1.0 - u) ** 2
