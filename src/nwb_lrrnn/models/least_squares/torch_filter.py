"""The extended Kalman filter and smoother in plain torch, all trials at once: the mirror of `kernels.extended_kalman`.

Nothing in the loop over bins waits for the device.
"""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from nwb_lrrnn.dynamics import LowRankDynamics
from nwb_lrrnn.dynamics.likelihoods import Likelihood
from nwb_lrrnn.models.kernels.kalman_types import Law, Network, Posterior, Readout
from nwb_lrrnn.models.networks import cells
from nwb_lrrnn.models.observation import likelihoods

_NEWTON_STEPS = 12
_HALVINGS = 4
_LIFT = 1e-13  # of the mean variance, added to it: what is certain has a root too


def run(
    network: LowRankDynamics,
    lengths: NDArray,
    moves: Network,
    law: Law,
    readout: Readout,
    rule: tuple[NDArray, NDArray],
    device: torch.device,
    goes_back: bool,
) -> Posterior:
    """Return the posterior of trials as arrays; see `filtering.smooth`."""

    def on_device(array) -> Any:
        return torch.as_tensor(array, device=device) if not isinstance(array, float) else array

    parts: list[Any] = [type(part)(*(on_device(array) for array in part)) for part in (moves, law, readout)]
    likelihood = Likelihood(network.likelihood, str(network.link), network.dt)
    ends, points = on_device(lengths), [on_device(array) for array in rule]
    found = posterior(network.nonlinearity, likelihood, ends, parts[0], parts[1], parts[2], points, goes_back)
    return Posterior(*(tensor.cpu().numpy() for tensor in found))


@torch.no_grad()
def posterior(
    nonlinearity: str,
    likelihood: Likelihood,
    lengths: Tensor,
    moves: Network,
    law: Law,
    readout: Readout,
    rule: list[Tensor],
    goes_back: bool,
) -> Posterior:
    """Return the posterior of trials as tensors."""
    n_trials, n_steps, _ = readout.values.shape
    rank = len(law.noise)
    see: Any = _see_values if likelihood.name == "gaussian" else _see_counts
    predicted, filtered, increments, before, after, jacobians = [], [], [], [], [], []
    z = cov = None
    for t in range(n_steps):
        if z is None or cov is None:
            mean, prior = law.initial, law.initial_covariance.expand(n_trials, rank, rank)
        else:
            push, v = (_at(array, t - 1) for array in (moves.push, moves.inputs))
            mean, jacobian = _move(nonlinearity, moves, push, v, z)
            prior = _symmetric(jacobian @ cov @ jacobian.mT) + law.noise
            jacobians.append(jacobian)
        seen, offset = readout.seen[:, t].to(mean.dtype), _at(readout.offsets, t)
        z_next, cov_next, value = see(likelihood, readout, readout.values[:, t], seen, offset, mean, prior, rule)
        inside = (t < lengths)[:, None]
        z = torch.where(inside, z_next, mean.new_zeros(()))
        cov = torch.where(inside[..., None], cov_next, mean.new_zeros(()))
        predicted.append(torch.where(inside, mean, mean.new_zeros(())))
        filtered.append(z)
        before.append(prior)
        after.append(cov)
        increments.append(torch.where(inside[:, 0], value, mean.new_zeros(())))
    covariances, smoothed, cross = after, filtered, [law.noise.expand(n_trials, rank, rank) * 0.0] * (n_steps - 1)
    if goes_back:
        smoothed, covariances, cross = _go_back(lengths, jacobians, law.noise, predicted, filtered, before, after)
    crosses = torch.stack(cross, 1) if cross else law.noise.new_zeros((n_trials, 0, rank, rank))
    a, b, c, d, e = (torch.stack(path, 1) for path in (predicted, filtered, smoothed, covariances, increments))
    return Posterior(predicted=a, filtered=b, smoothed=c, covariances=d, cross=crosses, increments=e)


def _at(array: Tensor, t: int) -> Tensor:
    return array[:, t % array.shape[1]]


def _move(nonlinearity: str, moves: Network, push: Tensor, v: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Return where the network goes from z (trial, R), and its Jacobian there (trial, R, R)."""
    x = z @ moves.left + moves.bias
    if v.shape[-1]:
        x = x + v @ moves.input_weights
    mean = moves.decay * z + push + cells.phi(nonlinearity, x, moves.thresholds) @ moves.right.mT
    gain = cells.slope(nonlinearity, x, moves.thresholds)
    eye = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
    return mean, (moves.right * gain[:, None]) @ moves.left.mT + moves.decay * eye


def _see_values(likelihood, readout: Readout, y, seen, offset, mean, prior, rule) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean, covariance and log evidence of one bin of Gaussian values."""
    error = (y - offset - mean @ readout.loadings.mT) * seen
    weighted = (seen / readout.spread)[..., None] * readout.loadings  # (trial, unit, R)
    root = _root(prior)
    inner = root.mT @ (weighted.mT @ readout.loadings) @ root
    lower = torch.linalg.cholesky_ex(inner + torch.eye(mean.shape[1], dtype=y.dtype, device=y.device))[0]
    half = torch.linalg.solve_triangular(lower, root.mT, upper=False)
    covariance = half.mT @ half
    slope = (weighted * error[..., None]).sum(1)
    shift = (covariance @ slope[..., None])[..., 0]
    log_det = 2.0 * torch.log(lower.diagonal(dim1=1, dim2=2)).sum(1)
    power = (error**2 / readout.spread).sum(1) - (slope * shift).sum(1)
    return mean + shift, covariance, -0.5 * (power + log_det)


def _see_counts(likelihood, readout: Readout, y, seen, offset, mean, prior, rule) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean, covariance and log evidence of one bin of counts, by its first two moments about the mode."""
    root = _root(prior)
    white = readout.loadings @ root  # (trial, unit, R)
    eta = offset + mean @ readout.loadings.mT
    eye = torch.eye(mean.shape[1], dtype=y.dtype, device=y.device)

    def value(x: Tensor) -> Tensor:
        return (likelihoods.value(likelihood, y, eta + (white @ x[..., None])[..., 0], readout.spread) * seen).sum(1)

    def density(x: Tensor) -> Tensor:
        return value(x) - 0.5 * (x**2).sum(1)

    def terms(x: Tensor, information) -> tuple[Tensor, Tensor]:
        at = eta + (white @ x[..., None])[..., 0]
        slope, fisher = information(likelihood, y, at, readout.spread)
        precision = white.mT @ (white * (fisher * seen)[..., None]) + eye
        return (white * (slope * seen)[..., None]).sum(1) - x, precision

    x = torch.zeros_like(mean)
    for _ in range(_NEWTON_STEPS):
        gradient, precision = terms(x, likelihoods.derivatives)
        step = torch.linalg.solve_ex(precision, gradient[..., None])[0][..., 0]
        base = density(x)
        factor = torch.full_like(base, 0.25**_HALVINGS)
        for k in reversed(range(_HALVINGS)):
            better = density(x + 0.25**k * step) >= base - 1e-12 * (1.0 + base.abs())
            factor = torch.where(better, torch.full_like(factor, 0.25**k), factor)
        x = x + factor[:, None] * step
    precision = terms(x, _curved)[1]
    lower = torch.linalg.cholesky_ex(precision)[0]
    moved = torch.linalg.solve_triangular(lower.mT, rule[0].mT.expand(len(x), -1, -1), upper=True)
    points = x[:, None] + moved.mT  # (trial, node, R)
    sizes = 0.5 * (rule[0] ** 2).sum(1)
    masses = torch.stack([density(points[:, k]) + sizes[k] for k in range(points.shape[1])], 1) + torch.log(rule[1])
    total = torch.logsumexp(masses, 1)
    shares = torch.exp(masses - total[:, None])[..., None]
    centre = (shares * points).sum(1)
    away = points - centre[:, None]
    inner = (shares * away).mT @ away
    evidence = total - torch.log(lower.diagonal(dim1=1, dim2=2)).sum(1)
    blind = ~(seen > 0).any(1)  # nothing seen: the nodes would tell of themselves
    after = mean + (root @ centre[..., None])[..., 0]
    covariance = torch.where(blind[:, None, None], prior, _symmetric(root @ inner @ root.mT))
    return torch.where(blind[:, None], mean, after), covariance, torch.where(blind, 0.0 * evidence, evidence)


def _curved(likelihood: Likelihood, y: Tensor, eta: Tensor, spread: Tensor) -> tuple[Tensor, Tensor]:
    """Return the slope of ln p(y | eta), and minus its curvature as the kernel has it, by differences of the slope."""
    slope, fisher = likelihoods.derivatives(likelihood, y, eta, spread)
    if likelihood.name == "negative_binomial" and likelihood.link == "softplus":
        return slope, fisher  # the curvature may have either sign
    step = 1e-5 * (1.0 + eta.abs())
    above, below = (likelihoods.derivatives(likelihood, y, eta + sign * step, spread)[0] for sign in (1.0, -1.0))
    return slope, torch.clamp((below - above) / (2.0 * step), min=0.0)


def _go_back(lengths, jacobians, noise, predicted, filtered, before, after) -> tuple[list, list, list]:
    """Return smoothed means, covariances and lag-one cross-covariances (Rauch, Tung & Striebel 1965)."""
    eye = torch.eye(len(noise), dtype=noise.dtype, device=noise.device)
    smoothed, covariances, cross = [filtered[-1]], [after[-1]], []
    for t in range(len(filtered) - 2, -1, -1):
        root = _root(before[t + 1])
        gain = torch.cholesky_solve(jacobians[t] @ after[t], root).mT
        goes_on = (t + 1 < lengths)[:, None]
        mean = filtered[t] + (gain @ (smoothed[-1] - predicted[t + 1])[..., None])[..., 0]
        shrink = eye - gain @ jacobians[t]
        covariance = shrink @ after[t] @ shrink.mT + gain @ (covariances[-1] + noise) @ gain.mT
        pair = covariances[-1] @ gain.mT
        cross.append(torch.where(goes_on[..., None], pair, torch.zeros_like(pair)))
        covariances.append(torch.where(goes_on[..., None], _symmetric(covariance), after[t]))
        smoothed.append(torch.where(goes_on, mean, filtered[t]))
    return smoothed[::-1], covariances[::-1], cross[::-1]


def _root(covariance: Tensor) -> Tensor:
    """Return L with L L^T = covariance (trial, R, R), a little more where it is singular."""
    rank = covariance.shape[-1]
    size = covariance.diagonal(dim1=1, dim2=2).mean(1)[:, None, None]
    eye = torch.eye(rank, dtype=covariance.dtype, device=covariance.device)
    return torch.linalg.cholesky_ex(covariance + (_LIFT * size + 1e-300) * eye)[0]


def _symmetric(matrix: Tensor) -> Tensor:
    return 0.5 * (matrix + matrix.mT)
