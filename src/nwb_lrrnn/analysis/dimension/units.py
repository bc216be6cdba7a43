"""Which units and trials of a recording count: constant units, copies of units and copies of trials do not."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.analysis.dimension.reading import Recorded
from nwb_lrrnn.trials import merged_moments

Array = NDArray[np.floating]

MOST_UNITS = 1500  # whose products are taken; of more, as many are drawn
_ROUNDING = 1e-10
_FEWEST = 20  # values other than 0 of a trial: with fewer, trials are equal by chance


@dataclass(frozen=True)
class Survey:
    """What one pass tells; units are those of the recording.

    Attributes
    ----------
    n_seen, mean, variance : arrays (unit,)
    are_counts : bool
        Whether all values are whole and none is negative.
    constant : array (unit,), bool
    copies : list of (int, int)
        Units, by position, that equal an earlier one in every bin, and that one.
    trials : array (trial,), bool
        Which count: a trial that is equal to an earlier one does not.
    """

    n_seen: Array
    mean: Array
    variance: Array
    are_counts: bool
    constant: NDArray[np.bool_]
    copies: list[tuple[int, int]]
    trials: NDArray[np.bool_]

    @property
    def kept(self) -> NDArray[np.integer]:
        """Positions of the units that count."""
        out = self.constant.copy()
        out[[copy for copy, _ in self.copies]] = True
        return np.flatnonzero(~out)


def survey(recorded: Recorded) -> Survey:
    """Return what a recording holds."""
    n = recorded.n_units
    moments = np.zeros(n), np.zeros(n), np.zeros(n)
    digests = [hashlib.blake2b(digest_size=12) for _ in range(n)]
    is_whole = True
    kept = np.ones(len(recorded.lengths), dtype=bool)
    known: set[bytes] = set()
    is_cut = recorded.lengths.max(initial=0) * len(recorded.lengths) > 0 and len(recorded.lengths) == 1
    for piece in recorded.pieces():
        values, seen = piece.values, piece.seen
        if not np.isfinite(values).all() or np.abs(values).max(initial=0.0) > 1e140:
            raise ValueError("X: got values that are infinite or whose squares are; wanted finite numbers")
        if not is_cut and np.count_nonzero(values) >= _FEWEST:
            key = hashlib.blake2b(values.tobytes() + (b"" if seen is None else seen.tobytes())).digest()
            kept[piece.trial] = key not in known
            known.add(key)
        for digest, row in zip(digests, np.ascontiguousarray(values.T), strict=True):
            digest.update(row)
        if not kept[piece.trial]:
            continue
        is_whole = is_whole and bool(((values >= 0) & (values == np.round(values))).all())
        counted = np.full(n, float(len(values))) if seen is None else seen.sum(axis=0).astype(float)
        mean = values.sum(axis=0) / np.maximum(counted, 1.0)
        away = values - mean if seen is None else np.where(seen, values - mean, 0.0)
        moments = merged_moments(moments, (counted, mean, (away**2).sum(axis=0)))
    n_seen, mean, squares = moments
    variance = squares / np.maximum(n_seen, 1.0)
    constant = variance <= np.maximum((_ROUNDING * mean) ** 2, 1e-280)
    first: dict[bytes, int] = {}
    copies = []
    for unit in np.flatnonzero(~constant):
        same = first.setdefault(digests[unit].digest(), int(unit))
        if same != unit:
            copies.append((int(unit), same))
    are_counts = is_whole and bool((mean > 0).any())
    return Survey(n_seen, mean, variance, are_counts, constant, copies, kept)
