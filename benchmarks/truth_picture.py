"""One picture of false alarms and power: the share of each of the four words against the number of trials.

    python benchmarks/truth.py picture FILE ... [--to docs/verdicts.svg]

A row of panels is a planted system and a kind of values, a column an estimator. Over linear systems "supported" is a
false alarm; over cycles it is the power, and "not supported" an error.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from truth_power import WORDS, words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {"supported": "#2b6cb0", "undecided": "#d9d9d9", "cannot be judged": "#f2c14e", "not supported": "#c0504d"}
ORDER = ("SMCLowRankRNN", "LowRankRNN", "DisRNN")  # of the columns
TITLES = {
    "cycle": "relaxation cycles",
    "noisy cycle": "noisy limit cycles",
    "relu": "relu networks on a limit cycle",
    "linear": "linear systems",
    "linear, as large": "linear systems as large",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `picture`."""
    parser.add_argument("logs", nargs="+", type=Path, help="logs with system, n_trials and word")
    parser.add_argument("--to", type=Path, default=Path(__file__).parent.parent / "docs" / "verdicts.svg")


def run(options: argparse.Namespace) -> None:
    counts = words(options.logs)
    if counts.empty:
        raise SystemExit("logs: no case has system, n_trials and word; run `truth.py power --out FILE` first")
    draw(counts, options.to)
    print(f"{options.to}: {int(counts.to_numpy().sum())} verdicts")


def draw(counts: pd.DataFrame, path: Path) -> None:
    """Write the picture of `truth_power.words`; the same counts give the same file."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams |= {"svg.hashsalt": "verdicts", "svg.fonttype": "none", "font.size": 9}
    from matplotlib import pyplot as plt

    rows = list(dict.fromkeys((system, likelihood) for system, likelihood, *_ in counts.index))
    present = set(counts.index.get_level_values("estimator"))
    columns = [name for name in ORDER if name in present]
    size = (max(3.4 * len(columns) + 0.4, 6.0), 2.0 * len(rows) + 0.6)  # as wide as the legend
    figure, axes = plt.subplots(len(rows), len(columns), figsize=size, squeeze=False, sharey=True)
    for i, (system, likelihood) in enumerate(rows):
        for j, estimator in enumerate(columns):
            axis = axes[i, j]
            try:
                _panel(axis, counts.loc[(system, likelihood, estimator)])
            except KeyError:  # not every estimator was run on every system
                axis.set_axis_off()
                continue
            kind = "counts" if likelihood == "poisson" else "Gaussian"
            axis.set_title(f"{TITLES.get(system, system)}, {kind}\n{estimator}", loc="left", fontsize=8)
            axis.set_xlabel("trials" if i == len(rows) - 1 else "")
            axis.set_ylabel("share of draws" if j == 0 else "")
    handles = [plt.Rectangle((0, 0), 1, 1, color=COLOURS[word]) for word in WORDS]
    figure.legend(handles, [f"“{word}”" for word in WORDS], loc="upper center", ncols=4, frameon=False)
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.35 / size[1]))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)


def _panel(axis: Axes, counts: pd.DataFrame) -> None:
    """Draw stacked shares of the words (n_trials, word)."""
    share = counts.div(counts.sum(axis=1), axis=0)
    at, bottom = np.arange(len(share)), np.zeros(len(share))
    for word in WORDS:
        axis.bar(at, share[word], 0.85, bottom, color=COLOURS[word])
        bottom += share[word].to_numpy()
    axis.set_xticks(at, [str(n) for n in share.index])
    axis.set_ylim(0, 1)
    axis.spines[["top", "right"]].set_visible(False)
