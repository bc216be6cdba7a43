"""What observations say of eta, for all kernels: ln p(y | eta), its slope and information, by unit and in fused loops.

`kind` is a code of `dynamics.likelihoods`; dt, or bin_size, is the expected value where the link is 1. Terms of y and
the spread alone are left out: of the functions of one unit also y ln(dt), see `Family.constants` there; the loops over
units keep it. FAST: after a change here delete __pycache__, for numba does not see it in the files that call.
"""

from __future__ import annotations

import math

from numba import njit

from nwb_lrrnn.dynamics.likelihoods import (
    BERNOULLI,
    BINOMIAL_EXP,
    BINOMIAL_SOFTPLUS,
    GAUSSIAN,
    POISSON_EXP,
    POISSON_SOFTPLUS,
)
from nwb_lrrnn.dynamics.links import FAR, LARGEST
from nwb_lrrnn.models.kernels.activations import EXP_LIMIT, FAST, exp

# --- one unit: values, slopes, curvature of what is not Gaussian -----------------------------------------------------


@njit(cache=True, nogil=True)
def terms(kind, y, eta, dt, spread):
    """Return ln p(y | eta), its slope in eta, and an information > 0 (observed or Fisher)."""
    if kind == BERNOULLI:
        tail = math.exp(-min(abs(eta), LARGEST))
        p = (1.0 if eta > 0 else tail) / (1.0 + tail)
        information = max(tail / ((1.0 + tail) * (1.0 + tail)), 1e-300)
        return y * eta - max(eta, 0.0) - math.log1p(tail), y - p, information
    if kind == POISSON_EXP or kind == BINOMIAL_EXP:
        rate = math.exp(min(eta, LARGEST))
        log_rate, ratio, gate = eta, 1.0, 1.0  # ratio = g' / g
    elif eta > 0:
        tail = math.exp(-eta)
        gate = 1.0 / (1.0 + tail)
        rate = eta + math.log1p(tail)
        log_rate, ratio = 0.0 if y == 0.0 else math.log(rate), gate / rate
    else:
        tail = math.exp(max(eta, -LARGEST))
        gate = tail / (1.0 + tail)
        rate = math.log1p(tail)
        if eta < -FAR:
            log_rate, ratio = eta, 1.0
        else:
            log_rate, ratio = 0.0 if y == 0.0 else math.log(rate), gate / rate
    mean = dt * rate
    if kind == POISSON_SOFTPLUS:
        bend = ratio * ratio - ratio * (1.0 - gate)  # -(ln g)''; >= 0, for ln softplus is concave
        return y * log_rate - mean, (y - mean) * ratio, max(mean * ratio * (1.0 - gate) + y * bend, 1e-300)
    if kind == POISSON_EXP:
        return y * log_rate - mean, y - mean, max(mean, 1e-300)
    total = spread + mean
    value = y * log_rate - (y + spread) * math.log1p(mean / spread)
    pull = (y - mean) * spread / total * ratio
    if kind == BINOMIAL_EXP:
        return value, pull, max((y + spread) * spread * mean / (total * total), 1e-300)
    return value, pull, max(mean * spread / total * ratio * ratio, 1e-300)  # Fisher: the observed one can be < 0


@njit(cache=True, nogil=True)
def value(kind, y, eta, dt, spread):
    """Return the first of `terms` alone, without the logarithm where y = 0."""
    if kind == BERNOULLI:
        return y * eta - max(eta, 0.0) - math.log1p(math.exp(-min(abs(eta), LARGEST)))
    if kind == POISSON_EXP or kind == BINOMIAL_EXP:
        rate = math.exp(min(eta, LARGEST))
        log_rate = eta
    else:
        tail = math.exp(-min(abs(eta), LARGEST))
        rate = math.log1p(tail) + max(eta, 0.0)
        log_rate = eta if eta < -FAR or y == 0.0 else math.log(rate)
    mean = dt * rate
    of_spikes = 0.0 if y == 0.0 else y * log_rate
    if kind == POISSON_SOFTPLUS or kind == POISSON_EXP:
        return of_spikes - mean
    return of_spikes - (y + spread) * math.log1p(mean / spread)


@njit(cache=True, nogil=True)
def prior(kind, eta):
    """Return value, slope and information of the weak prior of an offset: half a count of no duration.

    Of bins that hold 0 or 1: half a bin of each.
    """
    if kind == BERNOULLI:
        return terms(BERNOULLI, 0.5, eta, 1.0, 1.0)
    if kind == POISSON_EXP or kind == BINOMIAL_EXP:
        return terms(POISSON_EXP, 0.5, eta, 0.0, 1.0)
    return terms(POISSON_SOFTPLUS, 0.5, eta, 0.0, 1.0)


# --- all units of a bin, in loops that the compiler turns into vector instructions -----------------------------------


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy")
def means(kind, bin_size, eta, mean, relative):
    """Fill the mean count and d log mean / d eta (unit,) of counts; not finite where eta is not."""
    if kind == POISSON_EXP or kind == BINOMIAL_EXP:
        for d in range(eta.shape[0]):
            mean[d] = bin_size * exp(min(max(eta[d], -EXP_LIMIT), EXP_LIMIT)) + 0.0 * eta[d]
            relative[d] = 1.0
        return
    for d in range(eta.shape[0]):
        x = eta[d]
        e = exp(-min(abs(x), EXP_LIMIT))
        w = e / (2.0 + e)
        v = w * w
        series = 1.0 / 33
        for k in range(15, -1, -1):  # log1p(e) = 2 atanh(w), w <= 1/3
            series = series * v + 1.0 / (2 * k + 1)
        plus = max(x, 0.0) + 2.0 * w * series
        mean[d] = bin_size * plus + 0.0 * x
        relative[d] = (1.0 if x > 0.0 else e) / ((1.0 + e) * plus)


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy")
def _chances(eta, missed, chance):
    """Fill -ln p(0) = softplus(eta) and p(1) (unit,) of bins that hold 0 or 1."""
    means(POISSON_SOFTPLUS, 1.0, eta, missed, chance)
    for d in range(eta.shape[0]):
        chance[d] *= missed[d]


@njit(cache=True, nogil=True, error_model="numpy")
def _log_mean(kind, bin_size, eta, mean):
    if eta < -FAR or ((kind == POISSON_EXP or kind == BINOMIAL_EXP) and abs(eta) <= EXP_LIMIT):
        return eta + math.log(bin_size)
    return math.log(mean)


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy")
def log_density(kind, bin_size, y, seen, eta, spread, mean, relative):
    """Return ln p(y | eta) of one bin without the terms that do not depend on eta; seen (unit,) or (1,)."""
    total = 0.0
    units = y.shape[0]
    one_mask = seen.shape[0] == 1
    if one_mask and seen[0] == 0.0:
        return 0.0
    if kind == GAUSSIAN:
        if one_mask:
            for d in range(units):
                total -= 0.5 * (y[d] - eta[d]) ** 2 / spread[d]
        else:
            for d in range(units):
                total -= 0.5 * seen[d] * ((y[d] - eta[d]) ** 2 / spread[d])
        return total
    if kind == BERNOULLI:
        _chances(eta, mean, relative)
        for d in range(units):
            total += (1.0 if one_mask else seen[d]) * (y[d] * eta[d] - mean[d])
        return total
    means(kind, bin_size, eta, mean, relative)
    if kind == BINOMIAL_SOFTPLUS or kind == BINOMIAL_EXP:
        for d in range(units):
            total -= (1.0 if one_mask else seen[d]) * (y[d] + spread[d]) * math.log1p(mean[d] / spread[d])
    elif one_mask:
        for d in range(units):
            total -= mean[d]
    else:
        for d in range(units):
            total -= seen[d] * mean[d]
    for d in range(units):
        if y[d] > 0.0 and (one_mask or seen[d] > 0.0):
            total += y[d] * _log_mean(kind, bin_size, eta[d], mean[d])
    return total


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy")
def slopes(kind, bin_size, y, seen, eta, spread, mean, relative, slope, fisher):
    """Fill d log p / d eta and the Fisher information (unit,), both 0 where unobserved."""
    units = y.shape[0]
    if kind == GAUSSIAN:
        for d in range(units):
            fisher[d] = 1.0 / spread[d]
            slope[d] = (y[d] - eta[d]) * fisher[d]
    elif kind == BERNOULLI:
        _chances(eta, mean, relative)
        for d in range(units):
            slope[d] = y[d] - relative[d]
            fisher[d] = relative[d] * (1.0 - relative[d])
    else:
        means(kind, bin_size, eta, mean, relative)
        for d in range(units):
            slope[d] = (y[d] - mean[d]) * relative[d]
            fisher[d] = mean[d] * relative[d] * relative[d]
        if kind == BINOMIAL_SOFTPLUS or kind == BINOMIAL_EXP:
            for d in range(units):
                shrink = spread[d] / (spread[d] + mean[d])
                slope[d] *= shrink
                fisher[d] *= shrink
    if seen.shape[0] > 1:
        for d in range(units):
            slope[d] *= seen[d]
            fisher[d] *= seen[d]
    elif seen[0] == 0.0:
        for d in range(units):
            slope[d] = 0.0
            fisher[d] = 0.0


@njit(cache=True, nogil=True, error_model="numpy")
def has_norm(kind):
    """Return whether ln p has a term that the spread alone makes, and an information that eta does not change."""
    return kind == GAUSSIAN


@njit(cache=True, nogil=True, error_model="numpy")
def norms(spread, out):
    """Fill the term of ln p that the spread alone makes (unit,), where `has_norm`."""
    for d in range(spread.shape[0]):
        out[d] = -0.5 * math.log(2.0 * math.pi * spread[d])


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy")
def add_spread(kind, weight, y, seen, eta, spread, mean, dspread):
    """Add weight times d (terms of `log_density`) / d spread to dspread (unit,); after `slopes`."""
    if kind == POISSON_SOFTPLUS or kind == POISSON_EXP or kind == BERNOULLI:
        return
    for d in range(y.shape[0]):
        w = weight * (seen[0] if seen.shape[0] == 1 else seen[d])
        if kind == GAUSSIAN:
            error = (y[d] - eta[d]) / spread[d]
            dspread[d] += w * 0.5 * error * error
        else:
            grown = mean[d] / (spread[d] * (spread[d] + mean[d]))
            dspread[d] += w * ((y[d] + spread[d]) * grown - math.log1p(mean[d] / spread[d]))


@njit(cache=True, fastmath=FAST, nogil=True, error_model="numpy")
def add_norm(weight, seen, spread, dspread):
    """Add weight times d `norms` / d spread to dspread (unit,), where `has_norm`."""
    for d in range(spread.shape[0]):
        w = weight * (seen[0] if seen.shape[0] == 1 else seen[d])
        dspread[d] -= 0.5 * w / spread[d]
