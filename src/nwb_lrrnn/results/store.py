"""`write_results`, `read_results` and `load_model`: the pieces of a model to a processing module, and back."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
import xarray as xr

from nwb_lrrnn import models
from nwb_lrrnn.io.reading.recording import Recording, open_nwb
from nwb_lrrnn.io.writing.intact import intact
from nwb_lrrnn.io.writing.module_into import write_module_into
from nwb_lrrnn.io.writing.processing_module import read_module, write_module
from nwb_lrrnn.io.writing.writable import writable
from nwb_lrrnn.results.dimension_tables import dimension_tables
from nwb_lrrnn.results.provenance import as_recording, check_source, is_same_file, place_of, provenance, session_of
from nwb_lrrnn.results.soundness import check_model
from nwb_lrrnn.results.source_units import described_loadings, plain_text, units_of_source, units_within
from nwb_lrrnn.results.tree import model_dataset, results_tree
from nwb_lrrnn.results.trial_arrays import as_array
from nwb_lrrnn.showing import printable_errors

if TYPE_CHECKING:
    from nwb_lrrnn.io.writing.module_pieces import GivenPieces
    from nwb_lrrnn.models.base import LatentModel


@printable_errors()
def write_results(
    path: str | os.PathLike[str] | None = None,
    model: LatentModel | None = None,
    *,
    latents: Any = None,
    rates: Any = None,
    fixed_points: xr.Dataset | None = None,
    metrics: Mapping[str, float] | xr.Dataset | pd.DataFrame | None = None,
    dimension: xr.Dataset | None = None,
    source: Recording | str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    into: str | os.PathLike[str] | None = None,
    module: str = "lrrnn",
    if_exists: Literal["error", "replace", "new"] = "error",
) -> Path:
    """Return the path of an NWB file with a fitted model, what it found, and where it came from.

    By default that is a new file that stands alone, and nothing is written into `source`, whose session and subject
    are copied. With `into` a processing module goes into your own recording: a copy of the recording gets it, is read
    back and compared, and takes the place of the recording at once, so that the path always holds the old file or the
    complete new one. Nothing else in it changes. In both, `load_model` makes the same model of it and `read_results`
    its tables. Addresses in provenance, attributes, tables and coordinates are noted without what could be secret in
    them; only the arrays of the model itself, the names of units and inputs among them, stay to the last letter.

    Parameters
    ----------
    path : path-like, optional
        The new file; its name ends in .nwb. Either this or `into`.
    model : estimator
        Fitted; one of those that `load_model` knows. None with `dimension` alone, which needs no fit.
    latents : what `model.transform` returned, optional
        (trial, time, latent) or (time, latent). Trials of unequal length come as a list, and are read back as one
        array, with NaN after the end of the shorter ones. `attrs["preprocessing"]` is noted as provenance.
    rates : what `model.inverse_transform` or `model.rates` returned, optional
        Of the trials and bins of `latents`.
    fixed_points : Dataset, optional
        One row a point.
    metrics : mapping of numbers, Dataset or DataFrame, optional
        Scores, such as the table of `compare_baselines`.
    dimension : what `dimension_of_recording` returned, optional
        Its numbers become the table `dimension`, its curves `dimension_lags` and `dimension_spectrum`.
    source : Recording, path or address, optional
        What the model was fitted to. By default `into`; where it is another file, the loadings are not linked to units
        of `into`.
    overwrite : bool
        Replace a result file that is at `path` already; a recording is never replaced.
    into : path-like, optional
        A recording on this machine that gets the results. Its units, ROIs or electrodes are linked to the loadings by
        their ids. Arrays read lazily from it before have to be read again afterwards: the file is a new one.
    module : str
        Name of the processing module.
    if_exists : {"error", "replace", "new"}
        With `into`, where there is a module of that name: refuse, put the new one in its place, or call the new one
        name_2, name_3, ...

    Returns
    -------
    path : Path
        The file.

    Raises
    ------
    FileExistsError
        If the file exists and `overwrite` is False, or if it is a recording, or if `into` has a module of that name.
    FileNotFoundError
        If the directory of `path`, or `source` or `into`, does not exist.
    OSError
        If what was read back differs from what was written.
    TypeError
        If `model` is not an estimator of this package, or an array is not what its verbs return, or `path` and `into`
        are both given or both missing, or `metrics` cannot be stored.
    ValueError
        If latents or rates have another shape than the model gives them or times that are not one bin apart, or an
        option goes with the other of `path` and `into`. scikit-learn's NotFittedError is one of these. With `into`
        also: if the latents came from another file and no `source` is given; if units of the model are not in the
        recording; and, all from `nwb_lrrnn.io.errors`, UnwritableRecordingError if it cannot be written into (an
        address, read-only, a file of git-annex or DataLad, a full disk, open elsewhere, a schema before NWB 2.2),
        RecordingInUseError if another process is writing into it, ChangedFileError if another program changed it
        meanwhile.

    Examples
    --------
    >>> model = LowRankRNN(rank=2).fit(X)  # doctest: +SKIP
    >>> write_results("session_lrrnn.nwb", model, latents=model.transform(X), source=recording)  # doctest: +SKIP
    >>> write_results(model=model, latents=model.transform(X), into="session.nwb")  # doctest: +SKIP
    """
    _check_place(path, into, overwrite, if_exists)
    kind = type(model).__name__
    if kind not in models.STORED and (model is not None or dimension is None):
        steps = "; pass its last step, pipeline[-1], and latents=pipeline.transform(X)" if kind == "Pipeline" else ""
        raise TypeError(f"model: got a {kind}, wanted a fitted {' or '.join(models.STORED)}{steps}")
    scores, tables = _metric_pieces(metrics)
    if into is not None:  # what is wrong with the place is said before anything is computed
        writable(into)
        if source is None:
            check_source(into, latents)
    if dimension is not None:
        tables |= dimension_tables(dimension)
    dataset = xr.Dataset() if model is None else model.to_dataset()
    recording = as_recording(into if source is None else source)
    if fixed_points is not None:
        tables["fixed_points"] = fixed_points
    history = getattr(model, "history_", None)
    if history is not None:
        tables["history"] = history
    if model is None and (latents is not None or rates is not None):
        raise TypeError("model: got None, wanted the fitted model that latents and rates are of")
    if model is not None:
        latents = as_array("latents", latents, "latent", dataset, model)
        rates = as_array("rates", rates, "unit", dataset, model)
    target = os.fspath((path if into is None else into) or "")
    for array in (latents, rates):
        if array is not None and isinstance(array.attrs.get("source"), str):
            array.attrs["source"] = place_of(array.attrs["source"], target)
    nwb_path = None if latents is None else latents.attrs.get("nwb_path")
    links = None
    if into is not None and (source is None or is_same_file(source, into)):
        units = links = units_within(dataset, open_nwb(into), nwb_path)
    else:  # rows of another file are not rows of `into`
        units = None if recording is None else units_of_source(dataset, recording, nwb_path)
    pieces: GivenPieces = {
        "latents": latents,
        "rates": rates,
        "state": {str(name): plain_text(variable.values) for name, variable in dataset.variables.items()},
        "info": [
            *([] if model is None else _model_info(kind, model, dataset)),
            *provenance(model, recording, source, latents, target),
            *scores,
        ],
        "loadings": None if model is None else described_loadings(_with_loadings(dataset, model), units),
        "tables": tables,
    }
    if into is not None:
        write_module_into(into, **pieces, module=module, units=links, if_exists=if_exists)
        return Path(into)
    session = None if recording is None else session_of(recording)
    return write_module(target, **pieces, module=module, session=session, overwrite=overwrite)


@printable_errors()
def read_results(path: str | os.PathLike[str], module: str | None = None) -> xr.DataTree:
    """Return what a result file holds as a DataTree that prints as an outline of it.

    Parameters
    ----------
    path : path-like
        A file that `write_results` wrote, or wrote into.
    module : str, optional
        Name of the processing module; by default the only one that `write_results` wrote.

    Returns
    -------
    results : DataTree
        With the groups

        - `trials`: latents and rates (trial, time, ...), trials in the order in which they were given,
        - `units`: loadings, offset and what is known of the units,
        - `history`: the course of the fit over `epoch`,
        - `fixed_points` and `metrics`: as given; of a mapping the numbers are attributes,
        - `dimension`, `dimension_lags`, `dimension_spectrum`: numbers of the recording itself, and its curves,
        - `model`: every array of the model, for `LowRankDynamics.from_dataset`,
        - `parameters`, `provenance`, `versions`, `source`, `preprocessing`: their entries as attributes,

        as far as the file has them; `latent_group` says which group each latent is in, where the model has groups.
        All of it can be saved by xarray (`results.to_netcdf(path)`, `to_zarr`), so that attributes which netCDF does
        not know are 0 and 1 for flags, and else JSON text.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is not HDF5 or has no results, or several and `module` does not say which.

    Examples
    --------
    >>> results = read_results("session_lrrnn.nwb")  # doctest: +SKIP
    >>> results["trials/latents"], results["source"].attrs["uri"]  # doctest: +SKIP
    """
    pieces = read_module(path, module)
    with intact(path, module):
        if pieces["state"]:
            check_model(pieces, model_dataset(pieces))
        return results_tree(Path(path).stem, pieces)


@printable_errors()
def load_model(path: str | os.PathLike[str], module: str | None = None) -> LatentModel:
    """Return the model of a result file: the same parameters, and on CPU the same numbers to the last bit.

    Only the names of this package's estimators are known; nothing in the file is run.

    Parameters
    ----------
    path : path-like
        A file that `write_results` wrote, or wrote into.
    module : str, optional
        Name of the processing module; by default the only one that `write_results` wrote.

    Returns
    -------
    model : estimator
        Fitted, with its `history_`.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is not HDF5, has no results, or several and `module` does not say which, or holds an estimator that
        this version does not have.

    Examples
    --------
    >>> model = load_model("session_lrrnn.nwb")  # doctest: +SKIP
    """
    pieces = read_module(path, module)
    kind = pieces["info"].get("model", {}).get("estimator")
    if kind is None and "dimension" in pieces["tables"]:
        raise ValueError(
            f"{os.fspath(path)}: the file holds no model, but the dimension of a recording; pass it to read_results"
        )
    if kind not in models.STORED:  # a name from a file is looked up there and nowhere else
        raise ValueError(
            f"{os.fspath(path)}: the file holds a model of the kind {kind!r}, but this version "
            f"({version('nwb-lrrnn')}) knows {', '.join(models.STORED)}; update nwb-lrrnn"
        )
    with intact(path, module):
        dataset = model_dataset(pieces)
        check_model(pieces, dataset)
        model = getattr(models, kind).from_dataset(dataset)
    history = pieces["tables"].get("history")
    if history is not None:
        model.history_ = history
    return model


def _check_place(path: Any, into: Any, overwrite: bool, if_exists: str) -> None:
    """Raise unless exactly one of `path` and `into` is given, with the option that goes with it."""
    given = {name: place for name, place in (("path", path), ("into", into)) if place is not None}
    if len(given) != 1:
        got = "both" if given else "neither"
        raise TypeError(f"path, into: got {got}, wanted path (a new file) or into (a recording that gets the results)")
    for name, place in given.items():
        if not isinstance(place, (str, os.PathLike)):
            raise TypeError(
                f"{name}: got {type(place).__name__}, wanted the path of a file: write_results(path, model) or "
                "write_results(model=model, into=path)"
            )
    if into is not None and overwrite:
        raise ValueError("overwrite: a recording is never replaced; with into= pass if_exists='replace'")
    if path is not None and if_exists != "error":
        raise ValueError(f"if_exists: got {if_exists!r} without into=; to replace a result file pass overwrite=True")


def _metric_pieces(metrics: Any) -> tuple[list[tuple[str, str, float]], dict[str, xr.Dataset]]:
    """Return metrics as rows of fit_info and as tables, or raise."""
    if metrics is None:
        return [], {}
    if isinstance(metrics, xr.Dataset):
        return [], {"metrics": metrics}
    if isinstance(metrics, pd.DataFrame):
        return [], {"metrics": metrics.to_xarray().assign_attrs(metrics.attrs)}
    wanted = "wanted a dict of numbers such as {'score': -1.2}, or a Dataset or DataFrame such as of compare_baselines"
    if not isinstance(metrics, Mapping):
        raise TypeError(f"metrics: got {type(metrics).__name__}, {wanted}")
    rows = []
    for name, value in metrics.items():
        number = value.item() if getattr(value, "shape", None) == () and hasattr(value, "item") else value
        if not isinstance(number, (int, float)):
            raise TypeError(f"metrics: got {type(value).__name__} for {name!r}, {wanted}")
        rows.append(("metrics", str(name), float(number)))
    return rows, {}


def _with_loadings(dataset: xr.Dataset, model: LatentModel) -> xr.Dataset:
    """Return the Dataset of a model with its loadings (unit, latent), where those of its network are one per unit."""
    loadings = getattr(model, "loadings_", None)  # of a field alone there are none
    if loadings is None or loadings.ndim != 2 or "unit" in dataset["loadings"].dims:
        return dataset
    return dataset.assign(loadings=(("unit", "latent"), loadings), offset=("unit", model.offset_))


def _model_info(kind: str, model: LatentModel, dataset: xr.Dataset) -> list[tuple[str, str, Any]]:
    """Return the attrs of a model's Dataset, its parameters and the dims of its arrays as rows of fit_info."""
    attrs = {key: value for key, value in dataset.attrs.items() if key not in ("estimator", "parameters")}
    parameters = json.loads(dataset.attrs["parameters"])
    return [
        ("model", "estimator", kind),
        *(("model", str(key), value) for key, value in attrs.items()),
        *(("parameters", str(key), value) for key, value in parameters.items()),
        *(("dims", str(name), list(map(str, variable.dims))) for name, variable in dataset.variables.items()),
        ("dims", "coordinates", [str(name) for name in dataset.coords]),
    ]
