"""A new NWB file appears whole or not at all; what lies beside it meanwhile has a name that no disk finds too long."""

import errno
import glob
import hashlib
import logging
import os
import shutil
import stat
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nwb_lrrnn.io.files.secrets import is_address, without_secrets

logger = logging.getLogger(__name__)

_ENDING = ".tmp.nwb"
_LONGEST_SILENCE = 3600.0  # s; whoever writes a file touches it more often
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_LONGEST = 200  # bytes; a disk takes 255, and the longest ending of ours is 32


@contextmanager
def replacing(path: str | os.PathLike[str], *, overwrite: bool) -> Iterator[Path]:
    """Yield the path of a temporary file that takes the place of `path` when the block ends without an error.

    The temporary file lies in the same directory, so that the replacement is one rename; it is flushed to the disk
    before, and removed after an error or an interruption.
    """
    target = Path(path)
    if is_address(path):
        raise ValueError(f"path: got the address {without_secrets(path)}, wanted the path of a local file to write")
    if target.suffix != ".nwb":
        raise ValueError(f"path: got {str(target)!r}, wanted a name that ends in .nwb")
    if not target.parent.is_dir():
        raise FileNotFoundError(
            f"path: got {str(target)!r}, but the directory {str(target.parent)!r} does not exist; make it first"
        )
    if target.is_dir():
        raise FileExistsError(f"path: got {str(target)!r}, which is a directory, wanted the name of a file in it")
    if not overwrite and os.path.lexists(target):
        raise FileExistsError(
            f"path: got {str(target)!r}, which exists; choose another name, or pass overwrite=True to replace it"
        )
    if os.path.lexists(target) and not stat.S_ISREG(target.lstat().st_mode):
        raise FileExistsError(
            f"path: got {str(target)!r}, which is a link, pipe or device, wanted a regular file to replace, or a new "
            "name"
        )
    _remove_leftovers(target)
    temporary = target.with_name(f".{short(target.stem)}.{uuid.uuid4().hex[:8]}{_ENDING}")
    try:
        yield temporary
        flush(temporary)
        os.replace(temporary, target)
        if os.name == "posix":  # elsewhere a directory cannot be opened
            flush(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Write a new file at once; OSError says that the disk has no room, in one sentence."""
    try:
        with path.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in _FULL:
            raise
        path.unlink(missing_ok=True)
        raise full_disk(path, len(content), error) from error


def full_disk(path: Path, n_bytes: int, error: OSError) -> OSError:
    """Return what is raised where a disk has no room for a file."""
    free = shutil.disk_usage(path.parent).free
    told = OSError(
        f"path: the disk of {str(path.parent)!r} has no room for a file of {n_bytes / 1e6:.3g} MB, {free / 1e6:.3g} MB "
        f"are free ({error.strerror}); nothing was written: free some, or choose another folder"
    )
    told.errno = error.errno
    return told


def _remove_leftovers(target: Path) -> None:
    """Remove what processes left beside a file that were killed while they wrote it."""
    for path in target.parent.glob(f".{glob.escape(short(target.stem))}.????????{_ENDING}"):
        with suppress(OSError):
            status = path.lstat()
            if stat.S_ISREG(status.st_mode) and time.time() - status.st_mtime > _LONGEST_SILENCE:
                path.unlink()
                logger.warning("removed %s, which a process left that was ended while it wrote", path)


def flush(path: Path) -> None:
    """Wait until a file or the entries of a directory are on the disk."""
    handle = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def short(name: str) -> str:
    """Return a file name, or its beginning and a hash of it where an ending more would be too long for a disk.

    >>> short("session.nwb"), len(short(240 * "a" + ".nwb"))
    ('session.nwb', 177)
    """
    encoded = name.encode(errors="surrogateescape")
    if len(encoded) <= _LONGEST:
        return name
    return f"{encoded[:160].decode(errors='ignore')}-{hashlib.sha256(encoded).hexdigest()[:16]}"
