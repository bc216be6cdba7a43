"""Datasets to an NWB processing module in a file of its own, and back. Knows no models."""

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import xarray as xr

from nwb_lrrnn.io.files.hdf5 import H5, plain
from nwb_lrrnn.io.files.source import resolve
from nwb_lrrnn.io.writing.atomic import replacing
from nwb_lrrnn.io.writing.module_arrays import read_array_table
from nwb_lrrnn.io.writing.module_build import build_module, check_module_name
from nwb_lrrnn.io.writing.module_info import closest, read_info
from nwb_lrrnn.io.writing.module_pieces import OWN_TABLES, ModulePieces, as_pieces, check_same, with_coordinates
from nwb_lrrnn.io.writing.module_series import read_series
from nwb_lrrnn.io.writing.module_tables import read_table, read_unit_tables
from nwb_lrrnn.io.writing.session import new_nwbfile


def write_module(
    path: str | os.PathLike[str],
    *,
    session: Mapping[str, Any] | None = None,
    latents: xr.DataArray | None = None,
    state: Mapping[str, Any] | None = None,
    info: Sequence[tuple[str, str, Any]] = (),
    loadings: xr.Dataset | None = None,
    rates: xr.DataArray | None = None,
    tables: Mapping[str, xr.Dataset | pd.DataFrame] | None = None,
    module: str = "lrrnn",
    overwrite: bool = False,
) -> Path:
    """Return the path of a new NWB file with one processing module that holds the pieces of a fit.

    The file is written beside its place, read back and compared, flushed to the disk and then moved there at once.

    Parameters
    ----------
    path : path-like
        The file to write.
    session : mapping, optional
        Metadata of the source under NWB's names (session_description, session_start_time, identifier, subject, ...).
    latents : DataArray, (trial, time, latent) or (time, latent), optional
        Stored as rows in the order of session time, float64. `time` is relative to `align_time`; trials without it
        follow each other from 0. Bins at the end of a trial that are all NaN are padding and are not stored.
    state : mapping, optional
        Arrays or scalars of numbers, booleans or text, kept bit for bit.
    info : sequence of (section, key, value), optional
        Values are JSON scalars or lists of them.
    loadings : Dataset, optional
        Variables (unit, ...); coordinates along `unit` say what the units are.
    rates : DataArray, (trial, time, unit) or (time, unit), optional
        Of the trials and bins of `latents`.
    tables : mapping, optional
        Datasets whose variables share their first dim, or DataFrames. A table without rows is not stored.
    module : str
        Name of the processing module.
    overwrite : bool
        Replace a file that is there already, if it is a result file.

    Returns
    -------
    path : Path
        The file.

    Raises
    ------
    FileExistsError
        If the file exists and `overwrite` is False, or if it is a recording.
    FileNotFoundError
        If its directory does not exist.
    OSError
        If what was read back differs from what was written.
    TypeError, ValueError
        If a piece has another form than stated above.
    """
    target = Path(path)
    check_module_name(module)
    pieces, extra = as_pieces(latents, rates, state or {}, info, loadings, tables or {})
    if overwrite and target.is_file() and not is_result_file(target):
        raise FileExistsError(
            f"path: got {str(target)!r}, which exists and is not a result file of nwb_lrrnn; "
            "a recording is never replaced: choose another name"
        )
    with replacing(target, overwrite=overwrite) as temporary:
        from pynwb import NWBHDF5IO

        defaults = {
            "session_description": "Latent dynamics of a recording",
            "session_start_time": datetime.now(UTC).replace(microsecond=0),
            "experiment_description": "Low-rank recurrent networks fitted to a recording",
            "keywords": ["low-rank RNN", "latent dynamics"],
        }
        nwbfile: Any = new_nwbfile(session or {}, defaults)
        nwbfile.add_processing_module(build_module(module, pieces, extra, info))
        with NWBHDF5IO(path=str(temporary), mode="w") as io:
            io.write(container=nwbfile)
        check_same(pieces, read_module(temporary, module))
    return target


def read_module(path: str | os.PathLike[str], module: str | None = None) -> ModulePieces:
    """Return the pieces of a fit from the processing module of an NWB file.

    Parameters
    ----------
    path : path-like
        A file that `write_module` or `write_module_into` wrote.
    module : str, optional
        Name of the processing module; by default the only one that nwb_lrrnn wrote.

    Returns
    -------
    pieces : dict
        latents, rates, state, info, loadings and tables; latents with trials in their original order.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is not HDF5, or has no module of this name, or several and none is named, or the module holds
        something else.
    """
    with resolve(path).open() as file:
        module = _chosen(file, path, module)
        group: Any = file[f"processing/{module}"]
        coordinates = read_array_table(group["coordinates"]) if "coordinates" in group else {}
        state = read_array_table(group["model_state"]) if "model_state" in group else {}
        tables = {
            name: with_coordinates(name, read_table(group[name]), coordinates)
            for name in group
            if name not in OWN_TABLES and "colnames" in group[name].attrs
        }
        loadings = None
        if "unit_loadings" in group:
            loadings = with_coordinates("unit_loadings", read_unit_tables(group), coordinates)
        return {
            "latents": read_series(group, "latents", coordinates),
            "rates": read_series(group, "rates", coordinates),
            "state": {name: array.values for name, array in state.items()},
            "info": read_info(group["fit_info"]),
            "loadings": loadings,
            "tables": tables,
        }


def is_result_file(path: str | os.PathLike[str]) -> bool:
    """Return whether a file is a stand-alone result file of this package.

    Parameters
    ----------
    path : path-like
        Any file.

    Returns
    -------
    is_result : bool
        False for recordings, also for those that this package wrote, and for what is not NWB.
    """
    try:
        with resolve(path).open() as file:
            processing: Any = file.get("processing", {})
            ours: Any = file["general/was_generated_by"]
            recorded = [name for name in ("units", "acquisition", "stimulus/presentation") if len(file.get(name, ()))]
            return (
                plain(ours[0, 0]) == "nwb_lrrnn"
                and not recorded
                and len(processing) > 0
                and all("fit_info" in processing[name] for name in processing)
            )
    except (ValueError, KeyError, OSError):  # not NWB, or without a mark of its maker
        return False


def _chosen(file: H5, path: str | os.PathLike[str], module: str | None) -> str:
    """Return the name of the module to read, or raise."""
    modules = file.get("processing", {})
    there = list(modules)
    ours = [name for name in there if "fit_info" in modules[name]]
    if module is None and len(ours) > 1:
        raise ValueError(
            f"module: {str(path)!r} holds {len(ours)} results: {_told(modules, ours)}; say which, module={ours[-1]!r}"
        )
    wanted = module or (ours[0] if ours else "lrrnn")
    if wanted not in there:
        raise ValueError(
            f"module: got {wanted!r}, but {str(path)!r} has the processing modules {', '.join(there) or '(none)'}; "
            f"wanted one written by nwb_lrrnn{closest(wanted, there)}"
        )
    if wanted not in ours:
        raise ValueError(f"module: got {wanted!r}, which nwb_lrrnn did not write (it has no fit_info)")
    return wanted


def _told(modules: H5, names: Sequence[str]) -> str:
    """Return names of modules with the kind of their model and the date."""
    told = []
    for name in names:
        info = read_info(modules[name]["fit_info"])
        about = [info.get("model", {}).get("estimator"), info.get("provenance", {}).get("date")]
        told.append(f"{name} ({', '.join(str(text) for text in about if text)})" if any(about) else name)
    return ", ".join(told)
