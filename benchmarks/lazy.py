"""Memory of fits to a recording on disk, ten times larger than what is held in memory, against an array in memory.

    python benchmarks/lazy.py [--kept 64] [--times 10] [--memory]

Each fit runs in a process of its own. Columns: CPU seconds, seconds, how often the recording was read, the most memory
(resident, MiB) beyond what the process held before, and the same in units of the recording as float64.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

N_STEPS, N_UNITS = 100, 50


def write(path: Path, n_trials: int) -> None:
    """Write a noisy oscillation of random phase as float32, block by block."""
    rng = np.random.default_rng(0)
    loadings = rng.standard_normal((2, N_UNITS))
    array = np.lib.format.open_memmap(path, "w+", np.float32, (n_trials, N_STEPS, N_UNITS))
    for begin in range(0, n_trials, 500):
        n = min(500, n_trials - begin)
        phase = rng.uniform(0, 2 * np.pi, (n, 1)) + 0.2 * np.arange(N_STEPS)
        waves = np.stack([np.cos(phase), np.sin(phase)], axis=-1)
        array[begin : begin + n] = waves @ loadings + rng.standard_normal((n, N_STEPS, N_UNITS))
    array.flush()


def models(epochs: int) -> dict:
    """Return the estimators."""
    from nwb_lrrnn import LinearStateSpace, LowRankRNN, SMCLowRankRNN

    return {
        "LinearStateSpace": LinearStateSpace(rank=2, max_iter=20),
        "LowRankRNN": LowRankRNN(rank=2, max_epochs=epochs, random_state=0),
        "SMCLowRankRNN": SMCLowRankRNN(rank=2, n_particles=16, max_epochs=max(1, epochs // 8), random_state=0),
    }


def one(path: str, name: str, kind: str, kept: int, epochs: int) -> None:
    """Fit in this process, and print what it took."""
    import dask.array as da

    from nwb_lrrnn.trials import blocks

    warnings.simplefilter("ignore")
    blocks.KEPT_BYTES, blocks.BLOCK_BYTES = kept * 2**20, kept * 2**17
    stored = np.load(path, mmap_mode="r")
    reads = [0]

    def chunk(block_info=None):
        if block_info is None:
            return np.zeros((0, 0, 0), np.float32)
        first, last = block_info[None]["array-location"][0]
        reads[0] += last - first
        part = np.load(path, mmap_mode="r")  # of its own, so that the pages go when the block has gone
        return np.array(part[first:last])

    rows = max(1, kept * 2**17 // (N_STEPS * N_UNITS * 8))
    along = tuple(min(rows, len(stored) - a) for a in range(0, len(stored), rows))
    chunks = (along, (N_STEPS,), (N_UNITS,))
    X = da.map_blocks(chunk, dtype=np.float32, chunks=chunks, meta=np.zeros((0, 0, 0), np.float32))
    model = models(epochs)[name]
    model.fit(np.asarray(stored[:4]))  # kernels compiled, imports done
    X = np.asarray(stored).astype(float) if kind == "memory" else X
    before = resource.getrusage(resource.RUSAGE_SELF)
    base = resident() if kind == "dask" else resident() - X.nbytes / 2**20
    began = time.perf_counter()
    model.fit(X)
    score = model.score(X)
    seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_SELF)
    print(
        json.dumps(
            {
                "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
                "seconds": seconds,
                "reads": reads[0] / len(stored),
                "peak": after.ru_maxrss / 1024 - base,
                "score": score,
            }
        )
    )


def resident() -> float:
    """Return the memory that this process holds now, MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kept", type=int, default=64, help="MiB that are held in memory (the package: 256)")
    parser.add_argument("--times", type=int, default=10, help="size of the recording in units of it")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--memory", action="store_true", help="fit the array in memory too (minutes)")
    parser.add_argument("--one", nargs=3, metavar=("PATH", "MODEL", "KIND"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        one(*arguments.one, arguments.kept, arguments.epochs)
        return
    size = arguments.kept * arguments.times
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recording.npy"
        write(path, size * 2**20 // (N_STEPS * N_UNITS * 8))
        print(f"recording of {size} MiB as float64, {arguments.kept} MiB held in memory")
        print(f"{'model':18}{'X':8}{'CPU s':>8}{'s':>8}{'reads':>7}{'MiB':>8}{'of X':>7}{'score':>10}")
        for name in models(1):
            for kind in ("dask", "memory")[: 1 + arguments.memory]:
                options = ["--kept", str(arguments.kept), "--epochs", str(arguments.epochs)]
                command = [sys.executable, __file__, "--one", str(path), name, kind, *options]
                answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1]
                got = json.loads(answer)
                print(
                    f"{name:18}{kind:8}{got['cpu']:8.1f}{got['seconds']:8.1f}{got['reads']:7.1f}{got['peak']:8.0f}"
                    f"{got['peak'] / size:7.2f}{got['score']:10.3f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
