"""The process of one fit: `python -m nwb_lrrnn.batch.child`, which reads its task from stdin and ends with its parent.

Exit codes: 0 done or failed with a note of why, 75 stopped by SIGTERM with a checkpoint to go on from.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from typing import Any

from nwb_lrrnn.batch.process import STOPPED, Stopped, run_task

_GRACE = 20.0  # seconds between SIGTERM by ourselves and the end


def main() -> None:
    """Run the task on stdin."""
    signal.signal(signal.SIGTERM, _stop)
    task = json.loads(sys.stdin.buffer.readline())
    _watch_parent()
    sys.exit(run_task(task))


def _stop(*_: Any) -> None:
    raise Stopped


def _watch_parent() -> None:
    """End soon after the parent: its end of the pipe closes with it, however it ends."""

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_GRACE)
        os._exit(STOPPED)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    main()
