"""A module into a recording: a copy gets it, is compared with the recording, and takes its place at once."""

import errno
import logging
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from nwb_lrrnn.io.errors import ChangedFileError, UnwritableRecordingError
from nwb_lrrnn.io.files.hdf5 import H5, open_hdf5
from nwb_lrrnn.io.writing.atomic import flush, short
from nwb_lrrnn.io.writing.graft import graft
from nwb_lrrnn.io.writing.lock import lock_of, locked
from nwb_lrrnn.io.writing.untouched import check_untouched, outline
from nwb_lrrnn.io.writing.writable import check_room, fingerprint, writable

logger = logging.getLogger(__name__)

IF_EXISTS = ("error", "replace", "new")
_FICLONE = 0x40049409  # Linux: share the blocks of a file until one of the two is written (btrfs, XFS, ...)


def append_module(
    path: str | os.PathLike[str],
    origin: H5,
    name: str,
    *,
    if_exists: str = "error",
    elsewhere: Mapping[str, str] | None = None,
    check: Callable[[Path, str], None] = lambda copy, module: None,
) -> str:
    """Return the name of the processing module that a recording has got.

    The recording itself is never opened for writing. A copy in the same directory gets the module, is read back and
    compared, is flushed to the disk and takes the place of the recording with one rename; whenever the process ends,
    the path holds the old file or the complete new one.

    `origin` is the module in another file; `elsewhere` maps paths in that file that the module refers to onto paths in
    the recording. Where there is a module of that name, `if_exists` "error" refuses, "replace" puts the new one in its
    place if nwb_lrrnn wrote it, and "new" chooses the next free of name_2, name_3, ... `check` gets the path of the
    copy and the name of the module; what it raises ends the writing.

    Raises FileExistsError (a module that is not to be, or may not be, replaced), ChangedFileError (another program
    changed the recording meanwhile), OSError (the copy differs from what it must be), and what `writable`, `check_room`
    and `locked` raise.
    """
    target = writable(path)
    with locked(target):
        _remove_leftovers(target)
        before = fingerprint(target)
        module = choose_name(target, name, if_exists)
        with _copy_of(target, added=origin.file.id.get_filesize()) as copy:
            _insert(copy, origin, module, elsewhere or {})
            _check_inserted(copy, origin, module, elsewhere or {})
            check(copy, module)
            check_untouched(target, copy, f"processing/{module}")
            flush(copy)
            if fingerprint(target) != before:
                raise ChangedFileError(
                    f"{target}: another program changed the recording while results were written; it was left as it "
                    "is: call write_results again"
                )
            os.replace(copy, target)
            if os.name == "posix":  # elsewhere a directory cannot be opened
                flush(target.parent)
    logger.info("wrote the processing module %r into %s", module, target)
    return module


def choose_name(target: Path, name: str, if_exists: str) -> str:
    """Return the name that a new module gets in a recording: a free one, or that of a module to replace.

    Raises FileExistsError for a module that is not to be, or may not be, replaced, and UnwritableRecordingError where
    the processing modules of the recording lie in another file.
    """
    import h5py

    with open_hdf5(str(target)) as file:
        link: H5 = file.get("processing", getlink=True)
        if link is not None and not isinstance(link, h5py.HardLink):
            raise UnwritableRecordingError(
                f"into: {target} is not written into: its processing modules lie in another place, {link.path}; write "
                "a stand-alone file"
            )
        modules: H5 = file.get("processing", {})
        if name not in modules.keys():
            return name
        if if_exists == "new":
            number = next(n for n in range(2, len(modules) + 3) if f"{name}_{n}" not in modules.keys())
            return f"{name}_{number}"
        ours = isinstance(modules.get(name, getlink=True), h5py.HardLink) and "fit_info" in modules[name]
        if if_exists == "replace" and ours:
            return name
        other = f"module={name + '_fit'!r}"
        fix = f"if_exists='replace' or 'new', or {other}" if ours else f"{other}: nwb_lrrnn did not write that one"
        raise FileExistsError(f"into: {target} has a processing module {name!r} already; pass {fix}")


@contextmanager
def _copy_of(target: Path, added: int) -> Iterator[Path]:
    """Yield a copy of a recording in the same directory, with disk space reserved; it is removed at the end."""
    copy = target.with_name(f".{short(target.stem)}.{uuid.uuid4().hex[:8]}.into.tmp.nwb")
    try:
        os.close(os.open(copy, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        if not _clone(target, copy):
            check_room(target, added)
            shutil.copyfile(target, copy)
        _like(target, copy)
        _reserve(copy, 2 * added + 2**20)
        yield copy
    finally:
        copy.unlink(missing_ok=True)


def _clone(target: Path, copy: Path) -> bool:
    """Return whether the disk could share the blocks of a file with a copy of it."""
    try:
        import fcntl
    except ImportError:  # Windows
        return False
    with target.open("rb") as old, copy.open("wb") as new:
        try:
            fcntl.ioctl(new.fileno(), _FICLONE, old.fileno())
        except OSError:
            return False
    return True


def _like(target: Path, copy: Path) -> None:
    """Give a copy the rights, owner and extended attributes of the file."""
    shutil.copystat(target, copy)
    if os.name == "posix":
        status = target.stat()
        with suppress(PermissionError):
            os.chown(copy, status.st_uid, status.st_gid)
            os.chmod(copy, status.st_mode & 0o7777)  # a change of owner can take rights away


def _reserve(copy: Path, n_bytes: int) -> None:
    """Make the disk keep room behind the end of a copy: HDF5 can crash where it runs out. HDF5 gives back the rest."""
    if not hasattr(os, "posix_fallocate"):
        return
    handle = os.open(copy, os.O_RDWR)
    try:
        os.posix_fallocate(handle, os.fstat(handle).st_size, n_bytes)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return  # a disk that cannot promise room
        raise UnwritableRecordingError(
            f"into: the disk has no room for a copy of the recording with results ({error.strerror}); free some, or "
            "write a stand-alone file to another disk"
        ) from error
    finally:
        os.close(handle)


def _insert(copy: Path, origin: H5, module: str, elsewhere: Mapping[str, str]) -> None:
    import h5py

    try:
        file = h5py.File(copy, "r+", locking=False)
    except OSError as error:
        raise UnwritableRecordingError(
            f"into: HDF5 cannot write into a copy of the recording ({error}); write a stand-alone file, or repair the "
            "recording with h5repack"
        ) from error
    try:
        with file:
            modules: H5 = file.require_group("processing")
            if module in modules.keys():
                del modules[module]
            graft(origin, modules, module, elsewhere)
    except RuntimeError as error:  # what h5py makes of a failed write
        raise OSError(
            f"HDF5 could not write into a copy of {copy.name}; nothing was stored: is the disk full?"
        ) from error


def _check_inserted(copy: Path, origin: H5, module: str, elsewhere: Mapping[str, str]) -> None:
    """Raise if types, shapes, attributes or references of a module in a copy are not those of the original."""
    with open_hdf5(str(copy)) as file:
        wanted, found = outline(origin), outline(file[f"processing/{module}"])
    for path in sorted(wanted.keys() | found.keys()):
        told = wanted.get(path)
        if told is not None:
            attrs = {
                key: elsewhere.get(value, value) if isinstance(value, str) else value for key, value in told[-1].items()
            }
            told = (*told[:-1], attrs)
        if repr(told) != repr(found.get(path)):
            raise OSError(f"processing/{module}/{path} read back differs from what was written; nothing was stored")


def _remove_leftovers(target: Path) -> None:
    """Remove what ended processes left; who holds the lock knows that it is nobody's."""
    copies = re.escape(f".{short(target.stem)}.") + r"[0-9a-f]{8}\.into\.tmp\.nwb"
    drafts = re.escape(lock_of(target).name) + r"\.[0-9a-f]{8}"
    for entry in list(os.scandir(target.parent)):
        if re.fullmatch(f"{copies}|{drafts}", entry.name):
            Path(entry.path).unlink(missing_ok=True)
            logger.warning("removed %s, which a process left that was ended while it wrote", entry.path)
