"""Reduced-rank regression of each bin on the bins before, and its maximum-likelihood noise."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, eigh

from nwb_lrrnn.models.dis.pairs import Pairs, folds
from nwb_lrrnn.showing import in_short

Array = NDArray[np.floating]

RIDGES = 10.0 ** np.arange(-6, 1.5, 1.0)  # of the mean variance of the features
WIDEST = 512  # features beyond this many are replaced by as many of their principal axes


@dataclass(frozen=True)
class Linear:
    r"""The linear model of a bin given those before it, in scaled units.

    .. math:: z_t = B u_t + d + w_t, \quad y_t = A z_t + c + F v_t + e_t

    with w ~ N(0, Q), e ~ N(0, diag R); u_t are the features of the bins before and v_t inputs.
    """

    decoder: Array  # A (unit, latent)
    encoder: Array  # B (latent, feature)
    encoder_offset: Array  # d (latent,)
    offset: Array  # c (unit,)
    input_weights: Array  # F (unit, input)
    latent_noise: Array  # Q (latent, latent)
    noise: Array  # R (unit,)

    __repr__ = in_short

    def encode(self, features: Array) -> Array:
        """Return the delayed mean B u + d, (..., latent)."""
        return features @ self.encoder.T + self.encoder_offset

    def mixed(self, matrix: Array) -> Linear:
        """Return the same model in latents z' = M z."""
        return replace(
            self,
            decoder=self.decoder @ np.linalg.inv(matrix),
            encoder=matrix @ self.encoder,
            encoder_offset=matrix @ self.encoder_offset,
            latent_noise=matrix @ self.latent_noise @ matrix.T,
        )


@dataclass(frozen=True)
class PairMoments:
    """Sums over pairs, which add up over parts of a recording."""

    n: float
    first: Array  # (row,), of features, inputs and targets side by side
    second: Array  # (row, row)
    n_features: int
    n_inputs: int

    def __sub__(self, other: PairMoments) -> PairMoments:
        return replace(self, n=self.n - other.n, first=self.first - other.first, second=self.second - other.second)

    def centred(self) -> tuple[Array, Array]:
        """Return means (row,) and covariances (row, row)."""
        mean = self.first / self.n
        return mean, self.second / self.n - np.outer(mean, mean)


def moments_of(pairs: Pairs) -> PairMoments:
    """Return the sums of pairs."""
    rows = np.concatenate([pairs.features, pairs.inputs, pairs.targets], axis=1)
    return PairMoments(float(len(rows)), rows.sum(0), rows.T @ rows, pairs.features.shape[1], pairs.inputs.shape[1])


@dataclass(frozen=True)
class _Reduced:
    """Covariances with what the inputs explain taken out (Frisch & Waugh 1933)."""

    feature_mean: Array
    input_mean: Array
    target_mean: Array
    uu: Array
    uy: Array
    yy: Array
    of_inputs: Array  # (input, feature + unit): coefficients of features and targets on inputs
    n: float


def _reduce(moments: PairMoments) -> _Reduced:
    mean, cov = moments.centred()
    p, q = moments.n_features, moments.n_inputs
    u, v, y = slice(0, p), slice(p, p + q), slice(p + q, None)
    keep = np.r_[0:p, p + q : len(mean)]
    rest = cov[np.ix_(keep, keep)]
    of_inputs = np.zeros((q, len(keep)))
    if q:
        of_inputs = np.linalg.lstsq(cov[v, v], cov[v][:, keep], rcond=1e-10)[0]
        rest = rest - of_inputs.T @ cov[v, v] @ of_inputs
    uu, uy, yy = rest[:p, :p], rest[:p, p:], rest[p:, p:]
    if np.trace(uu) <= 1e-12 * np.trace(moments.second[u, u]) / moments.n:  # features that never change: rounding
        uu, uy = np.zeros_like(uu), np.zeros_like(uy)
    return _Reduced(mean[u], mean[v], mean[y], uu, uy, yy, of_inputs, moments.n)


def principal_axes(x: Array, most: int) -> Array:
    """Return the leading principal axes of the rows of x (row, column), (column, axis): at most `most`."""
    centred = x - x.mean(axis=0)
    n, p = x.shape
    if n > p:
        return eigh(centred.T @ centred, subset_by_index=(max(p - most, 0), p - 1))[1][:, ::-1]
    values, vectors = np.linalg.eigh(centred @ centred.T)
    values, vectors = values[::-1][:most], vectors[:, ::-1][:, :most]
    there = values > 1e-10 * max(values[0], 1e-300)  # a centred row is one too many
    there[0] = True
    return centred.T @ (vectors[:, there] / np.sqrt(np.maximum(values[there], 1e-300)))


def narrow(x: Array) -> tuple[Array, Array | None]:
    """Return rows of few columns, and the axes (column, axis) that they are on; None: they are as they were."""
    if x.shape[1] <= WIDEST:
        return x, None
    axes = principal_axes(x, WIDEST)
    return x @ axes, axes


def _coefficients(data: _Reduced, ridge: float) -> Array:
    """Return C (feature, unit) of the ridge regression of targets on features."""
    penalty = ridge * max(float(np.trace(data.uu)) / len(data.uu), 1e-300)
    return np.linalg.solve(data.uu + penalty * np.eye(len(data.uu)), data.uy)


def _reduced_rank(data: _Reduced, rank: int, ridge: float, floor: Array, n_passes: int = 3) -> tuple[Array, Array]:
    """Return A (unit, latent) and B (latent, feature) of the reduced-rank regression, weighted by the residuals.

    For given residual variances s^2 it is the global optimum: with C the ridge solution and V the leading right
    singular vectors of U C diag(1/s), B = V^T diag(1/s) C^T and A = diag(s) V (Izenman 1975).
    """
    full = _coefficients(data, ridge)
    sd = np.sqrt(np.maximum(np.diag(data.yy), floor))
    decoder = encoder = np.zeros((0, 0))
    for k in range(n_passes):
        axes = _directions(data.uu, full / sd, rank)
        encoder, decoder = (axes.T / sd) @ full.T, sd[:, None] * axes
        if k == n_passes - 1:
            break
        explained = decoder @ encoder  # (unit, feature)
        residual = np.diag(data.yy) + (explained * (explained @ data.uu - 2 * data.uy.T)).sum(axis=1)
        sd = np.sqrt(np.maximum(residual, floor))
    return decoder, encoder


def _directions(uu: Array, full: Array, rank: int) -> Array:
    """Return the leading axes (unit, axis) of the predictions U C: right singular vectors, from the smaller side."""
    n_features, n_units = full.shape
    if n_features >= n_units or rank > n_features:
        return np.linalg.eigh(full.T @ uu @ full)[1][:, ::-1][:, :rank]
    values, vectors = np.linalg.eigh(uu)
    half = np.sqrt(np.maximum(values, 0.0))[:, None] * (vectors.T @ full)  # (feature, unit)
    leading = np.linalg.eigh(half @ half.T)[1][:, ::-1][:, :rank]
    return np.linalg.qr(half.T @ leading)[0]


def fit(pairs: Pairs, rank: int, floor: Array, *, ridge: float | None = None, n_iter: int = 200):
    """Return the maximum-likelihood `Linear` of pairs, and its log-likelihood per pair at every iteration (iteration,).

    Reduced-rank regression, then expectation maximisation of A, B and the noise of latents and units.

    Parameters
    ----------
    pairs : Pairs
    rank : int
    floor : array (unit,)
        Least noise variance of each unit.
    ridge : float, optional
        Penalty of the encoder, in units of the mean variance of the features; None: by cross-validation.
    n_iter : int
        Most iterations of expectation maximisation.
    """
    ridge = best_ridge(pairs, rank, floor)[0] if ridge is None else ridge
    features, axes = narrow(pairs.features)
    data = _reduce(moments_of(replace(pairs, features=features)))
    decoder, encoder = _reduced_rank(data, rank, ridge, floor)
    *parts, values = _noise(data, decoder, encoder, floor, ridge, n_iter)
    linear = _assembled(data, *parts)
    return linear if axes is None else replace(linear, encoder=linear.encoder @ axes.T), np.array(values)


def with_noise(pairs: Pairs, decoder: Array, encoder: Array, floor: Array, n_iter: int = 200) -> Linear:
    """Return the model of given A (unit, latent) and B (latent, feature), everything else at its maximum likelihood."""
    codes = replace(pairs, features=pairs.features @ encoder.T)  # all that a given encoder reads
    data, same = _reduce(moments_of(codes)), np.eye(len(encoder))
    _, _, latent_noise, noise, _ = _noise(data, decoder, same, floor, 0.0, n_iter, is_fixed=True)
    return replace(_assembled(data, decoder, same, latent_noise, noise), encoder=encoder)


def best_ridge(pairs: Pairs, rank: int, floor: Array, candidates: Array = RIDGES) -> tuple[float, float]:
    """Return the ridge whose reduced-rank regression predicts held-out folds of pairs best, and its loss.

    The loss is the sum over held-out pairs and units of the log of their mean squared errors.
    """
    pairs = replace(pairs, features=narrow(pairs.features)[0])
    whole, rows = moments_of(pairs), folds(pairs)
    if len(rows) < 2:
        return float(candidates[0]), 0.0
    losses = np.zeros(len(candidates))
    for held in rows:
        part = moments_of(pairs.take(held))
        data = _reduce(whole - part)
        for k, ridge in enumerate(candidates):
            decoder, encoder = _reduced_rank(data, rank, float(ridge), floor, n_passes=1)
            model = _assembled(data, decoder, encoder, np.zeros((rank, rank)), floor)
            errors = _errors(model, pairs.take(held))
            losses[k] += part.n * np.log(np.maximum((errors**2).mean(0), floor)).sum()
    best = int(np.argmin(losses))
    return float(candidates[best]), float(losses[best])


def _errors(model: Linear, pairs: Pairs) -> Array:
    """Return what one-step predictions miss, (pair, unit)."""
    given = model.encode(pairs.features) @ model.decoder.T + model.offset + pairs.inputs @ model.input_weights.T
    return pairs.targets - given


def _noise(data: _Reduced, decoder, encoder, floor, ridge, n_iter: int, is_fixed: bool = False):
    """Return A, B, Q, R after expectation maximisation, on covariances alone.

    E: z | u, y has mean B u + G (y - A B u) and covariance P = (Q^-1 + A^T R^-1 A)^-1, G = P A^T R^-1. M: regressions
    of y on z and of z on u.
    """
    rank = decoder.shape[1]
    size = max(float(np.trace(data.uu)) / len(data.uu), 1e-300)
    solver = cho_factor(data.uu + (ridge + 1e-12) * size * np.eye(len(data.uu)))
    shown = encoder @ data.uu @ encoder.T
    if not is_fixed:
        root = np.linalg.cholesky(shown + (1e-12 * np.trace(shown) + 1e-300) * np.eye(rank))
        encoder, decoder = np.linalg.solve(root, encoder), decoder @ root  # predictions of unit variance
        shown = np.eye(rank)
    residual = np.diag(data.yy) - np.einsum("ir,ri->i", decoder, 2 * (encoder @ data.uy) - shown @ decoder.T)
    noise = np.maximum(0.9 * residual, floor)
    latent_noise = 0.1 * shown + (1e-9 * np.trace(shown) / rank + 1e-300) * np.eye(rank)
    values: list[float] = []
    for _ in range(n_iter):
        weighted = decoder / noise[:, None]  # R^-1 A
        precision = np.linalg.inv(latent_noise) + decoder.T @ weighted
        covariance = np.linalg.inv(precision)
        gain = covariance @ weighted.T  # G (latent, unit)
        keep = np.eye(rank) - gain @ decoder
        of_u = keep @ encoder  # m = of_u u + gain y
        my = of_u @ data.uy + gain @ data.yy  # (latent, unit)
        mu = of_u @ data.uu + gain @ data.uy.T  # (latent, feature)
        mm = of_u @ mu.T + gain @ my.T
        mm = 0.5 * (mm + mm.T) + covariance
        value = _evidence(data, decoder, encoder, latent_noise, noise, precision)
        done = len(values) > 0 and value - values[-1] < 1e-7 * len(noise)
        values.append(value)
        if done:
            break
        if not is_fixed:
            decoder = np.linalg.solve(mm, my).T
            encoder = cho_solve(solver, mu.T).T
        cross = encoder @ mu.T
        latent_noise = mm - cross - cross.T + encoder @ data.uu @ encoder.T
        latent_noise = 0.5 * (latent_noise + latent_noise.T) + 1e-9 * np.trace(mm) / rank * np.eye(rank)
        noise = np.diag(data.yy) + (decoder * (decoder @ mm - 2 * my.T)).sum(axis=1)
        noise = np.maximum(noise, floor)
    return decoder, encoder, latent_noise, noise, values


def _evidence(data: _Reduced, decoder, encoder, latent_noise, noise, precision) -> float:
    """Return the mean log-likelihood of a pair."""
    shown, told = encoder @ data.uu @ encoder.T, encoder @ data.uy  # (latent, latent) and (latent, unit)
    residual = np.diag(data.yy) - np.einsum("ir,ri->i", decoder, 2 * told - shown @ decoder.T)
    weighted = decoder / noise[:, None]
    seen, cross = weighted.T @ decoder, told @ weighted
    inner = weighted.T @ data.yy @ weighted - seen @ cross - (seen @ cross).T + seen @ shown @ seen.T
    quadratic = (residual / noise).sum() - np.trace(np.linalg.solve(precision, inner))
    log_det = np.log(noise).sum() + np.linalg.slogdet(latent_noise)[1] + np.linalg.slogdet(precision)[1]
    return float(-0.5 * (quadratic + log_det + len(noise) * np.log(2 * np.pi)))


def _assembled(data: _Reduced, decoder, encoder, latent_noise, noise) -> Linear:
    """Return the model with constants and inputs put back."""
    p = len(data.feature_mean)
    input_weights = (data.of_inputs[:, p:] - data.of_inputs[:, :p] @ encoder.T @ decoder.T).T  # (unit, input)
    offset = data.target_mean - input_weights @ data.input_mean
    return Linear(decoder, encoder, -encoder @ data.feature_mean, offset, input_weights, latent_noise, noise)
