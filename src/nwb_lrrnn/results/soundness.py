"""A model that was read from a file, held against itself: sizes, finite numbers, parameters that a fit can have had."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from nwb_lrrnn.dynamics import LIKELIHOODS, NONLINEARITIES, LowRankDynamics

if TYPE_CHECKING:
    from nwb_lrrnn.io.writing.module_pieces import ModulePieces

_AT_LEAST_1 = (
    "rank", "n_neurons", "n_particles", "n_trajectories", "n_groups", "n_lags", "n_init", "batch_size", "max_samples",
)  # fmt: skip
_AT_LEAST_0 = ("max_epochs", "max_iter", "fine_tune_epochs", "n_bootstraps", "n_iter_", "n_inputs_", "random_state")
_POSITIVE = ("bin_size", "bin_size_", "tau", "dt", "learning_rate")
_CHOICES: dict[str, tuple[str, ...]] = {
    "nonlinearity": tuple(NONLINEARITIES),
    "likelihood": ("auto", *LIKELIHOODS),
    "link": ("identity", "softplus", "exp"),
    "posterior": ("smoothed", "filtered", "delayed"),
    "dtype": ("float32", "float64"),
}
# what the model says of itself beside its network, and what the network says of the same
_SAME = {"bin_size_": "dt", "likelihood_": "likelihood", "n_inputs_": "n_inputs"}


def check_model(pieces: ModulePieces, dataset: xr.Dataset) -> None:
    """Raise ValueError where a model, as the Dataset of the pieces, cannot be one that was fitted."""
    for name, variable in dataset.variables.items():
        if variable.dtype.kind in "fc" and not np.isfinite(variable.values).all():
            raise ValueError(f"`{name}` of the model has numbers that are not finite")
    for name, value in json.loads(dataset.attrs["parameters"]).items():
        _check_parameter(name, value)
    for name in ("n_iter_", "n_inputs_", "bin_size_", "dt", "tau"):
        if name in dataset.attrs:
            _check_parameter(name, dataset.attrs[name])
    if "left_vectors" in dataset:
        network = LowRankDynamics.from_dataset(dataset)
        for name, of_network in _SAME.items():
            if name in dataset.attrs and dataset.attrs[name] != getattr(network, of_network):
                raise ValueError(f"{name} is {dataset.attrs[name]!r}, {getattr(network, of_network)!r} in the network")
    for key in ("latents", "rates", "loadings"):
        for dim in ("latent", "unit"):
            piece = pieces[key]
            if piece is not None and piece.sizes.get(dim, n := dataset.sizes.get(dim)) != n and n is not None:
                raise ValueError(f"`{key}` has {piece.sizes[dim]} {dim}s, the model {n}")


def _check_parameter(name: str, value: Any) -> None:
    """Raise where a number is none, or a number or word is one that no fit takes."""
    if isinstance(value, list):
        for part in value:
            _check_parameter(name, part)
    elif isinstance(value, str):
        if name in _CHOICES and value not in _CHOICES[name]:
            raise ValueError(f"the parameter {name} is {value!r}, wanted one of {', '.join(_CHOICES[name])}")
    elif value is not None and not isinstance(value, bool):
        least = 1 if name in _AT_LEAST_1 else 0
        is_whole = name in (*_AT_LEAST_1, *_AT_LEAST_0)
        fails = math.isnan(value) or (is_whole and not (value >= least and value == math.floor(value)))
        if fails or (name in _POSITIVE and not 0 < value < math.inf):
            raise ValueError(f"the parameter {name} is {value!r}, which no fit has")
