"""A fitted model as a Dataset, and back: arrays by name, the rest in attrs; no code, no pickle."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import xarray as xr
from sklearn.utils.validation import check_is_fitted

from nwb_lrrnn.attributes import storable
from nwb_lrrnn.dynamics import LowRankDynamics
from nwb_lrrnn.models.scored_units import narrowed, widened_state

_UNIT_DIMS = {True: ("unit",), False: ("unit", "neuron")}  # by whether units read latents, or are the neurons


class AsDataset:
    """What a `LatentModel` does to be stored; a subclass says what it is beside its network."""

    scored_units_: np.ndarray
    units_at_floor_: np.ndarray
    unit_ids_: np.ndarray
    n_features_in_: int
    feature_names_in_: np.ndarray
    dynamics_: LowRankDynamics
    readout_network_: LowRankDynamics
    get_params: Any
    set_params: Any
    _scored: Any
    _stand_around: Any

    def to_dataset(self) -> xr.Dataset:
        """Return all that the fitted model is as a Dataset: arrays by name, the rest in attrs; no code, no pickle."""
        check_is_fitted(self)
        network = self.readout_network_
        state = widened_state(self._scored._state(), self.scored_units_, _UNIT_DIMS[network.readout == "latents"])
        state["is_at_floor"] = (("unit",), self.units_at_floor_)
        if not self.scored_units_.all():
            state["is_scored"] = (("unit",), self.scored_units_)
        dataset = network.to_dataset().assign(state)
        if names_of(getattr(self, "input_ids_", None)):
            dataset = dataset.assign_coords(input=np.asarray(self.input_ids_).astype(str))
        if hasattr(self, "feature_names_in_"):
            dataset = dataset.assign_coords(feature_name=("unit", self.feature_names_in_.astype(str)))
        fitted = {name: getattr(self, name) for name in self._fitted_scalars if hasattr(self, name)}
        parameters = {name: value for name, value in self.get_params(deep=False).items() if name != "checkpoint"}
        described = {"estimator": type(self).__name__, "parameters": json.dumps(parameters, default=str)}
        return dataset.assign_attrs(described | storable(fitted))

    @classmethod
    def from_dataset(cls, dataset: xr.Dataset):
        """Return the model stored by `to_dataset`, or one made of the Dataset of a `LowRankDynamics` alone.

        Raises
        ------
        ValueError
            If the Dataset holds no network, or another estimator's.
        """
        name = dataset.attrs.get("estimator", cls.__name__)
        if name != cls.__name__:
            raise ValueError(f"dataset: got a {name}, wanted a {cls.__name__}; call {name}.from_dataset or load_model")
        parameters = json.loads(dataset.attrs.get("parameters", "{}"))
        known = set(cls().get_params(deep=False)) - {"checkpoint"}  # a file of whoever fitted the model
        model = cls(**{key: value for key, value in parameters.items() if key in known})
        network = LowRankDynamics.from_dataset(dataset)
        if "is_scored" in dataset:
            inner = cls.from_dataset(narrowed(dataset, network))
            model.scored_units_ = dataset["is_scored"].values.astype(bool)
            model.unit_ids_ = np.asarray(network.unit_ids)
            model.n_features_in_ = network.n_units
            model._name_features(dataset)
            model._stand_around(inner, network.expected(np.zeros(network.rank)))
            return model
        model.dynamics_ = network
        model._complete(dataset)
        return model

    # fitted attributes beside `dynamics_` that are single numbers or names, stored as attrs of the Dataset
    _fitted_scalars: tuple[str, ...] = (
        "bin_size_", "bin_size_is_known_", "likelihood_", "n_inputs_", "n_iter_", "growth_", "is_stable_",
    )  # fmt: skip
    _fitted_flags: tuple[str, ...] = ("bin_size_is_known_", "is_stable_")  # of these: files hold 0 or 1

    def _state(self) -> dict[str, tuple]:
        """Return what the model is beside `dynamics_`: name -> (dims, array)."""
        return {}

    def _complete(self, dataset: xr.Dataset) -> None:
        """Set the fitted attributes beside `dynamics_` from a Dataset; what it lacks follows from the network."""
        network = self.readout_network_
        if not network.n_units:
            raise ValueError("dataset: got a network without loadings, wanted one with a readout; pass loadings=")
        self.bin_size_, self.likelihood_, self.n_inputs_ = network.dt, network.likelihood, network.n_inputs
        self.bin_size_is_known_ = network.dt != 1.0  # where the Dataset, an old one, does not say
        self.n_features_in_ = network.n_units
        self.unit_ids_ = np.arange(network.n_units) if network.unit_ids is None else np.asarray(network.unit_ids)
        if self.n_inputs_:
            self.input_ids_ = dataset["input"].values if "input" in dataset.coords else np.arange(self.n_inputs_)
        self._name_features(dataset)
        self.scored_units_ = np.ones(network.n_units, dtype=bool)
        at_floor = dataset["is_at_floor"].values if "is_at_floor" in dataset else np.zeros(network.n_units)
        self.units_at_floor_ = at_floor.astype(bool)
        for name in self._fitted_scalars:
            if name in dataset.attrs:
                value = dataset.attrs[name]
                value = value.item() if isinstance(value, np.generic) else value
                setattr(self, name, bool(value) if name in self._fitted_flags else value)
        if "rank" in self.get_params(deep=False):
            self.set_params(rank=network.rank)

    def _name_features(self, dataset: xr.Dataset) -> None:
        if "feature_name" in dataset.coords:
            self.feature_names_in_ = dataset["feature_name"].values.astype(object)


def names_of(ids: np.ndarray | None) -> list[str]:
    """Return the names of inputs, none where they have numbers only, as those of an array."""
    return [] if ids is None or np.asarray(ids).dtype.kind in "iu" else [str(name) for name in ids]
