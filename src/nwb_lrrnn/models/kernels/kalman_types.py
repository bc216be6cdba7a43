"""The arrays that the extended Kalman filter shares between its kernel and plain torch, by name."""

from typing import Any, NamedTuple

Array = Any  # numpy arrays in the kernels, tensors of the same names outside


class Network(NamedTuple):
    """z_{t+1} = decay z_t + push + right phi(left z_t + input_weights v_t + bias; thresholds)."""

    decay: Any  # 1 - alpha, a number
    left: Array  # (R, N)
    right: Array  # (R, N), times alpha / N
    bias: Array  # (N,)
    thresholds: Array  # (N,)
    input_weights: Array  # (I, N)
    push: Array  # (trial or 1, time or 1, R)
    inputs: Array  # v (trial or 1, time or 1, I)


class Law(NamedTuple):
    """The noise of the latents, and where trials begin."""

    noise: Array  # (R, R)
    initial: Array  # (trial, R)
    initial_covariance: Array  # (R, R)


class Readout(NamedTuple):
    """What the units show."""

    values: Array  # (trial, time, unit)
    seen: Array  # (trial, time, unit), bool
    loadings: Array  # (unit, R)
    offsets: Array  # (trial or 1, time or 1, unit)
    time: Any  # expected value where the link is 1
    spread: Array  # (unit,)


class Posterior(NamedTuple):
    """What is filled: means (trial, time, R), covariances, lag-one cross-covariances, and ln p(y_t | bins before)."""

    predicted: Array
    filtered: Array
    smoothed: Array
    covariances: Array  # (trial, time, R, R); of the filter where nothing goes backward
    cross: Array  # (trial, time - 1, R, R), Cov(z_{t+1}, z_t | Y)
    increments: Array  # (trial, time), as `kernels.observation.log_density` has its terms
