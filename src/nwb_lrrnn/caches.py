"""Where compiled code and read schemas are kept when neither the package nor the home folder can be written."""

from __future__ import annotations

import logging
import os
import stat
import tempfile
from functools import cache
from types import ModuleType

logger = logging.getLogger(__name__)


@cache
def private_folder() -> str:
    """Return a folder in the temporary one that only this user can write, the same for all processes of the user."""
    if hasattr(os, "getuid"):
        path = os.path.join(tempfile.gettempdir(), f"nwb_lrrnn_{os.getuid()}")
        try:
            os.makedirs(path, mode=0o700, exist_ok=True)
            found = os.lstat(path)
            # compiled code is loaded from here: a folder that somebody else has made is not trusted
            if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077:
                tempfile.TemporaryFile(dir=path).close()
                return path
        except OSError:
            pass
    return tempfile.mkdtemp(prefix="nwb_lrrnn_")


def find_numba_cache(numba: ModuleType) -> None:
    """Let numba keep compiled code in a temporary folder where it finds no other place; said once in the log."""

    def probe() -> None:
        """Do nothing."""

    try:
        numba.njit(cache=True)(probe)  # looks for a place, compiles nothing
    except RuntimeError:
        numba.config.CACHE_DIR = os.path.join(private_folder(), "numba")
        logger.warning(
            "neither the package nor the home folder can be written: compiled code is kept in %s; set "
            "NUMBA_CACHE_DIR to keep it elsewhere",
            numba.config.CACHE_DIR,
        )
