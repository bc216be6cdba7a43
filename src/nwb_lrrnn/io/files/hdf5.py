"""HDF5 files opened for reading, and what their marks say: NWB, an old NWB, or something else."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from nwb_lrrnn.io.errors import NotHDF5Error, NotNWBError, OldNWBError, RemoteError, TruncatedFileError

if TYPE_CHECKING:
    from nwb_lrrnn.io.files.network.range_file import RangeFile

# h5py's own annotations are unions of groups, datasets and types that no caller can narrow.
H5 = Any

_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
# HDF5 keeps 1 MB of decompressed chunks by default: a 10 MB chunk would be decompressed again at every read of it.
_CHUNK_CACHE_BYTES = 64 * 2**20
_HEAD_BYTES = 512


def check_nwb2(file: H5, uri: str) -> str:
    """Return the NWB version of an open file, such as "2.7.0"; "2" where the file does not say.

    Raises OldNWBError for NWB 1.x and NotNWBError for HDF5 or Zarr without NWB's marks.
    """
    version = plain(file.attrs.get("nwb_version"))
    if version is None and is_dataset(file.get("nwb_version")):
        version = plain(file["nwb_version"][()])  # NWB 1.x stored a dataset where NWB 2 has an attribute
    kind = plain(file.attrs.get("neurodata_type"))
    if version is None and kind is None:
        listed = ", ".join(sorted(file)[:5]) or "nothing"
        raise NotNWBError(
            f"{uri}: this is {_kind(file)} but not NWB (no `nwb_version`; it holds {listed}), wanted NWB 2; "
            "convert it with neuroconv or pynwb"
        )
    version = str(version) if version is not None else "2"
    if re.match(r"\D*1", version):  # also "NWB-1.0.6"
        raise OldNWBError(
            f"{uri}: this is NWB {version}, whose layout differs from NWB 2, wanted NWB 2; "
            "ask the archive for an NWB 2 version, or write its data anew with pynwb"
        )
    return version


def low_h5py() -> Any:
    """Return h5py, whose low-level modules have no annotations."""
    import h5py

    return h5py


def is_dataset(found: Any) -> TypeGuard[H5]:
    """Return whether something in an open file, HDF5 or Zarr, is a dataset."""
    return hasattr(found, "shape") and hasattr(found, "attrs")


def is_group(found: Any) -> TypeGuard[H5]:
    """Return whether something in an open file, HDF5 or Zarr, is a group."""
    return hasattr(found, "keys") and hasattr(found, "attrs")


def _kind(file: H5) -> str:
    """Return what an open file is."""
    return str(getattr(file, "kind", "an HDF5 file"))


def plain(value: Any) -> Any:
    """Return an HDF5 attribute or scalar as a plain Python value: text decoded, arrays of one element unpacked.

    >>> import numpy as np
    >>> plain(np.array([b"NWBFile"]))
    'NWBFile'
    """
    if hasattr(value, "shape") and getattr(value, "size", 0) == 1:
        value = value.item()
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else value


def is_text(dataset: H5) -> bool:
    """Return whether a dataset holds text of any length."""
    import h5py

    return h5py.check_string_dtype(dataset.dtype) is not None


def open_hdf5(path: str) -> H5:
    """Return a local file open for reading, or raise one sentence that says what the file is.

    It is opened without a lock where another program or the disk does not allow one.
    """
    import h5py

    try:
        return h5py.File(path, "r", rdcc_nbytes=_CHUNK_CACHE_BYTES)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: there is no such file any more{missing_hint(Path(path))}") from error
    except PermissionError:
        raise
    except OSError as error:
        if not re.search(r"\block", str(error)):  # not "sblock", which HDF5 says of truncated files
            raise _not_readable(path, _head(path), error) from error
    # The file lies on a network disk without locks, or another program has it open, which often only reads it too.
    try:
        return h5py.File(path, "r", rdcc_nbytes=_CHUNK_CACHE_BYTES, locking=False)
    except OSError as error:
        raise _not_readable(path, _head(path), error) from error


def open_remote_hdf5(file: RangeFile) -> H5:
    """Return a file of a network open for reading, or raise one sentence that says what the file is."""
    import h5py

    try:
        return file.opened_by(lambda raw: h5py.File(raw, "r", rdcc_nbytes=_CHUNK_CACHE_BYTES))
    except RemoteError:
        raise
    except OSError as error:
        file.seek(0)
        raise _not_readable(file.name, file.read(_HEAD_BYTES), error) from error


def _head(path: str) -> bytes:
    """Return the first bytes of a local file."""
    with Path(path).open("rb") as raw:
        return raw.read(_HEAD_BYTES)


def _not_readable(path: str, head: bytes, error: OSError) -> ValueError:
    """Return the exception for a file that HDF5 refuses, with what its first bytes tell."""
    if head.startswith(_HDF5_SIGNATURE):
        return TruncatedFileError(
            f"{path}: the HDF5 file is truncated or damaged ({error}), wanted a whole NWB file; "
            "copy or download it again and compare its size with the original"
        )
    if head.startswith(b"version https://git-lfs"):
        kind, fix = "a git-lfs pointer, not the recording itself", "fetch the file with `git lfs pull`"
    elif head.startswith(b"/annex/objects") or b".git/annex" in head:
        kind, fix = "a git-annex pointer, not the recording itself", "fetch the file with `datalad get`"
    elif head.startswith(b"PK\x03\x04"):
        kind, fix = "a zip archive", "unpack it and pass the path of the file or folder in it"
    elif b"\x00" not in head:
        first_line = head.decode("utf-8", errors="replace").strip().splitlines()[:1] or [""]
        kind, fix = f"a text file that begins with {first_line[0][:40]!r}", "pass the path of an NWB file"
    else:
        kind, fix = "neither text nor HDF5", "pass the path of an NWB file"
    return NotHDF5Error(f"{path}: this is {kind}, wanted NWB in HDF5 format; {fix}")


def missing_hint(path: Path) -> str:
    """Return what to try instead of a path that does not exist."""
    import difflib

    if path.is_symlink():
        return f": it is a link to {os.readlink(path)}, which is missing; fetch its content first (`datalad get`)"
    if not path.parent.is_dir():
        return f", and no folder {path.parent} either; check the path"
    names = [entry.name for entry in path.parent.iterdir()]
    close = difflib.get_close_matches(path.name, names, n=1)
    return f"; did you mean {path.parent / close[0]}?" if close else "; check the path"
