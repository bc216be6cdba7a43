"""The fields of `LowRankDynamics`: their names, dims and checks, spelled here and nowhere else."""

from __future__ import annotations

import numbers
import textwrap
from typing import get_args

import numpy as np
import xarray as xr

from nwb_lrrnn.dynamics.likelihoods import LIKELIHOODS
from nwb_lrrnn.dynamics.links import LINKS
from nwb_lrrnn.dynamics.nonlinearity import NONLINEARITIES
from nwb_lrrnn.parameters import Readout, choose

DIMS = {
    "left_vectors": ("neuron", "latent"),
    "right_vectors": ("neuron", "latent"),
    "bias": ("neuron",),
    "thresholds": ("neuron",),
    "input_weights": ("neuron", "input"),
    "drive": ("latent",),
    "latent_input_weights": ("latent", "input"),
    "latent_noise": ("latent", "latent_"),
    "private_noise": ("neuron",),
    "initial_mean": ("latent",),
    "initial_covariance": ("latent", "latent_"),
    "initial_input_weights": ("latent", "input"),
    "loadings": ("unit", "latent"),
    "readout_input_weights": ("unit", "input"),
    "offset": ("unit",),
    "observation_variance": ("unit",),
    "dispersion": ("unit",),
    "link_gain": ("unit",),
    "latent_mean": ("latent",),
    "latent_covariance": ("latent", "latent_"),
}
ATTRS = ("dt", "tau", "nonlinearity", "filter_inputs", "readout", "likelihood", "link")
CHOICES = {
    "nonlinearity": NONLINEARITIES,
    "readout": get_args(Readout),
    "likelihood": tuple(LIKELIHOODS),
    "link": tuple(LINKS),
}
_COVARIANCES = ("latent_noise", "initial_covariance", "latent_covariance")
_NON_NEGATIVE = ("private_noise", "observation_variance", "dispersion")


def normalise(net) -> None:
    """Turn the fields of a new network into read-only float64 arrays and check every shape (called once)."""
    for name, valid in CHOICES.items():
        if name == "link" and net.link is None:
            object.__setattr__(net, "link", LIKELIHOODS[net.likelihood].links[0])
        choose(name, getattr(net, name), valid)
    family = LIKELIHOODS[net.likelihood]
    if net.link not in family.links:
        wanted = " or ".join(map(repr, family.links))
        raise ValueError(f"link: got {net.link!r} with likelihood={net.likelihood!r}, wanted {wanted}")
    for name in ("dt", "tau"):
        object.__setattr__(net, name, _seconds(name, getattr(net, name)))
    if not (0 < net.dt <= net.tau * (1 + 1e-12) and np.isfinite(net.tau)):
        raise ValueError(f"tau: got {net.tau} with dt = {net.dt}, wanted 0 < dt <= tau, both finite")
    sizes: dict[str, int] = {}
    for name, dims in DIMS.items():
        value = getattr(net, name)
        if value is None:
            continue
        if name == "loadings" and net.readout != "latents":
            dims = ("neuron",)
        object.__setattr__(net, name, _checked(name, value, dims, sizes))
        if name == "loadings":
            _agree("loadings", "unit", net.loadings.shape[0], sizes)
    if net.nonlinearity == "clipped_relu" and net.thresholds is None:
        raise ValueError("thresholds: None, but nonlinearity='clipped_relu' saturates there; pass (neuron,)")
    if net.link_gain is not None and not (LINKS[net.link].is_rate and family.is_of_counts):
        units = net.likelihood.capitalize()
        raise ValueError(f"link_gain: got one for {units} units, wanted None: it is the factor of a count link")
    if net.link_gain is not None and not (net.link_gain > 0).all():
        raise ValueError("link_gain: got gains of 0 or less, wanted the factor > 0 of each unit's count link")
    if family.spread is not None and family.needs_spread and net.loadings is not None:
        spread = getattr(net, family.spread)
        if spread is None or not (spread > 0).all():
            what = f"{family.spread}: got None or 0, but likelihood={net.likelihood!r}"
            raise ValueError(f"{what} has one > 0; pass (unit,)")
    if net.unit_ids is not None:
        ids = np.array(net.unit_ids)
        if ids.ndim != 1:
            raise ValueError(f"unit_ids: got an array of shape {ids.shape}, wanted (unit,)")
        _agree("unit_ids", "unit", len(ids), sizes)
        ids.flags.writeable = False
        object.__setattr__(net, "unit_ids", ids)


def summary(net) -> str:
    """Return what a network is in a few lines: sizes, times, choices, and which of the optional fields it has."""
    sizes = f"rank {net.rank}, {net.n_neurons} neurons" + (f", {net.n_inputs} inputs" if net.n_inputs else "")
    unit = "bin" if net.dt == 1.0 else "s"
    times = f"steps of {net.dt:.4g} {unit}, tau {net.tau:.4g} {unit}, {net.nonlinearity}"
    lines = [f"LowRankDynamics: {sizes}, {times}"]
    if net.loadings is not None:
        lines.append(f"  read by {net.n_units} units from its {net.readout}: {net.likelihood}, link {net.link}")
    arrays = [f"{name} {getattr(net, name).shape}" for name in DIMS if getattr(net, name) is not None]
    return "\n".join(lines + textwrap.wrap(", ".join(arrays), 100, initial_indent="  ", subsequent_indent="  "))


def _seconds(name: str, value: object) -> float:
    number = value.item() if isinstance(value, np.ndarray) and value.ndim == 0 else value
    if isinstance(number, numbers.Real):
        return float(number)
    raise ValueError(f"{name}: got {value!r}, wanted a number of seconds")


def _checked(name: str, value: object, dims: tuple[str, ...], sizes: dict[str, int]) -> np.ndarray:
    try:
        array = np.array(value, dtype=np.float64)  # a copy: nobody else can write to it
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: got values that are no array of real numbers ({error}), wanted floats") from error
    if array.ndim != len(dims):
        wanted = ", ".join(dim.rstrip("_") for dim in dims)
        raise ValueError(f"{name}: got an array of shape {array.shape}, wanted ({wanted})")
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: got values that are not finite, wanted finite numbers")
    for dim, size in zip(dims, array.shape, strict=True):
        _agree(name, dim.rstrip("_"), size, sizes)
    if name in _NON_NEGATIVE and (array < 0).any():
        raise ValueError(f"{name}: got negative values, wanted variances (or dispersions) >= 0")
    if name in _COVARIANCES:
        scale = max(1e-300, np.abs(array).max(initial=0.0))
        if (
            not np.allclose(array, array.T, atol=1e-8 * scale)
            or np.linalg.eigvalsh(array).min(initial=0.0) < -1e-8 * scale
        ):
            raise ValueError(f"{name}: got a matrix that is no covariance, wanted it symmetric, eigenvalues >= 0")
    array.flags.writeable = False
    return array


def _agree(name: str, dim: str, size: int, sizes: dict[str, int]) -> None:
    if sizes.setdefault(dim, size) != size:
        raise ValueError(f"{name}: got {size} along {dim}, wanted {sizes[dim]} like the fields before it")


def n_inputs(net) -> int:
    """Return the number of inputs that the fields imply, 0 when none takes one."""
    for name in ("input_weights", "latent_input_weights", "initial_input_weights", "readout_input_weights"):
        value = getattr(net, name)
        if value is not None:
            return value.shape[1]
    return 0


def checked_latents(net, latents) -> np.ndarray:
    """Return latents as float64 (..., latent), or say what is wrong."""
    z = np.asarray(latents, dtype=np.float64)
    if z.ndim == 0 or z.shape[-1] != net.rank:
        raise ValueError(f"latents: got shape {z.shape}, wanted (..., {net.rank}), the last axis being the latents")
    return z


def checked_inputs(net, inputs) -> np.ndarray:
    """Return inputs as float64 (..., input), or say what is wrong."""
    u = np.asarray(inputs, dtype=np.float64)
    if u.ndim == 0 or u.shape[-1] != net.n_inputs:
        raise ValueError(f"inputs: got shape {u.shape}, wanted (..., {net.n_inputs}), the last axis being the inputs")
    return u


def to_dataset(net) -> xr.Dataset:
    """Return the network as a Dataset (see `LowRankDynamics.to_dataset`)."""
    variables = {}
    for name, dims in DIMS.items():
        value = getattr(net, name)
        if value is not None:
            dims = ("neuron",) if name == "loadings" and net.readout != "latents" else dims
            variables[name] = (dims, np.array(value))
    attrs = {name: getattr(net, name) for name in ATTRS}
    attrs["filter_inputs"] = int(net.filter_inputs)  # netCDF has no flags
    dataset = xr.Dataset(variables, attrs=attrs)
    if net.unit_ids is not None:
        dataset = dataset.assign_coords(unit=("unit", np.array(net.unit_ids)))
    return dataset


def from_dataset(dataset: xr.Dataset) -> dict:
    """Return the keyword arguments of the network stored in a Dataset; other variables are ignored."""
    missing = [name for name in ("left_vectors", "right_vectors") if name not in dataset]
    missing += [name for name in ("dt", "tau") if name not in dataset.attrs]
    if missing:
        raise ValueError(f"dataset: got no {', '.join(missing)}, wanted a Dataset made by LowRankDynamics.to_dataset()")
    kwargs = {name: dataset.attrs[name] for name in ATTRS if name in dataset.attrs}
    kwargs["filter_inputs"] = bool(kwargs.get("filter_inputs", False))  # files store flags as integers
    for name, dims in DIMS.items():
        if name in dataset:
            variable = dataset[name]
            kwargs[name] = (variable.transpose(*dims) if set(variable.dims) == set(dims) else variable).values
    if "unit" in dataset.coords:
        kwargs["unit_ids"] = dataset["unit"].values
    return kwargs
