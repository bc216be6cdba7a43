"""Where a recording lies: a URI becomes a Source that opens the file for one reading at a time."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# h5py's own annotations are unions of groups, datasets and types that no caller can narrow.
H5 = Any

_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
# pathlib makes "https:/host" of "https://host"; one letter is a drive of Windows.
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")
_ADDRESS_IN_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://[^\s\"'<>]+")
# HDF5 keeps 1 MB of decompressed chunks by default: a 10 MB chunk would be decompressed again at every read of it.
_CHUNK_CACHE_BYTES = 64 * 2**20


class NotHDF5Error(ValueError):
    """The file is not HDF5, so that it cannot be NWB."""


class TruncatedFileError(ValueError):
    """The file is HDF5, but a part of it is missing or damaged."""


class NotNWBError(ValueError):
    """The file is HDF5, but not NWB 2."""


class OldNWBError(NotNWBError):
    """The file is NWB 1.x, whose layout is another one."""


class ChangedFileError(ValueError):
    """The file no longer holds what it held when it was opened."""


@dataclass(frozen=True)
class Source:
    """A file that can be opened again at any time, in any process.

    Parameters
    ----------
    uri : str
        Absolute path of the file.
    size : int
        Its size in bytes when it was resolved.
    version_tag : str
        Changes when the file changes: time of modification in ns and size.
    """

    uri: str
    size: int
    version_tag: str

    @property
    def name(self) -> str:
        """The last part of the URI."""
        return self.uri.rsplit("/", 1)[-1]

    @contextmanager
    def open(self) -> Iterator[H5]:
        """Yield the open HDF5 file, closed again at the end of the block.

        Raises
        ------
        FileNotFoundError
            If there is no file any more.
        NotHDF5Error
            If the file is not HDF5.
        TruncatedFileError
            If a part of the file is missing or damaged.
        """
        file = open_hdf5(self.uri)
        try:
            yield file
        except OSError as error:
            raise TruncatedFileError(
                f"{self.uri}: a part of this HDF5 file cannot be read ({error}); it is damaged or was cut off "
                "while it was copied: copy or download it again"
            ) from error
        finally:
            file.close()


def resolve(uri: str | os.PathLike[str]) -> Source:
    """Return the source that a path names.

    Parameters
    ----------
    uri : str or path
        Path of a local NWB file; `~` is expanded. Streaming comes with a later version.

    Returns
    -------
    source : Source
        Absolute path, size and version tag.

    Raises
    ------
    TypeError
        If `uri` is neither text nor a path.
    ValueError
        If `uri` is an address to stream from.
    FileNotFoundError
        If there is no such file.
    NotHDF5Error
        If the path is a folder or the file is empty.

    Examples
    --------
    >>> resolve("sub-01/session.nwb").version_tag  # doctest: +SKIP
    '1732458660000000000-158000000'
    """
    if not isinstance(uri, str | os.PathLike):
        raise TypeError(f"uri: got {type(uri).__name__}, wanted the path of an NWB file as text or pathlib.Path")
    text = os.fspath(uri)
    if is_address(text):
        raise ValueError(
            f"uri: got {text.partition(':')[0]}://..., but this version reads local files only (streaming comes with a "
            "later version); download the file and pass its path"
        )
    scheme, found, rest = text.partition("://")
    path = Path(rest if found and scheme.lower() == "file" else text).expanduser().absolute()
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file{_missing_hint(path)}")
    if path.is_dir():
        raise NotHDF5Error(
            f"{path}: this is a folder, wanted one NWB file in HDF5 format; "
            "a Zarr store has to be exported to HDF5 first (hdmf-zarr does it)"
        )
    status = path.stat()
    if status.st_size == 0:
        raise NotHDF5Error(f"{path}: the file is empty (0 bytes), wanted NWB in HDF5 format; copy or download it again")
    return Source(path.as_posix(), status.st_size, f"{status.st_mtime_ns}-{status.st_size}")


def is_address(uri: str | os.PathLike[str]) -> bool:
    """Return whether a text names something in a network and not a file of this machine.

    Parameters
    ----------
    uri : str or path
        What a user gave.

    Returns
    -------
    is_address : bool
        False for `file://`.

    Examples
    --------
    >>> is_address("s3://bucket/a.nwb"), is_address("C:/data/a.nwb"), is_address("file:///data/a.nwb")
    (True, False, False)
    """
    found = _ADDRESS.match(os.fspath(uri))
    return found is not None and found[1].lower() != "file"


def without_secrets(uri: str | os.PathLike[str]) -> str:
    """Return an address without user, password, query and fragment, where signatures and tokens stand.

    Parameters
    ----------
    uri : str or path
        An address, or a path, which is returned as it is.

    Returns
    -------
    uri : str
        What may be stored, logged and shown.

    Examples
    --------
    >>> without_secrets("https://me:pw@host.org:8080/a/b.nwb?X-Amz-Signature=0123#here")
    'https://host.org:8080/a/b.nwb'
    >>> without_secrets("/data/what?.nwb")
    '/data/what?.nwb'
    """
    found = _ADDRESS.match(os.fspath(uri))
    if found is None:
        return os.fspath(uri)
    # Not urlsplit: it refuses some malformed addresses, whose secrets are as secret.
    authority, slash, path = os.fspath(uri)[found.end() :].lstrip("/").partition("/")
    host = authority.rpartition("@")[2]
    kept = re.split(r"[?#]", f"{host}{slash}{path}", maxsplit=1)[0]
    return f"{found[1]}://{kept}"


def texts_without_secrets(text: str) -> str:
    """Return a text in which every address has lost what may be secret in it.

    Parameters
    ----------
    text : str
        Anything.

    Returns
    -------
    text : str
        The same outside of addresses.

    Examples
    --------
    >>> texts_without_secrets("from https://me:pw@host.org/a.nwb?token=1 on Monday")
    'from https://host.org/a.nwb on Monday'
    """
    return _ADDRESS_IN_TEXT.sub(lambda found: without_secrets(found[0]), text)


def check_nwb2(file: H5, uri: str) -> str:
    """Return the NWB version of an open file.

    Parameters
    ----------
    file : h5py.File
        The open file.
    uri : str
        Its name for the message.

    Returns
    -------
    version : str
        As written in the file, such as "2.7.0"; "2" where the file does not say.

    Raises
    ------
    OldNWBError
        If the file is NWB 1.x.
    NotNWBError
        If the file is HDF5 without NWB's marks.
    """
    import h5py

    version = plain(file.attrs.get("nwb_version"))
    if version is None and isinstance(file.get("nwb_version"), h5py.Dataset):
        version = plain(file["nwb_version"][()])  # NWB 1.x stored a dataset where NWB 2 has an attribute
    kind = plain(file.attrs.get("neurodata_type"))
    if version is None and kind is None:
        listed = ", ".join(sorted(file)[:5]) or "nothing"
        raise NotNWBError(
            f"{uri}: this is an HDF5 file but not NWB (no `nwb_version`; it holds {listed}), wanted NWB 2; "
            "convert it with neuroconv or pynwb"
        )
    version = str(version) if version is not None else "2"
    if re.match(r"\D*1", version):  # also "NWB-1.0.6"
        raise OldNWBError(
            f"{uri}: this is NWB {version}, whose layout differs from NWB 2, wanted NWB 2; "
            "ask the archive for an NWB 2 version, or write its data anew with pynwb"
        )
    return version


def plain(value: Any) -> Any:
    """Return an HDF5 attribute or scalar as a plain Python value: text decoded, arrays of one element unpacked.

    Parameters
    ----------
    value : object
        What h5py returned: bytes, text, numpy scalar or array; None stays None.

    Returns
    -------
    value : object
        str, int, float, bool, None, or the array where it holds several elements.

    Examples
    --------
    >>> import numpy as np
    >>> plain(np.array([b"NWBFile"]))
    'NWBFile'
    """
    if hasattr(value, "shape") and getattr(value, "size", 0) == 1:
        value = value.item()
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else value


def open_hdf5(path: str) -> H5:
    """Return a file open for reading, or raise one sentence that says what the file is.

    Parameters
    ----------
    path : str
        Of a local file.

    Returns
    -------
    file : h5py.File
        Without a lock where another program or the disk does not allow one.
    """
    import h5py

    try:
        return h5py.File(path, "r", rdcc_nbytes=_CHUNK_CACHE_BYTES)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: there is no such file any more{_missing_hint(Path(path))}") from error
    except PermissionError:
        raise
    except OSError as error:
        if not re.search(r"\block", str(error)):  # not "sblock", which HDF5 says of truncated files
            raise _not_readable(path, error) from error
    # Another program writes the file, or it lies on a network disk without locks. Reading without a lock is safe.
    try:
        return h5py.File(path, "r", rdcc_nbytes=_CHUNK_CACHE_BYTES, locking=False)
    except OSError as error:
        raise _not_readable(path, error) from error


def _not_readable(path: str, error: OSError) -> ValueError:
    """Return the exception for a file that HDF5 refuses, with what its first bytes tell."""
    with Path(path).open("rb") as raw:
        head = raw.read(512)
    if head.startswith(_HDF5_SIGNATURE):
        return TruncatedFileError(
            f"{path}: the HDF5 file is truncated or damaged ({error}), wanted a whole NWB file; "
            "copy or download it again and compare its size with the original"
        )
    if head.startswith(b"version https://git-lfs"):
        kind, fix = "a git-lfs pointer, not the recording itself", "fetch the file with `git lfs pull`"
    elif head.startswith(b"/annex/objects") or b".git/annex" in head:
        kind, fix = "a git-annex pointer, not the recording itself", "fetch the file with `datalad get`"
    elif b"\x00" not in head:
        first_line = head.decode("utf-8", errors="replace").strip().splitlines()[:1] or [""]
        kind, fix = f"a text file that begins with {first_line[0][:40]!r}", "pass the path of an NWB file"
    else:
        kind, fix = "neither text nor HDF5", "pass the path of an NWB file"
    return NotHDF5Error(f"{path}: this is {kind}, wanted NWB in HDF5 format; {fix}")


def _missing_hint(path: Path) -> str:
    """Return what to try instead of a path that does not exist."""
    import difflib

    if path.is_symlink():
        return f": it is a link to {os.readlink(path)}, which is missing; fetch its content first (`datalad get`)"
    if not path.parent.is_dir():
        return f", and no folder {path.parent} either; check the path"
    names = [entry.name for entry in path.parent.iterdir()]
    close = difflib.get_close_matches(path.name, names, n=1)
    return f"; did you mean {path.parent / close[0]}?" if close else "; check the path"
