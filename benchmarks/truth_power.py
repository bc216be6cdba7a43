"""Power and false alarms: what is said of planted cycles and of linear systems, against the number of trials.

    python benchmarks/truth.py power --out FILE [--trials 5 10 20 40 80] [--seeds 10] ...

The bars: a linear system is "supported" in at most 2 of 40 draws, whatever the number of trials; the planted cycle is
never "not supported", and "supported" once the trials suffice. Two thirds of the trials are fitted, the rest held out.
About 30 CPU minutes for 10 seeds.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import pandas as pd

from truth_log import Log, frame, print_table
from truth_memory import remembered_baselines
from truth_metamorphic import BOTH, ESTIMATORS, LATENTS, SUITED, estimator, judged, recording

WORDS = ("supported", "undecided", "cannot be judged", "not supported")
KEY = ("part", "system", "likelihood", "n_trials", "data_seed", "estimator")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `power`."""
    parser.add_argument("--out", type=Path, required=True, help="the log; cases that it holds are not run again")
    parser.add_argument("--systems", nargs="+", choices=tuple(LATENTS), default=tuple(LATENTS))
    parser.add_argument("--likelihoods", nargs="+", choices=BOTH, default=("gaussian",))
    parser.add_argument("--estimators", nargs="+", choices=ESTIMATORS, default=("SMCLowRankRNN", "LowRankRNN"))
    parser.add_argument("--trials", nargs="+", type=int, default=(6, 12, 24, 48, 96), help="fitted and held-out trials")
    parser.add_argument("--seeds", type=int, default=10, help="data seeds")
    parser.add_argument("--first", type=int, default=0, help="the first data seed")


def run(options: argparse.Namespace) -> None:
    log = Log(options.out, KEY)
    for seed in range(options.first, options.first + options.seeds):
        for system in options.systems:
            for likelihood in options.likelihoods:
                for n in options.trials:
                    X = recording(system, likelihood, seed, n)
                    train, held = X[: 2 * n // 3], X[2 * n // 3 :]
                    fields = {"part": "power", "system": system, "likelihood": likelihood, "n_trials": n}
                    fields["data_seed"] = seed
                    with remembered_baselines():
                        for name in (name for name in options.estimators if name in SUITED[system]):
                            case = fields | {"estimator": name}
                            log.run(case, partial(judged, estimator(name, 0), train, held))


def words(paths: list[Path]) -> pd.DataFrame:
    """Return how many cases ended in each word, indexed by system, likelihood, estimator and number of trials."""
    cases = frame(paths)
    if "n_trials" not in cases or "word" not in cases:
        return pd.DataFrame()
    if "kind" in cases:  # the planted relu network of `truth_cycle.py` and linear systems of its size
        of_relu = cases["kind"].map({"cycle": "relu", "linear": "linear, as large"})
        cases["system"] = cases["system"].fillna(of_relu) if "system" in cases else of_relu
    cases = cases[cases["n_trials"].notna() & cases["word"].isin(WORDS)].copy()
    for name, default in (("likelihood", "gaussian"), ("estimator", "SMCLowRankRNN")):
        cases[name] = cases[name].fillna(default) if name in cases else default
    cases["n_trials"] = cases["n_trials"].astype(int)
    index = [cases[name] for name in ("system", "likelihood", "estimator", "n_trials")]
    return pd.crosstab(index, cases["word"]).reindex(columns=list(WORDS), fill_value=0)


def table(paths: list[Path]) -> None:
    """Print the four words against the number of trials."""
    counts = words(paths)
    if counts.empty:
        return
    print("## The four words against the number of trials\n")
    print_table(
        (*counts.index.names, *WORDS), [(*index, *row) for index, row in zip(counts.index, counts.values, strict=True)]
    )
