"""Trials, or windows where there are none, and which of them are held out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import xarray as xr

    from nwb_lrrnn.models.base import LatentModel

_N_WINDOWS = 40  # a recording without trials is cut into this many, if they are long enough for its dynamics


def trials_of(
    X: xr.DataArray,
    inputs: xr.DataArray | None,
    duration: float | None,
    test_fraction: float,
    say: Callable[[str], None],
) -> tuple[xr.DataArray, xr.DataArray | None, str]:
    """Return X and inputs in trials, and what a recording is too short for; what has no trials is cut into windows."""
    if X.ndim == 3:
        if duration is not None:
            raise ValueError(
                "chop: the recording has trials; drop chop=, or select a stretch with window=(start, stop)"
            )
        return X, inputs, ""
    from nwb_lrrnn.preprocessing import choose_window, chop

    if "bin_size" not in X.attrs:
        raise ValueError(
            f"bin_size: {X.name} has no steady rate, so that it cannot be cut into windows; pass bin_size="
        )
    step, why, shortage = float(X.attrs["bin_size"]), "", ""
    if duration is None:
        choice = choose_window(X, _N_WINDOWS)
        duration, shortage = choice.length * step, choice.shortage(test_fraction)
        why = f", as {choice.reason(step, 's')}; chop= says how long they are"
    cut = chop(X, duration)
    say(f"No trials: cut into {cut.sizes['trial']} windows of {cut.sizes['time'] * cut.attrs['bin_size']:.4g} s{why}")
    if shortage:
        say(f"           {shortage}")
    return cut, None if inputs is None else chop(inputs, duration), shortage


def check_trials(estimator: LatentModel, X: xr.DataArray, inputs: Any) -> None:
    """Raise what is wrong with any trial before the fit, which sees only some of them."""
    from nwb_lrrnn.trials import LazyTrials, read_trials

    trials = read_trials(X, inputs=inputs, allow_nan=estimator.__sklearn_tags__().input_tags.allow_nan)
    if isinstance(trials, LazyTrials):
        _ = trials.summary  # reads all of them


def held_out(X: xr.DataArray, fraction: float, seed: int, is_cut: bool) -> Any:
    """Return which trials are held out, a boolean (trial,) array: trials drawn at random, or the last windows.

    A window among windows that were fitted begins and ends with what the fit has seen, and tells little of the rest.
    """
    import numpy as np

    n = X.sizes["trial"]
    n_held = max(1, round(fraction * n))
    if n - n_held < 2:
        raise ValueError(
            f"too few trials to hold some out ({n}); select more, cut shorter windows with chop=, or hold nothing out"
        )
    held = np.zeros(n, dtype=bool)
    if is_cut:
        held[n - n_held :] = True
        return held
    held[np.random.default_rng(seed).permutation(n)[:n_held]] = True
    return held
