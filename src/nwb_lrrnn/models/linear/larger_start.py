"""Where EM of a larger model starts: at a smaller one that it contains, with latents for what that one leaves over."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.models.linear.system import LinearSystem

Array = NDArray[np.floating]

# Shares of the variance left over in a direction that a new latent is first given. With none the smaller model would be
# exactly there, where EM stays for ever; with all of it the noise of the units would have to shrink first.
_SHARES = (0.5, 0.1, 0.01)
_DECAY = 0.5  # correlation of a new latent from bin to bin, before the data say


def grown_systems(smaller: LinearSystem, rank: int, residual: Array, scale: Array) -> Iterator[LinearSystem]:
    """Yield systems of a larger rank that show nearly what a smaller one shows.

    Parameters
    ----------
    smaller : LinearSystem
    rank : int
        Of the larger ones.
    residual : array (bin, unit)
        What the smaller one leaves over, in units of `scale`.
    scale : array (unit,)
        Loadings of the new latents are in units of it.
    """
    n_new = rank - smaller.rank
    values, axes = np.linalg.eigh(residual.T @ residual / max(len(residual), 1))
    values, axes = np.maximum(values[::-1][:n_new], 1e-12), axes[:, ::-1][:, :n_new]
    for share in _SHARES:
        yield _with_latents(smaller, scale[:, None] * axes * np.sqrt(share * values))


def of_units(system: LinearSystem, units: NDArray[np.bool_]) -> LinearSystem:
    """Return the system of some of the units."""
    kept = {
        name: getattr(system, name)[units]
        for name in ("loadings", "offset", "variance", "dispersion", "readout_input_weights")
        if getattr(system, name) is not None
    }
    return system.replace(**kept)


def _with_latents(smaller: LinearSystem, loadings: Array) -> LinearSystem:
    """Return the system with more latents, of variance 1, that follow none of the others and drive none."""
    n_new = loadings.shape[1]
    eye, zero = np.eye(n_new), np.zeros(n_new)

    def beside(matrix: Array, block: Array) -> Array:
        gap = np.zeros((len(matrix), len(block)))
        return np.block([[matrix, gap], [gap.T, block]])

    def below(weights: Array | None) -> Array | None:
        return None if weights is None else np.concatenate([weights, np.zeros((n_new, weights.shape[1]))])

    return smaller.replace(
        transition=beside(smaller.transition, _DECAY * eye),
        drive=np.concatenate([smaller.drive, zero]),
        noise=beside(smaller.noise, (1 - _DECAY**2) * eye),
        initial_mean=np.concatenate([smaller.initial_mean, zero]),
        initial_covariance=beside(smaller.initial_covariance, eye),
        loadings=np.concatenate([smaller.loadings, loadings], axis=1),
        input_weights=below(smaller.input_weights),
        initial_input_weights=below(smaller.initial_input_weights),
    )
