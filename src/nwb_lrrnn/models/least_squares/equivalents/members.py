"""The networks of an ensemble as arrays over `network`, and back."""

from __future__ import annotations

import numpy as np
import xarray as xr

from nwb_lrrnn.dynamics import LowRankDynamics

_PARTS = {  # what members have of their own, and its dims
    "left_vectors": ("neuron", "latent"),
    "right_vectors": ("neuron", "latent"),
    "bias": ("neuron",),
    "thresholds": ("neuron",),
    "drive": ("latent",),
    "input_weights": ("neuron", "input"),
    "latent_input_weights": ("latent", "input"),
}


def stacked(networks: list[LowRankDynamics]) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
    """Return variables of a Dataset: the parts of networks of one shape side by side."""
    parts = {}
    for name, dims in _PARTS.items():
        values = [getattr(network, name) for network in networks]
        if any(value is not None for value in values):
            filled = next(value for value in values if value is not None)
            stack = [np.zeros_like(filled) if value is None else value for value in values]
            parts[name] = (("network", *dims), np.stack(stack))
    return parts


def network_of(ensemble: xr.Dataset, number: int) -> LowRankDynamics:
    """Return network `number` of an ensemble; its input along the path, if it needs one, is `ensemble["input"]`."""
    parts = {name: ensemble[name].values[number] for name in _PARTS if name in ensemble}
    return LowRankDynamics(
        **parts,
        dt=ensemble.attrs["dt"],
        tau=ensemble.attrs["tau"],
        nonlinearity=ensemble.attrs["nonlinearity"],
        filter_inputs=bool(ensemble.attrs["filter_inputs"]),
        latent_mean=ensemble["latent_mean"].values,
        latent_covariance=ensemble["latent_covariance"].values,
    )


def networks_of(ensemble: xr.Dataset) -> list[LowRankDynamics]:
    """Return all networks of an ensemble."""
    return [network_of(ensemble, k) for k in range(ensemble.sizes["network"])]
