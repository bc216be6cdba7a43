"""Latents of any kind, and of trials of any length, as what is drawn."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from nwb_lrrnn.trials import as_frame, is_list_of_trials, times_of


class Courses(NamedTuple):
    """Values (trial, time, k), NaN after the end of a trial; times (time,) and their unit; how many bins are NaN."""

    values: np.ndarray
    time: np.ndarray
    unit: str
    n_missing: int

    @property
    def said(self) -> str:
        """What is to be said of bins that are NaN, empty where there are none."""
        return f"{self.n_missing} bins are NaN: not drawn" if self.n_missing else ""


def courses_of(argument: str, given: Any) -> Courses:
    """Return latents, or data, as `Courses`; refuse what cannot be drawn."""
    if is_list_of_trials(given):
        trials = [_one(argument, trial) for trial in given]
        if len({trial[0].shape[1] for trial in trials}) > 1:
            raise ValueError(f"{argument}: got trials of unequal width, wanted (time, k) with one k")
        lengths = [len(values) for values, _ in trials]
        values = np.full((len(trials), max(lengths), trials[0][0].shape[1]), np.nan)
        for k, (one, _) in enumerate(trials):
            values[k, : lengths[k]] = one
        missing = sum(int(np.isnan(one).any(axis=1).sum()) for one, _ in trials)
        times = _common_times([time for _, time in trials])
    else:
        values, time = _one(argument, given)
        values = values if values.ndim == 3 else values[None]
        missing, times = int(np.isnan(values).any(axis=2).sum()), time
    if not values.size:
        raise ValueError(f"{argument}: got shape {values.shape}, wanted at least one trial, bin and column")
    if not np.isfinite(values).all(axis=2).any():
        raise ValueError(
            f"{argument}: every bin holds NaN, so there is nothing to draw; check what the model was given"
        )
    if times is None:
        return Courses(values, np.arange(values.shape[1], dtype=float), "bins", missing)
    return Courses(values, times, "s", missing)


def _one(argument: str, given: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the values of an array or a trial, and its times where it has some."""
    given = as_frame(given)
    values = np.asarray(given, dtype=float)
    if values.ndim not in (2, 3):
        raise ValueError(
            f"{argument}: got shape {values.shape}, wanted (trial, time, k) or (time, k), or a list of such trials"
        )
    if isinstance(given, xr.DataArray) and "time" in given.coords:
        return values, given["time"].values
    return values, times_of(given) if isinstance(given, pd.DataFrame) else None


def _common_times(times: list[np.ndarray | None]) -> np.ndarray | None:
    """Return one time axis for trials of unequal length: that of the longest, from 0 where starts differ."""
    known = [time for time in times if time is not None]
    if len(known) < len(times):
        return None
    longest = max(known, key=len)
    starts = np.array([time[0] for time in known])
    step = longest[1] - longest[0] if len(longest) > 1 else 1.0
    return longest if np.ptp(starts) <= 1e-6 * step else longest - longest[0]
