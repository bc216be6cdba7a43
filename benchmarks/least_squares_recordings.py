"""Regression beside particles and linear models, on planted networks and on real recordings.

    python benchmarks/least_squares_recordings.py planted [--seeds 3] [--no-smc]
    python benchmarks/least_squares_recordings.py linear [--seeds 6]
    python benchmarks/least_squares_recordings.py data [--rank 4] [--files NAME ...] [--no-smc]

planted: the oscillator of `tests/planted.py`, 60 Gaussian or Poisson units, 40 trials of 75 bins, 40 others held out.
The claim: its cycle within 3 % of the frequency, a score within 0.05 nats per bin of SMCLowRankRNN's, in a tenth of its
CPU seconds. linear: how often a linear system that turns is "supported" (the claim: never). data: the recordings of
NWB_LRRNN_DATA that hold spikes, in bins of 50 ms, cut into windows or trials, a third held out. Two minutes without
SMC, about twenty with it.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from nwb_lrrnn import LeastSquaresRNN, LinearStateSpace, SMCLowRankRNN, compare_baselines, open_nwb  # noqa: E402
from nwb_lrrnn.dynamics import LowRankDynamics  # noqa: E402
from nwb_lrrnn.models.least_squares.filtering import smooth  # noqa: E402
from nwb_lrrnn.preprocessing import chop  # noqa: E402
from nwb_lrrnn.trials import as_trials  # noqa: E402
from planted import cycle_frequency, oscillator  # noqa: E402

N_TRIALS, N_BINS = 40, 75
DT = 0.02
MOST_UNITS, MOST_WINDOWS, WINDOW = 60, 60, 2.0  # of a real recording; windows in s


def models(rank: int, seed: int, with_smc: bool) -> dict:
    """Return the models that are compared, by name; the last, if it is there, takes most of the time."""
    found = {
        "linear": LinearStateSpace(rank),
        "least squares": LeastSquaresRNN(rank, random_state=seed),
    }
    if with_smc:
        found["SMC"] = SMCLowRankRNN(rank, random_state=seed)
    return found


def fitted(model, train, held) -> tuple[float, float]:
    """Return the score of held-out trials, and the CPU seconds of the fit."""
    begin = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(train)
    seconds = time.process_time() - begin
    return model.score(held), seconds


def row(*cells) -> None:
    """Print a row of a table at once."""
    print(
        "| " + " | ".join(f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in cells) + " |", flush=True
    )


def planted(options: argparse.Namespace) -> None:
    """Print score, frequency and seconds on planted oscillators."""
    warm_up = np.random.default_rng(0).normal(size=(6, 20, 4)).cumsum(1)
    for X in (warm_up, np.random.default_rng(0).poisson(1.0, (6, 20, 4))):
        for model in models(2, 0, with_smc=False).values():
            fitted(model, X, X)  # kernels compile once on a machine
    row("values", "seed", "model", "held out, below the truth (nats per bin)", "frequency / truth", "CPU s", "linear?")
    row(*["---"] * 7)
    for likelihood in ("gaussian", "poisson"):
        for seed in range(options.seeds):
            net = oscillator(likelihood, seed=seed)
            train, held = (net.simulate(N_TRIALS, N_BINS, random_state=10 * seed + k).observations for k in (5, 6))
            best = smooth(net, as_trials(held)).log_likelihood.sum() / (N_TRIALS * N_BINS)
            for name, model in models(2, seed, options.smc).items():
                score, seconds = fitted(model, train, held)
                frequency = np.nan if name == "linear" else cycle_frequency(model.dynamics_) / cycle_frequency(net)
                row(likelihood, seed, name, best - score, frequency, seconds, getattr(model, "stayed_linear_", ""))


def linear(options: argparse.Namespace) -> None:
    """Print what is said of linear systems."""
    row("values", "seed", "word", "least squares above linear (nats per bin)", "stayed linear")
    row(*["---"] * 5)
    turn = 0.97 * np.array([[np.cos(0.2), -np.sin(0.2)], [np.sin(0.2), np.cos(0.2)]])
    for likelihood, gain, offset in (("gaussian", 1.0, 0.0), ("poisson", 12.0, 20.0)):
        for seed in range(options.seeds):
            loadings = gain * np.random.default_rng(seed).standard_normal((20, 2))
            net = LowRankDynamics(
                np.eye(2), 2 * turn.T, dt=DT, tau=DT, nonlinearity="identity", latent_noise=0.06 * np.eye(2),
                loadings=loadings, offset=np.full(20, offset), observation_variance=np.full(20, 4.0),
                likelihood=likelihood, link="identity" if likelihood == "gaussian" else "softplus",
            )  # fmt: skip
            X = net.simulate(30, 50, random_state=seed).observations
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model = LeastSquaresRNN(2, random_state=seed).fit(X[:20])
                table = compare_baselines(model, X[20:], cv="prefit", X_train=X[:20])
            above = float(table.loc["linear state space (rank 2)", "model_above"])
            row(likelihood, seed, table.attrs["nonlinear"], above, model.stayed_linear_)


def spikes_of(path: Path):
    """Return trials of the busiest units of a recording, or None where it has no spikes that can be fitted."""
    with open_nwb(path) as recording:
        if recording.reason or not any(content.method == "spikes" for content in recording.fittable):
            return None
        X = recording.spikes(0.05)
        X = chop(X, WINDOW) if X.ndim == 2 else X
        X = X[:MOST_WINDOWS].load()
    busiest = np.sort(np.argsort(-X.values.sum((0, 1)))[:MOST_UNITS])
    return X[..., busiest]


def data(options: argparse.Namespace) -> None:
    """Print held-out scores and seconds on the recordings of NWB_LRRNN_DATA."""
    folder = os.environ.get("NWB_LRRNN_DATA")
    if not folder:
        print("NWB_LRRNN_DATA is not set: no recordings")
        return
    row("recording", "trials x bins x units", "model", "above mean rates (nats per bin)", "CPU s", "stayed linear")
    row(*["---"] * 6)
    for path in sorted(Path(folder).rglob("*.nwb")):
        if options.files and path.stem not in options.files:
            continue
        try:
            X = spikes_of(path)
            if X is None or len(X) < 9:
                continue
            rng = np.random.default_rng(0)
            order = rng.permutation(len(X))
            held, train = X[np.sort(order[: len(X) // 3])], X[np.sort(order[len(X) // 3 :])]
            flat = constant(train, held)
            rank = min(options.rank, X.shape[2])
            for name, model in models(rank, 0, options.smc).items():
                score, seconds = fitted(model, train, held)
                shape = " x ".join(map(str, X.shape))
                row(path.stem[:40], shape, name, score - flat, seconds, getattr(model, "stayed_linear_", ""))
        except (ValueError, OSError) as error:
            row(path.stem[:40], "", str(error)[:70], "", "", "")


def constant(train, held) -> float:
    """Return the score of constant mean rates."""
    from nwb_lrrnn.models.linear import MeanRate

    return MeanRate().fit(train).score(held)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("part", choices=("planted", "linear", "data"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rank", type=int, default=4)
    parser.add_argument("--files", nargs="+", default=())
    parser.add_argument("--no-smc", dest="smc", action="store_false")
    options = parser.parse_args()
    {"planted": planted, "linear": linear, "data": data}[options.part](options)


if __name__ == "__main__":
    main()
