"""One enormous bin: a value so far from the rest of its unit that it alone carries what is fitted or compared."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.trials import Packed

# Standard deviations of the rest of the unit. Bursts and transients reach 10 to 20; an artefact, or the spikes of a
# padded train that all fall into one bin, hundreds.
_FAR = 30.0
_MOST = 0.5  # of the unit's sum of squares in the trial of that bin: with less, other trials are like it
# Times the second: of units with tails as heavy as t with 3 degrees of freedom, 1 in 8000 has so lonely a maximum.
_LONELY = 20.0


class Scale(NamedTuple):
    """Center and standard deviation of each unit, (unit,), without the trial that is most unlike the others."""

    center: NDArray[np.floating]
    size: NDArray[np.floating]


def enormous_bins(trials: Packed, units: NDArray[np.bool_], are_counts: bool) -> tuple[list[tuple[int, int]], Scale]:
    """Return (bin, unit) of enormous bins, at most one a unit, and the scale of the rest of each unit.

    Without the trial of the bin that is farthest from the mean, or without that bin where trials are fewer than three.
    A unit of counts has at least the scale of one count, so that the only spike of a unit is not enormous; one of
    values that is otherwise constant has none, and every model treats it alike.
    """
    n_units, found = trials.n_units, []
    center, size = np.zeros(n_units), np.full(n_units, np.inf)
    for unit in np.flatnonzero(units):
        y, at = trials.values[:, unit], trials.seen[:, unit]
        if not at.any():
            continue
        place = int(np.where(at, np.abs(y - y[at].mean()), -1.0).argmax())
        odd = np.zeros_like(at)
        odd[trials.of_trial(int(trials.trial[place])) if len(trials.lengths) >= 3 else place] = True
        rest = y[at & ~odd]
        if not len(rest):
            continue
        center[unit] = rest.mean()
        variance = rest.var()
        size[unit] = np.sqrt(max(variance, abs(center[unit]), 1.0) if are_counts else variance)
        squares = np.where(at, (y - center[unit]) ** 2, 0.0)
        farthest, second = abs(y[place] - center[unit]), np.abs(rest - center[unit]).max()
        least = 1.0 if are_counts else 0.0
        is_far = farthest > _FAR * size[unit] > 0 and farthest > _LONELY * max(second, least)
        if is_far and squares[odd].sum() > _MOST * squares.sum():
            found.append((place, int(unit)))
    return found, Scale(center, size)


def extreme_trials(trials: Packed, units: NDArray[np.bool_], scale: Scale) -> dict[int, tuple[int, int]]:
    """Return trials with a bin that is enormous beside the training data, and (bin, unit) of that bin.

    None where they are more than a tenth of the trials: then it is not one bin that is unlike the others.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        far = np.where(trials.seen & units, np.abs(trials.values - scale.center) / scale.size, 0.0)
    far = np.nan_to_num(far, nan=0.0, posinf=np.inf)
    rows = np.unique(trials.trial[(far > _FAR).any(axis=1)])
    if len(rows) > max(1, len(trials.lengths) // 10):
        return {}
    places = {}
    for row in map(int, rows):
        here = trials.of_trial(row)
        time, unit = np.unravel_index(int(far[here].argmax()), far[here].shape)
        places[row] = here.start + int(time), int(unit)
    return places
