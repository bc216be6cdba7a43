"""Where a recording lies: a URI becomes a Source that opens the file for one reading at a time."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from nwb_lrrnn.io.errors import (
    ChangedFileError,
    MissingRemoteFileError,
    NotHDF5Error,
    TruncatedFileError,
    UnreadableZarrError,
)
from nwb_lrrnn.io.files.damage import told_damage
from nwb_lrrnn.io.files.hdf5 import H5, missing_hint, open_hdf5, open_remote_hdf5
from nwb_lrrnn.io.files.links import Reach
from nwb_lrrnn.io.files.secrets import is_address

if TYPE_CHECKING:
    from nwb_lrrnn.io.files.network.location import Location
    from nwb_lrrnn.io.files.network.range_file import RangeFile


@dataclass(frozen=True)
class Source:
    """A file that can be opened again at any time, in any process."""

    uri: str  # absolute path, or the address without anything secret
    size: int  # bytes when it was resolved
    version_tag: str  # changes with the file: time of modification in ns and size, or what the server or archive says
    is_zarr: bool = False  # a Zarr store and no HDF5 file
    follow_links: bool = False  # into any file of this machine, not only into those beside and below it

    @property
    def name(self) -> str:
        """The last part of the URI."""
        path = self.uri.split("?", 1)[0].rstrip("/") if self.is_remote else self.uri
        return path.rsplit("/", 1)[-1]

    @property
    def is_remote(self) -> bool:
        """Whether the file is read through a network."""
        return is_address(self.uri)

    @property
    def reach(self) -> Reach:
        """Which other files this one may lead to."""
        return Reach(self.uri, self.is_remote, self.follow_links)

    def current(self) -> Source:
        """Return the file as it is now: a local one may have been written anew, with another version tag.

        A Zarr store is returned as it is: its metadata are read anew whenever it is opened.
        """
        if self.is_remote or self.is_zarr:
            return self
        status = _status(self.uri)
        return replace(self, size=status.st_size, version_tag=_tag(status))

    @contextmanager
    def open(self) -> Iterator[H5]:
        """Yield the open HDF5 file, closed again at the end of the block; of a Zarr store, what reads like one.

        Raises FileNotFoundError (gone), NotHDF5Error, or TruncatedFileError where a part is missing or damaged.
        """
        if not self.is_zarr:
            from nwb_lrrnn.io.files.guarded import GuardedFile

        if self.is_zarr:
            from nwb_lrrnn.io.files.zarr.file import ZarrFile
            from nwb_lrrnn.io.files.zarr.store import local_store, remote_store

            with told_damage(self.uri):
                yield ZarrFile(remote_store(self.uri, self.version_tag) if self.is_remote else local_store(self.uri))
        elif self.is_remote:
            from nwb_lrrnn.io.files.connection import connect

            raw = connect(self.uri, self.size, self.version_tag).file()
            with raw, open_remote_hdf5(raw) as file, _readable(self.uri, raw):
                yield GuardedFile(file, self.reach)
        else:
            with open_hdf5(self.uri) as file, _readable(self.uri):
                yield GuardedFile(file, self.reach)

    def fetch(self, offset: int, size: int) -> bytes | bytearray:
        """Return bytes `offset` to `offset + size` of the file; several threads may ask at once.

        ChangedFileError says that the file is no longer that of this version tag, TruncatedFileError that it ends
        before.
        """
        if self.is_remote:
            from nwb_lrrnn.io.files.connection import connect

            return connect(self.uri, self.size, self.version_tag).fetch(offset, size)
        with Path(self.uri).open("rb", buffering=0) as raw:
            raw.seek(offset)
            data = bytearray(size)
            view, done = memoryview(data), 0
            while done < size and (got := raw.readinto(view[done:])):
                done += got
            # After the reading, since the file may be written into meanwhile.
            if _tag(os.fstat(raw.fileno())) != self.version_tag:
                raise ChangedFileError(f"{self.uri}: the file was written anew while it was read; read again")
        if done < size:
            raise TruncatedFileError(
                f"{self.uri}: the file ends at byte {offset + done}, wanted {size} bytes from byte {offset} on; it was "
                "cut off while it was copied: copy or download it again"
            )
        return data


def resolve(uri: str | os.PathLike[str], api_key: str | None = None) -> Source:
    """Return the source that a path or an address names: absolute path or address, size and version tag.

    A path names a local NWB file or the folder of a Zarr store (`~` is expanded); an address is `https://`, `s3://`,
    `dandi://`, `DANDI:` or a page of a DANDI archive. Addresses that end in `.zarr` or in a slash are those of Zarr
    stores. FileNotFoundError says that there is no such file, NotHDF5Error that the path is a folder without a Zarr
    store, no regular file or the file is empty, UnreadableZarrError that a Zarr store in a network has no consolidated
    metadata. An archive that the address names may be shown `api_key`.
    """
    if not isinstance(uri, str | os.PathLike):
        raise TypeError(f"uri: got {type(uri).__name__}, wanted the path or address of an NWB file as text or Path")
    text = os.fspath(uri)
    if not text.strip():
        raise FileNotFoundError("uri: got an empty text, wanted the path or address of an NWB file")
    if is_address(text):
        from nwb_lrrnn.io.files.dandi import keys

        with keys.given(api_key):
            return _resolve_address(text)
    scheme, found, rest = text.partition("://")
    path = Path(rest if found and scheme.lower() == "file" else text).expanduser().absolute()
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file{missing_hint(path)}")
    if path.is_dir():
        from nwb_lrrnn.io.files.folder import what_is_in
        from nwb_lrrnn.io.files.zarr.store import is_store, measure

        if is_store(path):
            return Source(path.as_posix(), *measure(path), is_zarr=True)
        raise NotHDF5Error(
            f"{path}: this is a folder, wanted one NWB file in HDF5 format, or the folder of a Zarr store; "
            f"{what_is_in(path)}"
        )
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):  # to open a pipe waits for whoever writes into it, to read a device never ends
        raise NotHDF5Error(f"{path}: this is a pipe, socket or device, wanted a regular file")
    if status.st_size == 0:
        raise NotHDF5Error(f"{path}: the file is empty (0 bytes), wanted NWB in HDF5 format; copy or download it again")
    return Source(path.as_posix(), status.st_size, _tag(status))


def _resolve_address(uri: str) -> Source:
    """Return the source that an address names: a file, or a Zarr store, whose root is no file."""
    from nwb_lrrnn.io.files.connection import probe
    from nwb_lrrnn.io.files.locate import locate

    location = locate(uri)
    if location.is_zarr or location.name.endswith(".zarr") or location.uri.split("?", 1)[0].endswith("/"):
        return _remote_zarr(location)
    try:
        found = probe(location)
    except MissingRemoteFileError:
        with suppress(UnreadableZarrError):  # a store by another name
            return _remote_zarr(location)
        raise
    if not found.size:
        raise NotHDF5Error(f"{found.uri}: the file is empty (0 bytes), wanted NWB in HDF5 format; check the address")
    return Source(found.uri, found.size, found.version_tag)


def _remote_zarr(location: Location) -> Source:
    """Return the source of a Zarr store in a network; its size is 0 where no archive tells it."""
    from nwb_lrrnn.io.files.zarr.store import probe_store

    store = probe_store(location)
    return Source(store.uri, location.size or 0, store.version_tag, is_zarr=True)


@contextmanager
def _readable(uri: str, raw: RangeFile | None = None) -> Iterator[None]:
    """Turn what h5py says of a part that it cannot read into one sentence; what the network said goes first."""
    try:
        with told_damage(uri):
            yield
    except Exception as error:
        # HDF5 says "no such object" and the like of a part that the network did not bring.
        if raw is not None and raw.failure is not None:
            raise raw.failure from error
        raise
    if raw is not None and raw.failure is not None:
        raise raw.failure  # whoever read took what is not there for nothing at all


def _status(path: str) -> os.stat_result:
    """Return the status of a local file."""
    try:
        return os.stat(path)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: there is no such file any more{missing_hint(Path(path))}") from error


def _tag(status: os.stat_result) -> str:
    """Return the version tag of a local file."""
    return f"{status.st_mtime_ns}-{status.st_size}"
