"""Datasets to an NWB processing module, in memory or in a file of its own, and back. Knows no models."""

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Unpack

from nwb_lrrnn.io.files.hdf5 import H5
from nwb_lrrnn.io.files.source import resolve
from nwb_lrrnn.io.schemas import import_pynwb
from nwb_lrrnn.io.writing.atomic import replacing
from nwb_lrrnn.io.writing.intact import intact
from nwb_lrrnn.io.writing.module_arrays import NamedArray, array_table, read_array_table
from nwb_lrrnn.io.writing.module_info import LAYOUT, info_table, read_info
from nwb_lrrnn.io.writing.module_pieces import (
    OWN_TABLES,
    GivenPieces,
    ModulePieces,
    as_pieces,
    check_same,
    with_coordinates,
)
from nwb_lrrnn.io.writing.module_series import read_series, series_and_trials
from nwb_lrrnn.io.writing.module_tables import dataset_table, read_table, read_unit_tables, unit_tables
from nwb_lrrnn.io.writing.own_files import is_result_file
from nwb_lrrnn.io.writing.session import new_nwbfile
from nwb_lrrnn.io.writing.whole_file import write_file
from nwb_lrrnn.parameters import closest


def write_module(
    path: str | os.PathLike[str],
    *,
    session: Mapping[str, Any] | None = None,
    module: str = "lrrnn",
    overwrite: bool = False,
    **given: Unpack[GivenPieces],
) -> Path:
    """Return the path of a new NWB file with one processing module that holds the pieces of a fit.

    The file is written beside its place, read back and compared, flushed to the disk and then moved there at once.
    `session` holds metadata of the source under NWB's names (session_description, subject, ...). `overwrite` replaces a
    file that is there already, if it is a result file. OSError is raised if what was read back differs.
    """
    target = Path(path)
    check_module_name(module)
    pieces, extra = as_pieces(**given)
    if overwrite and target.is_file() and not is_result_file(target):
        raise FileExistsError(
            f"path: got {str(target)!r}, which exists and is not a result file of nwb_lrrnn; "
            "a recording is never replaced: choose another name"
        )
    with replacing(target, overwrite=overwrite) as temporary:
        defaults = {
            "session_description": "Latent dynamics of a recording",
            "session_start_time": datetime.now(UTC).replace(microsecond=0),
            "experiment_description": "Low-rank recurrent networks fitted to a recording",
            "keywords": ["low-rank RNN", "latent dynamics"],
        }
        nwbfile: Any = new_nwbfile(session or {}, defaults)
        nwbfile.add_processing_module(build_module(module, pieces, extra, given.get("info", ())))
        write_file(nwbfile, temporary)
        check_same(pieces, read_module(temporary, module))
    return target


def read_module(path: str | os.PathLike[str], module: str | None = None) -> ModulePieces:
    """Return the pieces of a fit from the processing module of an NWB file; trials in their original order.

    By default the module is the only one that nwb_lrrnn wrote. ValueError says that the file is not HDF5, has no module
    of this name, or several and none is named, or that the module holds something else; DamagedResultsError, one of
    them, that what it holds does not fit together.
    """
    with resolve(path).open() as file:
        module = _chosen(file, path, module)
        with intact(path, module):
            return _pieces(file[f"processing/{module}"])


def _pieces(group: Any) -> ModulePieces:
    """Return what a processing module holds."""
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


def check_module_name(name: str) -> None:
    """Raise ValueError if a text cannot be the name of a processing module: empty, or a path."""
    if not isinstance(name, str) or not name or name in (".", "..") or set(name) & set("/:\\\0"):
        raise ValueError(f"module: got {name!r}, wanted a name without / and :, such as 'lrrnn'")


def build_module(
    name: str,
    pieces: ModulePieces,
    extra: Mapping[str, NamedArray],
    info: Sequence[tuple[str, str, Any]],
    *,
    units: Any = None,
    rows: Any = None,
) -> Any:
    """Return the processing module in memory, with pieces and extra from `as_pieces`; the caller puts it into a file.

    `rows` (unit,) are the rows of the units in the table `units`, where the file has one already.
    """
    import_pynwb()
    from pynwb import ProcessingModule

    module: Any = ProcessingModule(name=name, description="Latent dynamics fitted by nwb_lrrnn")
    if pieces["latents"] is not None:
        for item in series_and_trials(pieces["latents"], pieces["rates"]):
            module.add(item)
    if pieces["loadings"] is not None:
        for table in unit_tables(pieces["loadings"], units, rows):
            module.add(table)
    module.add(info_table([LAYOUT, *info]))
    if pieces["state"]:
        arrays_of_state = {key: NamedArray(array) for key, array in pieces["state"].items()}
        module.add(array_table("model_state", "Everything that rebuilds the model, bit for bit", arrays_of_state))
    if extra:
        module.add(array_table("coordinates", "Coordinates and attributes of the arrays in this module", extra))
    for key, table in pieces["tables"].items():
        module.add(dataset_table(key, table))
    return module


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
