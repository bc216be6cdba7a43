"""Recorded trajectories as samples of a field: where the latents were, and how fast they moved.

savgol     local polynomials of order 4 (Savitzky & Golay 1964) give both; the width by leaving samples out
integral   the same latents, but their way over windows: z(t + L) - z(t), and the field averaged over it
central    (z_{t+1} - z_{t-1}) / 2 h
euler      (z_{t+1} - z_t) / h: exact for data of an Euler network of step h, wrong by O(h) for all others
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.signal import savgol_coeffs, savgol_filter

from nwb_lrrnn.parameters import choose, positive

Array = NDArray[np.floating]

DERIVATIVES = ("savgol", "integral", "central", "euler")
_ORDER = 4
_WINDOWS = (7, 9, 11, 15, 21, 29, 41, 59)  # samples; narrower ones pass through every sample
_SIMPSON = np.array([1.0, 4.0, 2.0, 4.0, 1.0]) / 12.0  # the mean over 5 samples


@dataclass(frozen=True)
class TrajectorySamples:
    """What `fit_field_samples` takes of trajectories."""

    latents: Array  # (T, R)
    velocity: Array  # (M, R), M = T where `average` is None
    inputs: Array | None  # (T, P)
    groups: NDArray[np.integer]  # (M,), the trial each row is of
    average: sparse.csr_array | None  # (M, T): the velocity is the mean of the field with these weights
    window: int  # samples of the local polynomials, 0 without
    warnings: tuple[str, ...]


def trajectory_samples(
    trials: Sequence[Array],
    step: float,
    *,
    tau: float,
    derivative: str = "savgol",
    window: int | None = None,
    inputs: Sequence[Array] | None = None,
) -> TrajectorySamples:
    """Return samples of the field that moved latents along trials (T_i, R), `step` seconds apart.

    No derivative reaches over the end of a trial. `window`, an odd number of samples, fixes that of the polynomials; by
    default half of that whose value at every sample is best foretold by the samples around it: what is wrong with the
    velocity stays in a regression, and noise is averaged out. What is to be said, of trials too short and of `tau`
    against the step, is in `warnings`.
    """
    choose("derivative", derivative, DERIVATIVES)
    step, tau = positive("step", step, hint=" seconds"), positive("tau", tau, hint=" seconds")
    paths = [_checked("latents", i, path) for i, path in enumerate(trials)]
    driven = None if inputs is None else [_checked("inputs", i, u) for i, u in enumerate(inputs)]
    if not paths:
        raise ValueError("latents: got no trials, wanted one or more of shape (time, latent)")
    if driven is not None and [len(u) for u in driven] != [len(z) for z in paths]:
        raise ValueError("inputs: got trials of other lengths than the latents', wanted (time, input) for each")
    shortest = {"central": 3, "euler": 2}.get(derivative, _ORDER + 2)
    kept = [i for i, path in enumerate(paths) if len(path) >= shortest]
    said = _said(len(paths) - len(kept), shortest, step, tau)
    if not kept:
        longest = max(len(path) for path in paths)
        raise ValueError(
            f"latents: got trials of at most {longest} samples, wanted {shortest} or more for derivative={derivative!r}"
        )
    width = 0
    if derivative in ("savgol", "integral"):
        width = _best_window([paths[i] for i in kept]) if window is None else _odd(window)
    parts = [_pieces(paths[i], step, derivative, width) for i in kept]
    latents = np.concatenate([z for z, _, _, _ in parts])
    velocity = np.concatenate([dz for _, dz, _, _ in parts])
    groups = np.repeat(kept, [len(dz) for _, dz, _, _ in parts])
    matrices = [matrix for _, _, _, matrix in parts if matrix is not None]
    average = sparse.csr_array(sparse.block_diag(matrices, format="csr")) if matrices else None
    taken = None
    if driven is not None:
        taken = np.concatenate([driven[i][rows] for i, (_, _, rows, _) in zip(kept, parts, strict=True)])
    return TrajectorySamples(latents, velocity, taken, groups, average, width, said)


def _pieces(
    path: Array, step: float, derivative: str, width: int
) -> tuple[Array, Array, slice, sparse.csr_array | None]:
    """Return latents, velocity, which samples these are, and the averages of the field, of one trial."""
    n = len(path)
    if derivative == "euler":
        return path[:-1], np.diff(path, axis=0) / step, slice(0, n - 1), None
    if derivative == "central":
        return path[1:-1], (path[2:] - path[:-2]) / (2 * step), slice(1, n - 1), None
    width = min(width, n if n % 2 else n - 1)
    order = min(_ORDER, width - 1)
    smooth = np.asarray(savgol_filter(path, width, order, axis=0))
    if derivative == "savgol":
        # the ends are extrapolated: they are left out where enough is left
        rows = slice(width // 2, n - width // 2) if n >= 2 * width else slice(0, n)
        velocity = np.asarray(savgol_filter(path, width, order, deriv=1, delta=step, axis=0))
        return smooth[rows], velocity[rows], rows, None
    n_windows, reach = n - 4, len(_SIMPSON) - 1
    velocity = (smooth[reach:] - smooth[:-reach]) / (reach * step)
    at = np.arange(n_windows)[:, None] + np.arange(reach + 1)
    starts = (reach + 1) * np.arange(n_windows + 1)
    weights = sparse.csr_array((np.tile(_SIMPSON, n_windows), at.ravel(), starts), shape=(n_windows, n))
    return smooth, velocity, slice(0, n), weights


def _best_window(paths: list[Array]) -> int:
    """Return half the window that foretells a sample best from the others in it, by (y - fit) / (1 - own weight)."""
    best, found = np.inf, _WINDOWS[0]
    scale = np.concatenate(paths).std(0)
    scale = np.where(scale > 0, scale, 1.0)
    half = max(_WINDOWS) // 2
    for window in _WINDOWS:
        own = savgol_coeffs(window, _ORDER)[window // 2]
        error, count = 0.0, 0
        for path in paths:
            if len(path) < window:
                continue
            inside = slice(half, -half) if len(path) > 3 * half else slice(window // 2, len(path) - window // 2)
            missed = (path - np.asarray(savgol_filter(path, window, _ORDER, axis=0)))[inside] / scale / (1.0 - own)
            error, count = error + float((missed**2).sum()), count + missed.size
        if count and error / count < 0.97 * best:  # a wider one has to be worth it
            best, found = error / count, window
    return max(_WINDOWS[0], found // 2 + 1 - found // 2 % 2)


def _odd(window: object) -> int:
    if isinstance(window, (int, np.integer)) and window > _ORDER and window % 2:
        return int(window)
    raise ValueError(f"window: got {window!r}, wanted an odd number of samples above {_ORDER}, e.g. window=9")


def _checked(name: str, trial: int, values) -> Array:
    table = np.asarray(values, dtype=float)
    if table.ndim != 2:
        raise ValueError(f"{name}: got shape {table.shape} in trial {trial}, wanted (time, {name.rstrip('s')})")
    if not np.isfinite(table).all():
        row = int(np.argwhere(~np.isfinite(table))[0, 0])
        raise ValueError(
            f"{name}: got {table[row][~np.isfinite(table[row])][0]} in trial {trial} at sample {row}, wanted finite "
            "numbers; split the trial there"
        )
    return table


def _said(n_short: int, shortest: int, step: float, tau: float) -> tuple[str, ...]:
    said = []
    if n_short:
        said.append(f"{n_short} trials have fewer than {shortest} samples and tell nothing of the velocity")
    if tau < 2 * step:
        said.append(
            f"tau = {tau:.4g} s against samples every {step:.4g} s: what such a network does between two of them is "
            f"not in the data; take tau >= {2 * step:.4g} s"
        )
    return tuple(said)
