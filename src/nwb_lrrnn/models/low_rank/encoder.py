"""The amortised encoder: a linear guess of a node from the observations around it.

At each bin the observations are projected on the latents (the Gauss-Newton step from z = 0 on that bin alone); a
ridge regression maps the projections of the bins around a node onto the node. It only says where the search for the
mode starts.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from nwb_lrrnn.models.low_rank.shooting import ShootingNetwork
from nwb_lrrnn.models.observation import likelihoods
from nwb_lrrnn.trials import Trials

Array = NDArray[np.floating]

REACH = 16  # bins on each side that a node's guess looks at
_GROUP_BYTES = 4 * 2**20  # of the float64 values of the trials that are projected at once


def projections(net: ShootingNetwork, trials: Trials) -> Array:
    """Return each bin's own estimate of the latents, (trial, time, latent), shrunk to 0; 0 where unobserved."""
    size = max(1, _GROUP_BYTES // max(1, trials.values[:1].nbytes))
    groups = [_projections(net, trials, slice(a, a + size)) for a in range(0, len(trials.values), size)]
    return groups[0] if len(groups) == 1 else np.concatenate(groups)


def _projections(net: ShootingNetwork, trials: Trials, rows: slice) -> Array:
    """Return the projections of some trials: several arrays as large as these are made on the way."""
    loadings, offset, spread = (t[:1] for t in net.readout)
    y = torch.tensor(trials.values[rows], dtype=loadings.dtype, device=loadings.device)
    seen = np.ones((*y.shape[:2], 1), dtype=bool) if trials.observed is None else trials.observed[rows]
    mask = torch.tensor(seen, dtype=loadings.dtype, device=loadings.device)
    eta = offset.expand_as(y)
    slope, fisher = likelihoods.derivatives(net.likelihood, y, eta, spread)
    score = (slope * mask) @ loadings[0]  # (trial, time, latent)
    information = loadings[0].T @ (fisher[0, 0][:, None] * loadings[0])
    eye = torch.eye(information.shape[0], dtype=eta.dtype, device=eta.device)
    shrunk = torch.linalg.inv(information + 0.1 * information.diagonal().mean() * eye)
    return (score @ shrunk).cpu().double().numpy()


def fit_encoders(net: ShootingNetwork, trials: Trials, latents: Array, every: int) -> dict[str, Array]:
    """Return the encoders' weights (feature + 1, latent): `encoder_first` of first bins, `encoder_later` of others.

    Parameters
    ----------
    latents : array (trial, time, latent)
        The trajectories that the encoders shall guess.
    every : int
        Bins between those that the encoders are fitted on.
    """
    from sklearn.linear_model import RidgeCV

    spans = np.array([(k, a, a + 1) for k, n in enumerate(trials.lengths) for a in range(0, int(n), every)])
    features = _features(projections(net, trials), spans)
    targets = latents[spans[:, 0], spans[:, 1]]
    first = spans[:, 1] == 0
    encoders = {}
    for name, rows in (("encoder_first", first), ("encoder_later", ~first)):
        if rows.sum() < 3:
            continue
        ridge = RidgeCV(alphas=np.logspace(-2, 6, 9)).fit(features[rows], targets[rows])
        coefficients = np.asarray(ridge.coef_).reshape(targets.shape[1], -1)
        encoders[name] = np.vstack([coefficients.T, np.reshape(ridge.intercept_, (1, -1))])
    return encoders


def encode(encoders: dict[str, Array], net: ShootingNetwork, trials: Trials, spans: NDArray) -> Array:
    """Return guesses of the latents at the start of each span (span, latent).

    Where an encoder was never fitted they are the bins' own estimates about the prior mean.
    """
    bins = projections(net, trials)
    features = _features(bins, spans)
    guess = bins[spans[:, 0], spans[:, 1]]
    features = np.column_stack([features, np.ones(len(features))])
    first = spans[:, 1] == 0
    for name, rows in (("encoder_first", first), ("encoder_later", ~first)):
        if name in encoders:
            guess[rows] = features[rows] @ encoders[name]
    return guess


def _features(bins: Array, spans: NDArray) -> Array:
    """Return the projections of the REACH bins before and after each window's start, 0 outside, (window, feature)."""
    n_trials, longest, rank = bins.shape
    padded = np.zeros((n_trials, longest + 2 * REACH, rank))
    padded[:, REACH : REACH + longest] = bins
    at = spans[:, 1][:, None] + np.arange(2 * REACH)
    return padded[spans[:, 0][:, None], at].reshape(len(spans), -1)
