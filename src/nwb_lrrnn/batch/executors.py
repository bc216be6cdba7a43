"""Where the processes of the fits are started: by threads of this process, or by the workers of a dask cluster."""

from __future__ import annotations

import os
import queue
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Protocol

from nwb_lrrnn.batch.launch import run_child, stop_children
from nwb_lrrnn.models.training.threads import n_cores


class Executor(Protocol):
    """Takes tasks, and says how many it can run at once."""

    def submit(self, task: Mapping[str, Any]) -> Future[dict[str, Any]]:
        """Return the future outcome of a fit."""
        ...

    def n_slots(self) -> int:
        """Return how many fits run at once now."""
        ...

    def stop(self) -> None:
        """End what runs as soon as its checkpoints are written."""
        ...


class LocalExecutor:
    """Fits side by side on this machine."""

    def __init__(self, n_workers: int):
        self._n = n_workers
        self._threads = ThreadPoolExecutor(n_workers, thread_name_prefix="fit")
        self._gpus: queue.SimpleQueue[str] | None = None
        found = visible_gpus()
        if found:
            self._gpus = queue.SimpleQueue()
            for k in range(n_workers):
                self._gpus.put(found[k % len(found)])

    def submit(self, task: Mapping[str, Any]) -> Future[dict[str, Any]]:
        """Return the future outcome of a fit."""
        return self._threads.submit(self._run, task)

    def n_slots(self) -> int:
        """Return how many fits run at once."""
        return self._n

    def stop(self) -> None:
        """End what runs, as soon as its checkpoints are written, and begin nothing more."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        stop_children()

    def close(self) -> None:
        """Wait for the threads."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _run(self, task: Mapping[str, Any]) -> dict[str, Any]:
        if self._gpus is None:
            return run_child(task, self._n)
        gpu = self._gpus.get()
        try:
            return run_child(task, self._n, gpu)
        finally:
            self._gpus.put(gpu)


class DaskExecutor:
    """Fits on the workers of a cluster; a task is a note of what to do, and its outcome one of what was found."""

    def __init__(self, client: Any):
        self._client = client
        self._executor = client.get_executor(retries=0)

    def submit(self, task: Mapping[str, Any]) -> Future[dict[str, Any]]:
        """Return the future outcome of a fit."""
        if self._client.status != "running":
            raise ConnectionError(
                "scheduler: the connection to the dask scheduler is lost; start it again, and go on with resume=True"
            )
        return self._executor.submit(run_child, dict(task), self._n_sharing())

    def n_slots(self) -> int:
        """Return how many fits run at once now; an adaptive cluster grows by what waits for it."""
        return sum(self._client.nthreads().values())

    def stop(self) -> None:
        """Submit nothing more; fits that run on workers go on to their ends, and are found when the batch goes on."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _n_sharing(self) -> int:
        hosts: Counter[str] = Counter()
        for address, n_threads in self._client.nthreads().items():
            hosts[address.rpartition(":")[0]] += n_threads
        return max(hosts.values(), default=1)


@contextmanager
def executor_of(kind: str, n_workers: int | None, scheduler: str | None) -> Iterator[Executor | None]:
    """Yield the executor that a word names: "local", "dask" (a scheduler, or a cluster of its own) or "none"."""
    if kind == "none":
        yield None
        return
    if kind == "local":
        local = LocalExecutor(n_workers or n_cores())
        try:
            yield local
        finally:
            local.close()
        return
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        raise ImportError(
            "executor: 'dask' needs the package distributed; pip install 'nwb-lrrnn[distributed]'"
        ) from None
    if scheduler is not None:
        try:
            client = Client(scheduler, timeout=20)
        except (OSError, TimeoutError, ValueError) as error:
            raise ConnectionError(
                f"scheduler: {scheduler!r} does not answer ({type(error).__name__}); start `dask scheduler` there, or "
                "check the address"
            ) from None
        with client:
            yield DaskExecutor(client)
        return
    n = n_workers or n_cores()
    with LocalCluster(n_workers=n, threads_per_worker=1, dashboard_address=":0") as cluster, Client(cluster) as client:
        yield DaskExecutor(client)


def visible_gpus() -> list[str]:
    """Return the GPUs that fits may use, as CUDA_VISIBLE_DEVICES calls them; none where there are none."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip() and name.strip() != "-1"]
    try:
        return [str(k) for k in range(len(os.listdir("/proc/driver/nvidia/gpus")))]
    except OSError:
        return []
