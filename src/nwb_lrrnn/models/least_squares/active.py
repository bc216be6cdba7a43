"""Which samples, or whole trajectories, would tell most of a field: the ones that leave least variance where it counts.

With A = Phiᵀ Phi + penalty I, the variance of the field at z is phi(z)ᵀ A⁻¹ phi(z) in units of the noise, whatever is
measured there; so the best samples are known before they are taken.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nwb_lrrnn.models.least_squares.features import Features
from nwb_lrrnn.parameters import choose, positive, whole_number

Array = NDArray[np.floating]

CRITERIA = ("test", "variance")


def suggest_samples(
    features: Features,
    candidates: ArrayLike | Sequence[ArrayLike],
    n: int,
    *,
    penalty: float,
    seen: ArrayLike | None = None,
    test: ArrayLike | None = None,
    density: ArrayLike | None = None,
    criterion: str = "test",
) -> NDArray[np.integer]:
    """Return the numbers of `n` candidates, the most telling first.

    Parameters
    ----------
    features : Features
        Neurons of the network.
    candidates : array (C, R), or sequence of C arrays (T_c, R)
        Points, or the trajectories that start from them.
    n : int
        How many are wanted, at most C.
    penalty : float
        Of the regression, for the sum over samples: variance of the noise over that of the weights.
    seen : array (T, R), optional
        Samples there are already.
    test : array (S, R), optional
        Where the field is to be right; by default at all candidates.
    density : array (S,), optional
        How much each of `test` counts. Without it, and more so with criterion="variance", samples are sought where
        they lie far apart, which may be where the system never goes.
    criterion : {"test", "variance"}
        Least mean variance over `test`; or most variance at the candidate itself (trajectories: of log det).
    """
    choose("criterion", criterion, CRITERIA)
    listed = list(candidates) if isinstance(candidates, Sequence) else list(np.asarray(candidates, dtype=float))
    is_points = np.ndim(listed[0]) == 1
    groups = [np.atleast_2d(np.asarray(one, dtype=float)) for one in listed]
    wanted = whole_number("n", n, most=len(groups), hint=f", one for each of {len(groups)} candidates")
    rates = [features(group) for group in groups]
    target = np.concatenate(rates) if test is None else features(np.asarray(test, dtype=float))
    weight = np.full(len(target), 1.0 / len(target)) if density is None else np.asarray(density, dtype=float)
    if weight.shape != (len(target),) or (weight < 0).any():
        raise ValueError(f"density: got shape {weight.shape}, wanted ({len(target)},) numbers >= 0")
    A = positive("penalty", penalty) * np.eye(features.n_neurons)
    if seen is not None:
        known = features(np.asarray(seen, dtype=float))
        A = A + known.T @ known
    inverse = np.linalg.inv(A)
    counted = (target * weight[:, None]).T @ target  # (N, N): what is gained is a trace of it
    chosen: list[int] = []
    points = np.concatenate(rates) if is_points else None
    for _ in range(wanted):
        gains = _gains(points, rates, inverse, counted, criterion)
        gains[chosen] = -np.inf
        best = int(np.argmax(gains))
        chosen.append(best)
        along = inverse @ rates[best].T  # (N, T)
        inverse = inverse - along @ np.linalg.solve(np.eye(along.shape[1]) + rates[best] @ along, along.T)
        inverse = (inverse + inverse.T) / 2
    return np.array(chosen)


def _gains(points: Array | None, rates: list[Array], inverse: Array, counted: Array, criterion: str) -> Array:
    """Return what each candidate would take from the variance, (C,)."""
    if points is not None:
        along = points @ inverse
        own = np.einsum("cn,cn->c", along, points)
        if criterion == "variance":
            return own
        return np.einsum("cn,cn->c", along @ counted, along) / (1.0 + own)
    gains = np.empty(len(rates))
    for i, rows in enumerate(rates):
        along = rows @ inverse  # (T, N)
        spread = np.eye(len(rows)) + along @ rows.T
        if criterion == "variance":
            gains[i] = np.linalg.slogdet(spread)[1]
        else:
            gains[i] = np.trace(np.linalg.solve(spread, along @ counted @ along.T))
    return gains
