"""Smoothing of counts over whole trials: the posterior mode by Newton's method, then averages over the posterior."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from nwb_lrrnn.models.kernels import observation
from nwb_lrrnn.models.kernels.copies import copy_rows
from nwb_lrrnn.models.kernels.kalman import covariance_pass, mean_pass, smooth_covariances
from nwb_lrrnn.models.kernels.laplace import log_likelihood_at

_HALVINGS = 30


@njit(cache=True, nogil=True)
def expand_averaged(
    kind, y, seen, loadings, offset, mean, covariance, dt, dispersion, nodes, node_weights, slope, information, spread
):
    """Fill expected slope and information of ln p(y | z) over z ~ N(mean, covariance), and return its expected value.

    One dimension a unit, along c^T z: Gauss-Hermite. A single node is the expansion at the mean.
    """
    rank = len(mean)
    slope[:] = 0.0
    information[:] = 0.0
    total = 0.0
    for i in range(len(y)):
        if not seen[i]:
            continue
        eta, variance = offset[i], 0.0
        for r in range(rank):
            eta += loadings[i, r] * mean[r]
        if len(nodes) > 1:
            for r in range(rank):
                spread[r] = 0.0
                for s in range(rank):
                    spread[r] += covariance[r, s] * loadings[i, s]
                variance += spread[r] * loadings[i, r]
        sd = math.sqrt(max(variance, 0.0))
        pull, weight = 0.0, 0.0
        for j in range(len(nodes)):
            terms = observation.terms(kind, y[i], eta + sd * nodes[j], dt, dispersion[i])
            total += node_weights[j] * terms[0]
            pull += node_weights[j] * terms[1]
            weight += node_weights[j] * terms[2]
        for r in range(rank):
            slope[r] += pull * loadings[i, r]
            scaled = weight * loadings[i, r]
            for s in range(r + 1):
                information[r, s] += scaled * loadings[i, s]
    for r in range(rank):
        for s in range(r):
            information[s, r] = information[r, s]
    return total


@njit(cache=True, nogil=True)
def _log_prior(latents, length, transition, drive, initial, noise_inverse, initial_inverse, step):
    """Return minus half the Mahalanobis distance of a path from its dynamics."""
    rank = latents.shape[1]
    total = 0.0
    for t in range(length):
        for r in range(rank):
            step[r] = latents[t, r]
            if t == 0:
                step[r] -= initial[r]
            else:
                step[r] -= drive[t - 1, r]
                for s in range(rank):
                    step[r] -= transition[r, s] * latents[t - 1, s]
        inverse = initial_inverse if t == 0 else noise_inverse
        for r in range(rank):
            for s in range(rank):
                total -= 0.5 * step[r] * inverse[r, s] * step[s]
    return total


@njit(cache=True, nogil=True)
def _log_likelihood(kind, values, seen, loadings, offset, length, latents, dt, dispersion):
    """Return ln p(Y | path) of one trial, without its terms of Y alone."""
    total = 0.0
    for t in range(length):
        row = offset[t] if offset.shape[0] > 1 else offset[0]
        total += log_likelihood_at(kind, values[t], seen[t], loadings, row, latents[t], dt, dispersion)
    return total


@njit(cache=True, nogil=True)
def _expand_path(
    kind, values, seen, loadings, offset, length, mean, covariance, dt, dispersion, nodes, node_weights, evidence, info
):
    """Fill evidence (time, latent) and information of every bin, and return the (expected) log-likelihood."""
    rank = mean.shape[1]
    slope, spread = np.empty(rank), np.empty(rank)
    total = 0.0
    for t in range(length):
        row = offset[t] if offset.shape[0] > 1 else offset[0]
        total += expand_averaged(
            kind, values[t], seen[t], loadings, row, mean[t], covariance[t], dt, dispersion, nodes, node_weights,
            slope, info[t], spread,
        )  # fmt: skip
        for r in range(rank):
            evidence[t, r] = slope[r]
            for s in range(rank):
                evidence[t, r] += info[t, r, s] * mean[t, s]
    return total


@njit(cache=True, nogil=True)
def smooth_counts(
    kind, values, seen, loadings, offsets, dt, dispersion, lengths, transition, noise, noise_inverse, drive, initial,
    initial_covariance, initial_inverse, means, covariances, cross, site_evidence, site_info, log_evidence, n_newton,
    n_averages, nodes, node_weights, first, last,
):  # fmt: skip
    """Move `means` to the posterior mode of each trial; fill the Laplace covariances and the Laplace ln p(Y).

    Each Newton step is a Kalman smoother on the local quadratic of the likelihood: the block-tridiagonal solve. It is
    halved until the posterior density rises (the density is log-concave for Poisson counts). `n_averages` more steps
    move slope and information at the mode half-way to their averages over the posterior (all the way oscillates at
    the kink of softplus): the fixed point is the Gaussian closest to the posterior in Kullback-Leibler divergence,
    `means` its means and `log_evidence` its bound. The sites (h_t, J_t) carry over from one call to the next.
    """
    n_steps, rank = values.shape[1], transition.shape[0]
    info, evidence = np.zeros((1, n_steps, rank, rank)), np.zeros((1, n_steps, rank))
    before, after, gain = np.zeros_like(info), np.zeros_like(info), np.zeros_like(info)
    predicted, filtered, target = np.zeros_like(evidence), np.zeros_like(evidence), np.zeros_like(evidence)
    log_det, quadratic, work = np.zeros(1), np.zeros(1), np.zeros(rank)
    start, pattern, one_node = np.zeros((n_steps, rank)), np.zeros(1, np.int64), np.zeros(1)
    begin, end = 0 * n_steps, 1 + 0 * n_steps  # the one trial; numbers in the calls would be compiled by themselves
    for k in range(first, last):
        one, n, y, mask = lengths[k : k + 1], lengths[k], values[k], seen[k]
        offset = offsets[k] if offsets.shape[0] > 1 else offsets[0]
        fit = log_prior = 0.0
        left = n_averages
        settled = False
        for step in range(n_newton + n_averages):
            averaging = settled or step >= n_newton
            if not averaging:
                fit = _expand_path(
                    kind, y, mask, loadings, offset, n, means[k], covariances[k], dt, dispersion, one_node,
                    one_node + 1.0, evidence[0], info[0],
                )  # fmt: skip
                log_prior = _log_prior(
                    means[k], n, transition, drive[k], initial[k], noise_inverse, initial_inverse, work
                )
            else:
                _expand_path(
                    kind, y, mask, loadings, offset, n, means[k], covariances[k], dt, dispersion, nodes, node_weights,
                    evidence[0], info[0],
                )  # fmt: skip
                for t in range(n):
                    for r in range(rank):
                        evidence[0, t, r] = 0.5 * (evidence[0, t, r] + site_evidence[k, t, r])
                        for s in range(rank):
                            info[0, t, r, s] = 0.5 * (info[0, t, r, s] + site_info[k, t, r, s])
            copy_rows(evidence[0, :n], site_evidence[k])
            for t in range(n):
                copy_rows(info[0, t], site_info[k, t])
            covariance_pass(info, one, transition, noise, initial_covariance, before, after, gain, log_det, begin, end)
            mean_pass(
                evidence, info, pattern, one, transition, drive[k : k + 1], initial[k : k + 1], after, gain,
                predicted, filtered, target, quadratic, begin, end,
            )  # fmt: skip
            if averaging:
                copy_rows(target[0, :n], means[k])
                left -= 1
            else:
                value = fit + log_prior
                copy_rows(means[k, :n], start)
                factor = 1.0
                for _ in range(_HALVINGS):
                    for t in range(n):
                        for r in range(rank):
                            means[k, t, r] = start[t, r] + factor * (target[0, t, r] - start[t, r])
                    fit = _log_likelihood(kind, y, mask, loadings, offset, n, means[k], dt, dispersion)
                    log_prior = _log_prior(
                        means[k], n, transition, drive[k], initial[k], noise_inverse, initial_inverse, work
                    )
                    if fit + log_prior >= value - 1e-12 * abs(value):
                        break
                    factor *= 0.5
                settled = factor == 1.0 and fit + log_prior - value < max(1e-8, 1e-10 * n) + 1e-12 * abs(value)
            if settled or averaging or step == n_newton - 1:
                smooth_covariances(
                    one, transition, noise, after, gain, covariances[k : k + 1], cross[k : k + 1], begin, end
                )  # of the last expansion, whose distance from the mode is below rounding
                if left == 0:
                    break
        if n_averages > 0:  # the bound: E ln p(Y | z) - KL, where the pseudo-observations are those of the last step
            shrink = 0.0
            for t in range(n):
                for r in range(rank):
                    for s in range(rank):
                        shrink += 0.5 * info[0, t, r, s] * covariances[k, t, r, s]
            fit = shrink + _expand_path(
                kind, y, mask, loadings, offset, n, means[k], covariances[k], dt, dispersion, nodes, node_weights,
                evidence[0], info[0],
            )  # fmt: skip
            log_prior = _log_prior(means[k], n, transition, drive[k], initial[k], noise_inverse, initial_inverse, work)
        log_evidence[k] = fit + log_prior - 0.5 * log_det[0]
