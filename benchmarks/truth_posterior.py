"""Which posterior of DisRNN tells most of a unit that no latent has seen, and of behaviour at every lag.

    python benchmarks/truth_posterior.py [CASE ...] [--seeds 5] [--units 6] [--results FILE]

A unit is left out of the recording altogether, the network is fitted to the others on training trials, and a regression
on its latents, learnt on training trials, predicts the unit on held-out ones. The gain over the unit's mean is in nats
per bin, the mean over the units that were left out; beside it the standard error of its distance to "smoothed", over
these units. `next` is the same for the bin after the one that the latents are of. What `FILE` (JSON lines) already
holds is not computed again. Real recordings are found through NWB_LRRNN_DATA.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LinearRegression, PoissonRegressor

import disrnn_data as lorenz
from nwb_lrrnn import DisRNN, chop, open_nwb

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import planted_groups as cycles  # noqa: E402

Array = NDArray[np.floating]
POSTERIORS = ("smoothed", "filtered", "delayed")
CASES = ("planted", "recordings", "behaviour")
TEST_SHARE = 0.25  # of the trials, the last ones


# --- a unit that no latent has seen ----------------------------------------------------------------------------------


def of_left_out_units(
    X: Array, rank: int, n_units: int = 6, ahead: tuple[int, ...] = (0, 1), **settings: Any
) -> dict[str, Array]:
    """Return the gain of each posterior at each lag, `"smoothed+0"` and so on -> nats per bin (left-out unit,).

    Parameters
    ----------
    X : array (trial, time, unit)
        Whole numbers are counts.
    rank : int
    n_units : int
        How many units are left out, one after the other, evenly spaced among those that vary most.
    ahead : tuple of int
        How many bins after the latents' own the unit is predicted.
    settings
        Of `DisRNN`.
    """
    n_test = max(1, round(TEST_SHARE * len(X)))
    train, test = X[:-n_test], X[-n_test:]
    found: dict[str, list[float]] = {f"{name}+{lag}": [] for name in POSTERIORS for lag in ahead}
    for unit in left_out(train, n_units):
        others = np.delete(X, unit, axis=2)
        model = DisRNN(rank, **{"n_groups": 1, "n_bootstraps": 0, "random_state": 0, **settings})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(others[:-n_test])
        for name in POSTERIORS:
            of_train, of_test = (model.transform(part, posterior=name) for part in (others[:-n_test], others[-n_test:]))
            for lag in ahead:
                learnt, judged = pairs(of_train, train[..., unit], lag), pairs(of_test, test[..., unit], lag)
                found[f"{name}+{lag}"].append(gain(learnt, judged, model.likelihood_ != "gaussian"))
    return {name: np.array(values) for name, values in found.items()}


def left_out(X: Array, n_units: int) -> NDArray[np.int64]:
    """Return units evenly spaced among the half that varies most, relative to itself where values are continuous."""
    flat = X.reshape(-1, X.shape[2])
    usable = np.flatnonzero(flat.std(axis=0) > 0)
    if np.all(flat == np.rint(flat)):
        usable = np.sort(usable[np.argsort(flat[:, usable].mean(axis=0))[len(usable) // 2 :]])
    return usable[np.arange(min(n_units, len(usable))) * len(usable) // min(n_units, len(usable))]


def pairs(latents: Array, values: Array, lag: int) -> tuple[Array, Array]:
    """Return latents (pair, latent) and the values (pair,) that come `lag` bins later in the same trials."""
    n_bins = values.shape[1]
    z = latents[:, max(-lag, 0) : n_bins - max(lag, 0)]
    return z.reshape(-1, z.shape[-1]), values[:, max(lag, 0) : n_bins - max(-lag, 0)].reshape(-1)


def gain(train: tuple[Array, Array], test: tuple[Array, Array], are_counts: bool) -> float:
    """Return how much better a regression learnt on `train` predicts `test` than its mean does, nats per bin."""
    (z, y), (z_test, y_test) = train, test
    scale = np.maximum(z.std(axis=0), 1e-12)
    z, z_test = z / scale, z_test / scale
    if are_counts:
        rate = PoissonRegressor(alpha=1e-3, max_iter=300).fit(z, y).predict(z_test)
        mean = max(float(y.mean()), 0.5 / len(y))
        return float(np.mean(y_test * np.log(np.maximum(rate, 1e-9) / mean) - rate + mean))
    missed = y_test - LinearRegression().fit(z, y).predict(z_test)
    return 0.5 * float(np.log(np.mean((y_test - y.mean()) ** 2) / np.mean(missed**2)))


# --- behaviour at every lag ------------------------------------------------------------------------------------------


def behaviour(X: Array, target: Array, rank: int, lags: tuple[int, ...], **settings: Any) -> dict[str, float]:
    """Return the R2 of behaviour (trial, time, column) on held-out trials, `"smoothed+0"` and so on -> mean R2.

    A positive lag is behaviour that follows the bin of the latents.
    """
    n_test = max(1, round(TEST_SHARE * len(X)))
    model = DisRNN(rank, **{"n_groups": 1, "n_bootstraps": 0, "random_state": 0, **settings}).fit(X[:-n_test])
    found = {}
    for name in POSTERIORS:
        z = model.transform(X, posterior=name)
        for lag in lags:
            scores = []
            for k in range(target.shape[2]):
                train = pairs(z[:-n_test], target[:-n_test, :, k], lag)
                z_test, y_test = pairs(z[-n_test:], target[-n_test:, :, k], lag)
                missed = y_test - LinearRegression().fit(*train).predict(z_test)
                scores.append(1 - np.sum(missed**2) / np.sum((y_test - y_test.mean()) ** 2))
            found[f"{name}{lag:+d}"] = float(np.mean(scores))
    return found


# --- cases -----------------------------------------------------------------------------------------------------------

Case = tuple[Array, int]  # recording (trial, time, unit) and rank


def in_trials(series: Array, n_bins: int) -> Array:
    """Return a series (time, unit) as trials (trial, time, unit)."""
    n = len(series) // n_bins
    return np.asarray(series[: n * n_bins]).reshape(n, n_bins, -1)


def planted(seed: int) -> Iterator[tuple[str, Callable[[], Case]]]:
    """Yield planted networks of every kind of noise: large and small, of the readout, fed back, of counts."""
    net = cycles.network(seed=seed)
    for name, make in (("readout", cycles.readout), ("recurrent", cycles.recurrent)):
        for sd in (0.2, 1.0):
            key = f"cycles, {name}, sd {sd}, seed {seed}"
            yield key, lambda make=make, sd=sd: (make(net, 30, 60, sd=sd, seed=seed).observations, 4)
    for name, make in (
        ("readout", lorenz.clean), ("readout, sd 0.4", lambda seed: lorenz.clean(seed, sd=0.4)),
        ("recurrent", lorenz.feedback), ("counts", lorenz.counts),
    ):  # fmt: skip
        key = f"Lorenz + Thomas, {name}, seed {seed}"
        yield key, lambda make=make: (in_trials(make(seed).observations, 100), 6)


def stevenson() -> tuple[Array, Array]:
    """Return counts of the 60 busiest units in bins of 50 ms, in trials of 5 s, and the velocity of the hand."""
    source = open_nwb(data() / "nwb" / "monkey_m1_stevenson300s.nwb")
    counts = source.spikes(0.05).load()
    velocity = np.asarray(source.series("hand_velocity", like=counts))
    busiest = np.sort(np.argsort(-np.asarray(counts).sum(axis=0))[:60])
    return in_trials(np.asarray(counts)[:, busiest], 100), in_trials(velocity, 100)


def rates_of(counts: Array) -> Array:
    """Return counts over the largest of each unit, smoothed over three bins, which are no whole numbers."""
    wide = np.pad(counts.astype(float), ((0, 0), (1, 1), (0, 0)), mode="edge")
    smooth = 0.25 * wide[:, :-2] + 0.5 * wide[:, 1:-1] + 0.25 * wide[:, 2:]
    return smooth / np.maximum(smooth.max(axis=(0, 1)), 1e-12)


def recordings() -> Iterator[tuple[str, Callable[[], Case]]]:
    """Yield small parts of real recordings, read when they are asked for."""
    nwb, arrays = data() / "nwb", data() / "arrays"

    def maze(bin_size: float = 0.02) -> Array:
        source = open_nwb(nwb / "nlb_mc_maze_small_test.nwb")
        return np.asarray(source.spikes(bin_size, align="move_onset_time", window=(-0.25, 0.45)))

    def aplysia() -> Array:
        series = open_nwb(nwb / "aplysia_Jun0214da01.nwb").spikes(0.25).sel(time=slice(40, 120))
        return np.asarray(chop(series, 8.0))

    def pmd() -> Array:
        return np.asarray(open_nwb(nwb / "monkey_pmd_datahigh_ex1.nwb").spikes(0.02, intervals="trials"))

    def sparse(counts: Array, share: float = 1.0) -> Array:  # as the paper reads its monkey: over the largest, Gaussian
        kept = np.random.default_rng(0).binomial(counts.astype(np.int64), share)
        return kept / (kept.max(axis=(0, 1)) + 0.5)

    def reaches(share: float) -> Array:
        series = np.asarray(open_nwb(nwb / "monkey_m1_stevenson300s.nwb").spikes(0.05))
        return sparse(in_trials(series, 14), share)

    yield "maze, counts", lambda: (maze(), 4)
    yield "maze, rates", lambda: (rates_of(maze()), 4)
    yield "maze, 14 bins, counts / largest, rank 2", lambda: (sparse(maze(0.05)), 2)
    yield "maze, 14 bins, counts / largest", lambda: (sparse(maze(0.05)), 4)
    yield "PMd, counts / largest", lambda: (sparse(pmd()), 4)
    yield "M1, 14 bins, counts / largest", lambda: (reaches(1.0), 4)
    yield "M1, 14 bins, a fifth of the spikes / largest", lambda: (reaches(0.2), 4)
    yield "aplysia, counts / largest", lambda: (sparse(aplysia()), 3)
    yield "aplysia, counts", lambda: (aplysia(), 3)
    yield "aplysia, rates", lambda: (rates_of(aplysia()), 3)
    yield "PMd, counts", lambda: (pmd(), 4)
    yield "M1 300 s, counts", lambda: (stevenson()[0], 4)
    yield "M1 300 s, counts / largest", lambda: (stevenson()[0] / (stevenson()[0].max(axis=(0, 1)) + 0.5), 4)
    yield "M1 300 s, rates", lambda: (rates_of(stevenson()[0]), 4)
    yield "EEG, smoothed", lambda: (in_trials(np.load(arrays / "eeg_s001r01_smoothed.npy"), 160), 4)
    yield "EEG, deconvolved", lambda: (in_trials(np.load(arrays / "eeg_s001r01_deconvolved.npy"), 160), 4)


def data() -> Path:
    """Return the folder of real recordings."""
    folder = os.environ.get("NWB_LRRNN_DATA")
    if not folder:
        raise SystemExit("NWB_LRRNN_DATA: got nothing, wanted the folder of real recordings")
    return Path(folder)


# --- tables ----------------------------------------------------------------------------------------------------------


def say(name: str, found: dict[str, Any]) -> None:
    """Print one case: gains, and the standard errors of their distances to that of "smoothed"."""
    cells = []
    for lag in (0, 1):
        best = np.array(found[f"smoothed+{lag}"])
        for posterior in POSTERIORS:
            values = np.array(found[f"{posterior}+{lag}"])
            apart = values - best
            error = "" if posterior == "smoothed" else f" ({apart.std(ddof=1) / np.sqrt(len(apart)):.4f})"
            cells.append(f"{values.mean():.4f}{error}")
    print("| " + " | ".join([name, *cells]) + " |", flush=True)


class Results:
    """Results by name, kept in a file of JSON lines where one is given."""

    def __init__(self, path: Path | None):
        self.path, self.kept = path, {}
        if path and path.exists():
            self.kept = dict(json.loads(line) for line in path.read_text().splitlines())

    def of(self, name: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return what is kept under a name, computed now if nothing is."""
        if name not in self.kept:
            self.kept[name] = {key: np.asarray(value).tolist() for key, value in compute().items()}
            if self.path:
                with self.path.open("a") as file:
                    file.write(json.dumps([name, self.kept[name]]) + "\n")
        return self.kept[name]


def table_of_units(cases: Iterable[tuple[str, Callable[[], Case]]], n_units: int, results: Results) -> None:
    print("| case | " + " | ".join(f"{p}{w}" for w in ("", ", next") for p in POSTERIORS) + " |\n|" + "---|" * 7)
    for name, case in cases:
        say(name, results.of(name, lambda case=case: of_left_out_units(*case(), n_units)))


def table_of_behaviour(results: Results) -> None:
    lags = tuple(range(-1, 6))
    print("\n| R2 of velocity | " + " | ".join(f"{50 * lag:+d} ms" for lag in lags) + " |\n|" + "---|" * 8)
    for name, prepared in (("counts", lambda X: X), ("rates", rates_of)):
        X, velocity = stevenson()
        values = prepared(X)
        key = f"velocity from {name}"
        found = results.of(key, lambda X=values, v=velocity: behaviour(X, v, 4, lags))
        for posterior in POSTERIORS:
            cells = [f"{found[f'{posterior}{lag:+d}']:.3f}" for lag in lags]
            print("| " + " | ".join([f"{key}, {posterior}", *cells]) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"some of {', '.join(CASES)}; all by default")
    parser.add_argument("--seeds", type=int, default=5, help="data seeds of planted networks")
    parser.add_argument("--units", type=int, default=6, help="units that are left out, one after the other")
    parser.add_argument("--results", type=Path, help="JSON lines; what is there is not computed again")
    options = parser.parse_args()
    if unknown := set(options.cases) - set(CASES):
        parser.error(f"cases: got {', '.join(sorted(unknown))}, wanted some of {', '.join(CASES)}")
    chosen, results = options.cases or CASES, Results(options.results)
    if "planted" in chosen:
        cases = (one for seed in range(options.seeds) for one in planted(seed))
        table_of_units(cases, options.units, results)
    if "recordings" in chosen:
        table_of_units(recordings(), options.units, results)
    if "behaviour" in chosen:
        table_of_behaviour(results)


if __name__ == "__main__":
    main()
