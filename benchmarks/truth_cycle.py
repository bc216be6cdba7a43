"""Does the seed of a fit, or luck, decide what `SMCLowRankRNN` answers? Planted relu cycles and planted linear systems.

    python benchmarks/truth_cycle.py cycle -o cycle.csv       # 3 data seeds x 10 model seeds; goes on where it ended
    python benchmarks/truth_cycle.py linear -o linear.csv     # 40 linear systems of the same sizes
    python benchmarks/truth_cycle.py trials -o trials.csv     # the words against the number of trials
    python benchmarks/truth_cycle.py cycle -o cycle.csv --show

The cycle is the planted relu network of the tests (N 20, R 2, 20 units, 150 training and 50 held-out trials of 75 bins)
behind so much noise of the units that the true network scores only about .027 nats per bin above a linear one.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from sklearn.exceptions import ConvergenceWarning

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import planted  # noqa: E402
from nwb_lrrnn.compare import compare_baselines  # noqa: E402
from nwb_lrrnn.dynamics import LowRankDynamics  # noqa: E402
from nwb_lrrnn.models.smc import SMCLowRankRNN  # noqa: E402

N_UNITS, N_BINS, N_TRAIN, N_HELD = 20, 75, 150, 50
NOISE = 8.0  # s.d. of every unit
FIELDS = ("kind", "data_seed", "model_seed", "n_trials", "word", "stayed", "low", "high", "vs_rank_2", "best_linear",
          "gain_of_linear", "frequency", "true_frequency", "n_particles", "cpu_s")  # fmt: skip


class Planted(NamedTuple):
    """A network and what was recorded of it."""

    network: LowRankDynamics
    train: xr.DataArray
    held: xr.DataArray


def cycle(data_seed: int, n_trials: int = N_TRAIN) -> Planted:
    """Return a relu network with a limit cycle."""
    net = planted.relu_cycle("gaussian", seed=data_seed)
    return _recorded(net.replace(observation_variance=np.full(N_UNITS, NOISE**2)), n_trials)


def linear_system(data_seed: int, n_trials: int = N_TRAIN) -> Planted:
    """Return a linear network of rank 2 that turns and decays, its signal about as strong as the cycle's."""
    rng = np.random.default_rng([data_seed, 14])
    size, angle = rng.uniform(0.9, 0.98), rng.uniform(0.1, 0.5)
    turn = size * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    loadings, offset = 2.0 * rng.standard_normal((N_UNITS, 2)), rng.standard_normal(N_UNITS)
    net = LowRankDynamics(
        np.eye(2), 2.0 * turn.T, dt=1.0, tau=1.0, nonlinearity="identity", latent_noise=(1 - size**2) * np.eye(2),
        loadings=loadings, offset=offset, observation_variance=np.full(N_UNITS, NOISE**2),
        initial_mean=np.zeros(2), initial_covariance=np.eye(2),
    )  # fmt: skip
    return _recorded(net, n_trials)


def _recorded(net: LowRankDynamics, n_trials: int) -> Planted:
    train, held = (net.simulate(n, N_BINS, random_state=k).observations for n, k in ((N_TRAIN, 1), (N_HELD, 2)))
    return Planted(net, train[:n_trials], held)


def measure(kind: str, data_seed: int, model_seed: int, n_trials: int = N_TRAIN) -> dict[str, Any]:
    """Return one row: a fit with default parameters, its word on held-out trials, its frequency and CPU seconds."""
    data = (cycle if kind == "cycle" else linear_system)(data_seed, n_trials)
    begin = time.process_time()
    model = SMCLowRankRNN(rank=2, nonlinearity="relu", random_state=model_seed).fit(data.train)
    taken = time.process_time() - begin
    table = compare_baselines(model, data.held, cv="prefit", X_train=data.train)
    linear = pd.DataFrame(table.loc[table["is_linear"].to_numpy(bool)])
    best = str(linear.index[int(linear["log_likelihood"].to_numpy().argmax())])
    gain = float(linear.loc[best, "vs_mean_rate"])
    low, high = float(linear.loc[best, "low"]), float(linear.loc[best, "high"])
    word, stayed = table.attrs["nonlinear"], model.stayed_linear_
    found, true = (_frequency(net) if kind == "cycle" else np.nan for net in (model.dynamics_, data.network))
    same = float(linear.loc["linear state space (rank 2)", "model_above"])
    k = model.n_particles_
    values = (kind, data_seed, model_seed, n_trials, word, stayed, low, high, same, best, gain, found, true, k, taken)
    return {k: f"{v:.5g}" if isinstance(v, float) else v for k, v in zip(FIELDS, values, strict=True)}


def _frequency(net: LowRankDynamics) -> float:
    """Return the frequency of the noise-free network's cycle; nan where it comes to rest or runs away."""
    still = net.replace(latent_noise=None)
    mean, covariance = net.latent_mean, net.latent_covariance
    start = np.ones(2) if mean is None or covariance is None else mean + np.sqrt(np.diag(covariance))
    path = still.simulate(1, 3000, initial_latents=start, random_state=0).latents.values[0]
    moves = np.isfinite(path).all() and path[2000:].std(axis=0).min() > 0.05 * path[:100].std(axis=0).min()
    return planted.frequency_of(path[2000:], net.dt) if moves else np.nan


def plan(part: str) -> Iterator[tuple[str, int, int, int]]:
    """Yield what is to be measured: kind, data seed, model seed, training trials."""
    if part == "cycle":
        yield from (("cycle", d, m, N_TRAIN) for m in range(10) for d in range(3))
    elif part == "linear":
        yield from (("linear", d, 0, N_TRAIN) for d in range(40))
    else:
        yield from ((kind, d, 0, n) for d in range(5) for kind in ("cycle", "linear") for n in (20, 40, 80, N_TRAIN))


def run(part: str, path: Path) -> None:
    """Append to a CSV file what it does not hold yet, a line each."""
    done = {tuple(row[name] for name in FIELDS[:4]) for row in rows_of(path)}
    for kind, *numbers in plan(part):
        if (kind, *map(str, numbers)) in done:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            row = measure(kind, *numbers)
        is_new = not path.exists()
        with open(path, "a", newline="") as file:
            writer: csv.DictWriter[str] = csv.DictWriter(file, FIELDS)
            if is_new:
                writer.writeheader()
            writer.writerow(row)


def rows_of(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file, none where there is no file."""
    if not path.exists():
        return []
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def show(path: Path) -> None:
    """Print the words by kind, data seed (of cycles) and number of trials."""
    groups: dict[tuple[str, str, str], list[dict[str, str]]] = {}
    for row in rows_of(path):
        seed = row["data_seed"] if row["kind"] == "cycle" and row["n_trials"] == str(N_TRAIN) else "all"
        groups.setdefault((row["kind"], seed, row["n_trials"]), []).append(row)
    for (kind, seed, n), rows in sorted(groups.items()):
        words = Counter(row["word"] for row in rows)
        off = [abs(float(row["frequency"]) / float(row["true_frequency"]) - 1) for row in rows if kind == "cycle"]
        near = f", frequency within 3 %: {sum(error < 0.03 for error in off)}" if off else ""
        taken = np.median([float(row["cpu_s"]) for row in rows])
        stayed = sum(row["stayed"] == "True" for row in rows)
        counted = ", ".join(f"{count} {word}" for word, count in words.most_common())
        print(f"{kind} data seed {seed}, {n} trials: {counted}; stayed linear {stayed}{near}; median CPU {taken:.1f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("cycle", "linear", "trials"))
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--show", action="store_true", help="print the table of what is there, and measure nothing")
    options = parser.parse_args()
    if not options.show:
        run(options.part, options.output)
    show(options.output)


if __name__ == "__main__":
    main()
