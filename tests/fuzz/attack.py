"""Mutants go to workers that live on; one that dies or hangs is replaced, and h5py alone tells whose fault it was."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue

from fuzz.mutants import mutant

_HERE = Path(__file__).parents[1]
_LONGEST = 30.0  # s, of a call


@dataclass(frozen=True)
class Ending:
    """How a call on a mutant ended: fine, sentence, hdf5 (a fault of HDF5 itself) or else."""

    mutant: str
    call: str
    kind: str
    text: str


class Worker:
    """A process that answers; begun when it is needed."""

    def __init__(self, calls: Iterable[str], longest: float = _LONGEST):
        self.calls, self.longest = list(calls), longest
        self.process: subprocess.Popen | None = None

    def ask(self, call: str, path: Path) -> dict[str, str]:
        """Return how a call ended; a process that died or hung is ended, and the next call has another."""
        if self.process is None:
            words = [sys.executable, "-m", "fuzz.worker", *self.calls]
            settings = os.environ | {"PYTHONPATH": os.pathsep.join([str(_HERE), *sys.path]), "OMP_NUM_THREADS": "1"}
            self.process = subprocess.Popen(
                words,
                env=settings,
                cwd=path.parent,
                text=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            assert self.process.stdout is not None
            self.process.stdout.readline()  # it has imported what it needs, which takes as long as it takes
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None
        assert stdout is not None
        print(json.dumps([call, str(path)]), file=stdin, flush=True)
        has_answer = bool(select.select([stdout], [], [], self.longest)[0])
        line = stdout.readline() if has_answer else ""
        if line:
            return json.loads(line)
        code = self.end()
        return {"kind": "dead", "text": f"died by {code}" if has_answer else f"did not end in {self.longest:g} s"}

    def end(self) -> int | None:
        """End the process and return how it ended."""
        if self.process is None:
            return None
        process, self.process = self.process, None
        if process.stdin is not None:
            process.stdin.close()
        if process.poll() is None:
            try:
                process.wait(0.5)
            except subprocess.TimeoutExpired:
                process.kill()
        code = process.wait()
        if process.stdout is not None:
            process.stdout.close()
        return code


def attack(
    numbers: Iterable[int], calls: list[str], folder: Path, n_workers: int = 2, longest: float = _LONGEST
) -> Iterator[Ending]:
    """Yield how each call on each mutant ended."""
    idle: Queue[Worker] = Queue()
    workers = [Worker(calls, longest) for _ in range(n_workers)]
    for worker in workers:
        idle.put(worker)

    def run(number: int) -> list[Ending]:
        name, content = mutant(number)
        path = folder / f"mutant_{number}.nwb"
        path.write_bytes(content)
        worker = idle.get()
        try:
            return list(_endings(worker, name, calls, path))
        finally:
            idle.put(worker)
            path.unlink()

    try:
        with ThreadPoolExecutor(n_workers) as pool:
            for endings in pool.map(run, numbers):
                yield from endings
    finally:
        for worker in workers:
            worker.end()


def _endings(worker: Worker, name: str, calls: list[str], path: Path) -> Iterator[Ending]:
    """Yield how each call ended; what HDF5 alone does not survive is not asked for again."""
    fault = ""
    for call in calls:
        told = {"kind": "hdf5", "text": fault} if fault else worker.ask(call, path)
        if told["kind"] == "dead":
            alone = Worker(["hdf5"], worker.longest)
            if alone.ask("hdf5", path)["kind"] == "dead":
                fault = told["text"]
                told = {"kind": "hdf5", "text": fault}
            else:  # the machine may have been busy
                patient = Worker(calls, 8 * worker.longest)
                told = patient.ask(call, path)
                patient.end()
            alone.end()
        yield Ending(name, call, "else" if told["kind"] == "dead" else told["kind"], told["text"])
