"""Numbers of one coupling matrix: strength, effective rank, motifs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]

MEANINGS = {
    "g": "coupling strength |J| / sqrt(N)",
    "pr_s": "participation ratio of squared singular values / N: 0.5 of independent connections, 1 of orthogonal ones",
    "kappa": "1 / pr_s - 2; 1 / effective rank where above 0",
    "effective_rank": "effective rank / N of random modes of this kappa",
    "k_eff": "N / kappa, effective number of modes; does not change when neurons are left out",
    "self": "mean of J_ii",
    "reciprocity": "sum of J_ij J_ji / sum of J_ij²",
    "chain": "correlation of J_ij with J_jk",
    "convergent": "correlation of J_ij with J_ik",
    "divergent": "correlation of J_ij with J_kj",
    "mean_outlier": "sum of J / N, the eigenvalue of its mean, over g",
    "radius": "largest |eigenvalue| / g; 1 of random modes",
    "one_sign": "share of sources whose connections all have one sign",
}


def connectivity_statistics(J: Array, singular_values: Array) -> dict[str, float]:
    """Return the numbers of `MEANINGS` of a coupling matrix (target, source) and its singular values."""
    n = len(J)
    squares = singular_values**2
    g = float(np.sqrt(squares.sum() / n))
    pr_s = float(squares.sum() ** 2 / (n * np.sum(squares**2)))
    kappa = 1.0 / pr_s - 2.0
    above = kappa > 0
    numbers = {
        "g": g,
        "pr_s": pr_s,
        "kappa": kappa,
        "effective_rank": 1.0 / kappa if above else np.nan,
        "k_eff": n / kappa if above else np.nan,
        "self": float(np.trace(J)) / n,
        "reciprocity": float(np.sum(J * J.T) / squares.sum()),
        "mean_outlier": float(J.sum()) / n / g,
        "radius": float(np.abs(np.linalg.eigvals(J)).max()) / g,
        "one_sign": float(np.mean((J >= 0).all(axis=0) | (J <= 0).all(axis=0))),
    }
    return numbers | motifs(J)


def motifs(J: Array) -> dict[str, float]:
    """Return chain, convergent and divergent: correlations of two connections that share a neuron, autapses aside."""
    n = len(J)
    away = ~np.eye(n, dtype=bool)
    if n < 3 or np.ptp(J[away]) < 1e-12 * np.abs(J).max():  # all connections alike: no correlation of them
        return dict.fromkeys(("chain", "convergent", "divergent"), np.nan)
    centred = np.where(away, J - J[away].mean(), 0.0)
    total = float(np.sum(centred**2))
    into, out = centred.sum(axis=1), centred.sum(axis=0)
    triples = (n - 2) * total  # n (n - 1) (n - 2) times the variance
    return {
        "chain": float((out @ into - np.sum(centred * centred.T)) / triples),
        "convergent": float((into @ into - total) / triples),
        "divergent": float((out @ out - total) / triples),
    }
