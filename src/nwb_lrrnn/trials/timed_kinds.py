"""Kinds of object that carry their own times: frames of pandas by their index, and series of pynapple."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray


def as_frame(X: Any) -> Any:
    """Return a series of pynapple as a DataFrame (time, unit) whose index is the time in seconds, all else as it is."""
    if isinstance(X, (list, tuple)):
        return [as_frame(trial) for trial in X] if any(is_pynapple(trial) for trial in X) else X
    if not is_pynapple(X):
        return X
    if not hasattr(X, "t") or X.ndim > 2:
        raise TypeError(f"X: got a {type(X).__name__} of pynapple, wanted a Tsd or a TsdFrame (time, unit)")
    if len(X.time_support) > 1:
        raise ValueError(
            f"X: got a {type(X).__name__} of {len(X.time_support)} epochs, between which time is missing; pass a list "
            "of trials: [X.restrict(X.time_support[[k]]) for k in range(len(X.time_support))]"
        )
    values = np.asarray(X.d)
    columns = pd.RangeIndex(1) if values.ndim == 1 else pd.Index(np.asarray(X.columns))
    if columns.equals(pd.RangeIndex(len(columns))):
        columns = pd.RangeIndex(len(columns))
    return pd.DataFrame(values if values.ndim == 2 else values[:, None], index=np.asarray(X.t), columns=columns)


def is_pynapple(X: Any) -> bool:
    """Return whether X is an object of pynapple, which is not imported for that."""
    return type(X).__module__.partition(".")[0] == "pynapple" and hasattr(X, "time_support")


def like_pynapple(source: Any, values: NDArray, columns: list[Any], times: NDArray | None = None) -> Any:
    """Return values (time, k) as a TsdFrame at the times of a series of pynapple, or at others."""
    pynapple = sys.modules["pynapple"]
    at = np.asarray(source.t) if times is None else times
    support = source.time_support if times is None else None
    return pynapple.TsdFrame(t=at, d=np.asarray(values), time_support=support, columns=columns)


def times_of(frame: pd.DataFrame) -> NDArray[np.float64] | None:
    """Return the times that the index of a frame says (time,), seconds; None where it only counts rows, or names them.

    Whole numbers count rows; they are times nowhere, since nothing says of what.
    """
    index = frame.index
    if isinstance(index, (pd.TimedeltaIndex, pd.DatetimeIndex)):
        since: Any = index - index[0] if len(index) else pd.TimedeltaIndex([])
        return np.asarray(since.total_seconds(), dtype=np.float64)
    is_of_floats = not isinstance(index, pd.MultiIndex) and index.dtype.kind == "f"
    return index.to_numpy(np.float64) if is_of_floats else None


def refuse_shuffled(frame: pd.DataFrame, name: str) -> None:
    """Refuse rows whose numbers are in disorder: they are bins, each of which follows the one before."""
    index = frame.index
    if isinstance(index, pd.MultiIndex) or index.dtype.kind not in "iu" or index.is_monotonic_increasing:
        return
    fix = f"{name}.reset_index(drop=True) where their order is right, {name}.sort_index() where it is not"
    if index.has_duplicates:
        fix += "; trials one below the other are passed as a list of frames"
    raise ValueError(f"{name}: the numbers of its rows do not increase, wanted bins in their order; call {fix}")
