"""Powers of G(w) = (1 / s(w) - J)⁻¹ of one matrix at many s, from one eigendecomposition.

Where J does not have full rank it is reduced to the space of its left vectors first: eigenvectors of a kernel of many
dimensions are not to be trusted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
ComplexArray = NDArray[np.complexfloating]

_ZERO = 1e-10  # of the largest singular value
_SKEW = 1e6  # of the eigenvectors, |V| |V⁻¹|: beyond, they lose what they are asked for


@dataclass(frozen=True)
class Resolvent:
    """J = Q [[A, B], [0, 0]] Qᵀ with A = V diag(values) V⁻¹."""

    n: int
    values: ComplexArray  # (M,)
    vectors: ComplexArray  # V (M, M)
    beside: ComplexArray  # V⁻¹ B (M, N - M)
    basis: Array  # Q (N, N)
    inverse_gram: NDArray  # V⁻¹ V⁻ᴴ (M, M)
    gram: NDArray  # (Vᴴ V) times (V⁻¹ V⁻ᴴ)ᵀ, elementwise
    gram_beside: NDArray  # the same with B Bᵀ in the middle

    @classmethod
    def of(cls, J: Array) -> Resolvent:
        """Return that of a matrix (N, N)."""
        left, strengths, _ = np.linalg.svd(J)
        m = int(np.sum(strengths > _ZERO * max(strengths[0], 1e-300)))
        turned = left.T @ J @ left if m < len(J) else J
        basis = left if m < len(J) else np.eye(len(J))
        values, vectors = np.linalg.eig(turned[:m, :m])
        inverse = np.linalg.inv(vectors)
        beside = inverse @ turned[:m, m:]
        metric = vectors.conj().T @ vectors
        inverse_gram = inverse @ inverse.conj().T
        gram = metric * inverse_gram.T
        middle = metric * (beside @ beside.conj().T).T
        whole = values.astype(complex), vectors.astype(complex), beside.astype(complex)
        return cls(len(J), *whole, basis, inverse_gram, gram, middle)

    @property
    def rank(self) -> int:
        """Dimension of the space of left vectors."""
        return len(self.values)

    def traces(self, s: ComplexArray) -> tuple[ComplexArray, Array]:
        """Return tr G and tr G Gᴴ at s (F,)."""
        g = self._diagonal(s)
        kernel = self.n - self.rank
        power = np.abs(s) ** 2
        within = np.einsum("fi,fi->f", g.conj() @ self.gram, g).real
        if kernel:
            within = within + power * np.einsum("fi,fi->f", g.conj() @ self.gram_beside, g).real
        return g.sum(axis=1) + kernel * s, within + kernel * power

    def covariance(self, s: ComplexArray, weights: Array) -> Array:
        """Return the sum over s of weights (F,) times G Gᴴ, (N, N), real."""
        g, power = self._diagonal(s), np.abs(s) ** 2
        inside = ((g.T * weights) @ g.conj()) * self.inverse_gram
        kernel = self.n - self.rank
        if kernel:
            inside = inside + ((g.T * (weights * power)) @ g.conj()) * (self.beside @ self.beside.conj().T)
        turned = np.zeros((self.n, self.n))
        m = self.rank
        turned[:m, :m] = (self.vectors @ inside @ self.vectors.conj().T).real
        if kernel:
            across = (self.vectors * ((weights * power) @ g)) @ self.beside
            turned[:m, m:], turned[m:, :m] = across.real, across.real.T
            turned[m:, m:] = np.eye(kernel) * np.sum(weights * power)
        return self.basis @ turned @ self.basis.T

    def _diagonal(self, s: ComplexArray) -> ComplexArray:
        return 1.0 / (1.0 / s[:, None] - self.values)


@dataclass(frozen=True)
class DirectResolvent:
    """The same by an inverse at every s, of matrices whose eigenvectors nearly coincide: slow, and always right."""

    J: Array

    @property
    def n(self) -> int:
        """Number of neurons."""
        return len(self.J)

    @property
    def values(self) -> ComplexArray:
        """Eigenvalues."""
        return np.linalg.eigvals(self.J).astype(complex)

    def traces(self, s: ComplexArray) -> tuple[ComplexArray, Array]:
        """Return tr G and tr G Gᴴ at s (F,)."""
        found = [(np.trace(g), np.sum(np.abs(g) ** 2)) for g in map(self._at, s)]
        return np.array([one for one, _ in found]), np.array([power for _, power in found])

    def covariance(self, s: ComplexArray, weights: Array) -> Array:
        """Return the sum over s of weights (F,) times G Gᴴ, (N, N), real."""
        total = np.zeros_like(self.J)
        for one, weight in zip(s, weights, strict=True):
            g = self._at(one)
            total += weight * (g @ g.conj().T).real
        return total

    def _at(self, s: complex) -> ComplexArray:
        return np.linalg.inv(np.eye(self.n) / s - self.J)


def resolvent_of(J: Array) -> Resolvent | DirectResolvent:
    """Return the quick one, unless eigenvectors are too close to each other."""
    try:
        found = Resolvent.of(J)
    except np.linalg.LinAlgError:  # some of them are one
        return DirectResolvent(J)
    skew = np.sqrt(found.rank * np.abs(np.trace(found.inverse_gram)))  # |V|² is the number of its columns
    return found if skew < _SKEW else DirectResolvent(J)
