"""An NWB file that is built in memory and put on the disk at once: HDF5 can crash where a disk runs full."""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path
from typing import Any

from nwb_lrrnn.io.schemas import import_pynwb
from nwb_lrrnn.io.writing.atomic import full_disk, write_bytes

_MOST_IN_MEMORY = 2**28  # bytes; beyond, the file is written piece by piece where room was seen to be


def write_file(nwbfile: Any, path: Path, n_bytes: int = 0) -> None:
    """Write pynwb's file to a path where none is yet; `n_bytes` is about how large its data are.

    OSError says in one sentence that the disk has no room for it.
    """
    import_pynwb()
    import h5py
    from pynwb import NWBHDF5IO

    if n_bytes > _MOST_IN_MEMORY:
        if shutil.disk_usage(path.parent).free < 1.1 * n_bytes:
            raise full_disk(path, n_bytes, OSError(28, os.strerror(28)))
        with NWBHDF5IO(path=str(path), mode="w") as io:
            io.write(container=nwbfile)
        return
    # HDF5 knows files in memory by name, in the whole process: one of its own for each
    with h5py.File(f"{uuid.uuid4()}.nwb", "w", driver="core", backing_store=False) as file:
        with NWBHDF5IO(file=file, mode="w") as io:  # closing it closes the file
            io.write(container=nwbfile)
            file.flush()
            content = file.id.get_file_image()
    write_bytes(path, content)
