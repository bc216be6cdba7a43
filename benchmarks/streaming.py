"""Streaming a recording over HTTP: seconds, requests and megabytes of this package beside other ways to do it.

A server on this machine answers range requests with latency, two more round trips for a new connection, and a limited
bandwidth a connection. Every way runs in a process of its own and does four steps on the file of
tests/realistic_nwb.py (an hour of 300 units, 600 trials, LFP of 384 channels, 158 MB): open it and list what it holds,
read all spike times, read the trials, read 10 s of 64 channels. Ways whose packages are missing are left out;
--python names an interpreter that has them (remfile, lazynwb), which need not have this package.

    python benchmarks/streaming.py                      30 ms and 50 MB/s, then 100 ms and 20 MB/s
    python benchmarks/streaming.py --repeat 3           the median of three runs of each
    python benchmarks/streaming.py --python OTHER/bin/python
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

STEPS = ("open", "spikes", "trials", "10 s x 64")
FIRST, LAST, CHANNELS = 62_500, 75_000, 64
NETWORKS = ((0.03, 50e6), (0.1, 20e6))


def this_package(url: str) -> Iterator[Any]:
    from nwb_lrrnn import open_nwb

    recording = open_nwb(url)
    yield len(recording.contents)
    yield int(recording.spikes(bin_size=0.02).sizes["unit"])
    yield int(recording.trials.sizes["trial"])
    lfp = recording.series("ElectricalSeriesLFP", units=list(range(CHANNELS)))
    yield lfp.isel(time=slice(FIRST, LAST)).compute().shape


def pynwb_read(url: str) -> Iterator[Any]:
    import pynwb

    yield from _through_pynwb(pynwb.read_nwb(url))


def pynwb_remfile(url: str) -> Iterator[Any]:
    import remfile

    yield from _through_pynwb(_pynwb_of(remfile.File(url)))


def pynwb_blockcache(url: str) -> Iterator[Any]:
    import fsspec

    yield from _through_pynwb(_pynwb_of(fsspec.open(url, cache_type="blockcache", block_size=2**20).open()))


def lazynwb(url: str) -> Iterator[Any]:
    import lazynwb
    import obstore.store

    from_url = obstore.store.from_url

    def without_tls(url: str, **options: Any) -> Any:  # this machine's server has none
        return from_url(
            url, **{**options, "client_options": {**(options.get("client_options") or {}), "allow_http": True}}
        )

    obstore.store.from_url = without_tls
    lazynwb.config.disable_cache = True
    yield len(lazynwb.get_internal_paths(url))
    yield len(lazynwb.get_df(url, "/units", exact_path=True, exclude_array_columns=False))
    yield len(lazynwb.get_df(url, "/intervals/trials", exact_path=True))
    series = lazynwb.get_timeseries(url, "/processing/ecephys/LFP/ElectricalSeriesLFP", exact_path=True)
    yield series.data[FIRST:LAST, :CHANNELS].shape


WAYS: dict[str, Callable[[str], Iterator[Any]]] = {
    "nwb_lrrnn": this_package,
    "pynwb.read_nwb(url)": pynwb_read,
    "pynwb + remfile": pynwb_remfile,
    "pynwb + fsspec blockcache": pynwb_blockcache,
    "lazynwb": lazynwb,
}


def _pynwb_of(file: Any) -> Any:
    import h5py
    import pynwb

    return pynwb.NWBHDF5IO(file=h5py.File(file, "r"), mode="r", load_namespaces=True).read()


def _through_pynwb(nwb: Any) -> Iterator[Any]:
    import numpy as np

    yield len(nwb.objects)
    times = nwb.units["spike_times"]
    yield len(np.split(times.target.data[:], times.data[:-1].astype(int)))
    yield len(nwb.trials.to_dataframe())
    series = nwb.processing["ecephys"]["LFP"]["ElectricalSeriesLFP"]
    yield (series.data[FIRST:LAST, :CHANNELS] * series.conversion).shape


def run_steps(way: str, url: str) -> None:
    """Print a line for every step: seconds since the last one, and what the step returned."""
    import warnings

    warnings.simplefilter("ignore")
    began = time.perf_counter()
    for step, result in zip(STEPS, WAYS[way](url), strict=True):
        print(json.dumps({"step": step, "seconds": time.perf_counter() - began, "result": str(result)}), flush=True)
        began = time.perf_counter()


def measure(way: str, server: Any, url: str, python: str) -> "dict[str, Any] | str":
    """Return seconds, requests and MB of every step of a way, or why it did not end."""
    began, rows = server.counts_now(), {}
    command = [python, __file__, "--way", way, "--url", url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        for line in child.stdout or ():
            told, now = json.loads(line), server.counts_now()
            rows[told["step"]] = (told["seconds"], now[0] - began[0], (now[1] - began[1]) / 1e6)
            began = now
        errors = (child.stderr.read() if child.stderr else "").strip().splitlines()
    return rows if len(rows) == len(STEPS) else (errors or ["no answer"])[-1][:110]


@contextmanager
def serving(path: Path, latency: float, bandwidth: float) -> Iterator[Any]:
    """Serve a file as the tests do; `counts_now()` returns requests and bytes so far."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    from small_server import RangeServer

    server = RangeServer({path.name: path}, latency=latency, handshake=2 * latency, bandwidth=bandwidth)
    with server:
        server.counts_now = lambda: (server.counts.requests, server.counts.bytes)  # type: ignore[attr-defined]
        yield server


def median(runs: "list[dict[str, Any]]") -> "dict[str, Any]":
    return {step: tuple(statistics.median(run[step][k] for run in runs) for k in range(3)) for step in STEPS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--python", default=sys.executable, help="interpreter of all ways but this package's")
    parser.add_argument("--file", type=Path, help="made before, with: python tests/realistic_nwb.py FILE 4")
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        run_steps(options.way, options.url)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = options.file or Path(folder) / "realistic.nwb"
        if not path.exists():
            maker = Path(__file__).parent.parent / "tests" / "realistic_nwb.py"
            subprocess.run([sys.executable, maker, path, "4"], check=True)
        print(f"{path.stat().st_size / 1e6:.0f} MB; each step: seconds / requests / MB")
        for latency, bandwidth in NETWORKS:
            show(path, latency, bandwidth, options)


def show(path: Path, latency: float, bandwidth: float, options: argparse.Namespace) -> None:
    print(f"\n{latency * 1e3:.0f} ms, {bandwidth / 1e6:.0f} MB/s a connection")
    print(f"{'':27}" + "".join(f"{step:>20}" for step in (*STEPS, "all")) + "   times ours")
    ours = None
    with serving(path, latency, bandwidth) as server:
        for way in WAYS:
            python = sys.executable if way == "nwb_lrrnn" else options.python
            runs = [measure(way, server, server.url(path.name), python) for _ in range(options.repeat)]
            failed = [run for run in runs if isinstance(run, str)]
            if failed:
                print(f"{way:27}  {failed[0]}")
                continue
            row = median([run for run in runs if isinstance(run, dict)])
            total = tuple(sum(part[k] for part in row.values()) for k in range(3))
            ours = ours or total[0]
            cells = [f"{s:.2f} / {int(n)} / {mb:.1f}" for s, n, mb in (*row.values(), total)]
            print(f"{way:27}" + "".join(f"{cell:>20}" for cell in cells) + f"{total[0] / ours:11.1f}")


if __name__ == "__main__":
    main()
