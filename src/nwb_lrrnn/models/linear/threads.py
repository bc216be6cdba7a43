"""Threads over trials: kernels that release the GIL, each on its own range of trials."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor


def over_ranges(function: Callable[[int, int], object], n_items: int, n_threads: int | None = None) -> None:
    """Call function(first, last) on ranges that cover 0..n_items, in as many threads as this process has cores.

    The items must be independent: then the result does not depend on the number of threads, bit for bit.
    """
    n_threads = min(_n_cores() if n_threads is None else n_threads, n_items)
    if n_threads <= 1:
        function(0, n_items)
        return
    edges = [round(k * n_items / n_threads) for k in range(n_threads + 1)]
    with ThreadPoolExecutor(n_threads) as pool:
        for done in [pool.submit(function, a, b) for a, b in zip(edges[:-1], edges[1:], strict=True)]:
            done.result()


def _n_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
