"""The process of one fit: `python -m nwb_lrrnn.batch.child`, which reads its task from stdin and ends with its parent.

Exit codes: 0 done or failed with a note of why, 75 stopped by SIGTERM with a checkpoint to go on from.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from nwb_lrrnn.batch.failures import DETERMINISTIC, failure_of
from nwb_lrrnn.batch.folder import FitFolder

STOPPED = 75  # EX_TEMPFAIL: what a queue takes for "run it again"
_PATIENCE = 30.0  # seconds for another process that writes into the folder, such as one whose worker was killed
_GRACE = 20.0  # seconds between SIGTERM by ourselves and the end

logger = logging.getLogger("nwb_lrrnn.batch")


class Stopped(BaseException):
    """SIGTERM came; the checkpoint is written on the way out."""


def main() -> None:
    """Run the task on stdin."""
    signal.signal(signal.SIGTERM, _stop)
    task = json.loads(sys.stdin.buffer.readline())
    _watch_parent()
    sys.exit(run_task(task))


def run_task(task: Mapping[str, Any]) -> int:
    """Run a task in this process; its folder then holds the result or why there is none. Return the exit code."""
    folder = FitFolder(task["runs"], task["key"])
    began = time.perf_counter()
    try:
        with folder.held(_PATIENCE) as is_to_do:
            if not is_to_do:
                return 0
            with _log(task):
                try:
                    _limit_memory(task.get("memory"))
                    numbers = _run(task, folder)
                    numbers |= {"finished": datetime.now(UTC).isoformat(timespec="seconds")}
                    numbers["seconds_of_process"] = time.perf_counter() - began
                    logger.info("done: score %.6g", numbers.get("score", float("nan")))
                    folder.finish({"key": task["key"], "label": task["label"], **numbers})
                except Exception as error:  # noqa: BLE001 - every error of a fit is noted, whatever it is
                    found = failure_of(error)
                    if found["class"] == DETERMINISTIC:
                        logger.exception("failed")
                    else:
                        logger.warning("failed: %s: %s", found["error"], found["sentence"])
                    folder.fail({**found, "seconds": time.perf_counter() - began})
    except Stopped:
        return STOPPED
    except Exception as error:  # noqa: BLE001 - the folder itself: busy, not writable
        _note(folder, failure_of(error))
    return 0


def _run(task: Mapping[str, Any], folder: FitFolder) -> dict[str, Any]:
    from nwb_lrrnn.batch.job import run_job

    return run_job(task, folder.partial)


def _note(folder: FitFolder, failure: dict[str, Any]) -> None:
    """Say on stdout what cannot be written."""
    print(json.dumps({**failure, "key": folder.final.name}), flush=True)


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


def _limit_memory(n_bytes: float | None) -> None:
    """Let more memory than the study allows be an error here, not the end of another process."""
    if n_bytes is None or not sys.platform.startswith("linux"):
        return
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    most = int(n_bytes) if hard == resource.RLIM_INFINITY else min(int(n_bytes), hard)
    resource.setrlimit(resource.RLIMIT_DATA, (most, hard))


class _log:
    """The log of a fit: what the package says from INFO on, and warnings, with times."""

    def __init__(self, task: Mapping[str, Any]):
        self.label = task["label"]

    def __enter__(self) -> None:
        from nwb_lrrnn.showing import printable

        class Lines(logging.Formatter):
            def format(self, record: logging.LogRecord) -> str:
                return printable(super().format(record), lines=True)

        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(Lines("%(asctime)s %(levelname)s %(message)s"))
        root = logging.getLogger("nwb_lrrnn")
        root.addHandler(handler)
        root.setLevel(logging.INFO)
        logging.captureWarnings(True)
        logging.getLogger("py.warnings").addHandler(handler)
        warnings.simplefilter("ignore")
        warnings.simplefilter("default", UserWarning)
        logger.info("%s: begins in process %d", self.label, os.getpid())

    def __exit__(self, *_: object) -> None:
        logging.shutdown()


if __name__ == "__main__":
    main()
