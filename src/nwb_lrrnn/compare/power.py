"""What an interval could have shown: the smallest difference that would have been seen, and how much data it takes."""

from __future__ import annotations

import math

from scipy import stats

_LEVEL, _POWER = 0.975, 0.8  # of the upper end of a 95 % interval; of seeing a difference that is there


def detectable_difference(standard_error: float, n_blocks: int) -> float:
    """Return the difference whose 95 % interval would exclude 0 in 80 % of such data sets, nats per bin.

    That is (t_.975 + t_.8) standard errors, with Student's t on n_blocks - 1 degrees of freedom.

    Examples
    --------
    >>> round(detectable_difference(0.01, 40), 4)
    0.0287
    """
    if n_blocks < 2 or not math.isfinite(standard_error):
        return math.nan
    freedom = n_blocks - 1
    return float((stats.t.ppf(_LEVEL, freedom) + stats.t.ppf(_POWER, freedom)) * standard_error)


def trials_needed(n_trials: int, detectable: float, difference: float, limit: float) -> int | None:
    """Return about how many held-out trials would decide, were the measured difference the true one.

    An interval decides where it leaves 0 below itself, or `limit` above itself: the farther of the two is the one that
    takes less data. Standard errors shrink with the root of the number of trials.

    Parameters
    ----------
    n_trials : int
        Held out now.
    detectable, difference, limit : float
        Nats per bin: what these trials could have shown, what they show, and the smallest difference that counts.
    """
    distance = max(difference, limit - difference)
    if not (distance > 0 and math.isfinite(detectable)):
        return None
    needed = n_trials * (detectable / distance) ** 2
    return max(n_trials + 1, math.ceil(needed)) if needed < 1e9 else None
