"""What one long trial among short ones costs: CPU seconds and memory beside the share of bins that it adds.

    python benchmarks/long_trials.py                  40 trials of 1.5 s and one of 1000 s, 4 units
    python benchmarks/long_trials.py --real           412 trials of 9 s and one of 1177 s, 10 units
    python benchmarks/long_trials.py --only LowRankRNN --verbs transform score

Every verb runs on the short trials alone and with the long one, each pair in a process of its own, both read from an
NWB file. Columns: observed bins with and without the long trial and their ratio; CPU seconds of both and their ratio;
the most memory (resident, MiB) beyond what the process held before; and the ratio of seconds in units of that of bins,
which is 1 where nothing is computed on padding. Where a verb takes less than 0.1 s the ratio says little.
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

BIN = 0.02  # s
MODELS = ("LowRankRNN", "SMCLowRankRNN", "LinearStateSpace", "DisRNN")
VERBS = ("fit", "transform", "score", "compare_baselines")


def write(path: Path, real: bool) -> None:
    """Write units whose rates follow a rotation, and a table of trials of which the first is long."""
    import h5py

    n_short, short, long, n_units, rate = (412, 9.0, 1177.0, 10, 1.5) if real else (40, 1.5, 1000.0, 4, 2.0)
    rng = np.random.default_rng(0)
    starts = np.concatenate([[0.0], long + (short + 0.5) * np.arange(n_short)])
    stops = np.concatenate([[long], starts[1:] + short])
    t = np.arange(0, stops[-1], BIN)
    phase = 2 * np.pi * np.cumsum(0.5 + 0.05 * rng.standard_normal(len(t))) * BIN
    log_rates = np.cos(phase[:, None] + np.linspace(0, 2 * np.pi, n_units, endpoint=False))
    spikes = []
    for course in np.exp(log_rates).T:
        counts = rng.poisson(rate * BIN * course / np.exp(log_rates).mean())
        spikes.append(np.sort(np.repeat(t, counts) + rng.uniform(0, BIN, counts.sum())))
    with h5py.File(path, "w") as file:
        file.attrs.update(nwb_version="2.7.0", neurodata_type="NWBFile", namespace="core")
        file["identifier"], file["session_description"] = "long", "made by a script"
        file["session_start_time"] = "2024-01-02T03:04:05+00:00"
        table(file, "units", "Units", n_units, spike_times=np.concatenate(spikes))
        file["units/spike_times_index"] = np.cumsum([len(one) for one in spikes])
        table(file, "intervals/trials", "TimeIntervals", len(starts), start_time=starts, stop_time=stops)


def table(file, path: str, kind: str, n_rows: int, **columns) -> None:
    """Write a DynamicTable."""
    import h5py

    group = file.create_group(path)
    names = np.array(list(columns), dtype=h5py.string_dtype())
    group.attrs.update(neurodata_type=kind, namespace="core", colnames=names)
    group["id"] = np.arange(n_rows)
    for name, values in columns.items():
        group[name] = values


def make(name: str):
    """Return an estimator that does few epochs."""
    import nwb_lrrnn as lr

    if name == "LinearStateSpace":
        return lr.LinearStateSpace(rank=2, max_iter=10, tol=0.0, random_state=0)
    shape = {"group_ranks": (2,)} if name == "DisRNN" else {"rank": 2}
    return getattr(lr, name)(**shape, max_epochs=3, random_state=0)


def verb_of(verb: str, model, X):
    """Return what runs a verb on X."""
    import nwb_lrrnn as lr

    if verb == "compare_baselines":
        return lambda: lr.compare_baselines(model, X, cv=2)
    return lambda: np.asarray(getattr(model, verb)(X))


def status(name: str) -> float:
    """Return a line of what the kernel says of this process, MiB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) / 1024


def measured(function) -> dict[str, float]:
    """Return CPU seconds and the most memory beyond what was held before, MiB."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, began = status("VmRSS"), time.process_time()
    function()
    return {"seconds": time.process_time() - began, "memory": status("VmHWM") - before}


def one(path: str, name: str, verb: str) -> None:
    """Run a verb on both selections in this process, and print what it took."""
    import nwb_lrrnn as lr

    warnings.simplefilter("ignore")
    recording = lr.open_nwb(path)
    n_trials = recording.trials.sizes["trial"] if hasattr(recording.trials, "sizes") else len(recording.trials)
    both = {"short": list(range(1, n_trials)), "all": list(range(n_trials))}
    if verb != "fit":
        some = recording.spikes(BIN, intervals="trials", trials=both["short"][:40])
        model = make(name).fit(some)
    verb_of(verb, make(name) if verb in ("fit", "compare_baselines") else model, warm(recording))()
    found = {}
    for which, trials in both.items():
        X = recording.spikes(BIN, intervals="trials", trials=trials)
        n_bins = int(X.observed.sum()) if "observed" in X.coords else X.shape[0] * X.shape[1]
        own = make(name) if verb in ("fit", "compare_baselines") else model
        found[which] = measured(verb_of(verb, own, X)) | {"bins": n_bins}
    print(json.dumps(found))


def warm(recording):
    """Return a few trials, so that kernels are compiled and imports done."""
    return recording.spikes(BIN, intervals="trials", trials=list(range(1, 9)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--real", action="store_true", help="412 trials of 9 s and one of 1177 s")
    parser.add_argument("--only", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--verbs", nargs="+", choices=VERBS, default=VERBS)
    parser.add_argument("--one", nargs=3, metavar=("PATH", "MODEL", "VERB"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        one(*arguments.one)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "long.nwb"
        write(path, arguments.real)
        print(f"{'model':18}{'verb':18}{'bins':>7}{'with':>8}{'ratio':>7}{'s':>8}{'with':>8}{'ratio':>7}", end="")
        print(f"{'MiB':>7}{'with':>7}{'ratio':>7}{'of bins':>9}")
        for name in arguments.only:
            for verb in arguments.verbs:
                command = [sys.executable, __file__, "--one", str(path), name, verb]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                got = json.loads(done.stdout.splitlines()[-1])
                short, whole = got["short"], got["all"]
                bins, seconds, size = (whole[key] / max(short[key], 1e-3) for key in ("bins", "seconds", "memory"))
                print(
                    f"{name:18}{verb:18}{short['bins']:7}{whole['bins']:8}{bins:7.2f}{short['seconds']:8.2f}"
                    f"{whole['seconds']:8.2f}{seconds:7.2f}{short['memory']:7.0f}{whole['memory']:7.0f}{size:7.2f}"
                    f"{seconds / bins:9.2f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
