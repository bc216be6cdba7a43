"""Whenever a writer is killed or its disk is full, the path holds the old recording or the complete new one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="ptrace and file size limits are those of Linux")


def outcomes(folder, **steps):
    """Return what was found by task; one process for all of them, whose imports and recording they share."""
    program = Path(__file__).with_name("kill_writer.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, str(program), str(folder), *(f"{task}={step}" for task, step in steps.items())]
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    found = json.loads(ran.stdout)
    print(found)
    return found


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return outcomes(tmp_path_factory.mktemp("killed"), kill=5, full=4)


@pytest.fixture(scope="module")
def found_slowly(tmp_path_factory):
    return outcomes(tmp_path_factory.mktemp("killed_slowly"), kill=1, full=1)


def check_kills(found):
    if "skipped" in found:
        pytest.skip(found["skipped"])
    assert found["writes"] >= 50
    # nothing else, and every next writing worked
    assert found["old"] + found["new"] == found["points"]
    assert found["kinds"] >= 3  # a lock, a lock and a copy, a lock and the new file


def check_full(found):
    assert found["old"] + found.get("new", 0) == found["limits"]
    # with disk space reserved a full disk is an error in words; HDF5 alone may crash
    assert {end for end in found["ends"] if end.startswith("reserved")} <= {"reserved: 0", "reserved: 3"}
    if "skipped" not in found["disks"]:
        known = [outcome for outcome in found["disks"] if not outcome.startswith("room neither")]
        assert {outcome.split(": ")[1] for outcome in known} <= {"old, ended 3", "new, ended 0"}
        assert {outcome.split(": ")[1].split(",")[0] for outcome in found["disks"]} <= {"old", "new"}


def test_killed_at_every_fifth_write(found):
    check_kills(found["kill"])


def test_some_full_disks(found):
    check_full(found["full"])


@pytest.mark.slow
def test_every_kill_lets_the_next_writing_work(found_slowly):
    check_kills(found_slowly["kill"])


@pytest.mark.slow
def test_many_full_disks(found_slowly):
    check_full(found_slowly["full"])
