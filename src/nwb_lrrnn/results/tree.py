"""The pieces of a result file as a tree that prints as its outline and that every engine of xarray saves."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from nwb_lrrnn.attributes import storable

if TYPE_CHECKING:
    from nwb_lrrnn.io.writing.module_pieces import ModulePieces

_OF_THE_MODEL = ("model", "dims")  # sections of what is known about a fit that describe its Dataset


def results_tree(name: str, pieces: ModulePieces) -> xr.DataTree:
    """Return the pieces as `read_results` describes them."""
    groups: dict[str, xr.Dataset] = {}
    series = {key: pieces[key] for key in ("latents", "rates") if pieces[key] is not None}
    if series:
        groups["trials"] = xr.Dataset(series)
    if pieces["loadings"] is not None:
        groups["units"] = pieces["loadings"]
    for key, table in pieces["tables"].items():
        groups[key] = table.to_xarray() if isinstance(table, pd.DataFrame) else table
    model = model_dataset(pieces)
    if pieces["state"]:
        groups["model"] = model
    if "group_ranks" in model:
        ranks = model["group_ranks"].values
        latent_group = ("latent", np.repeat(np.arange(len(ranks)), ranks))
        for key in ("trials", "units"):
            if key in groups and "latent" in groups[key].dims:
                groups[key] = groups[key].assign_coords(latent_group=latent_group)
    if "trials" in groups:
        groups["trials"] = _labelled(groups["trials"], model)
    for section, entries in pieces["info"].items():
        if section not in _OF_THE_MODEL:
            groups["/" if section == "module" else section] = xr.Dataset(attrs=entries)
    return xr.DataTree.from_dict({key: _savable(group) for key, group in groups.items()}, name=name)


def model_dataset(pieces: ModulePieces) -> xr.Dataset:
    """Return the Dataset that `model.to_dataset` gave."""
    info = pieces["info"]
    dims: dict[str, Any] = dict(info.get("dims", {}))
    coordinates = dims.pop("coordinates", [])
    variables = {name: (dims[name], pieces["state"][name]) for name in dims}
    attrs = {**info.get("model", {}), "parameters": json.dumps(info.get("parameters", {}))}
    return xr.Dataset(variables, attrs=attrs).set_coords(coordinates)


def _labelled(trials: xr.Dataset, model: xr.Dataset) -> xr.Dataset:
    """Return latents and rates whose axes have the names and units that `plot` writes; what is said already stays."""
    is_known = bool(model.attrs.get("bin_size_is_known_", model.attrs["dt"] != 1.0))
    labels = {
        "latents": {"long_name": "latents", "units": "a.u."},
        "rates": {"long_name": "rates", "units": "spikes/s" if is_known else "spikes per bin"},
        "time": {"long_name": "time", "units": "s" if is_known else "bins"},
    }
    if "latent" in trials.dims and "latent" not in trials.coords:  # files of before it was written
        trials = trials.assign_coords(latent=np.arange(trials.sizes["latent"]))
    for name, attrs in labels.items():
        if name in trials.variables:
            trials[name].attrs = attrs | trials[name].attrs
    return trials


def _savable(group: xr.Dataset) -> xr.Dataset:
    group = group.copy()
    for variable in (group, *group.variables.values()):
        variable.attrs = storable(variable.attrs)
    return group
