"""What the process of one fit does with its task, its folder and its log."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from nwb_lrrnn.batch.failures import DETERMINISTIC, failure_of
from nwb_lrrnn.batch.folder import FitFolder
from nwb_lrrnn.showing import PrintableFormatter, printable

STOPPED = 75  # EX_TEMPFAIL: what a queue takes for "run it again"
_PATIENCE = 30.0  # seconds for another process that writes into the folder, such as one whose worker was killed

logger = logging.getLogger(__name__)


class Stopped(BaseException):
    """SIGTERM came; the checkpoint is written on the way out."""


def run_task(task: Mapping[str, Any]) -> int:
    """Run a task in this process; its folder then holds the result or why there is none. Return the exit code."""
    folder = FitFolder(task["runs"], task["key"])
    began = time.perf_counter()
    try:
        with folder.held(_PATIENCE) as is_to_do:
            if not is_to_do:
                return 0
            with _log(task) as warned:
                try:
                    _limit_memory(task.get("memory"))
                    numbers = _run(task, folder)
                    numbers["warnings"] = " ".join(warned)
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


def _limit_memory(n_bytes: float | None) -> None:
    """Let more memory than the study allows be an error here, not the end of another process."""
    if n_bytes is None or not sys.platform.startswith("linux"):
        return
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    most = int(n_bytes) if hard == resource.RLIM_INFINITY else min(int(n_bytes), hard)
    resource.setrlimit(resource.RLIMIT_DATA, (most, hard))


@contextmanager
def _log(task: Mapping[str, Any]) -> Iterator[list[str]]:
    """Write what the package says from INFO on into the log, with times; yield the warnings meant for users."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(PrintableFormatter("%(asctime)s %(levelname)s %(message)s"))
    package, warned = logging.getLogger("nwb_lrrnn"), []
    package.addHandler(handler)
    package.setLevel(logging.INFO)

    def show(message: Any, category: type[Warning], *where: Any, **more: Any) -> None:
        text = printable(" ".join(str(message).split()))
        if text not in warned:
            warned.append(text)
            logger.warning("%s: %s", category.__name__, text)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("default", UserWarning)
        warnings.showwarning = show
        logger.info("%s: begins in process %d", task["label"], os.getpid())
        try:
            yield warned
        finally:
            package.removeHandler(handler)
            handler.close()
