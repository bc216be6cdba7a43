"""Co-smoothing: how well the latents that some units show predict other units of the same trials."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy.special import xlogy

from nwb_lrrnn.analysis.metrics import asking

Array = NDArray[np.float64]

_VERBS = ("transform", "inverse_transform", "likelihood_", "bin_size_", "unit_ids_")
_PROBE = 200  # bins of the trial that shows whether a model respects masks


def bits_per_spike(counts: ArrayLike, expected: ArrayLike, mean_counts: ArrayLike) -> float:
    r"""Return the gain in Poisson log-likelihood over constant rates, in bits per spike.

    .. math::

        \frac{1}{n_\mathrm{spikes} \ln 2} \sum [\ln \mathrm{Pois}(k; \hat\lambda) - \ln \mathrm{Pois}(k; \bar\lambda)]

    As in the Neural Latents Benchmark (Pei et al. 2021).

    Parameters
    ----------
    counts : array
        k, spikes per bin.
    expected : array, same shape
        Expected counts per bin.
    mean_counts : array that broadcasts, e.g. (unit,)
        Mean count per bin of each unit, in training trials.

    Raises
    ------
    ValueError
        If counts are no counts, none is a spike, an expectation is negative, or one is 0 where there was a spike.

    Examples
    --------
    >>> round(bits_per_spike([0, 1, 0, 1], [0.25, 0.75, 0.25, 0.75], 0.5), 3)
    0.585
    """
    k, rate, mean = (np.asarray(x, dtype=np.float64) for x in (counts, expected, mean_counts))
    if rate.shape != k.shape:
        raise ValueError(f"expected: got shape {rate.shape}, wanted {k.shape}, that of counts")
    mean = np.broadcast_to(mean, k.shape)
    if not (np.isfinite(k).all() and (k >= 0).all() and (k == np.round(k)).all()):
        raise ValueError("counts: got values that are no counts, wanted whole numbers >= 0; pass spikes per bin")
    if not k.any():
        raise ValueError("counts: got no spike, wanted at least one; take other units or more trials")
    for name, values in (("expected", rate), ("mean_counts", mean)):
        if not (np.isfinite(values).all() and (values >= 0).all()):
            raise ValueError(f"{name}: got values that are negative or not finite, wanted counts per bin >= 0")
        if (values[k > 0] == 0).any():
            raise ValueError(f"{name}: got 0 in a bin with a spike, wanted more than 0: that spike is impossible")
    gain = (xlogy(k, rate) - rate) - (xlogy(k, mean) - mean)
    return float(gain.sum() / (np.log(2.0) * k.sum()))


def co_smoothing(
    model: asking.FittedModel, X_train: Any, X_test: Any, held_out_units: ArrayLike, *, inputs: Any = None
) -> xr.Dataset:
    """Return co-smoothing bits per spike: units hidden in test trials, predicted from the others.

    The model has been fitted to all units of the training trials. In the test trials the held-out units are marked
    unobserved, `transform` infers latents from the rest, `inverse_transform` predicts the hidden counts, and
    `bits_per_spike` compares them with each unit's mean in training.

    Parameters
    ----------
    model : fitted estimator
        Of counts, one that takes a mask over units.
    X_train : like X of `fit`
        The trials it was fitted to; only their mean counts are used.
    X_test : like X of `fit`
        Other trials, all units.
    held_out_units : array
        Ids of units, or booleans (unit,).
    inputs : like X_test with `input` in place of `unit`, optional
        Inputs of the test trials.

    Returns
    -------
    Dataset
        Over the held-out `unit`: `bits_per_spike` () over all of them, `unit_bits_per_spike` (unit,), NaN for a unit
        silent in the test trials, `n_spikes` (unit,) and `mean_count` (unit,), per bin of the training trials.

    Raises
    ------
    TypeError
        If the model is not fitted or has no latents.
    ValueError
        If the model is Gaussian or ignores masks over units, the units do not fit, or a held-out unit is silent in
        training.

    Examples
    --------
    >>> from nwb_lrrnn.dynamics import LowRankDynamics
    >>> from nwb_lrrnn.models.linear import LinearStateSpace
    >>> net = LowRankDynamics([[1.0]], [[0.9]], dt=1, tau=1, nonlinearity="identity", latent_noise=[[0.1]],
    ...                       loadings=np.ones((6, 1)), likelihood="poisson", link="exp")
    >>> X = net.simulate(20, 50, random_state=0).observations
    >>> scores = co_smoothing(LinearStateSpace.from_dynamics(net), X[:10], X[10:], [4, 5])
    >>> bool(scores.bits_per_spike > 0.1)
    True
    """
    asking.require(model, *_VERBS)
    if model.likelihood_ == "gaussian":
        raise ValueError("model: got a Gaussian one, which has no spikes; call co_smoothing_r2")
    held = _predict(model, X_train, X_test, held_out_units, inputs)
    silent = held.ids[held.train_mean == 0]
    if silent.size:
        raise ValueError(f"held_out_units: unit {silent[0]} has no spike in X_train, wanted one to compare with")
    seen, mean = held.seen, np.broadcast_to(held.train_mean, held.values.shape)
    by_unit = []
    for i in range(len(held.ids)):
        at = seen[..., i]
        k = held.values[..., i][at]
        by_unit.append(bits_per_spike(k, held.expected[..., i][at], mean[..., i][at]) if k.any() else np.nan)
    return xr.Dataset(
        {
            "bits_per_spike": ((), bits_per_spike(held.values[seen], held.expected[seen], mean[seen])),
            "unit_bits_per_spike": ("unit", by_unit),
            "n_spikes": ("unit", np.where(seen, held.values, 0.0).sum(axis=(0, 1)).astype(np.int64)),
            "mean_count": ("unit", held.train_mean),
        },
        coords={"unit": held.ids},
    )


def co_smoothing_r2(
    model: asking.FittedModel, X_train: Any, X_test: Any, held_out_units: ArrayLike, *, inputs: Any = None
) -> xr.Dataset:
    """Return co-smoothing R2 of continuous data: units hidden in test trials, predicted from the others.

    As `co_smoothing`, with 1 - sum (y - y')^2 / sum (y - mean in training)^2 in place of bits per spike.

    Parameters
    ----------
    model, X_train, X_test, held_out_units, inputs
        As for `co_smoothing`, the model being Gaussian.

    Returns
    -------
    Dataset
        Over the held-out `unit`: `r2` (), both sums running over all of them in their own units of measure,
        `unit_r2` (unit,) and `mean` (unit,), of the training trials.

    Raises
    ------
    TypeError
        If the model is not fitted or has no latents.
    ValueError
        If the model is one of counts or ignores masks over units, the units do not fit, or a held-out unit never
        differs from its mean in training.

    Examples
    --------
    >>> from nwb_lrrnn.dynamics import LowRankDynamics
    >>> from nwb_lrrnn.models.linear import LinearStateSpace
    >>> net = LowRankDynamics([[1.0]], [[0.9]], dt=1, tau=1, nonlinearity="identity", latent_noise=[[0.1]],
    ...                       loadings=np.ones((6, 1)), observation_variance=np.full(6, 0.1))
    >>> X = net.simulate(20, 50, random_state=0).observations
    >>> scores = co_smoothing_r2(LinearStateSpace.from_dynamics(net), X[:10], X[10:], [4, 5])
    >>> bool(scores.r2 > 0.5)
    True
    """
    asking.require(model, *_VERBS)
    if model.likelihood_ != "gaussian":
        raise ValueError(f"model: got a {model.likelihood_} one, wanted a Gaussian one; call co_smoothing")
    held = _predict(model, X_train, X_test, held_out_units, inputs)
    errors = np.where(held.seen, held.values - held.expected, 0.0)
    spreads = np.where(held.seen, held.values - held.train_mean, 0.0)
    error, spread = ((x**2).sum(axis=(0, 1)) for x in (errors, spreads))  # (unit,)
    still = held.ids[spread == 0]
    if still.size:
        raise ValueError(f"held_out_units: unit {still[0]} never differs from its mean in training; hold out another")
    return xr.Dataset(
        {
            "r2": ((), 1.0 - error.sum() / spread.sum()),
            "unit_r2": ("unit", 1.0 - error / spread),
            "mean": ("unit", held.train_mean),
        },
        coords={"unit": held.ids},
    )


class _HeldOut(NamedTuple):
    """The held-out units of test trials as they were and as the other units predict them."""

    ids: NDArray  # (unit,)
    values: Array  # (trial, time, unit), as are the next two
    expected: Array
    seen: NDArray[np.bool_]
    train_mean: Array  # (unit,)


def _predict(model: asking.FittedModel, X_train: Any, X_test: Any, held_out_units: ArrayLike, inputs: Any) -> _HeldOut:
    train, seen_in_train = asking.read(model, "X_train", X_train)
    test, seen = asking.read(model, "X_test", X_test, inputs)
    known = np.asarray(model.unit_ids_)
    hidden = _resolve(held_out_units, known)
    shown = seen & ~hidden
    size = test.bin_size if test.bin_size_is_known else None
    _refuse_ignored_mask(model, test.values, shown, size, test.inputs)
    z = asking.latents(model, test.values, shown, size, test.inputs)
    drive = {} if test.inputs is None else {"inputs": test.inputs}
    expected = np.asarray(model.inverse_transform(z, **drive), dtype=np.float64)
    n_bins = np.maximum(seen_in_train.sum(axis=(0, 1)), 1)
    return _HeldOut(
        ids=known[hidden],
        values=test.values[..., hidden],
        expected=expected[..., hidden],
        seen=seen[..., hidden],
        train_mean=(train.values.sum(axis=(0, 1)) / n_bins)[hidden],
    )


def _resolve(held_out_units: ArrayLike, known: NDArray) -> NDArray[np.bool_]:
    """Return which units are held out, (unit,)."""
    asked = np.atleast_1d(np.asarray(held_out_units))
    if asked.dtype.kind == "b":
        if asked.shape != known.shape:
            raise ValueError(f"held_out_units: got {asked.size} booleans, wanted {known.size}, one a unit")
        hidden = asked
    else:
        strange = [unit for unit in asked.tolist() if unit not in set(known.tolist())]
        if strange:
            raise ValueError(f"held_out_units: got {strange[0]!r}, which is no unit of the model; see model.unit_ids_")
        hidden = np.isin(known, asked)
    if not hidden.any() or hidden.all():
        raise ValueError(f"held_out_units: got {hidden.sum()} of {known.size} units, wanted some but not all")
    return hidden


def _refuse_ignored_mask(
    model: asking.FittedModel, values: Array, shown: NDArray, bin_size: float | None, inputs: Any
) -> None:
    """Refuse a model to which a hidden entry is a 0: its latents are, bit for bit, those of zeros it was shown."""
    cut = (slice(0, 1), slice(0, _PROBE))
    y, mask = values[cut], shown[cut]
    drive = None if inputs is None else inputs[cut]
    hidden = asking.latents(model, y, mask, bin_size, drive)
    zeros, ones = (
        asking.latents(model, np.where(mask, y, filling), np.ones_like(mask), bin_size, drive) for filling in (0, 1)
    )
    if np.array_equal(hidden, zeros) and not np.array_equal(hidden, ones):
        raise ValueError(
            f"model: {type(model).__name__} takes hidden units for zeros, wanted one whose transform skips what the "
            "coordinate 'observed' (trial, time, unit) marks False, such as LinearStateSpace"
        )
