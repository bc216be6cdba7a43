"""Latents of any kind as one padded array, and the first part of a recording in its own kind."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray


def padded(latents: Any, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return latents of any kind as (trial, time, latent), zeros where a trial is over.

    Examples
    --------
    >>> padded([np.ones((2, 1)), np.ones((3, 1))], (2, 3))[0, :, 0]
    array([1., 1., 0.])
    """
    if not isinstance(latents, list):
        values = np.asarray(latents, dtype=np.float64)
        return values if values.ndim == 3 else values[None]
    parts = [np.asarray(part, dtype=np.float64) for part in latents]
    out = np.zeros((*shape, parts[0].shape[-1]))
    for row, part in zip(out, parts, strict=True):
        row[: len(part)] = part
    return out


def until(X: Any, stop: int) -> Any:
    """Return the first bins of a single recording, in the kind of X."""
    return _cut(X, slice(stop))


def since(X: Any, start: int) -> Any:
    """Return the last bins of a single recording, in the kind of X."""
    return _cut(X, slice(start, None))


def _cut(X: Any, bins: slice) -> Any:
    if X is None:
        return None
    if hasattr(X, "isel"):
        return X.isel(time=bins)
    if isinstance(X, pd.DataFrame):
        return X.iloc[bins]
    if isinstance(X, list) and len(X) == 1 and np.ndim(X[0]) == 2:
        return [_cut(X[0], bins)]
    return np.asarray(X)[:, bins] if np.ndim(X) == 3 else np.asarray(X)[bins]
