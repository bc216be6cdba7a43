"""Counts as what a bin tells about its latents: Laplace's approximation around the mode of each bin."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.dynamics.likelihoods import LIKELIHOODS, Terms
from nwb_lrrnn.dynamics.links import LINKS
from nwb_lrrnn.models.dis.regression import Linear
from nwb_lrrnn.models.dis.units import Units
from nwb_lrrnn.models.dis.updates import CHUNK, Update

Array = NDArray[np.floating]
Mask = NDArray[np.bool_]

_NEWTON = 50
_CONVERGED = 1e-15  # nats that a full step would gain
_DISPERSION_BINS = 5_000  # bins that suffice for one number per unit


def log_prob(units: Units, dispersion: Array | None, y: Array, x: Array) -> Terms:
    """Return ln p(y | x) without terms of y alone, its slope in x, the Fisher information, and minus its curvature.

    All entry by entry. Minus the curvature is never below 0 for Poisson units, and may be for the negative binomial.
    """
    return LIKELIHOODS[units.likelihood].terms(LINKS[units.link], y, x, dispersion, units.exposure)


def laplace_update(
    prior: Array,
    covariances: Array,
    kind: NDArray[np.int64],
    y: Array,
    shift: Array,
    seen: Mask,
    linear: Linear,
    units: Units,
    dispersion: Array | None,
) -> tuple[Update, Array]:
    """Return modes and Laplace evidence of z ~ N(prior, Sigma) given counts, and posterior covariances.

    Parameters
    ----------
    prior, covariances, kind : arrays (bin, latent), (kind, latent, latent), (bin,)
        As of `gaussian_update`.
    y, seen : arrays (bin, unit)
    shift : array (bin, unit)
        What currents are where z is 0: c + F v.
    linear, units, dispersion
        The model; dispersion (unit,) of the negative binomial, None for Poisson.

    Returns
    -------
    Update
    covariances : array (bin, latent, latent)
    """
    n_bins, rank = prior.shape
    means, evidence = prior.copy(), np.zeros(n_bins)
    posterior = np.zeros((n_bins, rank, rank))
    covariances = _lifted(covariances)
    precisions = np.linalg.inv(covariances)
    log_dets = np.linalg.slogdet(covariances)[1]
    family = LIKELIHOODS[units.likelihood]
    for rows in np.split(np.arange(n_bins), range(CHUNK, n_bins, CHUNK)):
        precision = precisions[kind[rows]]
        z, value, inner = _mode(prior[rows], precision, y[rows], shift[rows], seen[rows], linear, units, dispersion)
        means[rows], posterior[rows] = z, np.linalg.inv(inner)
        evidence[rows] = value - 0.5 * (log_dets[kind[rows]] + np.linalg.slogdet(inner)[1])
        evidence[rows] += np.where(seen[rows], family.constants(y[rows], dispersion, units.exposure), 0.0).sum(1)
    return Update(means, np.where(seen.any(1), evidence, 0.0)), posterior


def _lifted(covariances: Array) -> Array:
    """Return covariances (kind, latent, latent) that have inverses: directions without variance get next to none."""
    values, vectors = np.linalg.eigh(covariances)
    least = 1e-9 * values[:, -1:] + 1e-12
    lifted = (vectors * np.maximum(values, least)[:, None]) @ vectors.swapaxes(1, 2)
    is_low = np.any(values < least, axis=1, keepdims=True)[..., None]
    return np.where(is_low, lifted, covariances)


def _mode(prior, precision, y, shift, seen, linear: Linear, units: Units, dispersion):
    """Return each bin's mode, ln p(y | z) - (z - prior)^T precision (z - prior) / 2 there, and minus its curvature.

    Newton steps (Fisher scoring for the negative binomial, whose curvature may point either way), shortened bin by bin
    until they are no loss. A bin that has converged stays, whatever others do. Where minus the curvature is not
    positive at the mode, the Fisher information stands in for it.
    """
    rank = prior.shape[1]
    decoder = linear.decoder
    products = (decoder[:, :, None] * decoder[:, None, :]).reshape(len(decoder), rank * rank)

    def weighted(weight):
        return precision + (np.where(seen, weight, 0.0) @ products).reshape(-1, rank, rank)

    def at(z):
        terms = log_prob(units, dispersion, y, z @ decoder.T + shift)
        away = z - prior
        pull = (precision @ away[..., None])[..., 0]
        total = np.where(seen, terms[0], 0.0).sum(1) - 0.5 * (away * pull).sum(1)
        return total, np.where(seen, terms[1], 0.0) @ decoder - pull, terms[2], terms[3]

    z = prior.copy()
    value, gradient, information, curvature = at(z)
    factor, open_ = np.ones(len(z)), np.ones(len(z), dtype=bool)
    for _ in range(_NEWTON):
        weight = curvature if dispersion is None else information
        metric = weighted(weight)
        least = 1e-12 * np.trace(metric, axis1=1, axis2=2)[:, None, None] * np.eye(rank)  # rates may be absurd far out
        step = np.linalg.solve(metric + least, gradient[..., None])[..., 0]
        open_ = open_ & ((step * gradient).sum(1) > _CONVERGED)
        if not open_.any():
            break
        new = z + factor[:, None] * step
        new_value, *rest = at(new)
        better = open_ & (new_value >= value - 1e-12 * (1 + np.abs(value)))
        z, value = np.where(better[:, None], new, z), np.where(better, new_value, value)
        gradient, information, curvature = (
            np.where(better[:, None], one, other)
            for one, other in zip(rest, (gradient, information, curvature), strict=True)
        )
        factor = np.where(better, np.minimum(1.0, 2.0 * factor), 0.25 * factor)
    inner = weighted(curvature)
    least = np.linalg.eigvalsh(inner)[:, :1, None] - 1e-3 * np.linalg.eigvalsh(precision)[:, :1, None]
    return z, value, np.where(least > 0, inner, weighted(information))


def update_readout(
    linear: Linear,
    units: Units,
    dispersion: Array | None,
    y: Array,
    seen: Mask,
    inputs: Array,
    means: Array,
    spread: Array,
) -> tuple[Linear, Array | None]:
    """Return A, c and F improved by Newton steps on the expected log-likelihood, and the dispersion at its maximum.

    Parameters
    ----------
    y, seen : arrays (bin, unit)
    inputs : array (bin, input)
    means, spread : arrays (bin, latent), (bin, latent, latent)
        Posterior moments of the latents.
    """
    from nwb_lrrnn.models.kernels import laplace_readout as kernels

    rank, n_inputs = means.shape[1], inputs.shape[1]
    size = sizes(inputs)  # the ridge of all weights is one: their units of measure must not matter
    point = np.ascontiguousarray(np.concatenate([means, inputs / size], axis=1))
    covariances = np.zeros((len(means), rank + n_inputs, rank + n_inputs))
    covariances[:, :rank, :rank] = spread
    weights = np.concatenate([linear.decoder, linear.input_weights * size, linear.offset[:, None]], axis=1)
    values, shown = np.ascontiguousarray(y.T), np.ascontiguousarray(seen.T)
    if dispersion is not None:
        dispersion = _dispersion(units, dispersion, values, shown, point, covariances, weights)
    kind = LIKELIHOODS[units.likelihood].codes[units.link]
    spreads = np.ones(len(weights)) if dispersion is None else dispersion
    ridge = np.full(len(weights), 0.25)  # currents are of order 1, so are loadings of unit latents
    for i, exposure in enumerate(units.exposure):
        kernels.update_readout(
            kind, values, shown, point, covariances, weights, exposure, spreads, ridge, kernels.NODES, kernels.WEIGHTS,
            2, i, i + 1,
        )  # fmt: skip
    linear = replace(
        linear,
        decoder=weights[:, :rank].copy(),
        input_weights=weights[:, rank : rank + n_inputs] / size,
        offset=weights[:, -1].copy(),
    )
    return linear, dispersion


def sizes(inputs: Array) -> Array:
    """Return the root mean square of each input (input,), 1 for one that is 0 throughout."""
    size = np.sqrt((inputs**2).mean(axis=0))
    return np.where(size > 0, size, 1.0)


def _dispersion(units: Units, dispersion: Array, values, shown, point, covariances, weights) -> Array:
    """Return r of each unit by one-dimensional maximisation of the expected log-likelihood."""
    from nwb_lrrnn.models.kernels.laplace_readout import NODES, WEIGHTS

    stride = max(1, len(point) // _DISPERSION_BINS)
    point, covariances = point[::stride], covariances[::stride]
    result = dispersion.copy()
    for i, row in enumerate(weights):
        here = shown[i, ::stride]
        if not here.any():
            continue
        c, z = row[:-1], point[here]
        sd = np.sqrt(np.maximum(np.einsum("brs,r,s->b", covariances[here], c, c, optimize=True), 0.0))
        x = (z @ c + row[-1])[:, None] + sd[:, None] * NODES
        mean = np.maximum(LINKS[units.link].value(x) * units.exposure[i], 1e-300)
        result[i] = LIKELIHOODS[units.likelihood].best_spread(values[i, ::stride][here], mean, WEIGHTS)
    return result
