"""Requests that are under way when Python ends: an interrupt cuts them off, threads of the user read on."""

import subprocess
import sys
import threading

from small_server import RangeServer

CONTENT = bytes(range(256)) * 40


_INTERRUPTED = """
import os, signal, sys, threading
from nwb_lrrnn.io.files.locate import locate
from nwb_lrrnn.io.files.network.ranges import Ranges
thread = threading.Thread(target=Ranges(locate(sys.argv[1]), 10).read, args=(0, 10))
threading.excepthook = lambda _: None
thread.start()
sys.stdin.readline()
os.kill(os.getpid(), signal.SIGINT)
"""


def test_python_ends_after_an_interrupt_though_a_thread_waits_for_a_silent_server():
    asked = threading.Event()

    def stall(request):
        asked.set()
        return ("stall", 60.0)

    with RangeServer({"a.nwb": CONTENT}, faults=stall) as server:
        command = [sys.executable, "-c", _INTERRUPTED, server.url("a.nwb")]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            try:
                assert asked.wait(20)
                _, said = process.communicate("\n", timeout=20)  # the read alone would wait for 30 s, three times
            finally:
                process.kill()
    assert said.rstrip().endswith("KeyboardInterrupt")
    assert server.counts.requests == 1


_LATE = """
import sys, threading
from nwb_lrrnn.io.files.network import ranges
from nwb_lrrnn.io.files.locate import locate
ranges.PIECE = 4000
def read():
    threading.main_thread().join()
    sys.stdout.buffer.write(ranges.Ranges(locate(sys.argv[1]), 10240).read(0, 10240))
    sys.stdout.flush()
threading.Thread(target=read).start()
"""


def test_threads_of_the_user_read_on_after_the_main_one_has_ended():
    with RangeServer({"a.nwb": CONTENT}) as server:
        ended = subprocess.run([sys.executable, "-c", _LATE, server.url("a.nwb")], capture_output=True, timeout=20)
    assert ended.stdout == CONTENT
    assert ended.stderr == b""
