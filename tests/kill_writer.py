"""Writes a module into a recording again and again, each time killed at another write or on another full disk.

Not a test itself: test_kill.py runs it as a process of its own, `python kill_writer.py FOLDER kill=STEP full=STEP`, and
reads the outcomes that it prints as JSON. Each trial is a fork of this process, so that nothing is imported again. The
child asks the kernel to stop it at every system call that changes a file (seccomp), and the parent, which traces it
(ptrace), kills it at the N-th, before the call is done: as exact as strace, without strace.
"""

import ctypes
import hashlib
import json
import os
import platform
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
from pynwb import validate

from nwb_lrrnn.io.writing import append
from nwb_lrrnn.io.writing.module_into import _in_memory
from nwb_lrrnn.io.writing.module_pieces import as_pieces, check_same
from nwb_lrrnn.io.writing.processing_module import build_module, read_module
from nwb_lrrnn.io.writing.recording_file import write_recording
from nwb_lrrnn.io.writing.untouched import check_untouched
from small_module import INFO, make_latents, make_loadings, make_state, make_tables

# write, pwrite64, writev, pwritev, sendfile, copy_file_range, ftruncate, fallocate, rename..., unlink..., fsync, ioctl
WRITES = {
    "x86_64": {1, 18, 20, 296, 40, 326, 77, 285, 82, 264, 316, 87, 263, 74, 16},
    "aarch64": {64, 68, 66, 70, 71, 285, 46, 47, 38, 276, 35, 82, 29},
}
TRACEME, CONTINUE, SET_OPTIONS = 0, 7, 0x4200
SET_SECCOMP, SET_NO_NEW_PRIVILEGES = 22, 38
STOPPED_AT_WRITE = signal.SIGTRAP | 7 << 8
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long
libc.prctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_ulong]


class Filter(ctypes.Structure):
    """`struct sock_fprog`: a program of the kernel's filter machine."""

    _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_char_p))


def stop_at_writes():
    """Return whether this process, if it is traced, will be stopped at every write from now on."""
    numbers = sorted(WRITES[platform.machine()])
    steps = [(0x20, 0, 0, 0)]  # load the number of the call
    steps += [(0x15, len(numbers) - k, 0, number) for k, number in enumerate(numbers)]  # if it is this, go to the end
    steps += [(0x06, 0, 0, 0x7FFF0000), (0x06, 0, 0, 0x7FF00000)]  # let it pass; tell the tracer
    program = Filter(len(steps), b"".join(struct.pack("HBBI", *step) for step in steps))
    libc.prctl(SET_NO_NEW_PRIVILEGES, 1, None, 0, 0)
    return libc.prctl(SET_SECCOMP, 2, ctypes.addressof(program), 0, 0) == 0


class Trials:
    """A recording, a module to write into it, and what is true of the path after a trial."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.original, self.path = self.folder / "original.nwb", self.folder / "work" / "session.nwb"
        self.path.parent.mkdir()
        write_recording(self.original, np.random.default_rng(0).poisson(1.0, (4, 50, 20)), bin_size=0.02)
        self.bytes = self.original.read_bytes()
        given = {"latents": make_latents(), "loadings": make_loadings(), "tables": make_tables()}
        self.pieces, extra = as_pieces(**given, state=make_state(), info=INFO)
        self.memory = _in_memory(build_module("lrrnn", self.pieces, extra, INFO), None)
        self.module = self.memory.__enter__()["processing/lrrnn"]
        self.valid, self.kinds = {}, set()
        self.reset()
        self.write()  # what is loaded at a first call is loaded now

    def reset(self):
        self.clear()
        shutil.copyfile(self.original, self.path)

    def write(self, if_exists="error"):
        def check(copy, name):
            check_same(self.pieces, read_module(copy, name))

        return append.append_module(self.path, self.module, "lrrnn", if_exists=if_exists, check=check)

    def outcome(self):
        """Return old, new, or what is wrong."""
        content = self.path.read_bytes()
        if content == self.bytes:
            return "old"
        check_same(self.pieces, read_module(self.path, "lrrnn"))
        check_untouched(self.original, self.path, "processing/lrrnn")
        digest = hashlib.sha256(content).digest()
        if digest not in self.valid:  # the same bytes are as valid as before
            self.valid[digest] = validate(path=str(self.path)) == []
        return "new" if self.valid[digest] else "invalid"

    def told(self, then_write=True):
        """Return the outcome of a trial, and that the next writing works and leaves nothing behind.

        A writing only looks at the names of what was left, and removes it. So without `then_write` it is tried only
        after the first trial that left files of these kinds.
        """
        outcome = self.outcome()
        kind = outcome, tuple(sorted(re.sub(r"\.[0-9a-f]{8}\b", "", name) for name in self.left()))
        if then_write or kind not in self.kinds:
            self.kinds.add(kind)
            self.write("replace")
            if self.left() != [self.path.name] or self.outcome() != "new":
                return f"{outcome}, then {self.left()}"
        return outcome

    def left(self):
        return [entry.name for entry in self.path.parent.iterdir()]

    def clear(self):
        """Remove what trials left, so that each is told by what it left itself."""
        for entry in self.path.parent.iterdir():
            entry.unlink()


def killed_at(trials, number):
    """Return whether the writer was killed at its N-th write; else it was done before."""
    trials.reset()
    child = os.fork()
    if child == 0:
        libc.ptrace(TRACEME, 0, None, None)
        os.kill(os.getpid(), signal.SIGSTOP)
        stop_at_writes()
        trials.write()
        os._exit(0)
    os.waitpid(child, 0)
    libc.ptrace(SET_OPTIONS, child, None, 0x80)  # stop at what the filter tells
    n_writes = 0
    while True:
        libc.ptrace(CONTINUE, child, None, None)
        _, status = os.waitpid(child, 0)
        if not os.WIFSTOPPED(status):
            return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        if status >> 8 == STOPPED_AT_WRITE:
            n_writes += 1
            if n_writes == number:
                os.kill(child, signal.SIGKILL)


def can_trace():
    """Return whether this machine lets a parent trace its child and stop it at its writes."""
    if platform.machine() not in WRITES or sys.platform != "linux":
        return False
    child = os.fork()
    if child == 0:
        os._exit(0 if libc.ptrace(TRACEME, 0, None, None) == 0 and stop_at_writes() else 1)
    return os.waitpid(child, 0)[1] == 0


def kill(trials, step):
    """Return how often the path held the old file and the new one after a kill at every `step`-th write.

    The next writing is tried after each kill that left other files than those before; after every kill if step is 1.
    """
    if not can_trace():
        return {"skipped": "a process cannot be traced here"}
    outcomes = []
    while killed_at(trials, number := len(outcomes) * step + 1):
        outcomes.append(trials.told(then_write=step == 1))
    return {"points": len(outcomes), "writes": number - 1, "kinds": len(trials.kinds), **Counter(outcomes)}


def in_a_fork(trials, prepare):
    """Return how a writer ended: 0 done, 3 an error that says so, else a crash."""
    child = os.fork()
    if child == 0:
        prepare()
        try:
            trials.write()
        except (OSError, ValueError):
            os._exit(3)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def full(trials, step):
    """Return outcomes for files that may not grow beyond a size, and for small disks where one can be mounted.

    Each is tried as it is, and without the reservation, so that HDF5 itself runs out of room and may crash.
    """
    counts, ends = Counter(), Counter()
    largest = len(trials.bytes) + 2 * trials.module.file.id.get_filesize() + 2**20 + 1
    for limit in np.linspace(1000, largest, max(2, 40 // step)).astype(int).tolist():
        for reserved in (True, False):

            def prepare(limit=limit, reserved=reserved):
                if not reserved:
                    append._reserve = lambda copy, n_bytes: None
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

            trials.reset()
            ends[f"{'reserved' if reserved else 'not reserved'}: {in_a_fork(trials, prepare)}"] += 1
            counts[trials.told(then_write=step == 1)] += 1
    return {"limits": sum(counts.values()), **counts, "ends": dict(ends), "disks": small_disks(trials, step)}


def small_disks(trials, step):
    """Return outcomes on file systems in memory with room for a part of what is needed."""
    place, counts = trials.path.parent, Counter()
    largest = 2 * len(trials.bytes) + 2 * trials.module.file.id.get_filesize() + 2**21
    for size in np.linspace(1.1 * len(trials.bytes), largest, max(2, 12 // step)).astype(int):
        ran = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], capture_output=True)
        if ran.returncode:
            return {"skipped": "no file system can be mounted here"}
        try:
            for mode in ("as it is", "room not asked for", "room neither asked for nor reserved"):

                def prepare(mode=mode):
                    if mode != "as it is":
                        append.check_room = lambda target, n_bytes: None
                    if mode.endswith("reserved"):
                        append._reserve = lambda copy, n_bytes: None

                trials.reset()
                end = in_a_fork(trials, prepare)
                counts[f"{mode}: {trials.outcome()}, ended {end}"] += 1
        finally:
            subprocess.run(["umount", str(place)], check=True)
    return dict(counts)


if __name__ == "__main__":
    warm = Trials(sys.argv[1])
    tasks = dict(argument.split("=") for argument in sys.argv[2:])
    print(json.dumps({task: {"kill": kill, "full": full}[task](warm, int(step)) for task, step in tasks.items()}))
