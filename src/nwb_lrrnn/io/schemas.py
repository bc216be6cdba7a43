"""pynwb imported where its own cache cannot be written: it makes a folder in the home folder when it is imported."""

from __future__ import annotations

import os
import sys

from nwb_lrrnn.caches import private_folder


def import_pynwb() -> None:
    """Import pynwb, with a temporary cache where the home folder cannot be written."""
    if "pynwb" in sys.modules:
        return
    try:
        import pynwb  # noqa: F401
    except OSError:
        before = os.environ.get("XDG_CACHE_HOME")
        os.environ["XDG_CACHE_HOME"] = private_folder()
        try:
            import pynwb  # noqa: F401
        finally:
            if before is None:
                del os.environ["XDG_CACHE_HOME"]
            else:
                os.environ["XDG_CACHE_HOME"] = before
