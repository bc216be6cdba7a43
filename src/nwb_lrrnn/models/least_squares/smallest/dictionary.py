"""Dictionaries of candidate neurons, and greedy choices among them: a nested path of networks in one pass."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.models.least_squares.smallest.problem import Neurons, Samples
from nwb_lrrnn.parameters import choose

Array = NDArray[np.floating]

METHODS = ("omp", "ols", "ridge-ols")
GAINS = (0.3, 3.0)  # of candidates, log-uniform between
_SPENT = 1e-10  # of a candidate's square: what is left of it beside those chosen is rounding


def draw_candidates(points: Array, n_candidates: int, nonlinearity: str, rng: np.random.Generator) -> Neurons:
    """Return neurons of random direction and gain whose bias puts a sample drawn at random where x = 0."""
    n_dims = points.shape[1]
    directions = rng.standard_normal((n_candidates, n_dims))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    gains = np.exp(rng.uniform(np.log(GAINS[0]), np.log(GAINS[1]), n_candidates))
    weights = gains[:, None] * directions
    biases = -np.einsum("nq,nq->n", weights, points[rng.integers(len(points), size=n_candidates)])
    return Neurons(np.column_stack([weights, biases]), nonlinearity)


@dataclass(frozen=True)
class GreedyPath:
    """Which candidates a greedy search took, in order: the first d are the network of size d."""

    order: NDArray[np.int64]  # (size,)
    objective: Array  # (size + 1,): what is left of the targets' mean square, ridge included where the search has it
    is_exhausted: bool  # no candidate was left that is not a combination of those chosen


def greedy_path(
    neurons: Neurons, samples: Samples, max_size: int, *, method: str = "ridge-ols", ridge: float = 1e-4
) -> GreedyPath:
    """Return the candidates in the order of a greedy search, for several targets at once.

    With R what is left of the targets and q_i what is left of candidate f_i beside those chosen: "omp" takes the
    largest |f_i^T R|² / |f_i|² (Pati, Rezaiifar & Krishnaprasad 1993), "ols" the largest |q_i^T R|² / |q_i|², which is
    what the error falls by (Chen, Billings & Luo 1989), "ridge-ols" the same of the penalised regression: each
    candidate has a row of its own, sqrt(ridge), below the samples. All candidates are kept orthogonal to those chosen
    (modified Gram-Schmidt), so that one pass gives the whole path.
    """
    choose("method", method, METHODS)
    root = np.sqrt(len(samples))
    atoms = samples.without_free(neurons.rates(samples.points)) / root  # (T, D)
    left = samples.without_free(samples.targets) / root  # (T, R)
    n_samples, n_atoms = atoms.shape
    most = min(max_size, n_atoms)
    own = ridge if method == "ridge-ols" else 0.0  # square of a candidate's own row, until it is chosen
    # rows of candidates chosen so far follow the samples; those of the others are still apart, one for each
    work = np.zeros((n_samples + most, n_atoms))
    work[:n_samples] = atoms
    left = np.concatenate([left, np.zeros((most, left.shape[1]))])
    full = (atoms**2).sum(0)
    alive = full > 0
    order, objective = [], [float((left**2).sum())]
    for step in range(most):
        squares = (work**2).sum(0) + own
        alive &= squares > _SPENT * (full + own)
        if method != "ridge-ols":
            alive &= squares > _SPENT * full
        if not alive.any():
            break
        gain = ((work.T @ left) ** 2).sum(1)
        if method == "omp":
            gain = ((atoms.T @ left[:n_samples]) ** 2).sum(1) / np.where(full > 0, full, 1.0)
        else:
            gain = gain / np.where(alive, squares, 1.0)
        chosen = int(np.argmax(np.where(alive, gain, -1.0)))
        axis = work[:, chosen].copy()
        axis[n_samples + step] = np.sqrt(own)
        axis /= np.linalg.norm(axis)
        work -= np.outer(axis, axis @ work)
        left -= np.outer(axis, axis @ left)
        alive[chosen] = False
        order.append(chosen)
        objective.append(float((left**2).sum()))
    return GreedyPath(np.array(order, dtype=np.int64), np.array(objective), len(order) < max_size)


def best_candidates(
    candidates: Neurons, chosen: Neurons | None, samples: Samples, ridge: float, n_best: int = 1
) -> NDArray[np.int64]:
    """Return which candidates lower the penalised error most beside neurons that are chosen, best first."""
    root = np.sqrt(len(samples))
    atoms = samples.without_free(candidates.rates(samples.points)) / root
    left = samples.without_free(samples.targets) / root
    full = (atoms**2).sum(0)
    if chosen is not None and len(chosen):
        held = samples.without_free(chosen.rates(samples.points)) / root
        rows = np.concatenate([held, np.sqrt(ridge) * np.eye(len(chosen))])
        axes = np.linalg.qr(rows)[0]
        above, below = axes[: len(held)], axes[len(held) :]
        of_atoms, of_left = above.T @ atoms, above.T @ left
        atoms, low_atoms = atoms - above @ of_atoms, -below @ of_atoms
        left, low_left = left - above @ of_left, -below @ of_left
        squares = (atoms**2).sum(0) + (low_atoms**2).sum(0)
        cross = atoms.T @ left + low_atoms.T @ low_left
    else:
        squares, cross = full, atoms.T @ left
    alive = squares > _SPENT * full
    gain = np.where(alive, (cross**2).sum(1) / np.where(alive, squares + ridge, 1.0), -1.0)
    return np.argsort(-gain, kind="stable")[:n_best]
