"""Latents of recordings of the same conditions: their canonical correlations at the same times."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

Array = NDArray[np.floating]


class Courses(NamedTuple):
    """The mean course of the latents in each condition."""

    mean: dict[object, Array]  # condition -> (time, latent)
    time: Array  # (time,), s


def courses_of(latents: xr.DataArray | None, condition: str) -> Courses | None:
    """Return mean courses of latents (trial, time, latent) over the trials of each condition; None: no such label."""
    if latents is None or condition not in latents.coords or latents[condition].dims != ("trial",):
        return None
    values = latents.transpose("trial", "time", "latent").values
    kinds = latents[condition].values
    kept = [value for value in dict.fromkeys(kinds.tolist()) if value == value]
    mean = {}
    for value in kept:
        of_kind = values[kinds == value]
        seen = np.isfinite(of_kind).all(-1).any(0)
        course = np.full(of_kind.shape[1:], np.nan)
        course[seen] = np.nanmean(of_kind[:, seen], axis=0)
        mean[value] = course
    return Courses(mean, np.asarray(latents["time"].values, dtype=float))


def canonical_correlations(first: Courses | None, second: Courses | None) -> Array | None:
    """Return the canonical correlations (latent,) of two fits over the conditions and times they share.

    None: they share no two conditions, or too few bins. Times are those of the first, the second is interpolated.
    """
    if first is None or second is None:
        return None
    shared = [value for value in first.mean if value in second.mean]
    inside = (first.time >= second.time[0] - 1e-9) & (first.time <= second.time[-1] + 1e-9)
    if len(shared) < 2 or inside.sum() < 2:
        return None
    x = np.concatenate([first.mean[value][inside] for value in shared])
    y = np.concatenate([_at(second.mean[value], second.time, first.time[inside]) for value in shared])
    finite = np.isfinite(x).all(1) & np.isfinite(y).all(1)
    x, y = x[finite], y[finite]
    if len(x) <= 2 * (x.shape[1] + y.shape[1]):
        return None
    return np.linalg.svd(_basis(x).T @ _basis(y), compute_uv=False).clip(0.0, 1.0)


def _at(course: Array, time: Array, wanted: Array) -> Array:
    return np.column_stack([np.interp(wanted, time, column) for column in course.T])


def _basis(values: Array) -> Array:
    """Return an orthonormal basis of the centred columns; constant ones correlate with nothing."""
    u, s, _ = np.linalg.svd(values - values.mean(0), full_matrices=False)
    return u * (s > 1e-9 * max(float(s[0]), 1e-300))
