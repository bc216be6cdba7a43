"""A batch under faults, what it costs beside its fits, and how it grows.

python benchmarks/batch.py faults [N]       N assets (60) of a loopback archive on two dask workers; one worker is
                                            killed every 20 s, the driver twice, 5 % of the requests fail
python benchmarks/batch.py overhead [S]     wall time against the fits' own seconds / workers, fits of about S (5) s
python benchmarks/batch.py rows [N]         N rows (10,000) of a manifest, fits stubbed: memory and start of the driver
"""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import Future
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from small_archive import SmallArchive  # noqa: E402
from small_batch import KINDS, broken_files, planted_recording  # noqa: E402

STUDY = """
[reading]
bin_size = 0.02
[estimator]
model = "leastsquares"
rank = 2
n_neurons = 40
[evaluation]
compare = false
"""


def faults(n_assets: int = 60) -> None:
    """Run a batch to its end in spite of everything, and say whether each asset has one result or one sentence."""
    folder = Path(tempfile.mkdtemp(prefix="batch_faults_"))
    (folder / "study.toml").write_text(STUDY)
    with SmallArchive() as archive:
        archive.add_dandiset("000001")
        healthy, broken = _fill(archive, folder, n_assets)
        source = f"{archive.api_url}/dandisets/000001/versions/draft"
        rng = random.Random(0)
        for server in (archive.api, archive.bucket.server):
            _fail_some(server, rng, 0.05)
        scheduler, cluster = _cluster(folder)
        command = [sys.executable, "-m", "nwb_lrrnn", "batch", source, "--config", str(folder / "study.toml")]
        command += ["-o", str(folder / "out"), "--scheduler", scheduler, "--resume"]
        began, n_workers_killed, n_drivers_killed = time.monotonic(), 0, 0
        try:
            driver = _start(command, folder)
            next_worker, next_driver = began + 20, began + 45
            while driver.poll() is None:
                time.sleep(0.5)
                now = time.monotonic()
                if now > next_worker:
                    n_workers_killed += _kill_a_worker(cluster, rng)
                    next_worker = now + 20
                if now > next_driver and n_drivers_killed < 2:
                    driver.send_signal(signal.SIGKILL)
                    driver.wait()
                    n_drivers_killed += 1
                    next_driver = now + 45
                    driver = _start(command, folder)
            took = time.monotonic() - began
        finally:
            for process in cluster:
                process.terminate()
    from nwb_lrrnn.batch.summary import read_batch

    table = read_batch(folder / "out").set_index("recording")
    done = {name for name in table.index[table["status"] == "done"]}
    failed = table[table["status"] == "failed"]
    results = list((folder / "out" / "runs").glob("*/result.nwb"))
    print(f"{n_assets} assets in {took:.0f} s; killed: {n_workers_killed} workers, {n_drivers_killed} drivers")
    print(f"healthy with a result: {len(done & healthy)} of {len(healthy)}; broken with one: {len(done & broken)}")
    print(f"broken with a sentence: {sum(bool(s) for s in failed['sentence'])} of {len(broken)}")
    print(
        f"results in the folder: {len(results)}; left partial: {len(list((folder / 'out' / 'runs').glob('*.partial')))}"
    )
    for name, row in failed.iterrows():
        print(f"  {name}: {row['sentence']}")
    _compare(table, folder)
    if not os.environ.get("KEEP"):
        shutil.rmtree(folder)


def _fill(archive: SmallArchive, folder: Path, n_assets: int) -> tuple[set[str], set[str]]:
    """Put planted recordings of two kinds, real ones where there are any, and broken ones into a dandiset."""
    real = sorted(Path(os.environ.get("NWB_LRRNN_DATA", "/nonexistent")).glob("nwb/[an]*.nwb"))[:2]
    bad = broken_files(folder / "broken")
    healthy, broken = set(), set()
    for path in real:
        name = f"sub-real/{path.name}"
        archive.add("000001", name, path)
        healthy.add(name)
    for path in bad:
        name = f"sub-broken/{path.name}"
        archive.add("000001", name, path)
        broken.add(name)
    for k in range(n_assets - len(real) - len(bad)):
        kind = KINDS[k % 2]
        path = planted_recording(folder / f"{k}.nwb", kind, seed=k)
        name = f"sub-{k:02d}/{kind}_{k:02d}.nwb"
        archive.add("000001", name, path)
        healthy.add(name)
    return healthy, broken


def _fail_some(server: object, rng: random.Random, share: float) -> None:
    from small_bucket import Reply

    original = server._fault

    def fault(request):
        if rng.random() < share:
            return Reply(rng.choice([500, 503, 0]), b"injected", {})
        return original(request)

    server._fault = fault


def _cluster(folder: Path) -> tuple[str, list[subprocess.Popen]]:
    file = folder / "scheduler.json"
    log = (folder / "cluster.log").open("wb")
    run = [sys.executable, "-m"]
    scheduler = subprocess.Popen(
        [*run, "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
        + ["--scheduler-file", str(file)],
        stderr=log,
    )
    while not file.exists():
        time.sleep(0.1)
    address = json.loads(file.read_text())["address"]
    worker = [*run, "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-dashboard"]
    workers = [
        subprocess.Popen([*worker, "--local-directory", str(folder / f"worker{k}")], stderr=log) for k in range(2)
    ]
    return address, [scheduler, *workers]


def _start(command: list[str], folder: Path) -> subprocess.Popen:
    return subprocess.Popen(command, stdout=(folder / "driver.log").open("ab"), stderr=subprocess.STDOUT)


def _kill_a_worker(cluster: list[subprocess.Popen], rng: random.Random) -> int:
    """Kill the worker below one of the nannies, and it alone: what it has started has to notice."""
    import psutil

    children = psutil.Process(rng.choice(cluster[1:]).pid).children()
    workers = [one for one in children if "spawn_main" in " ".join(one.cmdline())]
    for one in workers[:1]:
        one.send_signal(signal.SIGKILL)
    return len(workers[:1])


def _compare(table, folder: Path) -> None:
    """Say whether the two planted kinds are told apart by their dynamics."""
    try:
        from nwb_lrrnn import compare_fits
    except ImportError:
        return
    from sklearn.metrics import adjusted_rand_score

    planted = table[(table["status"] == "done") & table.index.str.contains("|".join(KINDS))]
    found = compare_fits(planted.reset_index())
    kinds = [name.split("/")[1].split("_")[0] for name in planted.index]
    print(f"adjusted Rand index of the clusters: {adjusted_rand_score(kinds, found.cluster.values):.3f}")


def overhead(seconds: float = 5.0) -> None:
    """Print wall time over (sum of the fits' own seconds / workers), for a pool of two."""
    from nwb_lrrnn.batch.run import run_batch

    folder = Path(tempfile.mkdtemp(prefix="batch_overhead_"))
    (folder / "data").mkdir()
    n_fits = 8 if seconds < 20 else 4
    for k in range(n_fits):
        planted_recording(folder / "data" / f"{k}.nwb", KINDS[0], seed=k, n_trials=60)
    study = {
        "reading": {"bin_size": 0.02},
        "estimator": {
            "model": "lowrank",
            "rank": 2,
            "n_neurons": 60,
            "max_epochs": int(8 * seconds),
            "patience": 10**6,
        },
        "evaluation": {"compare": False},
    }
    began = time.monotonic()
    table = run_batch(folder / "data", study, out=folder / "out", n_workers=2)
    wall = time.monotonic() - began
    own = table["seconds"].sum()
    print(f"{len(table)} fits of {own / len(table):.1f} s: {wall:.1f} s, ratio {wall / (own / 2):.3f}")
    if not os.environ.get("KEEP"):
        shutil.rmtree(folder)


class _Stub:
    """Ends every fit at once."""

    def submit(self, task):
        future: Future = Future()
        folder = Path(task["runs"]) / task["key"]
        folder.mkdir()
        (folder / "metrics.json").write_text(json.dumps({"key": task["key"], "score": 0.0}))
        future.set_result({"state": "done", "numbers": {"score": 0.0}})
        return future

    def n_slots(self):
        return 2

    def stop(self):
        pass


def rows(n: int = 10_000) -> None:
    """Print start-up, memory and seconds of a driver with many rows."""
    from nwb_lrrnn.batch.driver import Driver
    from nwb_lrrnn.batch.ledger import Ledger
    from nwb_lrrnn.batch.plan import fits_of
    from nwb_lrrnn.batch.recordings import recordings_of
    from nwb_lrrnn.batch.study import read_study
    from nwb_lrrnn.batch.summary import summary_of, write_summary

    folder = Path(tempfile.mkdtemp(prefix="batch_rows_"))
    (folder / "out" / "runs").mkdir(parents=True)
    rng = np.random.default_rng(0)
    (folder / "data").mkdir()
    lines = ["uri,subject_group"]
    for k in range(n):
        (folder / "data" / f"{k}.nwb").write_bytes(rng.bytes(200))
        lines.append(f"data/{k}.nwb,{k % 7}")
    (folder / "manifest.csv").write_text("\n".join(lines))
    began = time.monotonic()
    study = read_study({"estimator": {"model": "linear", "rank": 2}})
    recordings = recordings_of(folder / "manifest.csv")
    with Ledger(folder / "out" / "ledger.jsonl") as ledger:
        outcomes, first = [], None
        for outcome in Driver(fits_of(recordings, study), study, folder / "out", _Stub(), ledger):
            first = first or time.monotonic() - began
            outcomes.append(outcome)
    table = summary_of(outcomes, study.model, folder / "out")
    write_summary(table, folder / "out")
    took = time.monotonic() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    size = (folder / "out" / "ledger.jsonl").stat().st_size
    print(
        f"{n} rows: first outcome after {first:.2f} s, all after {took:.1f} s, peak {peak:.0f} MB, ledger {size} bytes"
    )
    if not os.environ.get("KEEP"):
        shutil.rmtree(folder)


if __name__ == "__main__":
    what, *given = sys.argv[1:] or ["faults"]
    {"faults": faults, "overhead": overhead, "rows": rows}[what](*map(int, given))
