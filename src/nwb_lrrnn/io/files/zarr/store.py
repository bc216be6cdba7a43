"""A Zarr store: the metadata of everything in it, and the bytes of its chunks, from a folder or through a network."""

import functools
import hashlib
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import urllib3

from nwb_lrrnn.io.errors import ChangedFileError, MissingRemoteFileError, TruncatedFileError, UnreadableZarrError
from nwb_lrrnn.io.files.connection import keep_location, kept_location
from nwb_lrrnn.io.files.hdf5 import missing_hint
from nwb_lrrnn.io.files.locate import locate
from nwb_lrrnn.io.files.network import web
from nwb_lrrnn.io.files.network.location import Location
from nwb_lrrnn.io.files.network.ranges import Ranges
from nwb_lrrnn.io.files.zarr.metadata import ZarrTree
from nwb_lrrnn.locks import ThreadLock

CONSOLIDATED = ".zmetadata"
_MARKS = (CONSOLIDATED, ".zgroup", "zarr.json")
_NAMES = (".zgroup", ".zarray", ".zattrs")  # of the metadata of one group or array
_WHOLE = 2**40  # bytes: more than any chunk has
_MOST_STORES = 8
# Of scalars and short columns, which are read again and again; chunks of samples are larger.
_KEPT_OBJECT, _KEPT_BYTES = 2**16, 2**25


class ZarrStore(ABC):
    """The objects of a store of Zarr format 2 by their keys.

    `ahead` are the groups of which short arrays were fetched ahead; "" stands for all scalars.
    """

    is_remote = False

    def __init__(self, uri: str, tree: ZarrTree):
        self.uri = uri
        self.tree = tree
        self.ahead: set[str] = set()

    @abstractmethod
    def get(self, key: str) -> bytes | None:
        """Return an object, None where there is none."""

    @abstractmethod
    def check_lacks(self, array: str) -> None:
        """Raise where a chunk of an array is missing because the array is; else it was never written."""

    @abstractmethod
    def get_ahead(self, keys: Iterable[str]) -> None:
        """Fetch small objects that will be asked for next, side by side where that saves time."""


class LocalStore(ZarrStore):
    """A store in a folder of this machine."""

    def get(self, key: str) -> bytes | None:
        """Return the content of a file, None where there is none."""
        try:
            with open(f"{self.uri}/{key}", "rb") as file:
                return file.read()
        except FileNotFoundError:
            _is_there(Path(self.uri, key))
            return None

    def check_lacks(self, array: str) -> None:
        """Raise where the whole array is missing."""
        if not Path(self.uri, array, ".zarray").exists():
            raise ChangedFileError(f"{self.uri}: /{array} is gone since the store was opened; open it again")

    def get_ahead(self, keys: Iterable[str]) -> None:
        """Do nothing: files are near."""


class RemoteStore(ZarrStore):
    """A store in a network, whose objects are fetched whole, by one request each."""

    is_remote = True

    def __init__(self, location: Location):
        content = _object(location, CONSOLIDATED)
        if content is None:
            raise UnreadableZarrError(
                f"{location.uri}: there is no {CONSOLIDATED}, wanted a Zarr store of format 2 with consolidated "
                "metadata; download it, or consolidate it with zarr.consolidate_metadata"
            )
        super().__init__(location.uri, _consolidated(location.uri, content))
        digest = hashlib.blake2b(content, digest_size=16).hexdigest()
        self.version_tag = location.digest or f"{CONSOLIDATED}:{digest}"
        self.location = location
        self._kept: dict[str, bytes] = {}
        self._there: set[str] = set()
        self._n_bytes = 0

    def get(self, key: str) -> bytes | None:
        """Return an object, None where the server has none."""
        if key in self._kept:
            return self._kept[key]
        content = _object(self.location, key)
        n_bytes = len(content or b"")
        if content is not None and n_bytes <= _KEPT_OBJECT and self._n_bytes + n_bytes <= _KEPT_BYTES:
            self._kept[key] = content
            self._n_bytes += n_bytes
        return content

    def check_lacks(self, array: str) -> None:
        """Raise where the whole array is missing; a store that was moved away has no chunks either."""
        if array not in self._there:
            if _object(self.location, f"{array}/.zarray") is None:
                raise ChangedFileError(f"{self.uri}: /{array} is gone since the store was opened; open it again")
            self._there.add(array)

    def get_ahead(self, keys: Iterable[str]) -> None:
        """Fetch small objects side by side and keep them."""
        web.in_parallel(self.get, [(key,) for key in keys if key not in self._kept])


def is_store(folder: Path) -> bool:
    """Return whether a folder is a Zarr store."""
    return any(os.path.lexists(folder / mark) for mark in _MARKS)


def measure(folder: Path) -> tuple[int, str]:
    """Return the size of a store in bytes, and its version tag: time of the newest file in ns and size."""
    size, newest, folders = 0, 0, [os.fspath(folder)]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                    continue
                status = entry.stat() if os.path.exists(entry.path) else entry.stat(follow_symlinks=False)
                size, newest = size + status.st_size, max(newest, status.st_mtime_ns)
    return size, f"{newest}-{size}"


def local_store(path: str) -> LocalStore:
    """Return the store in a folder as it is now, with its consolidated metadata where it has them.

    Raises FileNotFoundError (gone), UnreadableZarrError (format 3) or TruncatedFileError (damaged metadata).
    """
    folder = Path(path)
    if not folder.is_dir():
        raise FileNotFoundError(f"{path}: there is no such Zarr store any more{missing_hint(folder)}")
    if _is_there(folder / CONSOLIDATED):
        status = (folder / CONSOLIDATED).stat()
        return LocalStore(path, _read_consolidated(path, status.st_mtime_ns, status.st_size))
    if not _is_there(folder / ".zgroup"):
        raise UnreadableZarrError(
            f"{path}: this Zarr store is of format 3, wanted format 2, which hdmf-zarr writes; export it to HDF5 or to "
            "format 2 with hdmf-zarr"
        )
    return LocalStore(path, ZarrTree(path, dict(_walk(folder, ""))))


@functools.lru_cache(maxsize=4)
def _read_consolidated(path: str, mtime_ns: int, size: int) -> ZarrTree:
    """Return the consolidated metadata of a folder; kept, so that they are read once for many slices."""
    return _consolidated(path, Path(path, CONSOLIDATED).read_bytes())


def _walk(folder: Path, key: str) -> Iterator[tuple[str, Any]]:
    """Yield the metadata of a group or array and of all below it; the chunks of arrays are not looked at."""
    has_chunks = False
    for name in _NAMES:
        if _is_there(folder / name):
            yield key + name, _parsed(f"{folder}/{name}", (folder / name).read_bytes())
            has_chunks = has_chunks or name == ".zarray"
    if not has_chunks:
        for child in sorted(folder.iterdir()):
            if child.is_dir() and not child.is_symlink():
                yield from _walk(child, f"{key}{child.name}/")


def _is_there(path: Path) -> bool:
    """Return whether a file exists, or raise where it is a link to content that was not fetched."""
    if path.exists():
        return True
    if path.is_symlink():
        raise FileNotFoundError(f"{path}: there is no such file{missing_hint(path)}")
    return False


def probe_store(location: Location) -> RemoteStore:
    """Return a store in a network of which nothing is known; one request fetches its metadata.

    `remote_store` finds it again by its `uri` and `version_tag`. UnreadableZarrError says that there are no
    consolidated metadata of format 2, RemoteError that the server cannot be reached or refuses.
    """
    store = RemoteStore(location)
    keep_location(store.uri, store.version_tag, location)
    return _remember(store)


def remote_store(uri: str, version_tag: str) -> RemoteStore:
    """Return the store of this process that was probed before, here or in another process.

    ChangedFileError says that the server has another version now.
    """
    found = _stores.get((uri, version_tag)) or probe_store(kept_location(uri, version_tag) or locate(uri))
    if found.version_tag != version_tag:
        raise ChangedFileError(
            f"{uri}: the Zarr store has another version now ({found.version_tag}, wanted {version_tag}); open it again"
        )
    return _remember(found)


def _remember(store: RemoteStore) -> RemoteStore:
    """Keep a store as the one that was used last, and return it."""
    with _stores_lock:
        _stores.pop((store.uri, store.version_tag), None)
        _stores[store.uri, store.version_tag] = store
        while len(_stores) > _MOST_STORES:
            del _stores[next(iter(_stores))]
    return store


_stores: dict[tuple[str, str], RemoteStore] = {}
_stores_lock = ThreadLock()


def _consolidated(uri: str, content: bytes) -> ZarrTree:
    """Return what lies where from the content of `.zmetadata`."""
    found = _parsed(f"{uri}/{CONSOLIDATED}", content)
    return ZarrTree(uri, found.get("metadata") if isinstance(found, dict) else None)


def _parsed(where: str, content: bytes) -> Any:
    """Return JSON as Python values."""
    try:
        return json.loads(content)
    except ValueError as error:
        raise TruncatedFileError(
            f"{where}: this is no valid JSON ({error}); the store is damaged or was cut off while it was copied: copy "
            "or download it again"
        ) from error


def _object(root: Location, key: str) -> bytes | None:
    """Return one object of a store in a network, None where the server has none."""
    try:
        return _Whole(_Object(f"{root.uri.rstrip('/')}/{key}", root=root, key=key)).first(_WHOLE)
    except MissingRemoteFileError:
        return None


class _Whole(Ranges):
    """One object, fetched whole: servers that know no ranges will do."""

    def _checked(self, response: urllib3.BaseHTTPResponse, offset: int, size: int, is_first: bool) -> bytes:
        """Return the body of an answer, also of one that says that it is all there is."""
        n_bytes = response.headers.get("Content-Length", "")
        as_it_is = response.headers.get("Content-Encoding", "identity").lower() == "identity"
        if response.status == 200 and n_bytes.isdecimal() and as_it_is:
            return web.body(response, int(n_bytes))  # one that breaks off is an error of urllib3, and another try
        return super()._checked(response, offset, size, is_first)


@dataclass(frozen=True, kw_only=True)
class _Object(Location):
    """Where one object of a store lies."""

    root: Location
    key: str

    def url(self) -> str:
        """Return the URL of the root with the key before its query."""
        path, mark, query = self.root.url().partition("?")
        return f"{path.rstrip('/')}/{quote(self.key)}{mark}{query}"

    def renew(self, refused: str = "") -> str:
        """Return another URL, from another one of the root."""
        self.root.renew()
        return self.url()
