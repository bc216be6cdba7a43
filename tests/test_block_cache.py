"""Blocks in memory: each is fetched once, whichever threads need it, and nothing of a failed request is kept."""

import itertools
import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from nwb_lrrnn.io.errors import UnreachableError
from nwb_lrrnn.io.files.network import block_cache
from nwb_lrrnn.io.files.network.block_cache import BlockCache

BLOCK = 64


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(block_cache, "BLOCK", BLOCK)


@pytest.fixture
def content(rng):
    return rng.bytes(100 * BLOCK + 17)


def blocks(content, log=None, **options):
    def read_many(wanted):
        if log is not None:
            log.append([(offset // BLOCK, -(-size // BLOCK)) for offset, size in wanted])
        return [content[offset : offset + size] for offset, size in wanted]

    return BlockCache(read_many, len(content), **options)


def test_runs_of_missing_blocks_are_asked_for_together(content):
    log = []
    cache = blocks(content, log)
    cache.read(30 * BLOCK, 1)
    assert cache.read(28 * BLOCK, 5 * BLOCK, keep=False) == content[28 * BLOCK : 33 * BLOCK]
    assert log == [[(30, 1)], [(28, 2), (31, 2)]]


def test_least_recently_used_blocks_are_dropped(content, monkeypatch):
    monkeypatch.setattr(block_cache, "CAPACITY", 3 * BLOCK)
    log = []
    cache = blocks(content, log)
    for number in (10, 30, 50, 10, 70, 10, 30):
        cache.read(number * BLOCK, 1)
    assert log == [[(number, 1)] for number in (10, 30, 50, 70, 30)]


def test_blocks_that_two_threads_need_are_fetched_once(content):
    begun, go_on, log = threading.Event(), threading.Event(), []

    def read_many(wanted):
        log.append(wanted)
        begun.set()
        assert go_on.wait(120)
        return [content[offset : offset + size] for offset, size in wanted]

    cache = BlockCache(read_many, len(content))
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(cache.read, 640, 100)
        assert begun.wait(120)
        others = [pool.submit(cache.read, 640 + place, 50) for place in range(3)]
        go_on.set()
        assert first.result() == content[640:740]
        assert [other.result() for other in others] == [content[640 + place : 690 + place] for place in range(3)]
    assert len(log) == 1


@pytest.mark.parametrize("error", [UnreachableError("down"), KeyboardInterrupt()])
def test_threads_that_wait_for_a_block_hear_of_a_failure_and_nothing_is_kept(content, error, monkeypatch):
    begun, waits, go_on, n_asked = threading.Event(), threading.Event(), threading.Event(), itertools.count()

    class Watched(Future):
        def result(self, timeout=None):
            waits.set()
            return super().result(timeout)

    monkeypatch.setattr(block_cache, "Future", Watched)

    def read_many(wanted):
        if next(n_asked) == 0:
            begun.set()
            assert go_on.wait(120)
            raise error
        return [content[offset : offset + size] for offset, size in wanted]

    cache = BlockCache(read_many, len(content))
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(cache.read, 640, 10)
        assert begun.wait(120)
        second = pool.submit(cache.read, 640, 10)
        assert waits.wait(120)
        go_on.set()
        assert isinstance(first.exception(), type(error))
        if isinstance(error, OSError):
            assert second.exception() is error
        else:
            assert second.result() == content[640:650]  # the interrupted one was another thread's: asked for again
    assert cache.read(640, 10) == content[640:650]


class Shelf(dict):
    """Blocks that outlive the cache."""

    def get(self, number, size):
        found = super().get(number)
        assert found is None or len(found) == size
        return found

    def put(self, number, data):
        self[number] = data


def test_shelf_is_asked_first_and_given_what_was_fetched(content):
    log, shelf = [], Shelf()
    assert blocks(content, log, shelf=shelf).read(10 * BLOCK, 3 * BLOCK) == content[10 * BLOCK : 13 * BLOCK]
    assert set(shelf) == {10, 11, 12}
    del shelf[11]
    assert blocks(content, log, shelf=shelf).read(10 * BLOCK, 3 * BLOCK) == content[10 * BLOCK : 13 * BLOCK]
    assert log == [[(10, 3)], [(11, 1)]]


def test_first_blocks_that_were_fetched_by_other_means(content):
    log, shelf = [], Shelf()
    cache = blocks(content, log, shelf=shelf)
    cache.fill(content[: 2 * BLOCK + 5])
    assert cache.read(0, 2 * BLOCK) == cache.held(0, 2 * BLOCK) == content[: 2 * BLOCK]
    assert (log, set(shelf)) == ([], {0, 1})
    assert cache.held(2 * BLOCK, 1) is None


def test_nothing_is_read_for_nothing(content):
    log = []
    assert blocks(content, log).read(10, 0) == b""
    assert log == []
