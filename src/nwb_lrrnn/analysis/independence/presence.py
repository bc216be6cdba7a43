"""Are there latents? What delayed latents foretell of units, in bins that were not learnt from, beyond their own past.

A latent is shared: it tells of a unit what the unit's own past does not. Noise has nothing of the kind, nor have units
that are smooth by themselves, nor bins in a shuffled order, however much the units of one bin have in common.

Each unit is regressed on its own past, and then on its own past and the latents. The latents' weights, in units of the
standard deviation of what own pasts miss, give the directions of latents that units use; all together, and each beside
all others, are then asked what they add where nothing was learnt.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.analysis.independence.autonomy import FEWEST, FREEDOM, chance, in_blocks, inside

Array = NDArray[np.floating]
Mask = NDArray[np.bool_]
Rows = tuple[NDArray[np.int64], NDArray[np.int64]]  # trial and time of bins

_LAGS = (3, 2, 1)  # bins of a unit's own past, as many as the trials have room for
_ADDS = 0.05  # level at which a single latent counts, where all together are there
_SMALL = 1e-10  # variance, relative to the largest, below which there is none


class Presence(NamedTuple):
    """What latents add to the past of single units.

    Attributes
    ----------
    whole : array (block,)
        Nats per bin that all latents together add, in blocks of tested bins.
    gains : array (latent, block)
        What each direction of the latents adds to own pasts and all other directions; no row for a direction in which
        the latents do not move.
    rank : int
        Number of latents.
    """

    whole: Array
    gains: Array
    rank: int

    @property
    def p_value(self) -> float:
        """Probability of gains as large by chance where latents add nothing (one-sided t)."""
        return chance(self.whole)

    @property
    def p_values(self) -> Array:
        """The same of each direction, (latent,), the clearest first."""
        return np.sort([chance(gain) for gain in self.gains] + [1.0] * (self.rank - len(self.gains)))

    def number(self, level: float) -> int:
        """Return how many latents there are: none unless all together add something at `level`."""
        return int((self.p_values < _ADDS).sum()) if self.p_value < level else 0


def presence(values: Array, latents: Array, trained: Mask, tested: Mask, inputs: Array | None = None) -> Presence:
    """Return what latents add to the past of single units in tested bins, learnt in trained ones.

    Parameters
    ----------
    values : array (trial, time, unit)
        What the units show; of counts their roots.
    latents : array (trial, time, latent)
        Delayed: given bins before alone.
    trained, tested : bool arrays (trial, time)
        No bin is in both.
    inputs : array (trial, time, input), optional
        What is known of each bin without the units.

    Raises
    ------
    ValueError
        If there are too few bins in either part.
    """
    for n_lags in _LAGS:
        learn, test = (inside(mask, 0, n_lags) for mask in (trained, tested))
        if min(len(learn[0]), 3 * len(test[0])) >= FEWEST:
            break
    else:
        raise ValueError(
            f"X: got {len(learn[0])} bins to learn from and {len(test[0])} to test, wanted at least {FEWEST} and "
            f"{FEWEST // 3}; record longer"
        )
    y, z = _moving(values, trained), _white(latents, learn)
    if not z.shape[2] or not y.shape[2]:
        return Presence(np.zeros(2), np.zeros((0, 2)), latents.shape[2])
    test = _within(y, z, learn, test)
    if len(test[0]) < FEWEST // 3:
        return Presence(np.zeros(2), np.zeros((0, 2)), latents.shape[2])
    own = [[_past(y[..., unit], inputs, n_lags, rows) for rows in (learn, test)] for unit in range(y.shape[2])]
    directions = _directions(y[learn], z[learn], [past for past, _ in own])
    told = [z[rows] @ directions for rows in (learn, test)]
    n = directions.shape[1]
    features = [np.arange(n), *(np.delete(np.arange(n), k) for k in range(n))]  # all of them, or one left out
    losses, whole = np.zeros((n, len(test[0]))), np.zeros(len(test[0]))
    for unit, pasts in enumerate(own):
        target, wanted = y[*learn, unit], y[*test, unit]

        def miss(used: NDArray[np.int64], pasts=pasts, target=target, wanted=wanted) -> tuple[Array, Array]:
            known, given = (np.concatenate([past, t[:, used]], axis=1) for past, t in zip(pasts, told, strict=True))
            weights = np.linalg.lstsq(known, target, rcond=None)[0]
            return target - known @ weights, wanted - given @ weights

        learnt, missed = miss(np.arange(0))
        scale = np.sqrt(np.mean(learnt**2)) + _SMALL
        best = _log_density(miss(features[0])[1] / scale)
        whole += best - _log_density(missed / scale)
        losses += [best - _log_density(miss(used)[1] / scale) for used in features[1:]]
    return Presence(in_blocks(whole), np.array([in_blocks(loss) for loss in losses]), latents.shape[2])


def _log_density(errors: Array) -> Array:
    """Return the log density of Student's t but for a constant: a few bins unlike all others do not rule its mean."""
    return -0.5 * (FREEDOM + 1) * np.log1p(errors**2 / FREEDOM)


def _moving(values: Array, trained: Mask) -> Array:
    """Return units of mean 0 and variance 1 where something is learnt; those that do not move there are left out."""
    mean, spread = values[trained].mean(axis=0), values[trained].std(axis=0)
    moves = spread > 1e-9 * np.abs(mean)
    return (values[..., moves] - mean[moves]) / spread[moves]


def _white(latents: Array, learn: Rows) -> Array:
    """Return uncorrelated latents of variance 1, as many as there are directions in which they move."""
    z = latents - latents[learn].mean(axis=0)
    axes, sizes, _ = np.linalg.svd(z[learn].T @ z[learn] / len(learn[0]))
    moves = sizes > max(_SMALL * sizes[0], 1e-300)
    return z @ (axes[:, moves] / np.sqrt(sizes[moves]))


def _within(y: Array, z: Array, learn: Rows, test: Rows) -> Rows:
    """Return the tested bins before which units and latents were no further out than ever where something is learnt.

    What regressions foretell beyond that is a matter of their form, and a few such bins would speak for all. Only bins
    before decide, so that nothing is chosen by what is foretold.
    """

    def sizes(rows: Rows) -> Array:  # (row, size)
        return np.stack([(y[rows[0], rows[1] - 1] ** 2).sum(axis=1), (z[rows] ** 2).sum(axis=1)], axis=1)

    kept = (sizes(test) <= sizes(learn).max(axis=0)).all(axis=1)
    return test[0][kept], test[1][kept]


def _past(unit: Array, inputs: Array | None, n_lags: int, rows: Rows) -> Array:
    """Return what one unit is predicted from by itself, (row, feature)."""
    trial, time = rows
    before = [unit[trial, time - lag] for lag in range(1, n_lags + 1)]
    past = np.stack([np.ones(len(trial)), *before, np.tanh(before[0])], axis=1)
    if inputs is None:
        return past
    return np.concatenate([past, *(inputs[trial, time - lag] for lag in (0, 1))], axis=1)


def _directions(y: Array, z: Array, pasts: list[Array]) -> Array:
    """Return the directions (latent, direction) of white latents by what they add to the own past of all units."""
    weights = np.empty((len(pasts), z.shape[1]))
    for unit, past in enumerate(pasts):
        basis = np.linalg.qr(past)[0]
        target, more = (x - basis @ (basis.T @ x) for x in (y[:, unit], z))
        weights[unit] = np.linalg.lstsq(more, target, rcond=None)[0] / (target.std() + _SMALL)
    return np.linalg.svd(weights.T)[0]
