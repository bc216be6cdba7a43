"""Whenever a writer is killed or its disk is full, the path holds the old recording or the complete new one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="ptrace and file size limits are those of Linux")


def outcomes(task, folder, step):
    program = Path(__file__).with_name("kill_writer.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, str(program), task, str(folder), str(step)]
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    found = json.loads(ran.stdout)
    print(found)
    if "skipped" in found:
        pytest.skip(found["skipped"])
    return found


def check_kills(found, at_least):
    assert found["points"] >= at_least
    # nothing else, and every next writing worked
    assert found["old"] + found.get("new", 0) == found["points"]


def check_full(found):
    assert found["old"] + found.get("new", 0) == found["limits"]
    # with disk space reserved a full disk is an error in words; HDF5 alone may crash
    assert {end for end in found["ends"] if end.startswith("reserved")} <= {"reserved: 0", "reserved: 3"}
    if "skipped" not in found["disks"]:
        known = [outcome for outcome in found["disks"] if not outcome.startswith("room neither")]
        assert {outcome.split(": ")[1] for outcome in known} <= {"old, ended 3", "new, ended 0"}
        assert {outcome.split(": ")[1].split(",")[0] for outcome in found["disks"]} <= {"old", "new"}


def test_killed_at_every_write(tmp_path):
    check_kills(outcomes("kill", tmp_path, 30), at_least=50)


@pytest.mark.slow
def test_every_kill_lets_the_next_writing_work(tmp_path):
    check_kills(outcomes("kill", tmp_path, 1), at_least=50)


def test_some_full_disks(tmp_path):
    check_full(outcomes("full", tmp_path, 12))


@pytest.mark.slow
def test_many_full_disks(tmp_path):
    check_full(outcomes("full", tmp_path, 1))
