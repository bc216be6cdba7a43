"""What a bin tells about its latents: a Gaussian prior of each bin met with the units observed there."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.dynamics.simulation import covariance_root

Array = NDArray[np.floating]
Mask = NDArray[np.bool_]

CHUNK = 8192  # bins at a time, where every bin has matrices of its own


class Update(NamedTuple):
    """Posterior means (bin, latent) and log-likelihoods ln p(y_t) (bin,), nats."""

    means: Array
    log_likelihood: Array


def gaussian_update(
    prior: Array,
    covariances: Array,
    kind: NDArray[np.int64],
    residuals: Array,
    seen: Mask,
    decoder: Array,
    noise: Array,
) -> Update:
    r"""Return the posterior of z ~ N(prior, Sigma) given residuals = A (z - prior) + e, e ~ N(0, diag R).

    .. math:: P = (\Sigma^{-1} + A^T R^{-1} A)^{-1}, \quad m = prior + P A^T R^{-1} residual

    Parameters
    ----------
    prior : array (bin, latent)
    covariances : array (kind, latent, latent)
        The Sigmas that occur.
    kind : array (bin,), int
        Which Sigma each bin has.
    residuals : array (bin, unit)
        y - A prior - c - F v.
    seen : array (bin, unit), bool
        Observed units.
    decoder, noise : arrays (unit, latent), (unit,)
        A and R.
    """
    n_bins, rank = prior.shape
    means, evidence = prior.copy(), np.zeros(n_bins)
    complete = seen.all(axis=1)
    roots = [
        covariance_root(covariance) for covariance in covariances
    ]  # Sigma may be singular: z = root times a white latent
    for k, root in enumerate(roots):
        rows = np.flatnonzero(complete & (kind == k))
        if len(rows):
            scaled = decoder @ root / np.sqrt(noise)[:, None]  # R^-1/2 A root
            inner = np.eye(rank) + scaled.T @ scaled
            whitened = residuals[rows] / np.sqrt(noise)
            projected = whitened @ scaled  # (bin, latent)
            white = np.linalg.solve(inner, projected.T).T
            means[rows] = prior[rows] + white @ root.T
            log_det = np.log(2 * np.pi * noise).sum() + np.linalg.slogdet(inner)[1]
            evidence[rows] = -0.5 * ((whitened**2).sum(1) - (projected * white).sum(1) + log_det)
    partial = np.flatnonzero(~complete & seen.any(axis=1))
    for k, root in enumerate(roots):
        of_kind = partial[kind[partial] == k]
        for rows in np.split(of_kind, range(CHUNK, len(of_kind), CHUNK)):
            if not len(rows):
                continue
            scaled = decoder @ root
            weights = seen[rows] / noise  # (bin, unit)
            products = (scaled[:, :, None] * scaled[:, None, :]).reshape(len(noise), rank * rank)
            inner = np.eye(rank) + (weights @ products).reshape(-1, rank, rank)
            projected = (weights * residuals[rows]) @ scaled
            white = np.linalg.solve(inner, projected[..., None])[..., 0]
            means[rows] = prior[rows] + white @ root.T
            quadratic = (weights * residuals[rows] ** 2).sum(1) - (projected * white).sum(1)
            log_det = seen[rows] @ np.log(2 * np.pi * noise) + np.linalg.slogdet(inner)[1]
            evidence[rows] = -0.5 * (quadratic + log_det)
    return Update(means, evidence)
