"""Requests that are under way when Python ends: an interrupt cuts them off, threads of the user read on."""

import subprocess
import sys
import threading

from small_server import RangeServer

CONTENT = bytes(range(256)) * 40
LONGEST = 120.0  # s; only lest a test hangs: a read that nothing cuts off waits for hours here


# A shell starts what runs in its background with SIGINT ignored; children inherit that, and Python then keeps it so.
_INTERRUPTED = """
import os, signal, sys, threading
signal.signal(signal.SIGINT, signal.default_int_handler)
from nwb_lrrnn.io.files.locate import locate
from nwb_lrrnn.io.files.network import web
from nwb_lrrnn.io.files.network.ranges import Ranges
web.READ_TIMEOUT = 1e4
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
        return ("stall", 4 * LONGEST)

    with RangeServer({"a.nwb": CONTENT}, faults=stall) as server:
        command = [sys.executable, "-c", _INTERRUPTED, server.url("a.nwb")]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            try:
                assert asked.wait(LONGEST)
                _, said = process.communicate("\n", timeout=LONGEST)
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
        command = [sys.executable, "-c", _LATE, server.url("a.nwb")]
        ended = subprocess.run(command, capture_output=True, timeout=LONGEST)
    assert ended.stdout == CONTENT
    assert ended.stderr == b""
