"""The one input gate: whatever the user calls a recording becomes `Trials`, and results go back in the user's kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from nwb_lrrnn.trials.kinds import DIMS, is_list_of_trials, read_inputs, read_units
from nwb_lrrnn.trials.restoring import restore


@dataclass(frozen=True)
class Trials:
    """Trials of equal or unequal length as one padded array; padding and unobserved entries are 0 and masked.

    Attributes
    ----------
    values : array (trial, time, unit), float64
        Observations, 0 where unobserved.
    observed : array (trial, time, unit), bool, or None
        None when every entry inside `lengths` is observed and no trial is padded.
    lengths : array (trial,), int
        Bins of each trial.
    bin_size : float
        Seconds, or 1.0 when unknown.
    bin_size_is_known : bool
        Whether time is in seconds.
    unit_ids : array (unit,)
        Names of the units; 0..D-1 when X names none.
    inputs : array (trial, time, input) or None
    input_ids : array (input,) or None
    source : object
        X as the user gave it, for `restore`.
    """

    values: NDArray[np.float64]
    observed: NDArray[np.bool_] | None
    lengths: NDArray[np.int64]
    bin_size: float
    bin_size_is_known: bool
    unit_ids: NDArray
    inputs: NDArray[np.float64] | None
    input_ids: NDArray | None
    source: Any

    @property
    def bins(self) -> NDArray[np.bool_]:
        """Which time bins (trial, time) exist and are observed in at least one unit."""
        if self.observed is None:
            return np.ones(self.values.shape[:2], dtype=bool)
        return np.asarray(self.observed.any(axis=2))

    @property
    def n_observed_bins(self) -> int:
        """Number of time bins observed in at least one unit, over all trials."""
        return int(self.bins.sum())

    def take(self, trials) -> Trials:
        """Return some of the trials, in the order given (the result cannot `restore`)."""
        index = np.asarray(trials)
        lengths = self.lengths[index]
        longest = int(lengths.max()) if len(lengths) else 0
        cut = (index, slice(0, longest))
        observed = None if self.observed is None else self.observed[cut]
        if observed is not None and observed.all():
            observed = None
        inputs = None if self.inputs is None else self.inputs[cut]
        return replace(self, values=self.values[cut], observed=observed, lengths=lengths, inputs=inputs, source=None)

    def cut(self, begin: int, end: int) -> Trials:
        """Return the bins begin to end of the one trial there is (the result cannot `restore`)."""
        span = (slice(None), slice(begin, end))
        return replace(
            self,
            values=self.values[span],
            observed=None if self.observed is None or self.observed[span].all() else self.observed[span],
            lengths=np.array([end - begin]),
            inputs=None if self.inputs is None else self.inputs[span],
            source=None,
        )

    def restore(self, values: NDArray, dim: str = "latent", ids: Sequence | NDArray | None = None) -> Any:
        """Return per-bin results (trial, time, k) in the kind the user gave X, with the last dim named `dim`."""
        return restore(self.source, np.asarray(values), self.lengths, dim, ids)

    def place(self, trial: int, time: int, unit: int) -> str:
        """Return where an entry of `values` is, in the user's coordinates: 'trial 3, time 0.25, unit 17'."""
        source = self.source
        if isinstance(source, (list, tuple)) and len(source) and np.ndim(source[0]) == 2:
            source = source[trial]
        trial_id, time_id = trial, time
        if isinstance(source, xr.DataArray):
            trial_id = source["trial"].values[trial] if "trial" in source.coords else trial
            time_id = source["time"].values[time] if "time" in source.coords else time
        elif isinstance(source, pd.DataFrame):
            time_id = source.index[time]
        return f"trial {trial_id}, time {time_id:.6g}, unit {self.unit_ids[unit]}"


def as_trials(
    X: Any,
    *,
    inputs: Any = None,
    bin_size: float | None = None,
    estimator: Any = None,
    reset: bool = True,
    allow_nan: bool = False,
) -> Trials:
    """Return X (and inputs) as `Trials`, or say in one sentence what is wrong with them.

    Parameters
    ----------
    X : DataArray (trial, time, unit) or (time, unit), array of 2 or 3 dims, DataFrame, or list of 2-D trials
        The recording.
    inputs : like X with `input` in place of `unit`, optional
    bin_size : float, optional
        Seconds; used when `X.attrs` has none.
    estimator : object, optional
        Gets (`reset`) or is checked against `n_features_in_`, `feature_names_in_`, `unit_ids_` and `bin_size_`.
    reset : bool
        Whether this is `fit`.
    allow_nan : bool
        Whether NaN means unobserved instead of being an error.

    Raises
    ------
    ValueError, TypeError
        For wrong dims, uneven time, NaN, other units, other bins; the message names what came and what is wanted.

    Examples
    --------
    >>> as_trials(np.ones((3, 10, 2))).values.shape
    (3, 10, 2)
    """
    arrays, unit_ids = read_units(X, estimator, reset)
    lengths = np.array([len(a) for a in arrays], dtype=np.int64)
    values = _stack(arrays, lengths)
    observed = _observed(X, values, lengths)
    bin_size, known = _bin_size(X, bin_size)
    trials = Trials(values, observed, lengths, bin_size, known, unit_ids, None, None, X)
    trials = _without_nan(trials, allow_nan)
    if estimator is not None:
        _check_same(trials, estimator, reset)
    if inputs is None:
        return trials
    drive, input_ids = read_inputs(inputs, X, lengths, values.shape[1])
    return Trials(trials.values, trials.observed, lengths, bin_size, known, unit_ids, drive, input_ids, X)


def _stack(arrays: list[NDArray], lengths: NDArray) -> NDArray[np.float64]:
    if len(set(lengths.tolist())) == 1:
        return np.stack(arrays)
    values = np.zeros((len(arrays), int(lengths.max()), arrays[0].shape[1]))
    for k, a in enumerate(arrays):
        values[k, : len(a)] = a
    return values


def _observed(X: Any, values: NDArray, lengths: NDArray) -> NDArray[np.bool_] | None:
    """Return the mask that the `observed` coordinate and the padding imply, None when it hides nothing."""
    sources = list(X) if is_list_of_trials(X) else [X]
    mask = np.ones(values.shape, dtype=bool)
    for k, n in enumerate(lengths):
        mask[k, n:] = False
    for k, source in enumerate(sources):
        if not (isinstance(source, xr.DataArray) and "observed" in source.coords):
            continue
        flag = source.coords["observed"]
        order = [dim for dim in DIMS if dim in flag.dims]
        seen = np.asarray(flag.transpose(*order).values, dtype=bool)
        seen = seen if "unit" in flag.dims else seen[..., None]
        seen = seen if "trial" in flag.dims else seen[None]
        if is_list_of_trials(X):
            mask[k, : lengths[k]] &= seen[0]
        else:
            mask &= seen
    return None if mask.all() else mask


def _bin_size(X: Any, given: float | None) -> tuple[float, bool]:
    """Return the bin size and whether it is known: X.attrs, else the constructor's, else the time step, else 1.0."""
    first = X[0] if is_list_of_trials(X) else X
    attrs = getattr(first, "attrs", None) or {}
    step = None
    if isinstance(first, xr.DataArray) and "time" in first.coords and first.sizes["time"] > 1:
        step = float(np.median(np.diff(first["time"].values.astype(float))))
    stated = attrs.get("bin_size", given)
    if stated is None:
        return (1.0, False) if step is None else (step, True)
    if not (isinstance(stated, (int, float, np.number)) and np.isfinite(stated) and float(stated) > 0):
        raise ValueError(f"bin_size: got {stated!r}, wanted seconds > 0")
    stated = float(stated)
    if step is not None and abs(step - stated) > 1e-3 * stated:
        raise ValueError(
            f"bin_size: got {stated:.6g} s, but the time coordinate steps by {step:.6g} s; "
            "correct X.attrs['bin_size'] or the coordinate"
        )
    return stated, True


def _without_nan(trials: Trials, allow_nan: bool) -> Trials:
    """Return the trials with unobserved entries zeroed; NaN joins the mask where allowed, else is an error."""
    values, observed = trials.values, trials.observed
    bad = ~np.isfinite(values)
    if observed is not None:
        bad &= observed
    if bad.any():
        kinds = values[bad]
        if not allow_nan or np.isinf(kinds).any():
            at = np.argwhere(bad & np.isinf(values) if allow_nan else bad)[0]
            what = "NaN" if np.isnan(values[tuple(at)]) else "infinity (inf)"
            fix = (
                "mark such bins in a boolean coordinate 'observed', or interpolate them"
                if what == "NaN"
                else "remove it"
            )
            raise ValueError(f"X: {what} at {trials.place(*at)}; wanted finite values; {fix}")
        inside = np.arange(values.shape[1])[None, :] < trials.lengths[:, None]  # (trial, time)
        observed = (np.broadcast_to(inside[..., None], values.shape) if observed is None else observed) & ~bad
    if observed is None:
        return trials
    if not observed.any():
        raise ValueError("X: no bin is observed, wanted at least one; check the 'observed' coordinate")
    values = np.where(observed, values, 0.0)
    return Trials(
        values,
        observed,
        trials.lengths,
        trials.bin_size,
        trials.bin_size_is_known,
        trials.unit_ids,
        None,
        None,
        trials.source,
    )


def _check_same(trials: Trials, estimator: Any, reset: bool) -> None:
    """Store (fit) or compare (afterwards) the units and the bin size."""
    if reset:
        estimator.unit_ids_ = trials.unit_ids
        estimator.bin_size_ = trials.bin_size
        return
    fitted, got = estimator.unit_ids_, trials.unit_ids
    named = not np.array_equal(got, np.arange(len(got))) and not np.array_equal(fitted, np.arange(len(fitted)))
    if named and not np.array_equal(fitted, got):
        other = [u for u in got if u not in set(fitted.tolist())]
        if other:
            raise ValueError(
                f"X: unit {other[0]!r} was not in the data the model was fitted to; select the fitted units"
            )
        raise ValueError(
            f"X: the units come in another order than at fit (first {got[0]!r}, wanted {fitted[0]!r}); "
            "call X.sel(unit=model.unit_ids_)"
        )
    if trials.bin_size_is_known and abs(trials.bin_size - estimator.bin_size_) > 1e-6 * estimator.bin_size_:
        raise ValueError(
            f"X: got bins of {trials.bin_size:.6g} s, wanted {estimator.bin_size_:.6g} s as at fit; bin the data again"
        )
