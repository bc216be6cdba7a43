"""One fit of a manifest of tasks, as a job of a queue runs it, and the script that hands them to SLURM."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nwb_lrrnn.batch.driver import MOST_ATTEMPTS, pause
from nwb_lrrnn.batch.failures import STOPPED, TRANSIENT, failure_of
from nwb_lrrnn.batch.folder import FitFolder, write_at_once
from nwb_lrrnn.batch.launch import run_child, stop_children
from nwb_lrrnn.batch.ledger import LEDGER, Ledger
from nwb_lrrnn.batch.plan import fits_of
from nwb_lrrnn.batch.recordings import Identities, recordings_of
from nwb_lrrnn.batch.study import Study, read_study

MANIFEST, SCRIPT = "fits.jsonl", "submit.sh"
_MOST_OF_AN_ARRAY = 1000  # tasks of one array that queues take by default; each runs several fits where there are more


def fit_one(
    manifest: str | os.PathLike[str], index: int, *, sleep: Callable[[float], None] = time.sleep
) -> dict[str, Any]:
    """Return how one fit of a manifest ended: `state` "done" with its numbers, or "failed" with class and sentence.

    Parameters
    ----------
    manifest : path-like
        The file `fits.jsonl` of a batch: a task a line.
    index : int
        Which line, from 0 on.

    Raises
    ------
    FileNotFoundError
        If there is no such manifest.
    ValueError
        If it has no such line, or the line is no task.
    """
    task = _line(Path(manifest).expanduser(), index)
    if "failure" in task:  # the recording could not even be found when the manifest was written
        return {"state": "failed", **task["failure"]}
    is_stopped = threading.Event()

    def stop(*_: Any) -> None:
        is_stopped.set()
        stop_children()

    is_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, stop) if is_main else None
    try:
        for attempt in range(MOST_ATTEMPTS[TRANSIENT]):
            outcome = run_child(task)
            if outcome["state"] == "done" or outcome["class"] != TRANSIENT or is_stopped.is_set():
                break
            sleep(pause(attempt))
    finally:
        if is_main:
            signal.signal(signal.SIGTERM, before)
    return outcome


def _line(path: Path, index: int) -> dict[str, Any]:
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file):
                if number == index:
                    task = json.loads(line)
                    if isinstance(task, dict) and ("key" in task or "failure" in task):
                        return task
                    break
            else:
                raise ValueError(f"index: got {index}, but {path.name} ends before that line")
    except FileNotFoundError:
        raise FileNotFoundError(
            f"manifest: {str(path)!r} does not exist; `nwb-lrrnn batch ... --executor slurm-array` writes one"
        ) from None
    except json.JSONDecodeError:
        pass
    raise ValueError(f"manifest: line {index} of {path.name} is no task of a batch; write the manifest anew")


def write_slurm_array(
    source: str | os.PathLike[str],
    config: Study | str | os.PathLike[str] | Mapping[str, Any],
    out: Path,
    *,
    glob: str | None = None,
    n_workers: int | None = None,
) -> tuple[Path, int]:
    """Return the path of a script for `sbatch`, and how many fits its manifest has; what is complete is left out.

    `n_workers` is how many tasks of the array run at once, by default as many as the queue likes.
    """
    study = read_study(config)
    tasks, identities = [], Identities()
    for fit in fits_of(recordings_of(source, glob=glob), study):
        try:
            task = fit.task(study, out, *identities.of(fit.recording))
        except Exception as error:  # noqa: BLE001 - whatever a file is, the others go on
            tasks.append({"label": fit.label, "failure": failure_of(error)})
            continue
        if not FitFolder(task["runs"], task["key"]).is_done:
            tasks.append(task)
    with Ledger(out / LEDGER) as ledger:
        ledger.note("manifest", fits=len(tasks))
    manifest = out / MANIFEST
    write_at_once(manifest, "".join(json.dumps(task) + "\n" for task in tasks))
    n_tasks = max(1, min(len(tasks), _MOST_OF_AN_ARRAY))
    at_once = f"%{n_workers}" if n_workers else ""
    command = f"{shlex.quote(sys.executable)} -m nwb_lrrnn fit-one {shlex.quote(str(manifest))}"
    seconds = None if study.seconds is None else study.seconds * -(-len(tasks) // n_tasks)
    time_limit = "" if seconds is None else f"#SBATCH --time={_clock(seconds)}\n"
    memory = "" if study.memory is None else f"#SBATCH --mem={int(study.memory / 2**20) + 1024}M\n"
    script = f"""#!/bin/bash
# {len(tasks)} fits in {n_tasks} tasks. Submit with: sbatch {SCRIPT}
# then gather what they found with: nwb-lrrnn batch ... --executor none --resume
#SBATCH --job-name=nwb-lrrnn
#SBATCH --array=0-{n_tasks - 1}{at_once}
#SBATCH --cpus-per-task=1
{memory}{time_limit}#SBATCH --output={out}/slurm-%A_%a.log
#SBATCH --signal=B:TERM@90
#SBATCH --requeue
child=
trap '[ -n "$child" ] && kill -TERM "$child"' TERM
{command} "$SLURM_ARRAY_TASK_ID" --every {n_tasks} &
child=$!
wait "$child"; code=$?
while kill -0 "$child" 2> /dev/null; do wait "$child"; code=$?; done
# 75: stopped with its checkpoint written; it goes on from there
[ "$code" -eq 75 ] && scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}"
exit "$code"
"""
    write_at_once(out / SCRIPT, script)
    (out / SCRIPT).chmod(0o755)
    return out / SCRIPT, len(tasks)


def was_stopped(outcome: Mapping[str, Any]) -> bool:
    """Return whether a fit was stopped with its checkpoint written."""
    return outcome.get("class") == STOPPED


def _clock(seconds: float) -> str:
    """Return seconds as SLURM writes a time, with some to spare for start and end."""
    total = int(seconds * 1.1) + 300
    return f"{total // 3600}:{total % 3600 // 60:02d}:{total % 60:02d}"
