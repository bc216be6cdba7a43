"""Synapse counts made a coupling matrix: dead neurons out, rows and columns balanced, the mean mode out.

Counts depend on how large a neuron is and how well it was traced; what is left after rows and columns have unit L2 norm
is who connects to whom. Counts are positive, so that one mode, the mean, outweighs all others; it is taken out. With
signs the positive and the negative inputs of every neuron are balanced each by itself (Appendix B of Clark, Marschall,
van Meegen & Litwin-Kumar 2025), and there is no such mode.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.floating]

_MOST_ROUNDS = 300  # where no scaling makes all even, factors grow without end
_EVEN = 1e-6
_SWAPS = 20  # rounds over all pairs of connections


@dataclass(frozen=True)
class Balanced:
    """`matrix` of the `kept` neurons (their numbers), and the largest |norm² / wanted - 1| that is left."""

    matrix: Array
    kept: NDArray[np.integer]
    error: float


def is_counts(matrix: Array) -> bool:
    """Whether a matrix is of synapse counts: whole numbers, none negative."""
    return bool((matrix >= 0).all() and (matrix == np.round(matrix)).all() and matrix.any())


def alive(counts: Array) -> NDArray[np.integer]:
    """Return the neurons left when those without inputs or outputs, autapses aside, are dropped, again and again."""
    kept = np.arange(len(counts))
    while True:
        part = np.abs(counts[np.ix_(kept, kept)])
        np.fill_diagonal(part, 0.0)
        has_both = part.any(axis=0) & part.any(axis=1)
        if has_both.all():
            return kept
        kept = kept[has_both]


def balanced(counts: Array, signs: ArrayLike | None = None) -> Balanced:
    """Return the coupling matrix of counts (target, source); `signs` (source,) or (target, source) of +1 and -1.

    Raises
    ------
    ValueError
        If signs do not fit, or fewer than three neurons are left.
    """
    sign = _checked_signs(signs, len(counts))
    kept = alive(counts)
    if len(kept) < 3:
        raise ValueError(
            f"model: {len(kept)} of the {len(counts)} neurons of these synapse counts have inputs and outputs, wanted "
            "3 or more; of a coupling matrix of whole numbers say is_counts=False"
        )
    part = counts[np.ix_(kept, kept)]
    if sign is None:
        squares, error = _even(part**2, 1.0)
        matrix = without_mean_mode(np.sqrt(squares))
        if np.linalg.norm(matrix) < 1e-6 * np.sqrt(len(kept)):
            raise ValueError("model: these synapse counts are all alike once balanced, only a mean mode")
        return Balanced(matrix, kept, error)
    sign = sign[np.ix_(kept, kept)]
    halves = [_even(np.where(side * sign > 0, part, 0.0) ** 2, 0.5) for side in (1, -1)]
    return Balanced(np.sqrt(halves[0][0]) - np.sqrt(halves[1][0]), kept, max(error for _, error in halves))


def without_mean_mode(matrix: Array) -> Array:
    """Return a matrix without its strongest mode."""
    left, strengths, right = np.linalg.svd(matrix)
    return matrix - strengths[0] * np.outer(left[:, 0], right[0])


def rewired(counts: Array, rng: np.random.Generator) -> Array:
    """Return counts of the same in- and out-degrees: targets swapped pair by pair, a count stays with its source."""
    target, source = np.nonzero(counts)
    weights, n = counts[target, source], len(counts)
    there = counts != 0
    for _ in range(_SWAPS):
        order = rng.permutation(len(target))
        one, two = order[: len(order) // 2], order[len(order) // 2 : 2 * (len(order) // 2)]
        # one's target for two's; not where that makes an autapse or doubles a connection
        first, second = target[two] * n + source[one], target[one] * n + source[two]
        fine = (target[two] != source[one]) & (target[one] != source[two])
        fine &= ~there[target[two], source[one]] & ~there[target[one], source[two]]
        _, where, times = np.unique(np.concatenate([first, second]), return_inverse=True, return_counts=True)
        alone = times[where] == 1
        fine &= alone[: len(first)] & alone[len(first) :]
        one, two = one[fine], two[fine]
        there[target[one], source[one]] = there[target[two], source[two]] = False
        target[one], target[two] = target[two], target[one]
        there[target[one], source[one]] = there[target[two], source[two]] = True
    found = np.zeros_like(counts)
    found[target, source] = weights
    return found


def _even(squares: Array, row: float) -> tuple[Array, float]:
    """Return squares scaled so that every row sums to `row` and all columns, of what is there, to one number."""
    rows, columns = squares.any(axis=1), squares.any(axis=0)
    if not rows.any():
        return squares, 0.0
    column = row * rows.sum() / columns.sum()
    r, c = np.ones(len(squares)), np.ones(len(squares))
    error = np.inf
    for _ in range(_MOST_ROUNDS):
        r = np.where(rows, row / np.maximum(squares @ c, 1e-300), 0.0)
        sums = c * (r @ squares)
        error = float(np.abs(sums[columns] / column - 1.0).max())
        if error < _EVEN:
            break
        c = np.where(columns, c * column / np.maximum(sums, 1e-300), 0.0)
    return r[:, None] * squares * c, error


def _checked_signs(signs: ArrayLike | None, n: int) -> Array | None:
    if signs is None:
        return None
    sign = np.asarray(signs, dtype=float)
    if sign.shape not in ((n,), (n, n)) or not np.isin(sign, (-1.0, 1.0)).all():
        raise ValueError(
            f"signs: got shape {sign.shape}, wanted ({n},), one of +1 and -1 for every source, or ({n}, {n}) for every "
            "connection"
        )
    return np.broadcast_to(sign, (n, n))
