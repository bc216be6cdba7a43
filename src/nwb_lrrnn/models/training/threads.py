"""Threads over independent jobs: kernels that release the GIL, each on its own range."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

WORTH_A_THREAD = 2**15  # numbers: fewer are done before another thread would have begun


def over_ranges(
    function: Callable[[int, int], object], n_jobs: int, n_numbers: int, n_threads: int | None = None
) -> None:
    """Call function(first, last) on ranges that cover 0..n_jobs, in as many threads as this process has cores.

    The jobs must be independent: then the result does not depend on the number of threads, bit for bit. `n_numbers` is
    about how many numbers all of them go through; few are left to the thread that asks. Threads of our own, not the
    compiler's: they survive a fork and never fight with those of torch.
    """
    n_threads = min(n_cores() if n_threads is None else n_threads, n_jobs)
    if n_threads <= 1 or n_numbers < WORTH_A_THREAD:
        function(0, n_jobs)
        return
    edges = [round(k * n_jobs / n_threads) for k in range(n_threads + 1)]
    others = [_pool(n_threads).submit(function, a, b) for a, b in zip(edges[1:-1], edges[2:], strict=True)]
    function(edges[0], edges[1])
    for done in others:
        done.result()


_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}


def _pool(n_threads: int) -> ThreadPoolExecutor:
    """Return the pool of this process, made when first asked for: the threads of a parent do not survive a fork."""
    key = (os.getpid(), n_threads)
    if key not in _pools:
        _pools.clear()
        _pools[key] = ThreadPoolExecutor(n_threads - 1, thread_name_prefix="nwb_lrrnn")
    return _pools[key]


def n_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
