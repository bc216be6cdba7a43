"""Networks of infinitely many neurons: covariance of their fields, and the laws of encoders that samples speak for.

With n ~ N(0, s² / N), m ~ N(0, diag(a²)) and b ~ N(0, c²), the field nᵀ phi(m z + b) becomes a Gaussian process with
covariance s² K(z, z'), of which erf (Williams 1998) and relu (Cho & Saul 2009) have closed forms.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg
from scipy.optimize import minimize

from nwb_lrrnn.dynamics import nonlinearity as nonlinearities

Array = NDArray[np.floating]

KERNELS = ("erf", "relu")
_WIDEST = 30.0  # s, in standard deviations of the targets: polynomial fields ask for ever more of ever flatter neurons
_SURE = 1e-2  # least noise of the targets, in the same, under the likelihood
_FLOOR = 1e-6  # and under the evidence of a finite network
_REACH = np.log(55.0)  # of a and c, on either side of 1


@dataclass(frozen=True)
class Law:
    """Law of the neurons and of the noise, for latents and targets of standard deviation 1."""

    encoder_scale: Array  # a (R,), of latents and inputs
    bias_scale: float  # c
    weight_scale: Array  # s (K,)
    noise: Array  # standard deviation of the noise of each target (K,)
    log_likelihood: float


def kernel(name: str, left: Array, right: Array, encoder_scale: Array, bias_scale: float) -> Array:
    """Return K (A, B) between points (A, R) and (B, R), in closed form."""
    square = np.square(encoder_scale)
    cross = (left * square) @ right.T + bias_scale**2
    own_left = (left**2 @ square + bias_scale**2)[:, None]
    own_right = (right**2 @ square + bias_scale**2)[None, :]
    if name == "erf":
        half = np.pi / 2
        within = half * cross / np.sqrt((1 + half * own_left) * (1 + half * own_right))
        return 2 / np.pi * np.arcsin(np.clip(within, -1.0, 1.0))
    size = np.sqrt(own_left * own_right)
    cosine = np.clip(cross / np.maximum(size, 1e-300), -1.0, 1.0)
    angle = np.arccos(cosine)
    return size / (2 * np.pi) * (np.sin(angle) + (np.pi - angle) * cosine)


def own_kernel(name: str, points: Array, encoder_scale: Array, bias_scale: float) -> Array:
    """Return K(z, z) (A,) at points (A, R)."""
    own = points**2 @ np.square(encoder_scale) + bias_scale**2
    return own / 2 if name == "relu" else 2 / np.pi * np.arcsin(np.pi / 2 * own / (1 + np.pi / 2 * own))


def most_likely(name: str, points: Array, targets: Array) -> Law:
    """Return the law of the greatest likelihood of targets (T, K) at points (T, R), within bounds.

    Scales of relu are known only up to their ratio: its encoders have scale 1. The gradient is the usual
    (alpha alphaᵀ - C⁻¹) / 2, with the derivative of K itself by differences.
    """
    rank, n_targets = points.shape[1], targets.shape[1]
    n_scales = 1 if name == "relu" else rank + 1
    low = np.concatenate([np.full(n_scales, -_REACH), np.full(n_targets, -5.0), np.full(n_targets, np.log(_SURE))])
    high = np.concatenate([np.full(n_scales, _REACH), np.full(n_targets, np.log(_WIDEST)), np.full(n_targets, 1.0)])

    def at(scales: Array) -> Array:
        a = np.ones(rank) if name == "relu" else np.exp(scales[:-1])
        return kernel(name, points, points, a, float(np.exp(scales[-1])))

    def loss(theta: Array) -> tuple[float, Array]:
        scales, wide, noise = np.split(theta, [n_scales, n_scales + n_targets])
        base, total, pull = at(scales), 0.0, np.zeros((len(points), len(points)))
        gradient = np.zeros_like(theta)
        for k in range(n_targets):
            signal, floor = np.exp(2 * wide[k]), np.exp(2 * noise[k])
            root = linalg.cholesky(signal * base + floor * np.eye(len(base)), lower=True, check_finite=False)
            inverse = linalg.cho_solve((root, True), np.eye(len(base)), check_finite=False)
            alpha = inverse @ targets[:, k]
            total += 0.5 * targets[:, k] @ alpha + np.log(np.diag(root)).sum()
            toward = 0.5 * (inverse - np.outer(alpha, alpha))
            pull += signal * toward
            gradient[n_scales + k] = 2 * signal * (toward * base).sum()
            gradient[n_scales + n_targets + k] = 2 * floor * np.trace(toward)
        for i in range(n_scales):
            step = np.zeros(n_scales)
            step[i] = 1e-5
            gradient[i] = (pull * (at(scales + step) - at(scales - step))).sum() / 2e-5
        return total, gradient

    start = np.concatenate([np.zeros(n_scales + n_targets), np.full(n_targets, np.log(0.1))])
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=list(zip(low, high, strict=True)))
    scales, wide, noise = np.split(found.x, [n_scales, n_scales + n_targets])
    if name == "relu" and scales[-1] > 0.98 * _REACH:
        raise ValueError(
            "tune: 'likelihood' moves the kinks of relu out of the data (biases at their bound), where finite networks "
            "are blind; use tune='evidence'"
        )
    a = np.ones(rank) if name == "relu" else np.exp(scales[:-1])
    constant = 0.5 * targets.size * np.log(2 * np.pi)
    return Law(a, float(np.exp(scales[-1])), np.exp(wide), np.exp(noise), -float(found.fun) - constant)


def most_evident(name: str, points: Array, targets: Array, n_neurons: int, rng: np.random.Generator) -> Law:
    """Return the law under which a network of `n_neurons`, drawn once, has the greatest evidence.

    What the neurons are is fixed but for the scales, Phi = phi(Z (a e)ᵀ + c e_b); then with singular values d of
    Phi / sqrt(N) and ratio = noise² / s²: ln p = -sum ln(1 + d² / ratio) / 2 - T ln(noise²) / 2 - q / (2 noise²), one
    noise for all targets, at its best.
    """
    e, e_b = rng.standard_normal((n_neurons, points.shape[1])), rng.standard_normal(n_neurons)
    n_samples, rank = points.shape

    def parts(theta: Array) -> tuple[float, Array, Array]:
        """Return the evidence, its gradient, and the noise of each target."""
        a, c, ratio = np.exp(theta[:rank]), np.exp(theta[rank]), np.exp(theta[-1])
        x = points @ (e * a).T + c * e_b
        rates = nonlinearities.phi(name, x) / np.sqrt(n_neurons)
        axes, sizes, directions = np.linalg.svd(rates, full_matrices=False)  # a Gram matrix would lose half the digits
        along, spread = axes.T @ targets, 1.0 + sizes**2 / ratio
        left = (targets**2).sum(0) - (along**2).sum(0)
        q = left + (along**2 / spread[:, None]).sum(0)
        each = np.maximum(q / n_samples, _FLOOR**2)
        noise = np.full(len(q), each.mean())  # shared, or a target that is linear buys its exactness with the others
        value = -0.5 * len(noise) * np.log(spread).sum() - 0.5 * (n_samples * np.log(noise) + q / noise).sum()
        # with B = I + Phi Phiᵀ / ratio and alpha = B⁻¹ y: d ln p / d Phi = (alpha alphaᵀ / noise² - B⁻¹) Phi / ratio
        alpha = targets - axes @ (along * (1.0 - 1.0 / spread)[:, None])
        pull = (alpha / noise) @ (alpha.T @ rates) - len(noise) * (axes * (sizes / spread)) @ directions
        through = pull / ratio * nonlinearities.slope(name, x) / np.sqrt(n_neurons)  # (T, N)
        of_ratio = len(noise) * (1.0 - 1.0 / spread).sum()
        of_ratio -= ((along**2 * ((spread - 1.0) / spread**2)[:, None]).sum(0) / noise).sum()
        gradient = [*(a * ((points.T @ through) * e.T).sum(1)), c * (through @ e_b).sum(), 0.5 * of_ratio]
        return float(value), np.array(gradient), np.sqrt(each)

    def loss(theta: Array) -> tuple[float, Array]:
        value, gradient, _ = parts(theta)
        return -value, -gradient

    bounds = [(-_REACH, _REACH)] * (rank + 1) + [(np.log(1e-12), np.log(1e2))]
    start = np.concatenate([np.zeros(rank + 1), [np.log(1e-4)]])
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 100})
    value, _, noise = parts(found.x)
    scale = noise / np.exp(found.x[-1] / 2)
    constant = 0.5 * targets.size * np.log(2 * np.pi)
    return Law(np.exp(found.x[:rank]), float(np.exp(found.x[rank])), scale, noise, value - constant)
