"""Forecasts: what the latents of the present say about the observations some bins ahead."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from nwb_lrrnn.analysis.fixed_points import dynamics_of
from nwb_lrrnn.analysis.metrics import asking
from nwb_lrrnn.analysis.metrics.series import whole
from nwb_lrrnn.dynamics import LIKELIHOODS, LowRankDynamics

Array = NDArray[np.floating]

_BLOCK = 2_000_000  # currents of model neurons held at a time, 16 MB


def forecast_scores(model: asking.FittedModel, X: Any, horizons: ArrayLike, *, inputs: Any = None) -> xr.Dataset:
    """Return how well a model predicts its units some bins ahead, against persistence and against the mean.

    The latents of each bin, inferred from it and the bins before, are stepped k times without noise, under the inputs
    of the steps; the expected observation there is compared with the recorded one.

    Parameters
    ----------
    model : fitted estimator
        With `dynamics_` and `transform(X, posterior="filtered")`.
    X : like X of `fit`
        Trials that it was not fitted to.
    horizons : int or array of int
        Bins ahead, k >= 1.
    inputs : like X with `input` in place of `unit`, optional
        Inputs of the trials, those of the steps ahead included.

    Returns
    -------
    Dataset
        Over `horizon` in bins, with `horizon_time` in s (in bins where the bin size is unknown). Gaussian: `r2` and
        `persistence_r2`, 1 - sum of squared errors / that of each unit's mean over the predicted bins; persistence
        says that nothing changes. Others: `deviance_explained` and `persistence_deviance_explained`, the same with
        deviances of the likelihood (of Poisson for all counts); persistence there holds the expected value of the
        present. The mean itself has 0. `n_values` says how many observations were predicted:
        those recorded whose unit was also recorded k bins before.

    Raises
    ------
    TypeError
        If the model is not fitted or has no latents.
    ValueError
        If the model has no filtered latents, a horizon is no whole number of at least 1 or beyond every trial, or the
        observations there never change.

    Examples
    --------
    >>> from nwb_lrrnn.dynamics import LowRankDynamics
    >>> from nwb_lrrnn.models.linear import LinearStateSpace
    >>> turn = 0.98 * np.array([[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]])
    >>> net = LowRankDynamics(np.eye(2), 2 * turn.T, dt=0.02, tau=0.02, nonlinearity="identity",
    ...                       loadings=np.eye(2), observation_variance=np.full(2, 0.01))
    >>> X = net.simulate(10, 50, random_state=0).observations
    >>> forecast_scores(LinearStateSpace.from_dynamics(net), X, [1, 10]).r2.values.round(1)
    array([1., 1.])
    """
    asking.require(model, "transform", "likelihood_", "bin_size_", "unit_ids_")
    dynamics_of(model)
    if "posterior" not in inspect.signature(model.transform).parameters:
        raise ValueError(
            f"model: {type(model).__name__}.transform has no posterior=, wanted one with posterior='filtered': its "
            "latents have seen the bins to be predicted"
        )
    steps = np.array([whole("horizons", k) for k in np.atleast_1d(np.asarray(horizons)).tolist()], dtype=np.int64)
    trials, seen = asking.read(model, "X", X, inputs)
    longest = int(trials.lengths.max())
    if not steps.size or steps.max() >= longest:
        raise ValueError(f"horizons: got {steps.tolist()}, wanted bins ahead from 1 to {longest - 1}, inside a trial")
    size = trials.bin_size if trials.bin_size_is_known else None
    z = asking.latents(model, trials.values, seen, size, trials.inputs, posterior="filtered")
    found = _walk(model, z, trials.values, seen, trials.inputs, set(steps.tolist()))
    name = "r2" if model.likelihood_ == "gaussian" else "deviance_explained"
    columns = (name, f"persistence_{name}", "n_values")
    return xr.Dataset(
        {column: ("horizon", [found[k][j] for k in steps.tolist()]) for j, column in enumerate(columns)},
        coords={
            "horizon": steps,
            "horizon_time": ("horizon", steps * model.bin_size_, {"units": "s" if size else "bins"}),
        },
    )


def _walk(
    model: asking.FittedModel, z: Array, values: Array, seen: NDArray, inputs: Array | None, steps: set[int]
) -> dict[int, tuple[float, float, int]]:
    """Return for each horizon what the model and persistence explain, and the number of observations."""
    net = model.dynamics_
    gaussian = model.likelihood_ == "gaussian"
    u = inputs if net.n_inputs else None
    v = None if u is None else net.filtered_inputs(u)
    held = values if gaussian else net.expected(z, v)
    loss = LIKELIHOODS[model.likelihood_].deviance
    n_bins, found = z.shape[1], {}
    for k in range(1, max(steps) + 1):
        at = slice(k - 1, n_bins - 1)  # the bins that are left now
        z = _step(net, z[:, : n_bins - k], None if v is None else v[:, at], None if u is None else u[:, at])
        if k in steps:
            expected = net.expected(z, None if v is None else v[:, k:])
            known = seen[:, k:] & seen[:, : n_bins - k]
            found[k] = _explained(loss, values[:, k:], known, expected, held[:, : n_bins - k], k)
    return found


def _step(net: LowRankDynamics, z: Array, v: Array | None, u: Array | None) -> Array:
    """Return the next latents (trial, time, latent), trial by trial and in blocks of bins."""
    rows = max(1, _BLOCK // net.n_neurons)
    result = np.empty_like(z)
    for k in range(len(z)):
        for begin in range(0, z.shape[1], rows):
            at = (k, slice(begin, begin + rows))
            result[at] = net.step(z[at], None if v is None else v[at], None if u is None else u[at])
    return result


def _explained(
    loss: Callable[[Array, Array], Array], y: Array, known: NDArray, expected: Array, held: Array, horizon: int
) -> tuple[float, float, int]:
    mean = np.where(known, y, 0.0).sum(axis=(0, 1)) / np.maximum(known.sum(axis=(0, 1)), 1)  # (unit,)
    zero = loss(y, np.broadcast_to(mean, y.shape))[known].sum()
    if not zero > 0:
        raise ValueError(f"X: no unit changes among the bins {horizon} ahead, wanted some to predict; pass more trials")
    of_model, of_persistence = (float(1.0 - loss(y, guess)[known].sum() / zero) for guess in (expected, held))
    return of_model, of_persistence, int(known.sum())
