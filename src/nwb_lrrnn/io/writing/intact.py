"""Results that do not fit together: one sentence for whatever goes wrong while they are put together."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.io.errors import DamagedResultsError

# What h5py, numpy, json and xarray raise on arrays, names and lengths that are not what was written.
_ODD = (KeyError, IndexError, TypeError, ValueError, AttributeError, ArithmeticError, MemoryError, RuntimeError)


@contextmanager
def intact(path: str | os.PathLike[str], module: str | None) -> Iterator[None]:
    """Let nothing but DamagedResultsError out of the block, which reads results that were found in a module."""
    try:
        with np.errstate(invalid="raise"):  # numbers that become whole ones and are none
            yield
    except DamagedResultsError:
        raise
    except _ODD as error:
        where = f"processing/{module}" if module else "the file"
        raise DamagedResultsError(
            f"{os.fspath(path)}: the results in {where} do not fit together ({_said(error)}); they are damaged, or "
            "another program changed them: write them again from the model, or take an older copy"
        ) from error


def check_rows(order: NDArray, series: NDArray, first: NDArray, count: NDArray, n_rows: list[int]) -> None:
    """Raise unless every trial has a place of its own, and rows of its own within its series.

    `order`, `series`, `first` and `count` (trial,) are the place of a trial, its series, its first row there and its
    number of rows; `n_rows` is how many rows each series has.
    """
    if sorted(order.tolist()) != list(range(len(order))):
        raise ValueError(f"`trial_order` is no order of {len(order)} trials: {order[:10].tolist()}")
    if len(series) and not 0 <= series.min() <= series.max() < len(n_rows):
        raise ValueError(f"`series` names no series of {len(n_rows)}: {series[:10].tolist()}")
    for number, n in enumerate(n_rows):
        here = series == number
        begins, ends = first[here].astype(np.int64), first[here].astype(np.int64) + count[here].astype(np.int64)
        by_begin = np.argsort(begins, kind="stable")
        begins, ends = begins[by_begin], ends[by_begin]
        if not here.any():
            raise ValueError("a series has rows of no trial")
        if ((begins < 0) | (ends < begins) | (ends > n)).any():
            raise ValueError(f"`start_index` and `count` lead out of the {n} rows of a series")
        if count[here].sum() < n:
            raise ValueError(f"`count` leaves {n - int(count[here].sum())} of {n} rows of a series to no trial")
        if (begins[1:] < ends[:-1]).any():
            raise ValueError("`start_index` and `count` give rows to two trials")


def _said(error: BaseException) -> str:
    """Return what is wrong in a few words."""
    text = " ".join(str(error.args[0] if isinstance(error, KeyError) and error.args else error).split())
    if isinstance(error, KeyError):
        return text if "object" in text else f"{text!r} is missing"
    return text[:300] or type(error).__name__
