"""A `GroupNetwork` as named arrays of a Dataset, beside its `LowRankDynamics`, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwb_lrrnn.dynamics import LowRankDynamics
from nwb_lrrnn.models.dis.fitting import Recurrence
from nwb_lrrnn.models.dis.neighbours import Neighbours
from nwb_lrrnn.models.dis.network import GroupNetwork, Reader, Start
from nwb_lrrnn.models.dis.regression import Linear
from nwb_lrrnn.models.dis.units import LIKELIHOODS, Units

Array = NDArray[np.floating]

_MLP = {
    "hidden_weights": ("hidden", "feature"),
    "hidden_bias": ("hidden",),
    "output_weights": ("code", "hidden"),
    "output_bias": ("code",),
}


def variables_of(network: GroupNetwork) -> dict[str, tuple]:
    """Return what a network is beside its readout: name -> (dims, array)."""
    linear, square = network.linear, ("latent", "latent_")
    found: dict[str, tuple] = {
        "encoder_weights": (("latent", "code" if network.mlp is not None else "feature"), linear.encoder),
        "encoder_offset": (("latent",), linear.encoder_offset),
        "encoder_noise": (square, linear.latent_noise),
        "encoder_unit_noise": (("unit",), linear.noise),
        "gap_mean": (("latent",), network.alone.mean),
        "gap_covariance": (square, network.alone.covariance),
    }
    if network.mlp is not None:
        found |= {f"encoder_{name}": (dims, network.mlp[name]) for name, dims in _MLP.items()}
    if network.reader is not None and network.neighbours is not None:
        around = network.neighbours
        found |= {
            "reader_weights": (("latent", "unit"), network.reader.weights),
            "reader_offset": (("unit",), network.reader.offset),
            "neighbour_covariance": (("window", "window_"), around.covariance),
            "neighbour_noise": (square, around.noise),
            "neighbour_metric": (square, around.metric),
            "neighbour_ridge": ((), np.array(around.ridge)),
        }
        if network.reader.input_weights.shape[1]:
            found["reader_input_weights"] = (("unit", "input"), network.reader.input_weights)
    return found


def network_of(dynamics: LowRankDynamics, dataset: xr.Dataset, n_lags: int) -> GroupNetwork:
    """Return the network of a dynamics and the variables beside it; the dynamics alone tell a Gaussian encoder."""
    units = _units(dynamics)
    if "encoder_weights" not in dataset and units.are_counts:
        raise ValueError(
            "dataset: got the dynamics of counts alone, which have no encoder, wanted a Dataset made by to_dataset() "
            "of a DisRNN"
        )
    rank, n_inputs = dynamics.rank, dynamics.n_inputs

    def array(name: str, otherwise) -> Array:
        return np.array(dataset[name].values if name in dataset else otherwise, dtype=np.float64)

    def or_zero(value, *shape: int) -> Array:
        return np.zeros(shape) if value is None else np.array(value)

    noise = dynamics.private_noise
    if noise is None and dynamics.observation_variance is not None:
        noise = dynamics.observation_variance / units.scale**2
    linear = Linear(
        np.array(dynamics.left_vectors),
        array("encoder_weights", dynamics.right_vectors.T / dynamics.n_neurons),
        array("encoder_offset", or_zero(dynamics.drive, rank)),
        or_zero(dynamics.bias, dynamics.n_neurons),
        or_zero(dynamics.input_weights, dynamics.n_neurons, n_inputs),
        array("encoder_noise", or_zero(dynamics.latent_noise, rank, rank)),
        array("encoder_unit_noise", or_zero(noise, dynamics.n_neurons)),
    )
    first = Start(
        or_zero(dynamics.initial_mean, rank),
        or_zero(dynamics.initial_input_weights, rank, n_inputs),
        np.eye(rank) if dynamics.initial_covariance is None else np.array(dynamics.initial_covariance),
    )
    spread = first.covariance if dynamics.latent_covariance is None else dynamics.latent_covariance
    mean = first.mean if dynamics.latent_mean is None else dynamics.latent_mean
    alone = Start(array("gap_mean", mean), np.zeros((rank, n_inputs)), array("gap_covariance", spread))
    dispersion = None if dynamics.dispersion is None else np.array(dynamics.dispersion)
    mlp = {name: array(f"encoder_{name}", 0.0) for name in _MLP} if "encoder_hidden_weights" in dataset else None
    network = GroupNetwork(units, linear, n_lags, first, alone, dispersion, mlp)
    if "neighbour_covariance" not in dataset:
        return network
    reader = Reader(
        array("reader_weights", 0.0),
        array("reader_offset", 0.0),
        array("reader_input_weights", np.zeros((dynamics.n_neurons, n_inputs))),
    )
    around = Neighbours(
        array("neighbour_covariance", 0.0),
        array("neighbour_noise", 0.0),
        float(array("neighbour_ridge", 0.0)),
        array("neighbour_metric", 0.0),
    )
    return GroupNetwork(units, linear, n_lags, first, alone, dispersion, mlp, reader, around)


def _units(dynamics: LowRankDynamics) -> Units:
    n, likelihood = dynamics.n_neurons, dynamics.likelihood
    if dynamics.readout != "currents" or dynamics.loadings is None or dynamics.alpha < 1 - 1e-12:
        raise ValueError(
            "dataset: got a network whose units are not its neurons or whose alpha is not 1, wanted one with "
            "readout='currents', loadings (neuron,) and tau = dt, as DisRNN fits it"
        )
    unread = ("latent_input_weights", "readout_input_weights", "thresholds")
    given = [name for name in unread if np.any(getattr(dynamics, name) if getattr(dynamics, name) is not None else 0)]
    given += ["filter_inputs"] if dynamics.filter_inputs else []
    if dynamics.private_noise is not None and dynamics.observation_variance is not None:
        given.append("observation_variance beside private_noise")
    if given:
        raise ValueError(f"dataset: got a network with {', '.join(given)}, which DisRNN has not; drop it first")
    if likelihood not in LIKELIHOODS:
        raise ValueError(
            f"dataset: got likelihood={likelihood!r}, which DisRNN has not; wanted {', '.join(LIKELIHOODS)}"
        )
    center = np.zeros(n) if dynamics.offset is None else np.array(dynamics.offset)
    scale = np.array(dynamics.loadings)
    if likelihood != "gaussian":
        if not (np.allclose(scale, 1.0) and np.allclose(center, 0.0)):
            raise ValueError("loadings: counts of a DisRNN have loadings 1 and offset 0; their scale is link_gain")
        scale = np.ones(n) if dynamics.link_gain is None else np.array(dynamics.link_gain)
    link = str(dynamics.link)
    return Units(likelihood, dynamics.nonlinearity, center, scale, np.zeros(n), float(dynamics.dt), link)


def dynamics_of(
    network: GroupNetwork, recurrence: Recurrence, moments: tuple[Array, Array], unit_ids: NDArray
) -> LowRankDynamics:
    """Return the network as mathematics: alpha = 1, the units are the neurons.

    Parameters
    ----------
    network : GroupNetwork
    recurrence : Recurrence
        How its latents drive themselves.
    moments : tuple of arrays (latent,), (latent, latent)
        Mean and covariance of the latents over the training data.
    unit_ids : array (unit,)
    """
    units, linear = network.units, network.linear
    n = len(linear.decoder)
    observed: dict = {"loadings": np.ones(n), "offset": np.zeros(n), "link_gain": units.scale}
    if not units.are_counts:
        observed = {"loadings": units.scale, "offset": units.center}
        observed |= (
            {"private_noise": linear.noise}
            if recurrence.noise == "recurrent"
            else {"observation_variance": units.scale**2 * linear.noise}
        )
    if network.dispersion is not None:
        observed["dispersion"] = network.dispersion
    n_inputs = linear.input_weights.shape[1]
    names: dict[str, Any] = {name: getattr(units, name) for name in ("nonlinearity", "likelihood", "link")}
    return LowRankDynamics(
        linear.decoder,
        n * recurrence.weights.T,
        dt=units.bin_size,
        tau=units.bin_size,
        **names,
        bias=linear.offset,
        input_weights=linear.input_weights if n_inputs else None,
        drive=recurrence.drive,
        latent_noise=recurrence.latent_noise,
        initial_mean=network.first.mean,
        initial_covariance=network.first.covariance,
        initial_input_weights=network.first.input_weights if n_inputs else None,
        readout="currents",
        latent_mean=moments[0],
        latent_covariance=moments[1],
        unit_ids=unit_ids,
        **observed,
    )
