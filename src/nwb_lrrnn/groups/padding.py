"""Latents of any kind as one padded array."""

from __future__ import annotations

from typing import Any

import numpy as np
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
