"""From a task to the end of its process: started afresh for each fit, so that no fit can harm the next one."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nwb_lrrnn.batch.failures import DETERMINISTIC, LOST, MEMORY, TIMEOUT
from nwb_lrrnn.batch.failures import STOPPED as WAS_STOPPED
from nwb_lrrnn.batch.folder import LOG, FitFolder
from nwb_lrrnn.batch.process import STOPPED
from nwb_lrrnn.models.training.threads import n_cores

_GRACE = 20.0  # seconds from SIGTERM, at which a fit writes its checkpoint, to SIGKILL
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "NUMEXPR_MAX_THREADS")

_children: set[subprocess.Popen[bytes]] = set()
_lock = threading.Lock()


def run_child(task: Mapping[str, Any], n_sharing: int = 1, gpu: str | None = None) -> dict[str, Any]:
    """Return how a fit ended, after running it in a process of its own.

    `n_sharing` processes share the cores of this machine, and each computes with its share of them. The outcome has
    the `state` "done" or "failed", and with the latter `class`, `error` and `sentence`.
    """
    folder = FitFolder(task["runs"], task["key"])
    if folder.is_done:
        return _done(folder)
    folder.partial.mkdir(parents=True, exist_ok=True)
    folder.forget_failure()
    began = time.monotonic()
    with (folder.partial / LOG).open("ab") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "nwb_lrrnn.batch.child"],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env=_environment(n_sharing, gpu),
            start_new_session=True,  # Ctrl-C at the terminal is told to the children by us, who then wait for them
        )
    with _lock:
        _children.add(child)
    try:
        is_late = _wait(child, task)
    finally:
        with _lock:
            _children.discard(child)
        if child.poll() is None:
            child.kill()
            child.wait()
        if child.stdin is not None:
            with contextlib.suppress(OSError):
                child.stdin.close()
    return {**_outcome(folder, child.returncode, is_late, task), "wall_seconds": time.monotonic() - began}


def stop_children() -> None:
    """Ask all fits of this process to write their checkpoints and end; wait for them, not for ever."""
    with _lock:
        children = list(_children)
    for child in children:
        with contextlib.suppress(OSError):
            child.terminate()
    until = time.monotonic() + _GRACE
    for child in children:
        try:
            child.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()


def _wait(child: subprocess.Popen[bytes], task: Mapping[str, Any]) -> bool:
    """Tell the child its task and wait for its end; return whether it was ended for taking too long."""
    assert child.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        child.stdin.write(json.dumps(task).encode() + b"\n")
        child.stdin.flush()  # the pipe stays open: the child ends when it closes
    try:
        child.wait(task.get("seconds"))
    except subprocess.TimeoutExpired:
        child.terminate()
        try:
            child.wait(_GRACE)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        return True
    return False


def _environment(n_sharing: int, gpu: str | None) -> dict[str, str]:
    """Return the environment of a child: a share of the cores, its own GPU, the same package."""
    found = dict(os.environ)
    for name in _THREADS:
        found[name] = str(max(1, n_cores() // max(1, n_sharing)))
    if gpu is not None:
        found["CUDA_VISIBLE_DEVICES"] = gpu
    here = str(Path(__file__).parents[2])  # the package that this process has, wherever the child would find one
    found["PYTHONPATH"] = os.pathsep.join([here, *filter(None, [found.get("PYTHONPATH")])])
    found["PYTHONUNBUFFERED"] = "1"
    return found


def _outcome(folder: FitFolder, code: int, is_late: bool, task: Mapping[str, Any]) -> dict[str, Any]:
    if folder.is_done:
        folder.remove()  # what another process of this fit has begun while it was finished
        return _done(folder)
    failure = folder.failure()
    if failure is not None:
        return {"state": "failed", **failure}
    if is_late:
        found = {
            "class": TIMEOUT,
            "error": "Timeout",
            "sentence": f"the fit took more than the {task['seconds']:g} s that [limits] seconds allows; allow more",
        }
        folder.fail(found)
        return {"state": "failed", **found}
    if code in (STOPPED, -signal.SIGTERM):
        return {"state": "failed", "class": WAS_STOPPED, "error": "Stopped", "sentence": "the fit was stopped"}
    return {"state": "failed", **_by_exit_code(folder, code)}


def _by_exit_code(folder: FitFolder, code: int) -> dict[str, Any]:
    """Return the failure of a child that noted none."""
    if code == -signal.SIGKILL:
        return {
            "class": MEMORY,
            "error": "Killed",
            "sentence": "the process of the fit was killed from outside, as systems do when memory ends",
        }
    if code < 0:
        name = signal.Signals(-code).name
        found = {"class": DETERMINISTIC, "error": name, "sentence": f"the process of the fit ended by {name}; {LOG}"}
        folder.fail(found)
        return found
    said = _last_note(folder)
    if said is not None:
        return said
    return {
        "class": LOST,
        "error": "Exit",
        "sentence": f"the process of the fit ended with exit code {code}; its {LOG} in {folder.partial} tells more",
    }


def _last_note(folder: FitFolder) -> dict[str, Any] | None:
    """Return what the child said instead of noting it, in the last line of the log."""
    try:
        lines = (folder.partial / LOG).read_text(encoding="utf-8", errors="replace").splitlines()
        found = json.loads(lines[-1])
    except (OSError, IndexError, ValueError):
        return None
    return found if isinstance(found, dict) and found.pop("key", None) == folder.final.name else None


def _done(folder: FitFolder) -> dict[str, Any]:
    return {"state": "done", "numbers": folder.metrics()}
