"""Networks run in time: fourth-order Runge-Kutta, all trials side by side as one matrix."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.analysis.theory.sigmoids import Sigmoid, rate
from nwb_lrrnn.progress import Progress

Array = NDArray[np.floating]

_HALF_SQRT_PI = 0.5 * float(np.sqrt(np.pi))
_SCALE = 0.3275911
_POLYNOMIAL = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)


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
    quick = nonlinearity == "erf" and start.dtype == np.float32

    def velocity(at: Array) -> Array:
        found = recurrent(single_erf(at) if quick else rate(nonlinearity, at))
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


def single_erf(x: Array) -> Array:
    """Return erf(sqrt(pi) x / 2) to 6e-7, about what float32 holds, five times faster than the exact one.

    Abramowitz & Stegun 7.1.26; numpy's exp is vectorised, scipy's erf is not.
    """
    z = np.abs(x)
    z *= _HALF_SQRT_PI
    t = 1.0 / (1.0 + _SCALE * z)
    found = np.full_like(t, _POLYNOMIAL[0])
    for coefficient in _POLYNOMIAL[1:]:
        found *= t
        found += coefficient
    found *= t
    np.multiply(z, z, out=z)
    np.negative(z, out=z)
    found *= np.exp(z, out=z)
    np.subtract(1.0, found, out=found)
    return np.copysign(found, x, out=found)
