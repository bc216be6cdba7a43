"""The arrays that the particle kernels share, S networks side by side, by name.

S networks (restarts), B trials, T bins, K particles, R latents, N neurons, D units, I inputs, P proposals.
"""

from typing import Any, NamedTuple

Array = Any  # numpy arrays in the kernels, tensors of the same names outside

EVERY_STEP, LOW_ESS, BEFORE, NEVER = range(4)  # when particles are resampled


class Moves(NamedTuple):
    """f = a z + n^T phi(m z + B v + b; h) + push, in the type of the particles."""

    decay: Array  # a = 1 - alpha (S,)
    left: Array  # m (S, R, N)
    right: Array  # n alpha / N (S, R, N)
    bias: Array  # b (S, N)
    thresholds: Array  # h (S, N)
    input_weights: Array  # B (S, I, N)
    push: Array  # alpha (s + S u) (S, B or 1, T or 1, R)
    inputs: Array  # v (1 or S, B, T, I)
    start: Array  # mean of z_1 (S, B, R)


class Proposal(NamedTuple):
    """What the bins say of their latents, p^T z - z^T I z / 2 + constant, and the posterior it makes; float64.

    With a transition N(f, Sigma) the proposal is z = F f + c + L eps, and the integral of the transition times the
    site is exp(-f^T G f / 2 + f^T h - k / 2), where V = (Sigma^-1 + I)^-1 = L L^T, F = 1 - V I, c = V p,
    G = I - I V I, h = p - I c, k = ln|Sigma| + ln|V^-1| - p^T c - 2 constant.
    """

    rows: Array  # (B, T): which of the P matrices
    covariance: Array  # V (S, P, R, R)
    root: Array  # L (S, P, R, R)
    information: Array  # I (S, P, R, R)
    log_det: Array  # ln|Sigma| + ln|V^-1| (S, P)
    slope: Array  # p (S, B, T, R)
    constant: Array  # (S, B, T)


class Seen(NamedTuple):
    """The observations and their readout, in float64; D = 0 where the sites are exact."""

    y: Array  # (B, T, D)
    mask: Array  # (B, T, D or 1)
    loadings: Array  # C (S, D, R), or c (S, N) of rates; in the kernels (S, R, D) or (S, 1, N)
    offset: Array  # d (S, B or 1, T or 1, D)
    spread: Array  # (S, D)


class Noise(NamedTuple):
    """Everything random, drawn beforehand."""

    normals: Array  # eps (B, T, K, R)
    points: Array  # sorted in [0, 1), (B, T, K): where the distribution of the weights is inverted
    ancestors: Array  # (S, B, T, K), or empty; given, the points are not used


class Record(NamedTuple):
    """What a filter leaves behind."""

    moved: Array  # f (S, B, T, K, R)
    drawn: Array  # z (S, B, T, K, R), before resampling
    weights: Array  # (S, B, T, K), normalised
    first_weights: Array  # (S, B, T, K), normalised, of fully adapted filters; else empty
    ancestors: Array  # (S, B, T, K)
    resampled: Array  # (S, B, T)
    increments: Array  # ln of the estimate of p(y_t | y_<t) (S, B, T)
