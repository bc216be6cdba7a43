"""Blocks of remote files on this machine's disk: off unless the environment names a folder, and never in the way."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import stat
import time
import uuid
from pathlib import Path

from nwb_lrrnn.locks import ThreadLock

FOLDER = "NWB_LRRNN_CACHE"
GIGABYTES = "NWB_LRRNN_CACHE_GB"
EMBARGOED = "NWB_LRRNN_CACHE_EMBARGOED"

_DEFAULT_GIGABYTES = 10.0
_OWN_FOLDER = "nwb_lrrnn-blocks"  # the user's folder may hold other things, and need not be closed to others
_CHECKSUM_BYTES = 20
_KEPT_AFTER_TRIM = 0.9  # of the cap: not every block that comes shall cost a look through the folder
_TEMPORARY = re.compile(r"\.[0-9a-f]{32}\.tmp")
_LEFT_OVER_AFTER = 3600.0  # s; a temporary file so old belongs to a process that was killed

logger = logging.getLogger(__name__)
_caches: dict[tuple[str, int, int], DiskCache] = {}
_caches_lock = ThreadLock()


class DiskCache:
    """A folder of blocks; the least recently used are removed when they pass the cap. Processes may share it.

    The folder is made where it is missing, with one in it that only its owner may enter; `capacity` is in bytes.
    """

    def __init__(self, folder: str | os.PathLike[str], capacity: int):
        self._folder = Path(folder).expanduser().absolute() / _OWN_FOLDER
        self._capacity = capacity
        self._lock = ThreadLock()
        self._since_look = 0
        self._is_usable = True
        self._is_warned = False
        try:
            self._folder.parent.mkdir(parents=True, exist_ok=True)
            self._folder.mkdir(mode=0o700, exist_ok=True)
            status = self._folder.lstat()
            if not stat.S_ISDIR(status.st_mode):
                self._warn("it is a link to somewhere else")
                self._is_usable = False
            elif os.name == "posix" and status.st_uid != os.geteuid():
                self._warn("it belongs to another user")
                self._is_usable = False
            elif os.name == "posix" and status.st_mode & 0o077:
                self._folder.chmod(0o700)
        except OSError as error:
            self._warn(type(error).__name__)
            self._is_usable = False
        self._trim()

    def get(self, name: str, size: int) -> bytes | None:
        """Return a block of `size` bytes, or None where there is none, or where it is damaged or torn."""
        if not self._is_usable:
            return None
        path = self._folder / name
        try:
            content = path.read_bytes()
        except OSError:
            return None
        checksum, data = content[:_CHECKSUM_BYTES], content[_CHECKSUM_BYTES:]
        if len(data) != size or checksum != _checksum(name, data):
            logger.info("%s: a damaged block of the disk cache is fetched again", name)
            self._remove(path)
            return None
        try:
            os.utime(path)  # its last use
        except OSError:
            pass  # another process removed it, or the folder is read-only: the data are right
        return data

    def put(self, name: str, data: bytes) -> None:
        """Keep a block; a disk that is full or read-only is logged once and otherwise ignored."""
        if not self._is_usable:
            return
        temporary = self._folder / f".{uuid.uuid4().hex}.tmp"
        try:
            # No fsync: the checksum finds a block that a crash tore.
            temporary.write_bytes(_checksum(name, data) + data)
            os.replace(temporary, self._folder / name)
        except OSError as error:
            self._remove(temporary)
            self._warn(type(error).__name__ if not error.strerror else error.strerror)
            return
        with self._lock:
            self._since_look += len(data)
            is_due = self._since_look > (1.0 - _KEPT_AFTER_TRIM) * self._capacity
        if is_due:
            self._trim()

    def _trim(self) -> None:
        """Remove the least recently used blocks until the rest, other processes' included, is under the cap."""
        with self._lock:
            self._since_look = 0
        if not self._is_usable:
            return
        blocks = []
        try:
            with os.scandir(self._folder) as entries:
                for entry in entries:
                    try:
                        status = entry.stat()
                    except FileNotFoundError:
                        continue  # another process was quicker
                    if not entry.name.startswith("."):
                        blocks.append((status.st_mtime_ns, status.st_size, Path(entry.path)))
                    elif _TEMPORARY.fullmatch(entry.name) and time.time() - status.st_mtime > _LEFT_OVER_AFTER:
                        self._remove(Path(entry.path))
        except OSError as error:
            self._warn(type(error).__name__)
            return
        total = sum(size for _, size, _ in blocks)
        for _, size, path in sorted(blocks):
            if total <= _KEPT_AFTER_TRIM * self._capacity:
                break
            self._remove(path)
            total -= size

    def _remove(self, path: Path) -> None:
        """Remove a file if that can be done."""
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            self._warn(type(error).__name__)

    def _warn(self, reason: str) -> None:
        """Say once that the folder does not serve."""
        if not self._is_warned:
            self._is_warned = True
            logger.warning(
                "%s: %s cannot be used as it should (%s); files are read without it", FOLDER, self._folder, reason
            )


class FileShelf:
    """The blocks of one version of one file in the cache; `key` is that of `key_of`."""

    def __init__(self, cache: DiskCache, key: str):
        self._cache = cache
        self._key = key

    def get(self, number: int, size: int) -> bytes | None:
        """Return a block, or None where it is not there."""
        return self._cache.get(f"{self._key}-{number}", size)

    def put(self, number: int, data: bytes) -> None:
        """Keep a block."""
        self._cache.put(f"{self._key}-{number}", data)


def shelf_of(uri: str, size: int, version_tag: str, *, is_embargoed: bool = False) -> FileShelf | None:
    """Return the place of a file's blocks in the disk cache that the environment asks for.

    None without `NWB_LRRNN_CACHE`, for a file whose version nothing certain tells, and for one under embargo with
    `NWB_LRRNN_CACHE_EMBARGOED=0`. ValueError: `NWB_LRRNN_CACHE_GB` is no positive number.

    >>> shelf_of("https://host.org/a.nwb", 100, "size:100") is None
    True
    """
    folder, key = os.environ.get(FOLDER), key_of(uri, size, version_tag)
    if not folder or key is None or (is_embargoed and os.environ.get(EMBARGOED) == "0"):
        return None
    place = (folder, _capacity(), os.getpid())  # a forked child must not wait for a lock that a thread held
    with _caches_lock:
        if place not in _caches:
            _caches[place] = DiskCache(folder, place[1])
        return FileShelf(_caches[place], key)


def key_of(uri: str, size: int, version_tag: str) -> str | None:
    """Return the name of a version of a file in the cache; None where its tag could belong to two versions.

    Its 40 hexadecimal digits tell neither address nor tag. A digest names the content wherever it lies, an ETag only
    that of its own address.

    >>> key_of("https://a.org/x.nwb", 9, "sha256:0a1b") == key_of("https://b.org/y.nwb", 9, "sha256:0a1b")
    True
    >>> key_of("https://a.org/x.nwb", 9, 'etag:"7"') == key_of("https://b.org/y.nwb", 9, 'etag:"7"')
    False
    """
    if version_tag.startswith(("modified:", "size:")):
        return None
    place = uri if version_tag.startswith("etag:") else ""
    return hashlib.blake2b(repr((place, size, version_tag)).encode(), digest_size=20).hexdigest()


def _capacity() -> int:
    """Return the cap in bytes."""
    text = os.environ.get(GIGABYTES) or str(_DEFAULT_GIGABYTES)
    try:
        gigabytes = float(text)
    except ValueError:
        gigabytes = float("nan")
    if not 0.0 < gigabytes < float("inf"):
        raise ValueError(f"{GIGABYTES}: got {text!r}, wanted a positive number of gigabytes, such as 10")
    return int(gigabytes * 1e9)


def _checksum(name: str, data: bytes) -> bytes:
    """Return what tells a block from a damaged one, and from the block of another name."""
    found = hashlib.blake2b(name.encode(), digest_size=_CHECKSUM_BYTES)
    found.update(data)
    return found.digest()
