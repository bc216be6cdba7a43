"""Error bars of the connectivity of DisRNN: whether 95 % intervals hold the truth, and are as wide as estimates spread.

    python benchmarks/truth_connectivity.py --out FILE.csv [--truths 8] [--recordings 5] [--bins 3000]
    python benchmarks/truth_connectivity.py --table FILE.csv

Planted networks of 15 units and rank 2, tanh, whose noise feeds back ("recurrent") or is of the readout ("readout");
several recordings of each network. The right vectors lie where the activity goes: what it never shows no regression
finds, and `--outside 1` adds as much of it, to see what the error bars then miss. The bars, over 40 recordings: mean
coverage 0.88 to 0.98 (recurrent), 0.80 to 0.98 (readout), and a median ratio of the standard error to the spread of
the estimates over recordings of one network of 0.7 to 1.5.

A network is a line of the file, and what the file holds is not run again. About 20 CPU seconds.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd

from nwb_lrrnn import DisRNN

NOISES = ("recurrent", "readout")
KEY = ["noise", "truth", "n_recordings", "n_bins", "outside"]
N_UNITS, RANK, SD = 15, 2, 0.3


def network(truth: int, outside: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Return left and right vectors (unit, latent); `outside`: size of the part of right vectors that is never shown.

    nᵀ m is a rotation by 0.4 that grows by 1.6: tanh makes a limit cycle of it.
    """
    rng = np.random.default_rng(truth)
    left = rng.normal(size=(N_UNITS, RANK))
    cos, sin = np.cos(0.4), np.sin(0.4)
    right = np.linalg.pinv(left).T @ (1.6 * np.array([[cos, -sin], [sin, cos]])).T
    if outside:
        other = rng.normal(size=left.shape)
        other -= left @ np.linalg.pinv(left) @ other
        right = right + outside * np.linalg.norm(right) / np.linalg.norm(other) * other
    return left, right


def recording(left: np.ndarray, right: np.ndarray, noise: str, n_bins: int, rng: np.random.Generator) -> np.ndarray:
    """Return activity (time, unit)."""
    activity, latents = np.zeros((n_bins, len(left))), np.zeros(left.shape[1])
    for t in range(n_bins):
        clean = left @ latents
        activity[t] = clean + SD * rng.normal(size=len(left))
        drive = activity[t] if noise == "recurrent" else clean
        latents = right.T @ np.tanh(drive) + SD * rng.normal(size=left.shape[1])
    return activity


def coverage(noise: str, truth: int, n_recordings: int = 5, n_bins: int = 3000, outside: float = 0.0) -> dict:
    """Return how the error bars of one network do over its recordings."""
    left, right = network(truth, outside)
    wanted = left @ right.T
    found, errors, names = [], [], []
    for k in range(n_recordings):
        X = recording(left, right, noise, n_bins, np.random.default_rng([truth, k]))
        model = DisRNN(RANK, n_groups=1, scaling="given", random_state=0).fit(X)
        connectivity = model.connectivity()
        found.append(connectivity.values)
        errors.append(connectivity["standard_error"].values)
        names.append(model.noise_)
    estimates, errors = np.stack(found), np.stack(errors)
    spread = estimates.std(axis=0, ddof=1)
    return {
        "coverage": np.mean(np.abs(estimates - wanted) < 1.96 * errors),
        "slope": np.mean((estimates * wanted).sum(axis=(1, 2))) / (wanted**2).sum(),
        "ratio": np.median(errors / spread),
        "error": np.sqrt(np.mean((estimates - wanted) ** 2)),
        "noise_found": np.mean([name == noise for name in names]),
    }


def table(paths: list[Path]) -> None:
    """Print means over networks, and the least and the largest coverage of a network."""
    tables = [pd.read_csv(path) for path in paths if Path(path).suffix == ".csv"]
    cases = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
    if "coverage" not in cases or "truth" not in cases:
        return
    print("## Standard errors of the connectivity\n")
    print("| noise | bins | outside | recordings | coverage | of one network | slope | s.e. / spread | error |")
    print("|---|---|---|---|---|---|---|---|---|")
    for (noise, n_bins, outside), rows in cases.groupby(["noise", "n_bins", "outside"], sort=False):
        found = rows.coverage
        print(
            f"| {noise} | {n_bins} | {outside:g} | {rows.n_recordings.sum()} | {found.mean():.3f} | {found.min():.2f} "
            f"to {found.max():.2f} | {rows.slope.mean():.3f} | {rows.ratio.median():.2f} | {rows.error.mean():.4f} |"
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--out", type=Path, help="a CSV file; networks that it holds are not run again")
    parser.add_argument("--noises", nargs="+", choices=NOISES, default=NOISES)
    parser.add_argument("--truths", type=int, default=8, help="networks")
    parser.add_argument("--recordings", type=int, default=5, help="of each network")
    parser.add_argument("--bins", type=int, default=3000)
    parser.add_argument("--outside", type=float, default=0.0, help="of right vectors, relative: what is never shown")
    parser.add_argument("--table", nargs="+", type=Path, metavar="FILE", help="print the table of such files, no more")


def run(options: argparse.Namespace) -> None:
    """Run what is missing and print the table."""
    if options.table:
        table(options.table)
        return
    if options.out is None:
        raise SystemExit("--out: got nothing, wanted a CSV file")
    there = pd.read_csv(options.out) if options.out.exists() else pd.DataFrame(columns=KEY)
    done = {tuple(row) for row in there[KEY].itertuples(index=False)}
    for noise in options.noises:
        for truth in range(options.truths):
            case = (noise, truth, options.recordings, options.bins, options.outside)
            if case in done:
                continue
            begin = time.process_time()
            row = dict(zip(KEY, case, strict=True)) | coverage(*case)
            row["seconds"] = time.process_time() - begin
            pd.DataFrame([row]).to_csv(options.out, mode="a", header=not options.out.exists(), index=False)
    table([options.out])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    run(parser.parse_args())


if __name__ == "__main__":
    main()
