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


@dataclass(frozen=True)
class Resolvent:
    """J = Q [[A, B], [0, 0]] Qᵀ with A = V diag(values) V⁻¹."""

    n: int
    values: ComplexArray  # (M,)
    vectors: ComplexArray  # V (M, M)
    beside: ComplexArray  # V⁻¹ B (M, N - M)
    basis: Array  # Q (N, N)
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
        gram = metric * (inverse @ inverse.conj().T).T
        middle = metric * (beside @ beside.conj().T).T
        whole = values.astype(complex), vectors.astype(complex), beside.astype(complex)
        return cls(len(J), *whole, basis, gram, middle)

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
        inverse_gram = np.linalg.inv(self.vectors)
        plain = (g.T * weights) @ g.conj()
        inside = plain * (inverse_gram @ inverse_gram.conj().T)
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
