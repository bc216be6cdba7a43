"""Benchmark of DisRNN: are groups found, how close to the ceiling, at what cost, does it say when there are none.

    python benchmarks/disrnn.py CASE [CASE ...] [--seeds 10]
    python benchmarks/disrnn.py              # everything but `paper` (which takes CPU minutes a seed)

Data are regenerated (`disrnn_data.py`); every R2 is shown as R2 / its ceiling / its R2 without groups. R2 are those of
the odd bins of a fit to the whole series as one trial, without labels; ceilings are supervised linear maps from what
the posterior may see, fitted on even bins, judged on odd ones. The bars stand above each table.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

import disrnn_data as planted
from disrnn_data import Planted
from disrnn_scores import (
    ODD,
    best_partition_r2,
    ceiling,
    group_r2,
    sub_connectivity_correlation,
    ungrouped_r2,
)
from nwb_lrrnn import DisRNN, chop, judge_groups, open_nwb, select_groups, select_rank
from nwb_lrrnn.models.dis.paper.objective import Settings
from nwb_lrrnn.models.dis.paper.training import train

POSTERIORS = ("delayed", "filtered", "smoothed")
LEVEL = 0.01  # of the test of independence
SETTINGS: dict[str, Any] = {"random_state": 0}


# --- fits ------------------------------------------------------------------------------------------------------------


def fitted(data: Planted, **settings: Any) -> tuple[Any, float]:
    """Return the model fitted to the whole series as one trial, and the CPU seconds that it took."""
    settings = {"group_ranks": data.group_ranks, **SETTINGS, **settings}
    settings |= {} if data.bin_size is None else {"bin_size": data.bin_size}
    model = DisRNN(sum(settings["group_ranks"]), **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        begin = time.process_time()
        model.fit(data.observations)
    return model, time.process_time() - begin


def latents_of(model: Any, data: Planted, posterior: str) -> np.ndarray:
    """Return the latents of the odd bins (time, latent)."""
    return np.asarray(model.transform(data.observations, posterior=posterior))[ODD]


def sub_connectivities(model: Any) -> list[np.ndarray]:
    """Return the found A_g B_g (unit, unit)."""
    return [np.asarray(model.sub_connectivity(g)) for g in range(len(model.group_ranks_))]


def judge(model: Any, data: Planted, posterior: str, split: str = "odd") -> tuple[float, float, float]:
    """Return the group R2, its ceiling and the R2 without groups."""
    found, truth = latents_of(model, data, posterior), data.latents[ODD]
    r2 = group_r2(found, truth, model.group_ranks_, data.group_ranks)
    return r2, ceiling(data, posterior, split), ungrouped_r2(found, truth)


def correlation(data: Planted) -> float:
    """Return the largest canonical correlation between the two true groups on the odd bins."""
    return planted.largest_correlation(data.latents[ODD])


# --- tables ----------------------------------------------------------------------------------------------------------


def say(title: str, bars: str) -> None:
    print(f"\n## {title}\n\nBar: {bars}.\n", flush=True)


def head(*columns: str) -> None:
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns), flush=True)


def row(*cells: Any) -> None:
    print("| " + " | ".join(_cell(cell) for cell in cells) + " |", flush=True)


def _cell(value: Any) -> str:
    if isinstance(value, tuple):  # of scores, or of group ranks
        return " / ".join(_cell(v) for v in value)
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def gaps(scores: Iterable[tuple[float, float, float]]) -> str:
    """Return the median and the largest distance to the ceiling."""
    below = [top - r2 for r2, top, _ in scores]
    return f"median {np.median(below):.3f}, largest {np.max(below):.3f}"


def all_seeds(name: str, make: Callable[[int], Planted], seeds: range, **settings: Any) -> list[float]:
    """Print a row per data seed and one of distances to the ceilings; return the CPU seconds of each fit."""
    scores: dict[str, list] = {posterior: [] for posterior in POSTERIORS}
    sub, spent = [], []
    for seed in seeds:
        data = make(seed)
        model, seconds = fitted(data, **settings)
        for posterior in POSTERIORS:
            scores[posterior].append(judge(model, data, posterior))
        best = best_partition_r2(latents_of(model, data, "delayed"), data.latents[ODD], data.group_ranks)
        sub.append(sub_connectivity_correlation(sub_connectivities(model), data.sub_connectivity()))
        spent.append(seconds)
        row(name, seed, *(scores[p][-1] for p in POSTERIORS), best, sub[-1], correlation(data), f"{seconds:.2f}")
    least = f"median {np.median(sub):.3f}, least {np.min(sub):.3f}"
    cost = f"median {np.median(spent):.2f}, most {np.max(spent):.2f}"
    row(f"**{name}, below the ceiling**", "", *(gaps(scores[p]) for p in POSTERIORS), "", least, "", cost)
    return spent


COLUMNS = ("data", "seed", *POSTERIORS, "best partition, delayed", "sub-connectivity", "canonical correlation", "CPU s")


# --- cases -----------------------------------------------------------------------------------------------------------


def standard(seeds: range) -> None:
    say(
        "The paper's generator",
        "delayed and filtered within 0.012 of the ceiling in the median, 0.03 in every seed; sub-connectivity >= 0.95; "
        "CPU <= 3 s a fit",
    )
    head(*COLUMNS)
    all_seeds("standard", planted.standard, seeds)


def paper(seeds: range) -> None:
    say(
        "The paper's objective, 5000 epochs, beside the default fit",
        "delayed R2 >= its ceiling - 0.04 in 5 of 10 seeds; the default takes at least 30 times less CPU",
    )
    head("seed", "delayed", "best partition", "sub-connectivity", "CPU s", "default: delayed", "CPU s", "ratio")
    reached, ratios = 0, []
    fitted(planted.standard(0), objective="paper", max_epochs=1)  # compiles the kernels
    fitted(planted.standard(0))
    for seed in seeds:
        data = planted.standard(seed)
        ours, short = fitted(data)
        model, long = fitted(data, objective="paper", max_epochs=5000, random_state=seed)
        score = judge(model, data, "delayed")
        reached += score[0] >= score[1] - 0.04
        ratios.append(long / short)
        best = best_partition_r2(latents_of(model, data, "delayed"), data.latents[ODD], data.group_ranks)
        sub = sub_connectivity_correlation(sub_connectivities(model), data.sub_connectivity())
        row(seed, score, best, sub, f"{long:.1f}", judge(ours, data, "delayed"), f"{short:.2f}", f"{ratios[-1]:.0f}")
    slow = in_torch(planted.standard(0)) / short
    print(f"the same objective in torch, without our kernels: {slow:.0f} times the default (50 epochs, extrapolated)")
    print(
        f"\nreached: {reached} of {len(seeds)}; CPU ratio: median {np.median(ratios):.0f}, least {np.min(ratios):.0f}"
    )


def in_torch(data: Planted, n_epochs: int = 50) -> float:
    """Return the CPU seconds of 5000 epochs of the paper's objective in torch, from those of fewer."""
    x = data.observations
    settings = Settings(max_epochs=n_epochs)
    begin = time.process_time()
    train(np.tanh(x[:-1]), x[1:], data.group_ranks, settings, random_state=0, kernels=False)
    return (time.process_time() - begin) * 5000 / n_epochs


def independent(seeds: range) -> None:
    say(
        "Independent noise, near-orthogonal and oblique readouts, and noise that feeds back",
        "delayed and filtered within 0.02 of the ceiling in the median; sub-connectivity >= 0.95",
    )
    head(*COLUMNS)
    for name, make in (("clean", planted.clean), ("oblique", planted.oblique), ("feedback", planted.feedback)):
        all_seeds(name, make, seeds)


def noise(seeds: range) -> None:
    say("Noise of the readout", "at 0.4 the smoothed group R2 is at least 0.85")
    head(*COLUMNS)
    for sd in (0.05, 0.1, 0.2, 0.4):
        all_seeds(f"clean, s.d. {sd}", lambda seed, sd=sd: planted.clean(seed, sd=sd), seeds)


def short(seeds: range) -> None:
    say("500 bins", "target, no bar: filtered within 0.05 of its ceiling in every seed")
    head(*COLUMNS)
    all_seeds("clean, T = 500", lambda seed: planted.clean(seed, n_bins=500), seeds)


def subsampled(seeds: range) -> None:
    say("Half of the units", "the groups stay; R2 of one half's groups explained by the other's is reported")
    head("seed", "one half", "other half", "one half from the other", "without groups")
    for seed in seeds:
        found, scores = [], []
        for half in planted.halves(planted.clean(seed), seed):
            model, _ = fitted(half)
            found.append(latents_of(model, half, "smoothed"))
            scores.append(judge(model, half, "smoothed"))
            ranks = model.group_ranks_
        row(seed, *scores, group_r2(found[1], found[0], ranks, ranks), ungrouped_r2(found[1], found[0]))


def counts(seeds: range) -> None:
    say(
        "Poisson counts, 10 spikes/s, bins of 20 ms, smoothed",
        "ceiling - R2 at most 0.05 more than in the Gaussian case (ridge on 17 bins, blocks, in both)",
    )
    head("seed", "Gaussian", "Poisson", "distance of Poisson - of Gaussian", "CPU s of Poisson")
    extra = []
    for seed in seeds:
        scores, seconds = [], 0.0
        for data in (planted.clean(seed), planted.counts(seed)):
            model, seconds = fitted(data)
            scores.append(judge(model, data, "smoothed", "blocks"))
        extra.append((scores[1][1] - scores[1][0]) - (scores[0][1] - scores[0][0]))
        row(seed, *scores, extra[-1], f"{seconds:.2f}")
    print(f"\nmedian {np.median(extra):.3f}, largest {np.max(extra):.3f}")


# --- is it true? -----------------------------------------------------------------------------------------------------
def verdict_of(data: Planted) -> tuple[float, float, str]:
    """Return the dependence between the groups beyond its null, the p-value and the verdict at `LEVEL`."""
    model = DisRNN(sum(data.group_ranks), group_ranks=data.group_ranks, **SETTINGS)
    found = judge_groups(model, data.observations, level=LEVEL)
    return float("nan") if found.test is None else found.test.score, found.p_value, found.word


def coupled(seeds: range) -> None:
    say(
        "Lorenz drives Thomas",
        '"not factorisable" in at least 9 of 10 where the canonical correlation is >= 0.5, in at most 1 of 10 '
        f"independent truths; level {LEVEL}",
    )
    print(
        "Thomas runs at its own pace (clock 1) or four times as fast: at clock 1 its first equation forgets its drive\n"
        "more slowly than Lorenz forgets itself, and no drive correlates the groups by 0.5 (second table).\n"
    )
    head("seed", "truth", "k", "canonical correlation", "smoothed", "dependence", "p", "verdict")
    alarms = {"independent": 0, "coupled": 0}
    for seed in seeds:
        for truth, k in (("independent", 0.0), ("coupled", planted.coupling_for(seed))):
            data = planted.clean(seed, coupling=k, clock=planted.FAST)
            score = judge(fitted(data)[0], data, "smoothed")
            dependence, p, verdict = verdict_of(data)
            alarms[truth] += verdict == "not factorisable"
            row(seed, truth, k, planted.largest_correlation(data.latents), score, dependence, p, verdict)
    print(f"\n'not factorisable' of {len(seeds)}: {alarms['coupled']} coupled, {alarms['independent']} independent\n")
    head("clock", "k", "canonical correlation, median of 5 seeds", "dependence, seed 0", "p", "verdict")
    for clock in (1.0, planted.FAST):
        for k in planted.COUPLINGS:
            found = [planted.largest_correlation(planted.trajectory(s, coupling=k, clock=clock)) for s in range(5)]
            row(clock, k, float(np.median(found)), *verdict_of(planted.clean(0, coupling=k, clock=clock)))


def number(seeds: range) -> None:
    say("The number of groups", "target: found in 8 of 10 with 2 and with 3 groups")
    head("seed", "truth", "found")
    right = {2: 0, 3: 0}
    for seed in seeds:
        for n_groups in (2, 3):
            data = planted.clean(seed, n_groups=n_groups)
            model = DisRNN(sum(data.group_ranks), **SETTINGS)
            found = select_groups(model, data.observations, level=LEVEL).group_ranks
            right[n_groups] += len(found) == n_groups
            row(seed, data.group_ranks, found)
    print(f"\nnumber found of {len(seeds)}: {right[2]} with 2 groups, {right[3]} with 3")


def recordings(seeds: range) -> None:
    say("Real recordings", "none; held-out log-likelihood in nats a bin, last fifth of the trials; ours - one group")
    folder = os.environ.get("NWB_LRRNN_DATA")
    if not folder:
        print("skipped: NWB_LRRNN_DATA names no folder of recordings")
        return
    nwb = Path(folder) / "nwb"
    maze = open_nwb(nwb / "nlb_mc_maze_small_test.nwb").spikes(0.02, align="move_onset_time", window=(-0.25, 0.45))
    aplysia = open_nwb(nwb / "aplysia_Jun0214da01.nwb").spikes(0.25)
    aplysia = chop(aplysia.sel(time=slice(40, 120)), 8.0)
    pmd = open_nwb(nwb / "monkey_pmd_datahigh_ex1.nwb").spikes(0.02, intervals="trials")
    head("recording", "trials x bins x units", "rank", "groups", "held out", "one group", "difference", "CPU s")
    for name, X in (("maze", maze), ("aplysia", aplysia), ("PMd", pmd)):
        begin = time.process_time()
        X = X.load()
        order = np.random.default_rng(0).permutation(X.sizes["trial"])
        n = len(order) // 5
        held, train = X.isel(trial=np.sort(order[:n])), X.isel(trial=np.sort(order[n:]))
        rank = select_rank(DisRNN(random_state=0), train, range(1, 9)).rank
        groups = select_groups(DisRNN(rank, n_groups=1, random_state=0), train).group_ranks
        found = f"{groups}" if len(groups) > 1 else "one: not factorisable"
        shown = groups if len(groups) > 1 or rank == 1 else (rank - rank // 2, rank // 2)
        ours, one = (DisRNN(rank, group_ranks=g, random_state=0).fit(train).score(held) for g in (shown, (rank,)))
        seconds = time.process_time() - begin
        row(name, " x ".join(map(str, X.shape)), rank, found, ours, one, ours - one, f"{seconds:.1f}")


CASES: dict[str, tuple[Callable[[int], None], int]] = {  # and how many data seeds
    "standard": (standard, 10),
    "paper": (paper, 10),
    "independent": (independent, 5),
    "noise": (noise, 5),
    "short": (short, 5),
    "subsampled": (subsampled, 5),
    "counts": (counts, 5),
    "coupled": (coupled, 10),
    "number": (number, 10),
    "recordings": (recordings, 1),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=" ".join(CASES))
    parser.add_argument("--seeds", type=int, help="data seeds (default: as many as the bars speak of)")
    parser.add_argument("--first", type=int, default=0, help="the first data seed")
    options = parser.parse_args()
    if unknown := set(options.cases) - set(CASES):
        parser.error(f"cases: got {', '.join(sorted(unknown))}, wanted some of {', '.join(CASES)}")
    for case in options.cases or [name for name in CASES if name != "paper"]:
        run, n_seeds = CASES[case]
        run(range(options.first, options.first + (options.seeds or n_seeds)))


if __name__ == "__main__":
    main()
