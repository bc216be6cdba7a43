"""The folder of one fit: nobody else writes into it, what is in it is complete, and an interrupted fit finds its own.

`runs/KEY.partial` is written into while the fit runs, and becomes `runs/KEY` at once when all of it is there.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

METRICS, FAILURE, ATTEMPTS, LOG = "metrics.json", "failure.json", "attempts", "log.txt"
RESULT, CHECKPOINT, PICTURE = "result.nwb", "checkpoint.npz", "picture.png"
_LOCK = "lock"
_PAUSE = 0.2  # seconds between two looks at a lock


class BusyError(RuntimeError):
    """Another process fits this already."""


class FitFolder:
    """Where a fit puts what it finds.

    Parameters
    ----------
    runs : path-like
        The folder of all fits.
    key : str
        Of this one.
    """

    def __init__(self, runs: str | os.PathLike[str], key: str):
        self.final = Path(runs) / key
        self.partial = Path(runs) / f"{key}.partial"

    @property
    def is_done(self) -> bool:
        """Whether the fit is complete."""
        return (self.final / METRICS).is_file()

    def metrics(self) -> dict[str, Any] | None:
        """Return the numbers of a complete fit, None of any other."""
        return _read(self.final / METRICS)

    def failure(self) -> dict[str, Any] | None:
        """Return why the last attempt failed, None where none did."""
        return None if self.is_done else _read(self.partial / FAILURE)

    def n_attempts(self) -> int:
        """Return how often the fit was begun."""
        try:
            return (self.partial / ATTEMPTS).stat().st_size
        except OSError:
            return 0

    @contextmanager
    def held(self, patience: float) -> Iterator[bool]:
        """Hold the folder for a block; yield whether there is something to do.

        BusyError says that another process held it for all of `patience` seconds.
        """
        until = time.monotonic() + patience
        while True:
            if self.is_done:
                yield False
                return
            self.partial.mkdir(parents=True, exist_ok=True)
            lock = lock_file(self.partial / _LOCK)
            if lock is not None:
                break
            if time.monotonic() > until:
                raise BusyError(f"{self.partial}: another process writes into it; it is tried again later")
            time.sleep(_PAUSE)
        try:
            if self.is_done:  # it was finished while this process waited for the lock
                yield False
                return
            with (self.partial / ATTEMPTS).open("ab") as file:
                file.write(b".")
            yield True
        finally:
            os.close(lock)

    def finish(self, metrics: dict[str, Any]) -> None:
        """Make the partial folder the final one; its numbers are written last."""
        for name in (FAILURE, CHECKPOINT):
            (self.partial / name).unlink(missing_ok=True)
        _write(self.partial / METRICS, metrics)
        for name in (RESULT, PICTURE, LOG):
            with suppress(FileNotFoundError):
                _synced(self.partial / name)
        if self.final.exists():  # an incomplete copy by hand
            os.rename(self.final, self.final.with_name(f"{self.final.name}.{time.time_ns()}.aside"))
        os.rename(self.partial, self.final)
        for name in (_LOCK, ATTEMPTS):
            (self.final / name).unlink(missing_ok=True)

    def fail(self, failure: dict[str, Any]) -> None:
        """Note why an attempt failed."""
        _write(self.partial / FAILURE, failure)

    def forget_failure(self) -> None:
        """Let the fit be tried again."""
        (self.partial / FAILURE).unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove what an attempt has left that nobody wants."""
        shutil.rmtree(self.partial, ignore_errors=True)


def lock_file(path: Path) -> int | None:
    """Return the descriptor that holds a lock until it is closed; None where another process holds it."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except FileNotFoundError:  # the folder was finished just now
        return None
    try:
        _lock_descriptor(descriptor)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            os.close(descriptor)
            return None
        logger.warning("%s: this disk has no locks (%s); start no two batches into one folder", path, error.strerror)
    with suppress(FileNotFoundError):
        if os.fstat(descriptor).st_ino == os.stat(path).st_ino:  # else the folder was finished or removed meanwhile
            return descriptor
    os.close(descriptor)
    return None


def _lock_descriptor(descriptor: int) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # pyright: ignore[reportAttributeAccessIssue]
        return
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _write(path: Path, value: dict[str, Any]) -> None:
    write_at_once(path, json.dumps(value, indent=1, default=str))


def write_at_once(path: Path, text: str) -> None:
    """Write a file of text: the old one or the new one is there, never half of it."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with draft.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)


def _synced(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
