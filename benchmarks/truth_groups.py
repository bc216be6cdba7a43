"""Groups of latents, calibrated from end to end: what `judge_groups` and `select_groups` say where the truth is known.

    python benchmarks/truth.py groups --out FILE [--cases white poisson ...] [--seeds N] [--first SEED]

The bars, for either function:
- white Gaussian noise, Poisson noise, recordings whose bins are shuffled in time, 40 draws each: at most 2 end in
  "factorisable" or "not factorisable";
- units that are independent AR(1) processes, 40 draws: at most 2 "not factorisable";
- Lorenz and Thomas, 10 data seeds: no other groups than 3 + 3; these found in 7 at 2000 bins, in all at 8000;
- one coupled system, 10 draws: "factorisable" in none at 3000 bins, in at most 1 at 800.
Two independent latents say what power is left. All of it takes about 30 CPU minutes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.signal import lfilter

import disrnn_data
from nwb_lrrnn import DisRNN, judge_groups, select_groups
from truth_log import Log, frame, print_table

Array = NDArray[Any]

SHAPE = (30, 50, 20)  # trials, bins, units
WORDS = ("factorisable", "not factorisable", "undecided", "no latents to group")
KEY = ("part", "case", "n_bins", "data_seed")
BURN_IN = 200


# --- noise -----------------------------------------------------------------------------------------------------------


def white(seed: int, n_bins: int) -> Array:
    """Return white Gaussian noise in trials."""
    return np.random.default_rng(seed).normal(size=_shape(n_bins))


def poisson(seed: int, n_bins: int) -> Array:
    """Return Poisson noise of mean 0.3 in trials."""
    return np.random.default_rng(seed).poisson(0.3, _shape(n_bins))


def shuffled(seed: int, n_bins: int) -> Array:
    """Return `two_latents`, or counts of them in every other seed, its bins in a random order."""
    rng = np.random.default_rng([seed, 1])
    X = two_latents(seed, n_bins)
    if seed % 2:
        X = rng.poisson(0.5 * np.exp(0.3 * X))
    return rng.permutation(X.reshape(-1, X.shape[-1])).reshape(X.shape)


def autoregressive_units(seed: int, n_bins: int) -> Array:
    """Return units that are AR(1) processes independent of each other, of different or (every other seed) one pole."""
    rng = np.random.default_rng(seed)
    n_trials, length, n_units = _shape(n_bins)
    poles = np.full(n_units, 0.9) if seed % 2 else rng.uniform(0.3, 0.95, n_units)
    noise = rng.normal(size=(n_trials, BURN_IN + length, n_units))
    units = [lfilter([1], [1, -pole], noise[..., k], axis=1) for k, pole in enumerate(poles)]
    return np.stack(units, axis=2)[:, BURN_IN:]


def two_latents(seed: int, n_bins: int) -> Array:
    """Return two independent autoregressive latents in trials, mixed into the units."""
    rng = np.random.default_rng(seed)
    n_trials, length, n_units = _shape(n_bins)
    latents = [lfilter([1], [1, -a], rng.normal(size=(n_trials, length)), axis=1) for a in (0.9, 0.5)]
    return np.stack(latents, -1) @ rng.normal(size=(2, n_units)) + 0.5 * rng.normal(size=(n_trials, length, n_units))


def _shape(n_bins: int) -> tuple[int, int, int]:
    return n_bins // SHAPE[1], SHAPE[1], SHAPE[2]


# --- coupled systems -------------------------------------------------------------------------------------------------


def lorenz(seed: int, n_bins: int) -> Array:
    """Return a Lorenz system that twenty units show."""
    state, path = np.random.default_rng(seed).normal(size=3) + [1, 1, 25], []
    for _ in range((n_bins + BURN_IN) * 3):
        x, y, z = state
        state = state + 0.02 * np.array([10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z])
        path.append(state)
    return _shown(np.array(path)[BURN_IN * 3 :: 3][:n_bins], seed)


def coupled_linear(seed: int, n_bins: int) -> Array:
    """Return a stable, non-normal linear system of four latents, each of which drives every other."""
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    step = basis @ (np.triu(0.6 * rng.normal(size=(4, 4)), 1) + 0.93 * np.eye(4)) @ basis.T
    state, path = np.zeros(4), []
    for _ in range(n_bins + 100):
        state = step @ state + rng.normal(size=4)
        path.append(state)
    return _shown(np.array(path)[100:], seed)


def gated_rotation(seed: int, n_bins: int) -> Array:
    """Return a fast rotation whose radius a slow latent sets."""
    rng = np.random.default_rng(seed)
    slow = np.zeros(n_bins)
    for t in range(1, n_bins):
        slow[t] = 0.97 * slow[t - 1] + 0.24 * rng.normal()
    phase = np.cumsum(0.35 + 0.1 * rng.normal(size=n_bins))
    radius = np.exp(0.6 * slow)
    return _shown(np.c_[radius * np.cos(phase), radius * np.sin(phase), slow], seed)


def _shown(path: Array, seed: int) -> Array:
    rng = np.random.default_rng(100 + seed)
    z = (path - path.mean(0)) / path.std(0)
    return z @ rng.normal(size=(z.shape[1], SHAPE[2])) + 0.3 * rng.normal(size=(len(z), SHAPE[2]))


def lorenz_thomas(seed: int, n_bins: int) -> Array:
    """Return the clean recording of `disrnn_data`: two systems that know nothing of each other."""
    return disrnn_data.clean(seed, n_bins=n_bins).observations


class Case(NamedTuple):
    """Data, how many bins, the groups that `judge_groups` is asked about, and how many draws the bar speaks of."""

    make: Callable[[int, int], Array]
    n_bins: tuple[int, ...]
    group_ranks: tuple[int, ...]
    n_draws: int


CASES = {
    "white": Case(white, (1500,), (1, 1), 40),
    "poisson": Case(poisson, (1500,), (1, 1), 40),
    "shuffled": Case(shuffled, (1500,), (1, 1), 40),
    "ar units": Case(autoregressive_units, (1500,), (1, 1), 40),
    "lorenz + thomas": Case(lorenz_thomas, (2000, 8000), (3, 3), 10),
    "lorenz": Case(lorenz, (800, 3000), (2, 1), 10),
    "linear": Case(coupled_linear, (800, 3000), (2, 2), 10),
    "gated": Case(gated_rotation, (800, 3000), (2, 1), 10),
    "two latents": Case(two_latents, (1500, 6000), (1, 1), 10),
}


def said(X: Array, group_ranks: tuple[int, ...]) -> dict[str, Any]:
    """Return what both functions say of a recording."""
    rank = sum(group_ranks)
    judged = judge_groups(DisRNN(rank, group_ranks=group_ranks, random_state=0), X)
    found = select_groups(DisRNN(rank, random_state=0), X)
    power = None if judged.test is None else judged.test.power
    return {
        "judged": judged.word,
        "found": found.word,
        "found_ranks": list(found.group_ranks),
        "n_latents": judged.n_latents,
        "power": power,
        "sentences": [str(judged), str(found)],
        "table": found.table.astype({"group_ranks": str}).to_dict("records"),
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `groups`."""
    parser.add_argument("--out", type=Path, required=True, help="the log; cases that it holds are not run again")
    parser.add_argument("--cases", nargs="+", choices=tuple(CASES), default=tuple(CASES))
    parser.add_argument("--bins", nargs="+", type=int, help="only these lengths")
    parser.add_argument("--seeds", type=int, help="data seeds (default: as many as the bars speak of)")
    parser.add_argument("--first", type=int, default=0, help="the first data seed")


def run(options: argparse.Namespace) -> None:
    """Run the cases that the log does not hold."""
    log = Log(options.out, KEY)
    for name in options.cases:
        case = CASES[name]
        for n_bins in case.n_bins if options.bins is None else [n for n in case.n_bins if n in options.bins]:
            for seed in range(options.first, options.first + (options.seeds or case.n_draws)):
                fields = {"part": "groups", "case": name, "n_bins": n_bins, "data_seed": seed}
                log.run(fields, lambda case=case, seed=seed, n=n_bins: said(case.make(seed, n), case.group_ranks))


def table(paths: list[Path]) -> None:
    """Print how often either function ended in each word, and which groups were found."""
    cases = frame(paths)
    if "part" not in cases or not (cases["part"] == "groups").any():
        return
    cases = cases[cases["part"] == "groups"]
    print("## Groups of latents: the words of judge_groups and select_groups\n")
    rows = []
    for (name, n_bins), part in cases.groupby(["case", "n_bins"], sort=False):
        for column, title in (("judged", "judge_groups"), ("found", "select_groups")):
            counts = [int((part[column] == word).sum()) for word in WORDS]
            groups = ""
            if column == "found":
                which = part.loc[part["found"] == "factorisable", "found_ranks"]
                which = which.map(lambda ranks: "+".join(str(int(rank)) for rank in ranks))
                groups = ", ".join(f"{shown}: {n}" for shown, n in which.value_counts().items())
            errors = int(part["error"].notna().sum()) if "error" in part else 0
            rows.append((name, int(n_bins), title, *counts, errors, groups))
    print_table(("case", "bins", "function", *WORDS, "errors", "groups found"), rows)
    print(f"{pd.to_numeric(cases['seconds']).sum():.0f} CPU seconds\n")
