"""Counting spikes in bins: CPU time and edge errors, beside numpy, pynapple and elephant.

300 units of lognormal rates (mean 10 Hz) for an hour, counted in 10 and 20 ms bins from spike times in memory. Objects
of each library are made before the clock starts. Edge errors are counted on a million spikes quantised at 30 kHz,
against exact integer arithmetic on the clock ticks.

    python benchmarks/binning.py            a few minutes
    python benchmarks/binning.py --quick    seconds
"""

import argparse
import importlib.util
import logging
import statistics
import time
import warnings
from collections.abc import Callable

import numpy as np

from nwb_lrrnn.binning import count_spikes

TICKS_PER_SECOND = 30_000
Trains = list[np.ndarray]
Counter = Callable[[], np.ndarray | None]  # returns counts (unit, bin), or None where the library keeps its own format


def make_trains(n_units: int, duration: float, rng: np.random.Generator) -> Trains:
    rates = rng.lognormal(np.log(6.5), 0.9, n_units)
    rates *= 10 / rates.mean()
    return [np.sort(rng.uniform(0, duration, rng.poisson(rate * duration))) for rate in rates]


def ours(trains: Trains, bin_size: float, n_bins: int) -> Counter:
    return lambda: count_spikes(trains, bin_size, [0.0], n_bins)[0].T


def numpy_histogram(trains: Trains, bin_size: float, n_bins: int) -> Counter:
    limits = (0.0, n_bins * bin_size)
    return lambda: np.stack([np.histogram(times, bins=n_bins, range=limits)[0] for times in trains])


def pynapple_count(trains: Trains, bin_size: float, n_bins: int) -> Counter:
    import pynapple as nap

    epoch = nap.IntervalSet(0.0, n_bins * bin_size)
    group = nap.TsGroup({unit: nap.Ts(times) for unit, times in enumerate(trains)}, time_support=epoch)
    return lambda: group.count(bin_size, epoch).values.T


def elephant_binned(trains: Trains, bin_size: float, n_bins: int) -> Counter:
    import neo
    import quantities as pq
    from elephant.conversion import BinnedSpikeTrain

    stop = n_bins * bin_size
    spiketrains = [neo.SpikeTrain(times[times <= stop], t_stop=stop, units="s") for times in trains]
    return lambda: BinnedSpikeTrain(spiketrains, bin_size=bin_size * pq.s, t_start=0 * pq.s, t_stop=stop * pq.s)


METHODS = {
    "nwb_lrrnn count_spikes": (ours, "numpy"),
    "numpy.histogram(range=)": (numpy_histogram, "numpy"),
    "pynapple TsGroup.count": (pynapple_count, "pynapple"),
    "elephant BinnedSpikeTrain (sparse)": (elephant_binned, "elephant"),
}


def cpu_seconds(counter: Counter, n_runs: int = 3) -> float:
    counter()  # compile and fault in what happens once
    seconds = []
    for _ in range(n_runs):
        begin, calls = time.process_time(), 0
        while calls == 0 or time.process_time() - begin < 0.05:  # a single short call is below the clock's noise
            counter()
            calls += 1
        seconds.append((time.process_time() - begin) / calls)
    return statistics.median(seconds)


def print_times(n_units: int, duration: float) -> None:
    trains = make_trains(n_units, duration, np.random.default_rng(0))
    n_spikes = sum(times.size for times in trains)
    print(f"{n_units} units, {duration:g} s, {n_spikes} spikes; CPU seconds, median of 3\n")
    print(f"{'method':36}{'10 ms':>10}{'20 ms':>10}{'of pynapple':>24}")
    seconds: dict[str, list[float]] = {}
    for name, (prepare, package) in METHODS.items():
        if importlib.util.find_spec(package) is not None:
            seconds[name] = [cpu_seconds(prepare(trains, size, round(duration / size))) for size in (0.01, 0.02)]
    reference = seconds.get("pynapple TsGroup.count")
    for name in METHODS:
        if name not in seconds:
            print(f"{name:36}{'not installed':>20}")
            continue
        ratio = (
            ""
            if reference is None
            else "".join(f"{own / theirs:>12.3f}" for own, theirs in zip(seconds[name], reference, strict=True))
        )
        print(f"{name:36}{seconds[name][0]:>10.3f}{seconds[name][1]:>10.3f}{ratio}")


def print_edge_errors(n_spikes: int) -> None:
    duration = n_spikes // 300
    rng = np.random.default_rng(1)
    ticks = np.sort(rng.integers(0, duration * TICKS_PER_SECOND, n_spikes))
    print(f"\n{n_spikes} spikes quantised at 30 kHz; spikes in a wrong bin\n")
    print(f"{'method':36}{'1 ms':>10}{'10 ms':>10}{'20 ms':>10}")
    for name, (prepare, package) in METHODS.items():
        if importlib.util.find_spec(package) is None:
            print(f"{name:36}{'not installed':>30}")
            continue
        cells = []
        for ticks_per_bin in (30, 300, 600):
            n_bins = duration * TICKS_PER_SECOND // ticks_per_bin
            exact = np.bincount(ticks // ticks_per_bin, minlength=n_bins)
            counted = prepare([ticks / TICKS_PER_SECOND], ticks_per_bin / TICKS_PER_SECOND, n_bins)()
            counts = counted.to_array() if hasattr(counted, "to_array") else counted
            # The running sum counts each spike that crossed an edge once for every edge it crossed.
            cells.append(int(np.abs(np.cumsum(counts[0].astype(np.int64)) - np.cumsum(exact)).sum()))
        print(f"{name:36}" + "".join(f"{errors:>10}" for errors in cells))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the units, a tenth of the time")
    quick = parser.parse_args().quick
    warnings.simplefilter("ignore")  # what the other libraries say about rounding is counted below
    logging.disable(logging.WARNING)
    print_times(*((30, 360.0) if quick else (300, 3600.0)))
    print_edge_errors(100_000 if quick else 1_000_000)


if __name__ == "__main__":
    main()
