"""phi and its derivatives over arrays, in loops that the compiler turns into vector instructions.

tanh and softplus are built from multiplications only: exp(y) is a Taylor polynomial at y / 128, squared seven times.

After a change here delete __pycache__: numba does not see that a function which another file calls has changed.
"""

import math

from numba import njit

TANH, ERF, RELU, CLIPPED_RELU, SOFTPLUS, IDENTITY = range(6)
CODES = {
    "tanh": TANH,
    "erf": ERF,
    "relu": RELU,
    "clipped_relu": CLIPPED_RELU,
    "softplus": SOFTPLUS,
    "identity": IDENTITY,
}
FAST = {"reassoc", "contract", "arcp", "nsz"}  # no nnan, ninf: a diverging trajectory must show as non-finite

EXP_LIMIT = 44.0  # of what `exp` takes
_HALF_SQRT_PI = 0.5 * math.sqrt(math.pi)


@njit(inline="always", fastmath=FAST, error_model="numpy")
def exp(y):
    """Return exp(y) for |y| <= 44 to a relative error of 1e-10, next to 1e-14 for |y| < 10."""
    u = y * 0.0078125
    p = 1.0 + u * (
        1.0
        + u
        * (
            0.5
            + u
            * (
                1.0 / 6
                + u * (1.0 / 24 + u * (1.0 / 120 + u * (1.0 / 720 + u * (1.0 / 5040 + u * (1.0 / 40320 + u / 362880)))))
            )
        )
    )
    p *= p
    p *= p
    p *= p
    p *= p
    p *= p
    p *= p
    return p * p


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy")
def dot(a, b):
    """Return the sum of a * b."""
    total = 0.0
    for i in range(a.shape[0]):
        total += a[i] * b[i]
    return total


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy")
def activate(code, x, h, value, slope):
    """Fill value = phi(x; h) and slope = phi'(x; h), all (neuron,)."""
    n = x.shape[0]
    if code == TANH:
        for i in range(n):
            y = min(max(2.0 * x[i], -EXP_LIMIT), EXP_LIMIT)
            t = 1.0 - 2.0 / (exp(y) + 1.0)
            value[i] = t + 0.0 * x[i]  # min and max drop NaN, the user must see it
            slope[i] = 1.0 - t * t
    elif code == RELU:
        for i in range(n):
            value[i] = max(x[i], 0.0) + 0.0 * x[i]
            slope[i] = 1.0 if x[i] > 0.0 else 0.0
    elif code == CLIPPED_RELU:
        for i in range(n):
            a = x[i] + h[i]
            value[i] = max(a, 0.0) - max(x[i], 0.0) + 0.0 * x[i]
            slope[i] = (1.0 if a > 0.0 else 0.0) - (1.0 if x[i] > 0.0 else 0.0)
    elif code == SOFTPLUS:
        for i in range(n):
            e = exp(-min(abs(x[i]), EXP_LIMIT))
            w = e / (2.0 + e)
            v = w * w
            series = 0.0
            for k in range(17, -1, -1):  # log1p(e) = 2 atanh(w), w <= 1/3
                series = series * v + 1.0 / (2 * k + 1)
            value[i] = max(x[i], 0.0) + 2.0 * w * series + 0.0 * x[i]
            slope[i] = (1.0 if x[i] > 0.0 else e) / (1.0 + e)
    elif code == ERF:
        for i in range(n):
            y = _HALF_SQRT_PI * x[i]
            value[i] = math.erf(y)
            slope[i] = math.exp(-y * y)
    else:
        for i in range(n):
            value[i] = x[i]
            slope[i] = 1.0
