"""The amortised encoder: a linear guess of a node from the observations around it.

At each bin the observations are projected on the latents (the Gauss-Newton step from z = 0 on that bin alone); a
ridge regression maps the projections of the bins around a node onto the node. It only says where the search for the
mode starts.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from nwb_lrrnn.models import likelihoods
from nwb_lrrnn.models.shooting import Network
from nwb_lrrnn.models.windows import Windows
from nwb_lrrnn.trials import Trials

Array = NDArray[np.floating]

REACH = 16  # bins on each side that a node's guess looks at


def projections(net: Network, trials: Trials) -> Array:
    """Return each bin's own estimate of the latents, (trial, time, latent), shrunk to 0; 0 where unobserved."""
    loadings, offset, spread = (t[:1] for t in net.readout)
    y = torch.as_tensor(trials.values, dtype=loadings.dtype, device=loadings.device)
    seen = trials.bins[:, :, None] if trials.observed is None else trials.observed
    mask = torch.as_tensor(seen, dtype=loadings.dtype, device=loadings.device)
    eta = offset.expand_as(y)
    slope, fisher = likelihoods.derivatives(net.likelihood, y, eta, spread)
    score = (slope * mask) @ loadings[0]  # (trial, time, latent)
    information = loadings[0].T @ (fisher[0, 0][:, None] * loadings[0])
    eye = torch.eye(information.shape[0], dtype=eta.dtype, device=eta.device)
    shrunk = torch.linalg.inv(information + 0.1 * information.diagonal().mean() * eye)
    return (score @ shrunk).cpu().double().numpy()


def fit_encoders(net: Network, trials: Trials, windows: Windows, nodes: Array) -> dict[str, Array]:
    """Return the encoders' weights (feature + 1, latent): `encoder_first` of first nodes, `encoder_later` of others."""
    from sklearn.linear_model import RidgeCV

    features = _features(projections(net, trials), windows.spans)
    first = windows.spans[:, 1] == 0
    encoders = {}
    for name, rows in (("encoder_first", first), ("encoder_later", ~first)):
        if rows.sum() < 3:
            continue
        ridge = RidgeCV(alphas=np.logspace(-2, 6, 9)).fit(features[rows], nodes[rows])
        coefficients = np.atleast_2d(ridge.coef_)
        encoders[name] = np.vstack([coefficients.T, np.atleast_1d(ridge.intercept_)])
    return encoders


def encode(encoders: dict[str, Array], net: Network, trials: Trials, windows: Windows) -> Array:
    """Return guesses of the nodes (window, latent); the prior mean where an encoder was never fitted."""
    features = _features(projections(net, trials), windows.spans)
    features = np.column_stack([features, np.ones(len(features))])
    guess = np.repeat(net.prior.mean[0].cpu().double().numpy()[None], len(features), axis=0)
    first = windows.spans[:, 1] == 0
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
