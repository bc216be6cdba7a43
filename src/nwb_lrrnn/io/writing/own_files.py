"""Which files this package made, and may replace when it is asked to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from nwb_lrrnn.io.files.hdf5 import H5, is_dataset, plain
from nwb_lrrnn.io.files.source import resolve


def is_result_file(path: str | os.PathLike[str]) -> bool:
    """Return whether a file is a stand-alone result file of this package; never true of a recording."""
    try:
        with resolve(path).open() as file:
            processing: Any = file.get("processing", {})
            recorded = [name for name in ("units", "acquisition", "stimulus/presentation") if len(file.get(name, ()))]
            return (
                _is_ours(file)
                and not recorded
                and len(processing) > 0
                and all("fit_info" in processing[name] for name in processing)
            )
    except (ValueError, KeyError, OSError):  # not NWB, or damaged
        return False


def check_own(path: Path) -> None:
    """Raise FileExistsError where a path holds a regular file that neither `write_recording` nor a fit has written."""
    if not path.is_file() or is_own_file(path):
        return
    raise FileExistsError(
        f"path: got {str(path)!r}, which exists and was not written by nwb_lrrnn; what others made is never replaced: "
        "choose another name, or remove it yourself"
    )


def is_own_file(path: str | os.PathLike[str]) -> bool:
    """Return whether a file says that this package made it, and nothing else."""
    try:
        with resolve(path).open() as file:
            return _is_ours(file)
    except (ValueError, KeyError, OSError):
        return False


def _is_ours(file: H5) -> bool:
    """Return whether the only maker that an open file names is this package."""
    marks: Any = file.get("general/was_generated_by")
    if not is_dataset(marks) or len(marks.shape or ()) != 2 or marks.shape[1] != 2:
        return False
    return marks.shape[0] == 1 and plain(marks[0, 0]) == "nwb_lrrnn"
