"""`write_results`, `read_results` and `load_model`: the pieces of a model to a processing module, and back."""

import json
import os
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from nwb_lrrnn.io.nwb import Recording
from nwb_lrrnn.io.processing_module import read_module, write_module
from nwb_lrrnn.results.arrays import as_array
from nwb_lrrnn.results.provenance import as_recording, provenance, session_of

if TYPE_CHECKING:
    from nwb_lrrnn.io.module_pieces import ModulePieces
    from nwb_lrrnn.models.base import LatentModel

_UNIT_COLUMNS = ("location", "quality", "group_name")


def write_results(
    path: str | os.PathLike[str],
    model: "LatentModel",
    *,
    latents: Any = None,
    rates: Any = None,
    fixed_points: xr.Dataset | None = None,
    metrics: Mapping[str, float] | xr.Dataset | pd.DataFrame | None = None,
    source: Recording | str | os.PathLike[str] | None = None,
    overwrite: bool = False,
) -> Path:
    """Return the path of a new NWB file with a fitted model, what it found, and where it came from.

    The file stands alone: `load_model` makes the same model of it, `read_results` its tables. Nothing is written into
    `source`, whose session and subject are copied and whose address is noted without what could be secret in it.

    Parameters
    ----------
    path : path-like
        The file to write; its name ends in .nwb.
    model : estimator
        Fitted; one of those that `load_model` knows.
    latents : what `model.transform` returned, optional
        (trial, time, latent) or (time, latent). Trials of unequal length come as a list, and are read back as one
        array, with NaN after the end of the shorter ones. `attrs["preprocessing"]` is noted as provenance.
    rates : what `model.inverse_transform` or `model.rates` returned, optional
        Of the trials and bins of `latents`.
    fixed_points : Dataset, optional
        One row a point.
    metrics : mapping of numbers, Dataset or DataFrame, optional
        Scores, such as the table of `compare_baselines`.
    source : Recording, path or address, optional
        What the model was fitted to.
    overwrite : bool
        Replace a result file that is there already; a recording is never replaced.

    Returns
    -------
    path : Path
        The file.

    Raises
    ------
    FileExistsError
        If the file exists and `overwrite` is False, or if it is a recording.
    FileNotFoundError
        If the directory of `path`, or `source`, does not exist.
    TypeError
        If `model` is no estimator of this package, or an array is none that its verbs return.
    ValueError
        If latents or rates have another shape than the model gives them. scikit-learn's NotFittedError is one of these.

    Examples
    --------
    >>> model = LowRankRNN(rank=2).fit(X)  # doctest: +SKIP
    >>> write_results("session_lrrnn.nwb", model, latents=model.transform(X), source=recording)  # doctest: +SKIP
    """
    kind = type(model).__name__
    if kind not in _estimators():
        raise TypeError(f"model: got a {kind}, wanted a fitted {' or '.join(_estimators())}")
    dataset = model.to_dataset()
    recording = as_recording(source)
    given = {
        "latents": as_array("latents", latents, "latent", dataset, model),
        "rates": as_array("rates", rates, "unit", dataset, model),
    }
    info = [
        *_model_info(kind, model, dataset),
        *provenance(model, recording, source, given["latents"]),
    ]
    tables: dict[str, xr.Dataset] = {}
    if isinstance(metrics, Mapping) and not isinstance(metrics, xr.Dataset):
        info += [("metrics", str(name), float(value)) for name, value in metrics.items()]
    elif metrics is not None:
        tables["metrics"] = (
            metrics if isinstance(metrics, xr.Dataset) else metrics.to_xarray().assign_attrs(metrics.attrs)
        )
    if fixed_points is not None:
        tables["fixed_points"] = fixed_points
    history = getattr(model, "history_", None)
    if history is not None:
        tables["history"] = history
    return write_module(
        path,
        session=None if recording is None else session_of(recording),
        latents=given["latents"],
        rates=given["rates"],
        state={str(name): _plain_text(variable.values) for name, variable in dataset.variables.items()},
        info=info,
        loadings=_loadings(dataset, recording, given["latents"]),
        tables=tables,
        overwrite=overwrite,
    )


def read_results(path: str | os.PathLike[str]) -> xr.DataTree:
    """Return what a result file holds as a DataTree that prints as an outline of it.

    Parameters
    ----------
    path : path-like
        A file that `write_results` wrote.

    Returns
    -------
    results : DataTree
        With the groups

        - `trials`: latents and rates (trial, time, ...), trials in the order in which they were given,
        - `units`: loadings, offset and what is known of the units,
        - `history`: the course of the fit over `epoch`,
        - `fixed_points` and `metrics`: as given,
        - `model`: every array of the model, for `LowRankDynamics.from_dataset`,

        as far as the file has them. Its attrs hold parameters, metrics and provenance by section.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is not HDF5 or not a result file.

    Examples
    --------
    >>> results = read_results("session_lrrnn.nwb")  # doctest: +SKIP
    >>> results["trials/latents"], results.attrs["source"]["uri"]  # doctest: +SKIP
    """
    pieces = read_module(path)
    groups: dict[str, xr.Dataset] = {}
    series = {name: pieces[name] for name in ("latents", "rates") if pieces[name] is not None}
    if series:
        groups["trials"] = xr.Dataset(series)
    if pieces["loadings"] is not None:
        groups["units"] = pieces["loadings"]
    for name, table in pieces["tables"].items():
        groups[name] = table.to_xarray() if isinstance(table, pd.DataFrame) else table
    groups["model"] = _model_dataset(pieces)
    results = xr.DataTree.from_dict(groups, name=Path(path).stem)
    results.attrs = {section: entries for section, entries in pieces["info"].items() if section != "dims"}
    return results


def load_model(path: str | os.PathLike[str]) -> "LatentModel":
    """Return the model of a result file: the same parameters, and on CPU the same numbers to the last bit.

    Only the names of this package's estimators are known; nothing in the file is run.

    Parameters
    ----------
    path : path-like
        A file that `write_results` wrote.

    Returns
    -------
    model : estimator
        Fitted, with its `history_`.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is not HDF5, not a result file, or holds an estimator that this version does not have.

    Examples
    --------
    >>> model = load_model("session_lrrnn.nwb")  # doctest: +SKIP
    """
    pieces = read_module(path)
    known = _estimators()
    kind = pieces["info"].get("model", {}).get("estimator")
    if kind not in known:
        raise ValueError(
            f"{os.fspath(path)}: the file holds a model of the kind {kind!r}, but this version "
            f"({version('nwb-lrrnn')}) knows {', '.join(known)}; update nwb-lrrnn"
        )
    model = known[kind].from_dataset(_model_dataset(pieces))
    history = pieces["tables"].get("history")
    if history is not None:
        model.history_ = history
    return model


def _estimators() -> dict[str, Any]:
    """Return the classes by the names that stand in files; a name from a file is looked up here and nowhere else."""
    from nwb_lrrnn.models.linear.baselines import FactorAnalysis
    from nwb_lrrnn.models.linear.state_space import LinearStateSpace
    from nwb_lrrnn.models.low_rank import LowRankRNN
    from nwb_lrrnn.models.smc import SMCLowRankRNN

    return {cls.__name__: cls for cls in (LowRankRNN, SMCLowRankRNN, LinearStateSpace, FactorAnalysis)}


def _model_info(kind: str, model: "LatentModel", dataset: xr.Dataset) -> list[tuple[str, str, Any]]:
    """Return the attrs of a model's Dataset, its parameters and the dims of its arrays as rows of fit_info."""
    attrs = {key: value for key, value in dataset.attrs.items() if key not in ("estimator", "parameters")}
    parameters = json.loads(json.dumps(model.get_params(deep=False), default=str))
    return [
        ("model", "estimator", kind),
        *(("model", str(key), value) for key, value in attrs.items()),
        *(("parameters", str(key), value) for key, value in parameters.items()),
        *(("dims", str(name), list(map(str, variable.dims))) for name, variable in dataset.variables.items()),
        ("dims", "coordinates", [str(name) for name in dataset.coords]),
    ]


def _model_dataset(pieces: "ModulePieces") -> xr.Dataset:
    """Return the Dataset that `model.to_dataset` gave."""
    info = pieces["info"]
    dims = dict(info.get("dims", {}))
    coordinates = dims.pop("coordinates", [])
    variables = {name: (dims[name], pieces["state"][name]) for name in dims}
    attrs = {**info.get("model", {}), "parameters": json.dumps(info.get("parameters", {}))}
    return xr.Dataset(variables, attrs=attrs).set_coords(coordinates)


def _plain_text(values: np.ndarray) -> np.ndarray:
    """Return names that came as Python objects as text."""
    return values.astype(str) if values.dtype.kind == "O" else values


def _loadings(dataset: xr.Dataset, recording: Recording | None, latents: xr.DataArray | None) -> xr.Dataset | None:
    """Return what the model says of each unit, with what the source says of it."""
    names = [name for name, variable in dataset.data_vars.items() if variable.dims[:1] == ("unit",)]
    if not names:
        return None
    units = dataset[names].reset_coords(drop=True).drop_attrs(deep=False)
    ids = dataset["unit"].values if "unit" in dataset.coords else np.arange(units.sizes["unit"])
    units = units.assign_coords(unit=("unit", _plain_text(ids)))
    nwb_path = None if latents is None else latents.attrs.get("nwb_path")
    known = None if recording is None else _units_of_source(recording, nwb_path)
    if known is None or not set(ids.tolist()) <= set(known.index):
        return units
    rows = known.loc[ids]
    columns: dict[str, Any] = {
        name: ("unit", rows[name].to_numpy().astype(str)) for name in _UNIT_COLUMNS if name in rows
    }
    return units.assign_coords(source_row=("unit", rows["source_row"].to_numpy()), **columns)


def _units_of_source(recording: Recording, nwb_path: str | None) -> pd.DataFrame | None:
    """Return the units of the population at `nwb_path`, else of the only one, by id; None where that is ambiguous."""
    from nwb_lrrnn.io.spikes import choose_units, read_units

    found = [content for content in recording.fittable if nwb_path in (None, content.path)]
    if len(found) != 1:
        return None
    if found[0].kind == "units":
        rows = read_units(recording.source, choose_units(recording.catalog, found[0].path)).rows
        frame = pd.DataFrame(rows.columns, index=pd.Index(rows.ids))
    else:
        coords = recording.series(found[0].path).coords
        columns = {str(name): c.values for name, c in coords.items() if c.dims == ("unit",)}
        frame = pd.DataFrame(columns).set_index("unit")
    return frame.assign(source_row=np.arange(len(frame)))
