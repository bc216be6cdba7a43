"""One writer at a time: a lock file beside a recording, which outlives its writer only until the next one comes."""

import logging
import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from nwb_lrrnn.io.errors import RecordingInUseError
from nwb_lrrnn.io.writing.atomic import short

logger = logging.getLogger(__name__)


def lock_of(target: Path) -> Path:
    """Return where the lock file of a recording lies: in the same directory."""
    return target.with_name(f"{short(target.name)}.lrrnn.lock")


@contextmanager
def locked(target: Path) -> Iterator[None]:
    """Hold the lock of a recording for a block; RecordingInUseError if another process holds it.

    The lock is a file that only one process can make; it names its process. A lock whose process has ended on this
    machine is removed.
    """
    lock = lock_of(target)
    mine = f"{socket.gethostname()}\n{os.getpid()}\n{datetime.now(UTC).isoformat(timespec='seconds')}\n{uuid.uuid4()}\n"
    _acquire(lock, mine)
    try:
        yield
    finally:
        if _read(lock) == mine:  # not where somebody removed it by hand and another writer came
            lock.unlink(missing_ok=True)


def _acquire(lock: Path, mine: str) -> None:
    """Make the lock file, or raise; one that a dead process left is taken away first."""
    for _ in range(10):  # each turn another process may be quicker
        if _make(lock, mine):
            return
        holder = _read(lock)
        if holder is None:
            continue
        if not _is_dead(holder):
            break
        _take_away(lock, holder)
    raise RecordingInUseError(_who(lock))


def _make(lock: Path, mine: str) -> bool:
    """Return whether the lock file could be made. It appears with its text, so that a kill leaves none without."""
    draft = lock.with_name(f"{lock.name}.{uuid.uuid4().hex[:8]}")
    draft.write_text(mine)
    try:
        os.link(draft, lock)
    except (FileExistsError, FileNotFoundError):  # the latter: the holder took the draft for a leftover
        return False
    except OSError:  # a disk without hard links
        return _make_at_once(lock, mine)
    finally:
        draft.unlink(missing_ok=True)
    return True


def _make_at_once(lock: Path, mine: str) -> bool:
    try:
        with lock.open("x") as file:
            file.write(mine)
    except FileExistsError:
        return False
    return True


def _read(lock: Path) -> str | None:
    """Return what a lock file says; None where there is none."""
    try:
        return lock.read_text(errors="replace")
    except FileNotFoundError:
        return None


def _is_dead(holder: str) -> bool:
    """Return whether the process that made a lock has surely ended."""
    host, pid = (holder.split("\n") + ["", ""])[:2]
    if host != socket.gethostname() or not pid.isdigit() or os.name != "posix":  # kill(pid, 0) ends it on Windows
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):  # it runs as another user; or no number of a process
        return False
    return False


def _take_away(lock: Path, holder: str) -> None:
    """Remove a lock that a dead process left. Renaming lets only one of several processes do it."""
    aside = lock.with_name(f"{lock.name}.{uuid.uuid4().hex[:8]}")
    try:
        os.rename(lock, aside)
    except FileNotFoundError:  # another process was quicker
        return
    if aside.read_text(errors="replace") != holder:  # that one was quicker, and holds the lock by now: give it back
        with suppress(FileExistsError):
            os.link(aside, lock)
    else:
        logger.warning("%s: removed the lock of a process that was ended while it wrote", lock)
    aside.unlink()


def _who(lock: Path) -> str:
    host, pid, since = ((_read(lock) or "") + "\n\n\n").split("\n")[:3]
    if not pid:
        return f"{lock} exists, so another process writes the recording; wait for it, or delete the lock if none does"
    return (
        f"{lock.name.removesuffix('.lrrnn.lock')}: process {pid} on {host} writes into it since {since}; wait for it, "
        f"or delete {lock} if that process is no longer there"
    )
