"""Parameters from trajectories: the M-step of particle expectation maximisation, for one network.

Trajectories drawn by backward simulation turn the fit into regressions (Lindsten 2013; Schon, Wills & Ninness 2011):
of z_{t+1} on what the network makes of z_t (`transition`), of y_t on z_t, and the moments of z_1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nwb_lrrnn.models.networks import cells
from nwb_lrrnn.models.observation import likelihoods
from nwb_lrrnn.models.smc.data import TrialData
from nwb_lrrnn.models.smc.network import ParticleForm, ParticleNetwork, free_numbers
from nwb_lrrnn.models.smc.transition import NEURONS, Transition

RIDGES = (1.0, 1e-2, 1e-4)  # of the change of the right vectors, relative to the mean square of the rates
_PAIRS = 12_000  # pairs of successive latents that the transition is fitted to,
_FLOPS = 1.5e9  # fewer where there are many neurons: pairs * neurons^2 stays below this
_GLM_STEPS = 3
_PRIOR_TRIALS = 1.0  # pseudo-observations that keep Sigma_1 proper with few trials


def refit(
    form: ParticleForm,
    net: ParticleNetwork,
    parts: dict[str, Tensor],
    data: TrialData,
    draws: Tensor,
    ridge: float,
    n_steps: int,
) -> dict[str, Tensor]:
    """Return the parameters (by name, without the axis of restarts) at their optimum given trajectories.

    Parameters
    ----------
    parts : dict of Tensor
        The current parameters.
    draws : Tensor (B, T, M, R), float64
        Trajectories.
    ridge : float
        How much the right vectors are held where they are.
    n_steps : int
        Steps of the quasi-Newton method for the neurons; 0: they stay.
    """
    parts = {name: value.double().clone() for name, value in parts.items()}
    inside = torch.arange(draws.shape[1], device=draws.device)[None] < data.lengths[:, None]
    _fit_readout(form, net, parts, data, draws)
    _fit_start(net, parts, data, draws)
    pairs = _pairs(net, data, draws, inside, int(_FLOPS / form.n_neurons**2))
    _fit_transition(form, parts, pairs, ridge, n_steps)
    return parts


def _pairs(
    net: ParticleNetwork, data: TrialData, draws: Tensor, inside: Tensor, most: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return z_t (pair, R), z_{t+1} (pair, R) and v_t (pair, I) of at most so many pairs, evenly spaced."""
    pair = inside[:, 1:, None].expand(-1, -1, draws.shape[2])
    now, then = draws[:, :-1][pair], draws[:, 1:][pair]
    v = net.moves(data).inputs[0].double()
    v = v[:, :-1, None].expand(-1, -1, draws.shape[2], -1)[pair]
    most = max(min(most, _PAIRS), 1000)
    if len(now) > most:
        keep = torch.linspace(0, len(now) - 1, most, device=now.device).long()
        now, then, v = now[keep], then[keep], v[keep]
    return now, then, v


def _fit_start(net: ParticleNetwork, parts: dict[str, Tensor], data: TrialData, draws: Tensor) -> None:
    first = draws[:, 0]  # (B, M, R)
    if data.inputs.shape[-1]:
        v = net.moves(data).inputs[0, :, 0].double()
        first = first - (v @ parts["initial_input_weights"].T)[:, None]
    first = first.flatten(0, 1)
    mean = first.mean(0)
    centred = first - mean
    trials = len(data.lengths)
    eye = torch.eye(first.shape[1], dtype=first.dtype, device=first.device)
    covariance = (trials * centred.T @ centred / len(first) + _PRIOR_TRIALS * eye) / (trials + _PRIOR_TRIALS)
    parts["initial_mean"], parts["initial_noise"] = mean, free_numbers(covariance[None], "full")[0]


def _fit_readout(
    form: ParticleForm, net: ParticleNetwork, parts: dict[str, Tensor], data: TrialData, draws: Tensor
) -> None:
    """Fit C, d and the Gaussian variance by Fisher scoring, unit by unit; readouts of rates stay as they are."""
    if form.readout == "rates":
        return
    loadings, offset, spread = (t[0] for t in net.observation(net.moves(data).inputs))
    offset = offset.mean((0, 1))
    design = torch.cat([draws, torch.ones_like(draws[..., :1])], dim=-1)  # (B, T, M, R + 1)
    inside = torch.arange(draws.shape[1], device=draws.device)[None] < data.lengths[:, None]
    mask = (data.mask * inside[..., None])[:, :, None].expand(-1, -1, draws.shape[2], data.y.shape[2])
    shift = 0.0
    if form.readout == "currents" and form.n_inputs:  # what the inputs add is no part of the regression
        v = net.moves(data).inputs[0].double()
        shift = (net.readout.loadings[0].double() * (v @ net.cell.input_weights[0].double()))[:, :, None]
        offset = offset - shift.mean((0, 1, 2))
    y = data.y[:, :, None].expand_as(mask)
    x = design.flatten(0, 2)
    outer = (x[:, :, None] * x[:, None]).flatten(1)  # (bin, (R + 1)^2)
    size = x.shape[1]
    weights = torch.cat([loadings, offset[:, None]], dim=1)  # (D, R + 1)
    ridge = 1e-9 * torch.eye(size, dtype=x.dtype, device=x.device)
    for _ in range(1 if form.likelihood.name == "gaussian" else _GLM_STEPS):
        eta = (design @ weights.T) + shift
        slope, fisher = likelihoods.derivatives(form.likelihood, y, eta, spread)
        score = (slope * mask).flatten(0, 2).T @ x
        information = ((fisher * mask).flatten(0, 2).T @ outer).unflatten(1, (size, size))
        own = information.diagonal(dim1=1, dim2=2).mean(1).clamp(min=1e-100)  # a unit never observed stays as it is
        information = information + ridge * own[:, None, None]
        weights = weights + torch.linalg.solve(information, score[..., None])[..., 0]
    scale, centre = form.scale.double(), form.centre.double()
    if form.likelihood.name == "gaussian":
        n_seen = mask.sum((0, 1, 2))
        error = ((y - design @ weights.T - shift) ** 2 * mask).sum((0, 1, 2)) / n_seen.clamp(min=1.0)
        fitted = torch.log((error / scale**2).clamp(min=form.likelihood.family.spread_limits[0]))
        parts["log_spread"] = torch.where(n_seen > 0, fitted, parts["log_spread"])
    if form.readout == "latents":
        parts["loadings"] = weights[:, :-1] / scale[:, None]
        parts["offset"] = (weights[:, -1] - centre) / scale
    else:  # eta = c (m z + b) + d
        gains = parts["loadings"] * scale
        parts["left_vectors"] = (weights[:, :-1] / gains[:, None]).T.contiguous()
        parts["offset"] = (weights[:, -1] - gains * parts["bias"] - centre) / scale


def _fit_transition(
    form: ParticleForm, parts: dict[str, Tensor], pairs: tuple[Tensor, Tensor, Tensor], ridge: float, n_steps: int
) -> None:
    """Fit the transition: neurons by a quasi-Newton method, right vectors, drive and Sigma_z in closed form."""
    # where a unit reads its own neuron, only what its readout can undo may move
    names = {"latents": ("left_vectors", "bias", "input_weights", "log_thresholds"), "currents": ("bias",), "rates": ()}
    free = [name for name in (*names[form.readout], "logit_alpha") if name in parts and parts[name].numel()]
    arrays = {name: parts[name].cpu().numpy() for name in NEURONS if name in parts}
    centre = parts["right_vectors"].T.cpu().numpy() / form.n_neurons
    now, then, v = (t.cpu().numpy() for t in pairs)
    transition = Transition(form.nonlinearity, form.alpha, now, then, v, centre, ridge)
    found = transition.climb(arrays, free, n_steps) if n_steps and free else arrays
    solved = transition.solve(found)
    like = parts["bias"]
    if form.readout == "currents":
        moved = torch.as_tensor(found["bias"]).to(like) - like
        parts["offset"] = parts["offset"] - parts["loadings"] * moved
    parts |= {name: torch.as_tensor(found[name]).to(like) for name in free}
    parts["right_vectors"] = torch.as_tensor(solved.right.T * form.n_neurons).to(like)
    parts["drive"] = torch.as_tensor(solved.drive).to(like)
    parts["noise"] = free_numbers(torch.as_tensor(solved.covariance).to(like)[None], form.latent_noise)[0]


def rates_of(form: ParticleForm, parts: dict[str, Tensor], z: Tensor, v: Tensor) -> Tensor:
    """Return phi(m z + B v + b) of latents z (pair, R) and inputs v (pair, I), (pair, N)."""
    x = z @ parts["left_vectors"] + parts["bias"]
    if v.shape[1]:
        x = x + v @ parts["input_weights"]
    thresholds = torch.exp(parts["log_thresholds"]) if "log_thresholds" in parts else torch.zeros_like(parts["bias"])
    return cells.phi(form.nonlinearity, x, thresholds)
