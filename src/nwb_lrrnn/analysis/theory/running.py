"""Networks run in time: fourth-order Runge-Kutta, all trials side by side as one matrix."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.analysis.theory.sigmoids import Sigmoid, rate
from nwb_lrrnn.progress import Progress

Array = NDArray[np.floating]


def run(
    recurrent: Callable[[Array], Array],
    start: Array,
    *,
    nonlinearity: Sigmoid,
    step: float,
    n_burn_in: int,
    n_samples: int,
    n_between: int,
    record: Callable[[int, Array], None],
    progress: Progress,
) -> None:
    """Run dx/dt = -x + recurrent(phi(x)) from x (N, trial), and call record(k, x) every `n_between` steps."""
    x, stage, total = start.copy(), np.empty_like(start), np.empty_like(start)

    def velocity(at: Array) -> Array:
        found = recurrent(rate(nonlinearity, at))
        found -= at
        return found

    def advance() -> None:
        nonlocal x
        k = velocity(x)
        np.multiply(k, 1.0 / 6.0, out=total)
        for share, weight in ((0.5, 1.0 / 3.0), (0.5, 1.0 / 3.0), (1.0, 1.0 / 6.0)):
            np.multiply(k, share * step, out=stage)
            np.add(stage, x, out=stage)
            k = velocity(stage)
            np.multiply(k, weight, out=stage)
            np.add(total, stage, out=total)
        np.multiply(total, step, out=total)
        x += total

    for _ in range(n_burn_in):
        advance()
        progress.advance(1)
    for k in range(n_samples):
        record(k, x)
        for _ in range(n_between if k < n_samples - 1 else 0):
            advance()
            progress.advance(1)
