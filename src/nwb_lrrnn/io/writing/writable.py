"""Which recordings are written into: local NWB files that are the user's own to change, on a disk with room."""

import os
import re
import shutil
from contextlib import suppress
from pathlib import Path

from nwb_lrrnn.io.errors import UnwritableRecordingError
from nwb_lrrnn.io.files.hdf5 import H5, check_nwb2, low_h5py, plain
from nwb_lrrnn.io.files.secrets import is_address, without_secrets
from nwb_lrrnn.io.files.source import resolve

_OLDEST_SCHEMA = (2, 2)  # tables of older schemas have other obligatory attributes


def writable(path: str | os.PathLike[str]) -> Path:
    """Return the file to replace, absolute and without links, for a recording that results may be written into.

    A link is followed: the file it names is replaced, the link stays. UnwritableRecordingError says that it is an
    address or a Zarr store, lies in a git-annex or DataLad store, is read-only, lies in a directory that cannot be
    written, is open in another program that writes it, or follows a schema before NWB 2.2; ValueError, that it is not
    NWB 2.
    """
    if is_address(path):
        raise UnwritableRecordingError(_refusal(path, "it is not a file on this machine"))
    source = resolve(path)
    given = Path(source.uri)
    if source.is_zarr:
        raise UnwritableRecordingError(_refusal(given, "it is a Zarr store, not a file in HDF5 format"))
    target = given.resolve()
    if ".git/annex/objects" in target.as_posix():
        raise UnwritableRecordingError(
            _refusal(given, "it is a link into the store of git-annex or DataLad, whose files never change", "unlock")
        )
    if not target.stat().st_mode & 0o222 or not os.access(target, os.W_OK):
        raise UnwritableRecordingError(_refusal(given, "it is read-only"))
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise UnwritableRecordingError(_refusal(given, f"its directory {target.parent} is read-only"))
    _check_nobody_writes(given, target)
    with resolve(target).open() as file:
        check_nwb2(file, str(given))
        _check_schema(given, file)
    return target


def check_room(target: Path, n_bytes: int) -> None:
    """Raise UnwritableRecordingError where 1.2 times the recording and the `n_bytes` added are not free."""
    wanted = int(1.2 * target.stat().st_size) + 2 * n_bytes
    free = shutil.disk_usage(target.parent).free
    if free < wanted:
        told = f"its disk has {free / 1e9:.3g} GB free, and a copy of it needs {wanted / 1e9:.3g} GB for a moment"
        raise UnwritableRecordingError(_refusal(target, told))


def fingerprint(target: Path) -> tuple[int, ...]:
    """Return numbers that change when a file is changed or replaced: size, time of modification, file and disk."""
    status = target.stat()
    return status.st_size, status.st_mtime_ns, status.st_ino, status.st_dev


def _refusal(path: str | os.PathLike[str], reason: str, remedy: str = "") -> str:
    name = without_secrets(path)
    stem = Path(re.split(r"[?#]", name)[0]).stem or "session"
    first = "`datalad unlock` or `git annex unlock` it first, or " if remedy else ""
    return (
        f"into: {name} is not written into: {reason}; {first}write a stand-alone file, "
        f"write_results('{stem}_lrrnn.nwb', model, source=...)"
    )


def _check_nobody_writes(given: Path, target: Path) -> None:
    """Raise if this or another program has the file open for writing."""
    import h5py

    low = low_h5py()
    for opened in low.h5f.get_obj_ids(low.h5f.OBJ_ALL, low.h5f.OBJ_FILE):
        with suppress(FileNotFoundError):  # files in memory, and copies that another thread is done with
            if opened.get_intent() == low.h5f.ACC_RDWR and Path(os.fsdecode(opened.name)).samefile(target):
                raise UnwritableRecordingError(_refusal(given, "this program has it open for writing; close it"))
    try:
        h5py.File(target, "r").close()
    except BlockingIOError as error:  # the lock of HDF5
        raise UnwritableRecordingError(_refusal(given, "another program has it open for writing; close it")) from error
    except OSError:
        return  # what else is wrong with it, or with locks on its disk, is for `Source.open` to say or to get around


def _check_schema(given: Path, file: H5) -> None:
    """Raise if the newest schema that a file carries is one whose tables are other ones."""
    cached = file.get("specifications/core")
    versions = [tuple(map(int, re.findall(r"\d+", name)[:2])) for name in cached or ()]
    if versions and max(versions) < _OLDEST_SCHEMA:
        told = f"it follows NWB {plain(file.attrs['nwb_version'])}, in which today's tables would not be valid"
        raise UnwritableRecordingError(_refusal(given, told))
