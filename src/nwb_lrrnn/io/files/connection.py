"""Connections to files of a network: one a file and process, found again by every thread that needs it."""

import os
import threading
from collections import OrderedDict
from typing import Any

from nwb_lrrnn.io.errors import ChangedFileError
from nwb_lrrnn.io.files.locate import locate
from nwb_lrrnn.io.files.network import disk_cache, web
from nwb_lrrnn.io.files.network.block_cache import BLOCK, BlockCache
from nwb_lrrnn.io.files.network.location import Location
from nwb_lrrnn.io.files.network.range_file import RangeFile
from nwb_lrrnn.io.files.network.ranges import Ranges, ServedVersion

MOST_CONNECTIONS = 8
# HDF5 reads its metadata in small pieces all over the file, which is what blocks are for; a large read is of data.
_LARGE = 8 * BLOCK
_MOST_LOCATIONS = 1000


class Connection:
    """A file of a network, open for reading by any thread. It pickles as its name and version, without secrets.

    `version_tag` is the archive's digest, else `etag:`, else `modified:` and size, else `size:` alone, which does not
    tell versions of one length apart.
    """

    def __init__(self, ranges: Ranges, version_tag: str):
        self.uri = ranges.uri
        self.size = ranges.size or 0
        self.version_tag = version_tag
        self._ranges = ranges
        is_embargoed = bool(getattr(ranges.location, "is_embargoed", False))
        self._shelf = disk_cache.shelf_of(self.uri, self.size, version_tag, is_embargoed=is_embargoed)
        self.blocks = BlockCache(ranges.read_many, self.size, self._shelf)

    def __repr__(self) -> str:
        return f"<Connection to {self.uri}, {self.size} bytes>"

    def __reduce__(self) -> tuple[Any, ...]:
        return connect, (self.uri, self.size, self.version_tag)

    def fetch(self, offset: int, size: int) -> bytes:
        """Return a range of data; it is not kept in memory. Raises what `Ranges.read` raises."""
        self._ranges.check_inside(offset, size)
        if size == 0:
            return b""
        if self._shelf is not None:
            return self.blocks.read(offset, size, keep=False)
        held = self.blocks.held(offset, size)
        return self._ranges.read(offset, size) if held is None else held

    def relocate(self, location: Location) -> None:
        """Read from this location from now on: the same file, by a fresher signature."""
        self._ranges.location = location

    def file(self) -> RangeFile:
        """Return a new file object, for h5py for instance; small reads are kept in memory in blocks."""
        return RangeFile(self._read_for_file, self.size, self.uri)

    def _read_for_file(self, offset: int, size: int) -> bytes:
        """Return a range, through the blocks in memory where it is not large."""
        return self.fetch(offset, size) if size > _LARGE else self.blocks.read(offset, size)


class _Registry:
    """The connections of this process, and where their files lie."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.connections: OrderedDict[tuple[str, str], Connection] = OrderedDict()
        # Apart from connections, and longer: the address of a user may hold a signature that nothing else tells.
        self.locations: OrderedDict[tuple[str, str], Location] = OrderedDict()


_registry = _Registry()


def probe(location: Location) -> Connection:
    """Return a connection to a file of which nothing is known; one request tells size, version and first block.

    `connect` finds it again by its `uri` and `version_tag`. ChangedFileError says that the archive knows another size
    than the server; RemoteError, that the server cannot be reached, refuses, has no such file or sends whole files
    only.
    """
    ranges = Ranges(location, location.size)
    first = ranges.first(BLOCK)
    found = Connection(ranges, _tag(location.digest, ranges.seen, ranges.size or 0))
    found.blocks.fill(first)
    return _remember(found, location)


def connect(uri: str, size: int, version_tag: str) -> Connection:
    """Return the connection of this process to a file that was probed before, here or in another process.

    A new one asks nothing of the server yet. ChangedFileError says that the archive has another version now.
    """
    key = (uri, version_tag)
    with _registry.lock:
        if key in _registry.connections:
            _registry.connections.move_to_end(key)
            return _registry.connections[key]
        location = _registry.locations.get(key)
    location = location or locate(uri)
    now = (location.size or size, location.digest or version_tag)
    if now != (size, version_tag):
        raise ChangedFileError(
            f"{uri}: the archive has another version now ({now[0]} bytes, {now[1]}; wanted {size} bytes, "
            f"{version_tag}); open it again"
        )
    return _remember(Connection(Ranges(location, size, _seen(version_tag)), version_tag), location)


def forget() -> None:
    """Drop all connections and what they keep in memory; `connect` makes them anew."""
    with _registry.lock:
        _registry.connections.clear()
    web.close()


def keep_location(uri: str, version_tag: str, location: Location) -> None:
    """Remember where a version of a file or store lies, with the signature that nothing else in this process tells."""
    with _registry.lock:
        _registry.locations[uri, version_tag] = location
        _registry.locations.move_to_end((uri, version_tag))
        while len(_registry.locations) > _MOST_LOCATIONS:
            _registry.locations.popitem(last=False)


def kept_location(uri: str, version_tag: str) -> Location | None:
    """Return the location that was kept for a version of a file or store, None where none was."""
    with _registry.lock:
        return _registry.locations.get((uri, version_tag))


def _remember(connection: Connection, location: Location) -> Connection:
    """Put a connection into the registry and return the one to use: that of the thread that came first."""
    key = (connection.uri, connection.version_tag)
    keep_location(*key, location)
    with _registry.lock:
        connection = _registry.connections.setdefault(key, connection)
        _registry.connections.move_to_end(key)
        connection.relocate(location)
        while len(_registry.connections) > MOST_CONNECTIONS:
            _registry.connections.popitem(last=False)
    return connection


def _tag(digest: str | None, seen: ServedVersion, size: int) -> str:
    """Return the version tag of a file: the surest that is known, and its kind."""
    if digest:
        return digest
    if seen.etag.startswith('"'):  # not W/"...", which two contents may share
        return f"etag:{seen.etag}"
    return f"modified:{seen.modified}|{size}" if seen.modified else f"size:{size}"


def _seen(version_tag: str) -> ServedVersion:
    """Return what of a version tag the server will repeat."""
    kind, _, rest = version_tag.partition(":")
    if kind == "etag":
        return ServedVersion(etag=rest)
    return ServedVersion(modified=rest.rpartition("|")[0]) if kind == "modified" else ServedVersion()


def _begin_anew() -> None:
    """Give a forked child a registry without the connections, whose locks threads of the parent may hold."""
    global _registry
    locations = _registry.locations.copy()
    _registry = _Registry()
    _registry.locations = locations
    for location in locations.values():
        location.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
