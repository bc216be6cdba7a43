"""What is asked of an estimator by duck typing: latents of trials, some of whose entries may be hidden from it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwb_lrrnn.dynamics import LowRankDynamics
from nwb_lrrnn.trials import Trials, as_trials

Array = NDArray[np.float64]


class Simulator(Protocol):
    """What draws trials into a Dataset with `observations`."""

    simulate: Callable[..., Any]


class FittedModel(Protocol):
    """What has the verbs of a model of latents, of this package or another."""

    likelihood_: str
    bin_size_: float
    unit_ids_: np.ndarray
    dynamics_: LowRankDynamics
    transform: Callable[..., Any]
    inverse_transform: Callable[..., Any]


def require(model: object, *names: str) -> None:
    """Refuse what lacks a verb or a fitted attribute."""
    missing = [name for name in names if not hasattr(model, name)]
    if missing:
        raise TypeError(
            f"model: got a {type(model).__name__} without {', '.join(missing)}, wanted a fitted model of latents; "
            "call fit first"
        )


def read(model: FittedModel, name: str, X: Any, inputs: Any = None) -> tuple[Trials, NDArray[np.bool_]]:
    """Return X as trials of the units the model was fitted to, and what is observed, (trial, time, unit)."""
    # an estimator of another package may not say; 1.0 then stands for a bin size that nobody knows
    is_known = getattr(model, "bin_size_is_known_", model.bin_size_ != 1.0)
    trials = as_trials(X, inputs=inputs, bin_size=model.bin_size_ if is_known else None, allow_nan=True)
    if len(trials.unit_ids) != len(model.unit_ids_):
        raise ValueError(
            f"{name}: got {len(trials.unit_ids)} units, wanted {len(model.unit_ids_)}, the units the model was fitted "
            "to; hide units by held_out_units, not by leaving them out"
        )
    observed = np.ones(trials.values.shape, dtype=bool) if trials.observed is None else trials.observed
    return trials, observed


def latents(
    model: FittedModel,
    values: Array,
    observed: NDArray[np.bool_],
    bin_size: float | None,
    inputs: Array | None,
    **options: Any,
) -> Array:
    """Return `model.transform` of values (trial, time, unit), entries that are not `observed` being hidden from it."""
    X = xr.DataArray(
        np.where(observed, values, 0.0), dims=("trial", "time", "unit"), coords={"unit": np.asarray(model.unit_ids_)}
    )
    if not observed.all():
        X = X.assign_coords(observed=(X.dims, observed))
    if bin_size is not None:
        X.attrs["bin_size"] = bin_size
    drive = {} if inputs is None else {"inputs": inputs}
    with warnings.catch_warnings():  # of a model fitted to a DataFrame; the units are checked by name all the same
        warnings.filterwarnings("ignore", message="X does not have valid feature names")
        return np.asarray(model.transform(X, **drive, **options), dtype=np.float64)
