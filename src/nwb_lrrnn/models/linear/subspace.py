r"""Where EM starts when the units hide a latent: subspace identification (Van Overschee & De Moor 1996).

Lambda_l = Cov(y_{t+l}, y_t) = C A^l P C^T for every lag l >= 1: noise that is independent between bins drops out, and
a latent that no single bin shows is seen in the lags. The stacked Lambda_l, a block Hankel matrix, have the rank of
the latents (Ho & Kalman 1966); their factorisation, each side whitened, gives C and A (for counts: Buesing, Macke &
Sahani 2012; here on the scale of the counts, where covariances of lags >= 1 are those of the rates).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import block_diag
from scipy.optimize import nnls

from nwb_lrrnn.models.linear.observations import Observations
from nwb_lrrnn.models.linear.system import LinearSystem

Array = NDArray[np.floating]

_LARGEST = 0.999  # modulus that estimated eigenvalues shrink to
_MOST_BLOCKS = 30  # block rows of the Hankel matrix
_MOST_ROWS = 120  # of the Hankel matrix: its decompositions take a few ms
_BINS_PER_ROW = 8  # fewer, and the whitening of its sides fits noise
_WHITENING_FLOORS = (0.05, 5.0)  # least variance of a side, over its mean: whitened, and nearly as it is
_LEAST_SHARE = 1e-3  # of a unit's variance that a latent starts with: EM never finds a latent that nothing reads


def starts_from_subspace(data: Observations, rank: int) -> list[LinearSystem]:
    """Return linear Gaussian systems for standardised observations; none where trials are too short for one.

    Their latents are the modes of A (a real eigenvalue or a conjugate pair each), independent and of variance 1. They
    differ in how far the Hankel matrix reaches and how its sides are weighted: long lags tell slow oscillations, short
    ones are surer; whitened sides tell weak latents beside strong ones, plain ones are surer.
    """
    n_steps = int(np.median(np.repeat(data.lengths, data.lengths)))  # half of the bins are in trials as long as this
    width = min(data.values.shape[2], max(2 * rank, rank + 6))  # directions that the Hankel matrix is made of
    n_rows = min(_MOST_ROWS, data.n_bins / _BINS_PER_ROW)
    # lags stop at two thirds of a trial: few pairs of bins are further apart
    n_blocks = min(max(n_steps // 3, 2), _MOST_BLOCKS, max(int(n_rows // width), 2))
    if n_steps < 2 * n_blocks or (n_blocks - 1) * width < rank:
        return []
    values = data.values if data.inputs is None else _without_inputs(data, data.inputs, n_blocks)
    basis = _visible_directions(values, data.weights, width)
    lags = _lagged_covariances(values, data.weights, basis, 2 * n_blocks)
    found = []
    for reach in sorted({n_blocks, max(n_blocks // 2, 2)}):
        for floor in _WHITENING_FLOORS:
            near = lags[: 2 * reach]
            transition, shown, strength = _explained(_modes(*_realise(near, reach, rank, floor)), near)
            found.append(_system(data, transition, basis @ shown, strength))
    return found


def _system(data: Observations, transition: Array, loadings: Array, strength: Array) -> LinearSystem:
    """Return the system of stationary covariance I; latents of modes that nothing reads get factors left over."""
    n_units, rank = loadings.shape
    lost = strength < _LEAST_SHARE * n_units
    if lost.any():
        loadings = np.where(lost, 0.0, loadings)
        flat = data.values.reshape(-1, n_units)
        rest = flat.T @ flat / data.n_bins - loadings @ loadings.T
        values, vectors = np.linalg.eigh(rest - np.diag(np.diag(rest)))
        size = np.sqrt(np.maximum(values[::-1], _LEAST_SHARE * n_units))
        loadings[:, lost] = (vectors[:, ::-1] * size)[:, : lost.sum()]
    power = data.squares.sum(axis=0) / np.maximum(data.n_observed, 1.0)
    variance = np.maximum(power - (loadings**2).sum(axis=1), np.maximum(0.05, data.floor))
    eye, zero = np.eye(rank), np.zeros(rank)
    blank = None if data.inputs is None else np.zeros((rank, data.inputs.shape[2]))
    return LinearSystem(
        transition,
        zero,
        eye - transition @ transition.T,  # A is normal and |lambda| < 1, so this is positive
        zero,
        eye,
        loadings,
        np.zeros(n_units),
        variance,
        input_weights=blank,
        initial_input_weights=blank,
    )


# --- covariances -----------------------------------------------------------------------------------------------------


def _without_inputs(data: Observations, inputs: Array, n_lags: int) -> Array:
    """Return the observations less their regression on the inputs of this bin and the last `n_lags`."""
    n_trials, n_steps, n_inputs = inputs.shape
    past = np.zeros((n_trials, n_steps, n_lags + 1, n_inputs))
    for lag in range(n_lags + 1):
        past[:, lag:, lag] = inputs[:, : n_steps - lag]
    flat = past.reshape(n_trials * n_steps, -1)
    size = flat.std(axis=0)
    flat = (flat - flat.mean(axis=0)) / np.where(size > 0, size, 1.0)  # inputs come in any unit
    y = data.values.reshape(len(flat), -1)  # 0 where unobserved
    square = flat.T @ flat
    square[np.diag_indices_from(square)] += 1e-3 * len(flat)  # lags of a smooth input repeat each other
    residual = (y - flat @ np.linalg.solve(square, flat.T @ y)).reshape(data.values.shape)
    return residual * (data.weights if data.masked_by_unit else data.weights[..., None])


def _visible_directions(values: Array, weights: Array, width: int) -> Array:
    """Return an orthonormal basis (unit, direction) of what neighbouring bins share, strongest first."""
    if width == values.shape[2]:
        return np.eye(width)
    products = [_lagged(values, weights, lag) for lag in (1, 2)]
    stacked = np.concatenate([*products, *(p.T for p in products)], axis=1)
    return np.linalg.eigh(stacked @ stacked.T)[1][:, : -width - 1 : -1]  # its left singular vectors


def _lagged_covariances(values: Array, weights: Array, basis: Array, n_lags: int) -> Array:
    """Return Lambda_l of lags 0 to n_lags - 1 in the basis, (lag, direction, direction)."""
    if weights.ndim == 3:  # every pair of units has bins of its own, so the basis comes last
        return np.stack([basis.T @ _lagged(values, weights, lag) @ basis for lag in range(n_lags)])
    shown = values @ basis
    return np.stack([_lagged(shown, weights, lag) for lag in range(n_lags)])


def _lagged(values: Array, weights: Array, lag: int) -> Array:
    """Return Cov(y_{t+lag}, y_t), (unit, unit), over the pairs of bins of one trial that are both observed."""
    n_steps, n_units = values.shape[1:]
    after, before = values[:, lag:].reshape(-1, n_units), values[:, : n_steps - lag].reshape(-1, n_units)
    if weights.ndim == 2:
        pairs = np.vdot(weights[:, lag:], weights[:, : n_steps - lag])
    else:
        pairs = weights[:, lag:].reshape(-1, n_units).T @ weights[:, : n_steps - lag].reshape(-1, n_units)
    return after.T @ before / np.maximum(pairs, 1.0)


# --- realisation -----------------------------------------------------------------------------------------------------


def _realise(lags: Array, n_blocks: int, rank: int, floor: float) -> tuple[Array, Array]:
    """Return A and C whose C A^l span the rows of the block Hankel matrix H_ij = Lambda_{i+j+1}.

    H = Cov(future, past), future = (y_t, y_{t+1}, ..), past = (y_{t-1}, y_{t-2}, ..); its singular vectors once both
    are white are the canonical variates (CVA, Van Overschee & De Moor 1996, chapter 3).
    """
    width = lags.shape[1]
    block = np.arange(n_blocks)
    hankel = _blocks(lags[block[:, None] + block + 1])
    apart = block[:, None] - block
    signed = np.concatenate([lags, lags[:0:-1].transpose(0, 2, 1)])  # index -l is Lambda_{-l} = Lambda_l^T
    root, white_future = _roots(_blocks(signed[apart]), floor)
    _, white_past = _roots(_blocks(signed[-apart]), floor)
    left, sizes, _ = np.linalg.svd(white_future @ hankel @ white_past)
    observability = root @ (left[:, :rank] * np.sqrt(sizes[:rank]))  # rows C A^l
    transition = np.linalg.pinv(observability[:-width], rcond=1e-8) @ observability[width:]
    return transition, observability[:width]


def _blocks(blocks: Array) -> Array:
    """Return a matrix from (block row, block column, row, column)."""
    n, m, width, _ = blocks.shape
    return blocks.transpose(0, 2, 1, 3).reshape(n * width, m * width)


def _roots(covariance: Array, floor: float) -> tuple[Array, Array]:
    """Return the symmetric square root and its inverse; estimates from unequal pairs of bins need not be positive."""
    values, vectors = np.linalg.eigh(covariance)
    values = np.sqrt(np.maximum(values, max(floor * values.mean(), 1e-12)))
    return (vectors * values) @ vectors.T, (vectors / values) @ vectors.T


def _modes(transition: Array, shown: Array) -> list[tuple[Array, Array]]:
    """Return A (1, 1) or (2, 2), a scaled rotation, and C of each mode: in these coordinates A is normal."""
    eigenvalues, vectors = np.linalg.eig(transition)
    modes = []
    for value, vector in zip(eigenvalues, vectors.T, strict=True):
        if value.imag < 0:  # its conjugate has made the mode of both
            continue
        value = value * min(1.0, _LARGEST / max(abs(value), 1e-12))
        if value.imag == 0:
            modes.append((np.array([[value.real]]), shown @ vector.real[:, None]))
        else:
            turn = np.array([[value.real, value.imag], [-value.imag, value.real]])
            modes.append((turn, shown @ np.stack([vector.real, vector.imag], axis=1)))
    return modes


def _explained(modes: list[tuple[Array, Array]], lags: Array) -> tuple[Array, Array, Array]:
    """Return A and C of all modes together, each C scaled for Lambda_l = sum over modes of C A^l C^T, l >= 1.

    And the strength |C|^2 of the mode that each latent is of: of two latents that turn, the units may see one.

    Independent modes of variance 1: the scales of their C are all that is free, by non-negative least squares.
    """
    columns = []
    for turn, shown in modes:
        power, terms = np.eye(len(turn)), []
        for _ in lags[1:]:
            power = power @ turn
            terms.append(shown @ power @ shown.T)
        columns.append(np.stack(terms).ravel())
    # a fast decay is hardly in the lags: it may not explain more than there is at lag 0
    most = [len(turn) * np.vdot(c, lags[0] @ c) / max(np.vdot(c, c) ** 2, 1e-300) for turn, c in modes]
    free = nnls(np.stack(columns, axis=1), lags[1:].ravel(), maxiter=1000)[0]
    scales = np.sqrt(np.clip(free, 0.0, np.maximum(most, 0.0)))
    transition = np.asarray(block_diag(*(turn for turn, _ in modes)))
    scaled = [scale * shown for scale, (_, shown) in zip(scales, modes, strict=True)]
    strength = [np.full(part.shape[1], (part**2).sum()) for part in scaled]
    return transition, np.concatenate(scaled, axis=1), np.concatenate(strength)
