"""The one input gate: whatever the user calls a recording becomes `Trials`, and results go back in the user's kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from nwb_lrrnn.trials.ends import alike, ends_of, pieces_of
from nwb_lrrnn.trials.kinds import is_list_of_trials, read_inputs, read_units, units_are_named
from nwb_lrrnn.trials.labels import SAME_STEP, bin_size_of, entry_name, observed_flags
from nwb_lrrnn.trials.restoring import restore
from nwb_lrrnn.trials.summary import Summary, summarise
from nwb_lrrnn.trials.timed_kinds import as_frame, is_pynapple


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
        Bins of each trial; where most of X is padding behind short trials, they end with their last observed bin.
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
    def seen(self) -> NDArray[np.bool_]:
        """Which entries (trial, time, unit) are observed, as an array also where all of them are."""
        return np.ones(self.values.shape, dtype=bool) if self.observed is None else self.observed

    @property
    def n_observed_bins(self) -> int:
        """Number of time bins observed in at least one unit, over all trials."""
        return int(self.bins.sum())

    @property
    def n_units(self) -> int:
        """Number of units."""
        return self.values.shape[2]

    @property
    def n_inputs(self) -> int:
        """Number of inputs."""
        return 0 if self.inputs is None else self.inputs.shape[2]

    @cached_property
    def summary(self) -> Summary:
        """What one pass over all trials tells."""
        return summarise(self.values, self.observed, self.bins)

    def blocks(self, rng: np.random.Generator | None = None) -> Iterator[tuple[NDArray[np.int64], Trials]]:
        """Yield all trials as one block, and their numbers, like `LazyTrials.blocks`."""
        yield np.arange(len(self.lengths)), self

    def per_bin(self, function: Callable[[Trials], NDArray]) -> NDArray[np.float64]:
        """Return (trial, time, k) of a function of trials that treats each by itself.

        Trials of like length go together where all of them, padded to the longest, would be mostly padding; then 0
        follows the end of short ones.
        """
        groups = alike(self.lengths)
        if len(groups) == 1:
            return function(self)
        parts = [np.asarray(function(self.take(rows))) for rows in groups]
        out = np.zeros((*self.values.shape[:2], parts[0].shape[2]))
        for rows, part in zip(groups, parts, strict=True):
            out[rows, : part.shape[1]] = part
        return out

    def per_trial(self, function: Callable[[Trials], NDArray]) -> NDArray[np.float64]:
        """Return (trial,) of a function of trials that treats each by itself; see `per_bin`."""
        groups = alike(self.lengths)
        if len(groups) == 1:
            return function(self)
        out = np.zeros(len(self.lengths))
        for rows in groups:
            out[rows] = function(self.take(rows))
        return out

    def ended(self, lengths: NDArray[np.int64]) -> Trials:
        """Return the trials ending after so many bins (trial,), the array cut to the longest (it cannot `restore`)."""
        if np.array_equal(lengths, self.lengths):
            return self
        return replace(self, lengths=lengths).take(np.arange(len(lengths)))

    def in_pieces(self, size: int) -> Trials:
        """Return the trials cut into pieces of at most `size` bins, each a trial (the result cannot `restore`)."""
        spans = pieces_of(self.lengths, size)
        lengths = np.array([b - a for _, a, b in spans], dtype=np.int64)

        def cut(array: NDArray) -> NDArray:
            out = np.zeros((len(spans), int(lengths.max()), array.shape[2]), dtype=array.dtype)
            for row, (k, a, b) in enumerate(spans):
                out[row, : b - a] = array[k, a:b]
            return out

        observed = cut(self.seen)
        inputs = None if self.inputs is None else cut(self.inputs)
        observed = None if observed.all() else observed
        return replace(self, values=cut(self.values), observed=observed, lengths=lengths, inputs=inputs, source=None)

    def take(self, trials) -> Trials:
        """Return some of the trials, in the order given (the result cannot `restore`)."""
        index = np.asarray(trials)
        index = index if index.size else index.astype(np.int64)
        lengths = self.lengths[index]
        longest = int(lengths.max()) if len(lengths) else 0
        cut = (index, slice(0, longest))
        observed = None if self.observed is None else self.observed[cut]
        if observed is not None and observed.all():
            observed = None
        inputs = None if self.inputs is None else self.inputs[cut]
        return replace(self, values=self.values[cut], observed=observed, lengths=lengths, inputs=inputs, source=None)

    def cut(self, begin: int, end: int) -> Trials:
        """Return the bins begin to end of every trial (the result cannot `restore`)."""
        span = (slice(None), slice(begin, end))
        return replace(
            self,
            values=self.values[span],
            observed=None if self.observed is None or self.observed[span].all() else self.observed[span],
            lengths=np.clip(self.lengths, begin, end) - begin,
            inputs=None if self.inputs is None else self.inputs[span],
            source=None,
        )

    def of_units(self, kept: NDArray[np.bool_]) -> Trials:
        """Return the trials with some of the units (unit,), bool; with all of them, these trials."""
        if kept.all():
            return self
        observed = None if self.observed is None else np.ascontiguousarray(self.observed[..., kept])
        observed = None if observed is None or observed.all() else observed
        values = np.ascontiguousarray(self.values[..., kept])
        return replace(self, values=values, observed=observed, unit_ids=self.unit_ids[kept])

    def restore(self, values: NDArray, dim: str = "latent", ids: Sequence | NDArray | None = None) -> Any:
        """Return per-bin results (trial, time, k) in the kind the user gave X, with the last dim named `dim`.

        Raises
        ------
        ValueError
            If these trials are a selection (`take`, `cut`), which has no kind to go back to.
        """
        if self.source is None:
            raise ValueError("restore: these trials are a selection made by take or cut; restore the whole")
        return restore(self.source, np.asarray(values), self.lengths, dim, ids)

    def place(self, trial: int, time: int, unit: int) -> str:
        """Return where an entry of `values` is, in the user's coordinates: 'trial 3, time 0.25, unit 17'."""
        return place_in(self.source, self.unit_ids, trial, time, unit)


def place_in(whole: Any, unit_ids: NDArray, trial: int, time: int, unit: int) -> str:
    """Return the same of an entry of X as the user gave it, whose units are called `unit_ids`."""
    source = whole[trial] if is_list_of_trials(whole) else whole
    trial_id: Any = trial
    time_id: Any = time
    if isinstance(source, xr.DataArray):
        if "trial" in source.coords:  # a dim, or a number left by isel
            ids = source["trial"].values
            trial_id = ids[trial] if ids.ndim else ids[()]
        time_id = source["time"].values[time] if "time" in source.coords else time
    elif isinstance(source, pd.DataFrame):
        time_id = source.index[time]
    elif is_pynapple(source):
        time_id = source.t[time]
    return entry_name(trial_id, time_id, unit_ids[unit])


def as_trials(
    X: Any,
    *,
    inputs: Any = None,
    bin_size: float | None = None,
    estimator: Any = None,
    reset: bool = True,
    allow_nan: bool = False,
    is_part: bool = False,
    forecasts: bool = True,
) -> Trials:
    """Return X (and inputs) as `Trials`, or say in one sentence what is wrong with them.

    Parameters
    ----------
    X : DataArray (trial, time, unit) or (time, unit), array of 2 or 3 dims, DataFrame, or list of 2-D trials
        The recording. The index of a DataFrame, where it is of floats or time differences, is the time in seconds; a
        Tsd or a TsdFrame of pynapple has its own.
    inputs : like X with `input` in place of `unit`, optional
    bin_size : float, optional
        Seconds; used when `X.attrs` has none.
    estimator : object, optional
        Gets (`reset`) or is checked against `n_features_in_`, `feature_names_in_`, `unit_ids_` and `bin_size_`.
    reset : bool
        Whether this is `fit`.
    allow_nan : bool
        Whether NaN means unobserved instead of being an error.
    is_part : bool
        Whether X is a part of a recording, of which nothing need be observed.
    forecasts : bool
        Whether bins after the last observed one of all trials are asked for.

    Raises
    ------
    ValueError, TypeError
        For wrong dims, uneven time, NaN, other units, other bins; the message names what came and what is wanted.

    Examples
    --------
    >>> as_trials(np.ones((3, 10, 2))).values.shape
    (3, 10, 2)
    """
    source, X = X, as_frame(X)
    inputs = as_frame(inputs)
    values, lengths, unit_ids = read_units(X, estimator, reset)
    observed = _observed(X, values.shape, lengths)
    step, known = _bin_size(X, bin_size)
    trials = Trials(values, observed, lengths, step, known, unit_ids, None, None, source)
    trials = _without_nan(trials, allow_nan)
    if trials.observed is not None and not is_part:
        check_observed(trials.observed)
        if not is_list_of_trials(X):
            trials = replace(trials, lengths=ends_of(trials.bins, trials.lengths, forecasts))
    if inputs is not None:  # with all bins of X
        drive, input_ids = read_inputs(inputs, X, lengths)
        trials = replace(trials, inputs=drive, input_ids=input_ids)
    if estimator is not None:
        _check_same(trials, estimator, reset)
    return trials


def check_observed(n_observed: NDArray) -> None:
    """Refuse a recording of which nothing is observed; `n_observed` has observed bins of any kind, or a mask."""
    if not np.any(n_observed):
        raise ValueError("X: no bin is observed, wanted at least one; check the 'observed' coordinate")


def _observed(X: Any, shape: tuple[int, ...], lengths: NDArray) -> NDArray[np.bool_] | None:
    """Return the mask that the `observed` coordinate and the padding imply, None when it hides nothing."""
    in_list = is_list_of_trials(X)
    flagged = [
        (k, source.coords["observed"])
        for k, source in enumerate(X if in_list else [X])
        if isinstance(source, xr.DataArray) and "observed" in source.coords
    ]
    if not flagged and (lengths == shape[1]).all():
        return None
    mask = np.zeros(shape, dtype=bool)
    mask[np.arange(shape[1]) < lengths[:, None]] = True
    for k, flag in flagged:
        seen = observed_flags(flag.variable.compute())
        if in_list:
            mask[k, : lengths[k]] &= seen[0]
        else:
            mask &= seen
    return None if mask.all() else mask


def _bin_size(X: Any, given: float | None) -> tuple[float, bool]:
    """Return the bin size and whether it is known: X.attrs, else the constructor's, else the time step, else 1.0."""
    if not is_list_of_trials(X):
        return bin_size_of(X, "X", given)
    first, known = bin_size_of(X[0], "X[0]", given)
    for k, trial in enumerate(X[1:], start=1):
        other, also = bin_size_of(trial, f"X[{k}]", given)
        if known and also and abs(other - first) > SAME_STEP * first:
            raise ValueError(f"X[{k}]: got bins of {other:.6g} s, wanted {first:.6g} s like X[0]; bin all trials alike")
        first, known = (first, True) if known else (other, also)
    return first, known


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
    return replace(trials, values=np.where(observed, values, 0.0), observed=observed)


def _check_same(trials: Trials, estimator: Any, reset: bool) -> None:
    """Store (fit) or compare (afterwards) the units and the bin size."""
    if reset:
        estimator.unit_ids_ = trials.unit_ids
        estimator.bin_size_, estimator.bin_size_is_known_ = trials.bin_size, trials.bin_size_is_known
        return
    fitted, got = np.asarray(estimator.unit_ids_).tolist(), trials.unit_ids.tolist()
    if units_are_named(trials.source) and fitted != got:
        known = set(fitted)
        other = next((unit for unit in got if unit not in known), None)
        if other is None:
            raise ValueError(
                f"X: the units come in another order than at fit (first {got[0]!r}, wanted {fitted[0]!r}); "
                "call X.sel(unit=model.unit_ids_)"
            )
        unnamed = fitted == list(range(len(fitted)))
        hint = "; where the model was fitted to an array without names, pass X without them" if unnamed else ""
        raise ValueError(
            f"X: unit {other!r} was not in the data the model was fitted to; select the fitted units{hint}"
        )
    if trials.bin_size_is_known and abs(trials.bin_size - estimator.bin_size_) > SAME_STEP * estimator.bin_size_:
        raise ValueError(
            f"X: got bins of {trials.bin_size:.6g} s, wanted {estimator.bin_size_:.6g} s as at fit; bin the data again"
        )
