"""Latents of given trials under a given network: the search for the most probable nodes, made robust.

Through a long window the density of a start has many modes, and far from the right one its slope says nothing. So
the search first runs on short windows whose nodes may jump, beginning at the encoder's guesses, and tightens the law
of the jumps step by step (multiple shooting, annealed); its trajectory then gives the nodes of the real windows,
where the search ends without any relaxation.
"""

from __future__ import annotations

import torch
from numpy.typing import NDArray

from nwb_lrrnn.dynamics.likelihoods import Likelihood
from nwb_lrrnn.models.low_rank import encoder
from nwb_lrrnn.models.low_rank.objective import with_prior
from nwb_lrrnn.models.low_rank.shooting import Posterior, Prior, ShootingNetwork, posterior
from nwb_lrrnn.models.low_rank.windows import Windows, cut, join
from nwb_lrrnn.trials import Trials

FINE = 20  # bins of the short windows
_JUMPS = (1e-1, 1e-2, 1e-3, 1e-4)  # variance of their jumps, in that of the latents


def cut_like(like: torch.Tensor, likelihood: Likelihood, trials: Trials, window_bins: int) -> Windows:
    """Return trials cut into windows, on the device and in the dtype of `like`."""
    return cut(trials, window_bins, likelihood=likelihood, dtype=like.dtype, device=like.device)


def infer(
    net: ShootingNetwork, encoders: dict[str, NDArray], trials: Trials, window_bins: int, spread: NDArray
) -> tuple[Posterior, Windows]:
    """Return the posterior of the nodes of every trial, and the windows that they start.

    Parameters
    ----------
    encoders : dict
        Weights of `encoder.fit_encoders`; may be empty.
    spread : array (latent, latent)
        Covariance of the latents where the network lives.
    """
    fine = min(FINE, window_bins)
    windows = cut_like(net.readout.offset, net.likelihood, trials, fine)
    guess = encoder.encode(encoders, net, trials, windows.spans)
    starts = _guesses(guess, net.prior)
    scale = torch.tensor(spread, dtype=net.prior.mean.dtype, device=net.prior.mean.device)
    for jump in _JUMPS:
        loose = net.prior._replace(node_covariance=net.prior.node_covariance + jump * scale)
        relaxed = posterior(with_prior(net, loose), windows, starts, max_steps=5, tol=1e-3)
        starts = [relaxed.nodes]
    path = join(relaxed.latents[0].cpu().numpy(), windows, trials.values.shape[:2])
    if fine != window_bins:
        del windows  # as large as the trials
        windows = cut_like(net.readout.offset, net.likelihood, trials, window_bins)
    return posterior(net, windows, [nodes_on(path, windows, 1)]), windows


def nodes_on(path: NDArray, windows: Windows, n_nets: int) -> torch.Tensor:
    """Return latents (trial, time, latent) at the first bin of each window, (S, window, latent)."""
    at = path[windows.spans[:, 0], windows.spans[:, 1]]
    nodes = torch.as_tensor(at, dtype=windows.data.y.dtype, device=windows.data.y.device)
    return nodes[None].repeat(n_nets, 1, 1)


def _guesses(guess: NDArray, prior: Prior) -> list[torch.Tensor]:
    """Return where the search may start: at the encoder's guess, and at sigma points of the prior of z_1."""
    encoded = torch.as_tensor(guess, dtype=prior.mean.dtype, device=prior.mean.device)[None]
    root = torch.linalg.cholesky(prior.covariance)[0]  # (latent, latent)
    points = torch.cat([torch.zeros_like(root[:1]), 1.5 * root.mT, -1.5 * root.mT])
    return [encoded, *((prior.mean + point)[:, None].expand_as(encoded).contiguous() for point in points)]
