"""Opening a local file of many series: this package beside pynwb, in processes of their own that take turns.

python benchmarks/opening.py                     1000 series
python benchmarks/opening.py --series 100 --repeat 5
"""

import argparse
import datetime
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

WAYS = ("nwb_lrrnn", "nwb_lrrnn, printed", "pynwb")


def make(path: Path, n_series: int) -> None:
    import numpy as np
    from pynwb import NWBHDF5IO, NWBFile, TimeSeries

    nwb = NWBFile("many", "many", datetime.datetime(2025, 1, 1, tzinfo=datetime.UTC))
    for k in range(n_series):
        nwb.add_acquisition(TimeSeries(name=f"s{k}", data=np.arange(100.0) + k, unit="V", rate=10.0))
    with NWBHDF5IO(path, "w") as io:
        io.write(nwb)


def opener(way: str) -> Callable[[Path], object]:
    """Return what opens a file that way, its imports done."""
    if way == "pynwb":
        from pynwb import NWBHDF5IO

        return lambda path: NWBHDF5IO(path, "r").read()
    import h5py  # noqa: F401  # as everything that opening needs

    from nwb_lrrnn import open_nwb

    return open_nwb if way == "nwb_lrrnn" else lambda path: repr(open_nwb(path))


def run(way: str, path: Path) -> None:
    """Print wall and CPU seconds of opening."""
    open_it = opener(way)
    wall, cpu = time.perf_counter(), time.process_time()
    opened = open_it(path)
    print(json.dumps({"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "kind": str(type(opened))}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--series", type=int, default=1000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        run(options.way, options.file)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "many.nwb"
        make(path, options.series)
        told: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
        for _ in range(options.repeat):
            for way in WAYS:
                command = [sys.executable, __file__, "--way", way, "--file", str(path)]
                told[way].append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
    print(f"{options.series} series, median of {options.repeat}: wall s, CPU s, pynwb's CPU s over it (of each round)")
    for way in WAYS:
        wall, cpu = (statistics.median(one[key] for one in told[way]) for key in ("wall", "cpu"))
        ratio = statistics.median(b["cpu"] / a["cpu"] for a, b in zip(told[way], told["pynwb"], strict=True))
        print(f"{way:20} {wall:8.2f} {cpu:8.2f} {ratio:8.1f}")


if __name__ == "__main__":
    main()
