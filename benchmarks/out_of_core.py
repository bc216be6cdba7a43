"""Memory of the whole way from a long recording to a fitted network, and from many spikes to counts.

    python benchmarks/out_of_core.py               2 hours: 384 channels at 1250 Hz (7 GB), 1000 units (72 M spikes)
    python benchmarks/out_of_core.py --minutes 10  shorter
    python benchmarks/out_of_core.py --only series direct

series  filtered, resampled and chopped lazily, written once in float32, and LowRankRNN fitted to what was written
direct  the same without writing: every epoch filters anew, so that only an epoch is fitted
counts  spikes in bins of 20 ms, in memory as bytes
rates   the same spikes, of which only the sum over time is kept

Each case runs in a process of its own, with two threads of dask, which memory grows with. Columns: seconds, CPU seconds
of all threads, the most memory that the process held (resident, MB), and how much of it came after the imports. The
files are made in a temporary folder: a minute of the series is stored once, and a virtual dataset repeats it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

CASES = ("series", "direct", "counts", "rates")
RATE, MINUTE = 1250.0, 75_000  # Hz, samples
CHUNK = 12_500  # samples of 384 channels of int16: 10 MB


def make_series(path: Path, minutes: int, n_channels: int) -> None:
    """Write a slow oscillation of all channels under noise, as int16 in chunks, not compressed."""
    import h5py

    rng = np.random.default_rng(0)
    seconds = np.arange(MINUTE) / RATE
    waves = np.stack([np.sin(2 * np.pi * 4 * seconds), np.cos(2 * np.pi * 4 * seconds)], axis=1)
    with h5py.File(path, "w") as file:
        mark(file)
        layout = h5py.VirtualLayout((minutes * MINUTE, n_channels), np.int16)
        stored = file.create_dataset("minute", (MINUTE, n_channels), np.int16, chunks=(CHUNK, n_channels))
        loadings = 300 * rng.standard_normal((2, n_channels))
        for begin in range(0, MINUTE, CHUNK):
            noise = 200 * rng.standard_normal((CHUNK, n_channels))
            stored[begin : begin + CHUNK] = (waves[begin : begin + CHUNK] @ loadings + noise).astype(np.int16)
        for minute in range(minutes):
            layout[minute * MINUTE : (minute + 1) * MINUTE] = h5py.VirtualSource(stored)
        group = file.create_group("processing/ecephys/LFP/lfp")
        group.attrs.update(neurodata_type="ElectricalSeries", namespace="core")
        group.parent.attrs.update(neurodata_type="LFP", namespace="core")
        group.create_virtual_dataset("data", layout)
        group["data"].attrs.update(unit="V", conversion=1e-6)
        group["starting_time"] = 0.0
        group["starting_time"].attrs["rate"] = RATE


def make_units(path: Path, minutes: int, n_units: int) -> None:
    """Write units of 10 spikes/s on average."""
    import h5py

    rng = np.random.default_rng(0)
    ends = np.cumsum(rng.poisson(10 * 60 * minutes, n_units))
    with h5py.File(path, "w") as file:
        mark(file)
        units = file.create_group("units")
        names = np.array(["spike_times"], dtype=h5py.string_dtype())
        units.attrs.update(neurodata_type="Units", namespace="core", colnames=names)
        units["id"], units["spike_times_index"] = np.arange(n_units), ends
        flat = units.create_dataset(
            "spike_times", (ends[-1],), np.float64, chunks=(2**16,), compression="gzip", compression_opts=1
        )
        for first in range(0, n_units, 50):
            rows = range(first, min(first + 50, n_units))
            times = [np.sort(rng.uniform(0, 60 * minutes, n)) for n in np.diff(ends, prepend=0)[list(rows)]]
            stop = ends[rows[-1]]
            flat[stop - sum(map(len, times)) : stop] = np.concatenate(times)


def mark(file) -> None:
    """Mark a file as NWB 2."""
    file.attrs.update(nwb_version="2.7.0", neurodata_type="NWBFile", namespace="core")
    file["identifier"], file["session_description"] = "long", "made by a script"
    file["session_start_time"] = "2024-01-02T03:04:05+00:00"


def windows(path: Path):
    """Return the series filtered, resampled and cut into windows: nothing is computed."""
    import nwb_lrrnn as lr

    X = lr.open_nwb(path).series()
    X = lr.Filter(low=1.0, high=15.0).fit_transform(X)
    X = lr.Resample(rate=50.0).fit_transform(X)
    return lr.chop(X, 2.0).astype(np.float32)


def series(path: Path, steps: Steps) -> None:
    import dask.array as da

    import nwb_lrrnn as lr

    folder = str(path.with_suffix(".windows"))
    X = windows(path)
    steps.done("laid out")
    da.to_npy_stack(folder, X.data)
    steps.done("filtered, resampled, written")
    X = X.copy(data=da.from_npy_stack(folder, mmap_mode=None))
    model = lr.LowRankRNN(rank=2, max_epochs=10, random_state=0).fit(X)
    steps.done(f"fitted, {model.n_iter_} epochs")


def direct(path: Path, steps: Steps) -> None:
    import nwb_lrrnn as lr

    model = lr.LowRankRNN(rank=2, max_epochs=1, random_state=0).fit(windows(path))
    steps.done(f"fitted as it is filtered, {model.n_iter_} epochs")


def counts(path: Path, steps: Steps) -> None:
    import nwb_lrrnn as lr

    X = lr.open_nwb(path).spikes(0.02)
    steps.done("laid out, spikes read once")
    X = X.compute()
    steps.done(f"counts of {X.nbytes / 1e6:.0f} MB in memory")


def rates(path: Path, steps: Steps) -> None:
    import nwb_lrrnn as lr

    X = lr.open_nwb(path).spikes(0.02)
    steps.done("laid out, spikes read once")
    total = int(X.sum("time").sum().compute())
    steps.done(f"{total / 1e6:.1f} M spikes summed")


class Steps:
    """Wall and CPU seconds of the steps of a case, and the most memory in each."""

    def __init__(self):
        self.rows: list[tuple[str, float, float, float]] = []
        self._start()

    def _start(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def done(self, name: str) -> None:
        """Note what the step took that ends here."""
        wall, cpu = time.perf_counter() - self.wall, time.process_time() - self.cpu
        self.rows.append((name, wall, cpu, memory("VmHWM")))
        self._start()


def memory(what: str) -> float:
    """Return what this process holds (VmRSS), or the most that it has held (VmHWM), MB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what))
    return int(line.split()[1]) * 1024 / 1e6


def one(case: str, path: str, threads: int) -> None:
    """Run one case in this process, and print what it took."""
    import dask.array

    import nwb_lrrnn as lr

    warnings.simplefilter("ignore")
    if case in ("series", "direct"):  # kernels compiled, imports done
        lr.LowRankRNN(rank=2, max_epochs=1).fit(np.random.default_rng(0).standard_normal((4, 20, 3)))
    before, steps = memory("VmRSS"), Steps()
    with dask.config.set(num_workers=threads):
        globals()[case](Path(path), steps)
    print(json.dumps({"before": before, "steps": steps.rows}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=int, default=120)
    parser.add_argument("--channels", type=int, default=384)
    parser.add_argument("--units", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=2, help="of dask")
    parser.add_argument("--only", nargs="+", choices=CASES, default=CASES)
    parser.add_argument("--one", nargs=2, metavar=("CASE", "PATH"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        one(*arguments.one, arguments.threads)
        return
    with tempfile.TemporaryDirectory() as folder:
        lfp, units = Path(folder) / "lfp.nwb", Path(folder) / "units.nwb"
        if {"series", "direct"} & set(arguments.only):
            make_series(lfp, arguments.minutes, arguments.channels)
        if {"counts", "rates"} & set(arguments.only):
            make_units(units, arguments.minutes, arguments.units)
        size = arguments.minutes * MINUTE * arguments.channels * 2 / 1e9
        print(f"{arguments.minutes} minutes: {arguments.channels} channels ({size:.1f} GB), {arguments.units} units")
        print(f"{'case':8}{'step':44}{'s':>8}{'CPU s':>8}{'peak MB':>9}{'beyond':>8}")
        for case in arguments.only:
            path = lfp if case in ("series", "direct") else units
            command = [sys.executable, __file__, "--one", case, str(path), "--threads", str(arguments.threads)]
            answer = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()[-1]
            got = json.loads(answer)
            for step, wall, cpu, peak in got["steps"]:
                line = f"{case:8}{step:44}{wall:8.1f}{cpu:8.1f}{peak:9.0f}{peak - got['before']:8.0f}"
                print(line, flush=True)


if __name__ == "__main__":
    main()
