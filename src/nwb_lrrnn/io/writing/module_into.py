"""The pieces of a fit into the user's own recording: a module that its units, ROIs or electrodes are linked to."""

import os
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from nwb_lrrnn.io.files.hdf5 import H5
from nwb_lrrnn.io.schemas import import_pynwb
from nwb_lrrnn.io.writing.append import IF_EXISTS, append_module
from nwb_lrrnn.io.writing.module_pieces import GivenPieces, as_pieces, check_same
from nwb_lrrnn.io.writing.processing_module import build_module, check_module_name, read_module
from nwb_lrrnn.io.writing.session import new_nwbfile
from nwb_lrrnn.io.writing.unit_rows import UnitRows
from nwb_lrrnn.locks import ThreadLock

_STAND_IN = "/processing/recording/units"
# a file that h5py closes in one thread can take identifiers of another thread's file with it
_ONE_AT_A_TIME = ThreadLock()


def write_module_into(
    path: str | os.PathLike[str],
    *,
    units: UnitRows | None = None,
    module: str = "lrrnn",
    if_exists: str = "error",
    **given: Unpack[GivenPieces],
) -> str:
    """Return the name of the processing module that a recording has got with the pieces of a fit.

    pynwb writes and validates the module in memory. A copy of the recording gets it, is compared with the recording
    and with what was written, and takes its place (`append_module`). pynwb never opens the recording, so that its size,
    its extensions and what pynwb cannot read of it do not matter, and nothing else in it changes. `units` are the rows
    of the recording that the units of `loadings` are; without them the units get a table `unit_reference`. For
    `if_exists` and what is raised see `append_module`.
    """
    check_module_name(module)
    if if_exists not in IF_EXISTS:
        raise ValueError(f"if_exists: got {if_exists!r}, wanted one of {', '.join(IF_EXISTS)}")
    pieces, extra = as_pieces(**given)
    linked = units is not None and bool(units.table) and pieces["loadings"] is not None
    table, rows = (_stand_in(units.rows), units.rows) if linked and units is not None else (None, None)
    with _ONE_AT_A_TIME:
        with warnings.catch_warnings():  # the table and the module meet in the file, and no sooner
            warnings.filterwarnings("ignore", message=".* does not share an ancestor")
            built = build_module(module, pieces, extra, given.get("info", ()), units=table, rows=rows)
        elsewhere = {_STAND_IN: units.table} if linked and units is not None else {}
        with _in_memory(built, table) as file:
            return append_module(
                path,
                file[f"processing/{module}"],
                module,
                if_exists=if_exists,
                elsewhere=elsewhere,
                check=lambda copy, name: check_same(pieces, read_module(copy, name)),
            )


def _stand_in(rows: np.ndarray) -> Any:
    """Return a table that stands in for the one of the recording while the module is not there."""
    from hdmf.common import DynamicTable

    return DynamicTable(name="units", description="Stands for a table of the recording", id=np.arange(rows.max() + 1))


@contextmanager
def _in_memory(module: Any, table: Any) -> Iterator[H5]:
    """Yield an HDF5 file in memory with a module and the table that stands in, valid to the validator of pynwb."""
    import h5py

    import_pynwb()
    from pynwb import NWBHDF5IO, ProcessingModule, validate

    session = {"session_description": "The module alone", "session_start_time": datetime.now(UTC)}
    nwbfile: Any = new_nwbfile({}, session)
    if table is not None:
        holder: Any = ProcessingModule(name=Path(_STAND_IN).parent.name, description="What a recording has")
        holder.add(table)
        nwbfile.add_processing_module(holder)
    nwbfile.add_processing_module(module)
    # HDF5 knows files in memory by name, in the whole process: one of its own for each
    with h5py.File(f"{uuid.uuid4()}.nwb", "w", driver="core", backing_store=False) as file:
        with NWBHDF5IO(file=file, mode="w") as writer:  # closing it closes the file, so that it stays open to the end
            writer.write(container=nwbfile, cache_spec=False)
            with NWBHDF5IO(file=file, mode="r") as reader:
                errors: Any = validate(io=reader)
                if errors:
                    raise ValueError(f"the module is not valid NWB and is not written: {errors[0]}")
                yield file
