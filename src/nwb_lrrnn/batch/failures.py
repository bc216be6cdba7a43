"""Why a fit failed, by what helps: to wait, more memory, or nothing but another recording or study."""

from __future__ import annotations

import errno
import re
from typing import Any

from nwb_lrrnn.io.errors import AccessDeniedError, RecordingInUseError, UnreachableError
from nwb_lrrnn.io.files.secrets import without_secrets
from nwb_lrrnn.showing import printable

TRANSIENT, MEMORY, DETERMINISTIC, STOPPED, LOST = "transient", "memory", "deterministic", "stopped", "lost"
TIMEOUT = "timeout"

_PASSING = {
    errno.EAGAIN,
    errno.EBUSY,
    errno.EIO,
    errno.ENOSPC,
    errno.EMFILE,
    errno.ENFILE,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.EHOSTUNREACH,
    errno.ECONNRESET,
    errno.ECONNREFUSED,
}
_HALF_COMPILED = "no compiled object yet"  # numba, of a kernel that another process was compiling when it was killed
_NO_MEMORY = re.compile(r"out of memory|can't allocate memory|cannot allocate memory|unable to allocate", re.IGNORECASE)


def failure_of(error: BaseException) -> dict[str, Any]:
    """Return class, type and sentence of what a fit has raised."""
    return {"class": class_of(error), "error": type(error).__name__, "sentence": sentence(error)}


def class_of(error: BaseException) -> str:
    """Return which class of failures an error belongs to."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return MEMORY
    if isinstance(error, (RuntimeError, ImportError, OSError)) and _NO_MEMORY.search(str(error)):
        return MEMORY
    if isinstance(error, (UnreachableError, RecordingInUseError, ConnectionError, TimeoutError)):
        return TRANSIENT
    if type(error).__name__ == "BusyError" or _HALF_COMPILED in str(error):
        return TRANSIENT
    if isinstance(error, AccessDeniedError):  # a signature of an archive that has expired comes out like this
        return TRANSIENT if "dandi://" in str(error) else DETERMINISTIC
    if isinstance(error, OSError) and error.errno in _PASSING:
        return TRANSIENT
    return DETERMINISTIC


def sentence(error: BaseException) -> str:
    """Return what an error says in one line, without what could be secret or act upon a terminal."""
    text = printable(" ".join(str(error).split()))
    return without_secrets(text) if "://" in text else text or type(error).__name__
