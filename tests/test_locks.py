"""A forked child never waits for a thread of its parent."""

import multiprocessing
import sys
import threading

import dask.array as da
import pytest

from nwb_lrrnn.locks import ThreadLock

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]


def in_child(function):
    """Return whether a forked child that calls a function comes to its end."""
    child = multiprocessing.get_context("fork").Process(target=function)
    child.start()
    child.join(10)
    if child.is_alive():
        child.kill()
        child.join()
    return child.exitcode == 0


def held_by_a_thread(lock, then):
    """Return what `then()` gives while another thread holds a lock."""
    held, release = threading.Event(), threading.Event()

    def hold():
        with lock:
            held.set()
            release.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    try:
        return then()
    finally:
        release.set()
        thread.join()


def test_one_thread_at_a_time():
    lock, inside, most = ThreadLock(), [], []

    def work():
        for _ in range(200):
            with lock:
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1


def test_a_child_finds_locks_free():
    lock = ThreadLock()

    def take():
        with lock:
            pass

    assert held_by_a_thread(lock, lambda: in_child(take))
    with lock:
        assert in_child(take)


def test_a_child_of_the_thread_that_holds_a_lock_lets_go_of_it():
    lock = ThreadLock()

    def take():
        lock.__exit__()
        with lock:
            pass

    with lock:
        assert in_child(take)


def test_a_child_computes_though_a_thread_of_its_parent_names_arrays():
    from dask import tokenize

    def compute():
        assert da.ones(3).sum().compute(scheduler="synchronous") == 3

    assert held_by_a_thread(tokenize.tokenize_lock, lambda: in_child(compute))
