"""Fits of `SMCLowRankRNN` for `smc.py`: planted networks against the truth, EEG against linear models.

The bars: the planted relu network with a limit cycle (N 20, R 2, T 75, 150 trials, sigma_x 0.1, sigma_z 0.2) is found
within 0.1 nat per bin of the true parameters' bound in at most 60 CPU seconds; on a planted Poisson student (D 40) the
Laplace proposal's bound after 100 epochs lies above the CNN encoder's after 300; on the EEG the held-out bound is not
below that of the linear model of the same rank, in at most 120 CPU seconds.
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from sklearn.exceptions import ConvergenceWarning

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import planted  # noqa: E402
from nwb_lrrnn.analysis.metrics import (  # noqa: E402  # noqa: E402
    generation_scores,
    phase_surrogate,
    smooth_and_standardize,
    spectral_distance,
    state_space_divergence,
)
from nwb_lrrnn.compare import paired_difference  # noqa: E402
from nwb_lrrnn.models.linear import LinearStateSpace  # noqa: E402
from nwb_lrrnn.models.smc import SMCLowRankRNN  # noqa: E402

WINDOW = 50  # bins of the EEG windows
GENERATED, DISCARDED, SMOOTHING = 9640, 2400, 15  # bins, as in Pals et al. 2024
SPECTRAL_SMOOTHING = 20 / GENERATED  # cycles per bin: 20 frequency bins, as there


def fitted(model: SMCLowRankRNN, X: Any) -> tuple[SMCLowRankRNN, float]:
    """Return the fitted model and the CPU seconds that it took."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        begin = time.process_time()
        model.fit(X)
    return model, time.process_time() - begin


def teacher(quick: bool) -> None:
    """Print held-out bounds of fits to planted networks beside those of the true parameters and of a linear model."""
    heads = f"{'held out':>9} {'truth':>9} {'linear':>9} {'noise s.d. (0.2)':>17}"
    print(f"{'likelihood':>10} {'seed':>5} {'CPU s':>7} {'K':>4} {heads}")
    for likelihood, seed in [("gaussian", 0), ("gaussian", 1), ("poisson", 0)]:
        net = planted.relu_cycle(likelihood, seed=seed)
        train, held = (net.simulate(n, 75, random_state=k) for n, k in ((20 if quick else 150, 1), (50, 2)))
        readout = "currents" if likelihood == "gaussian" else "latents"
        neurons = None if likelihood == "gaussian" else 40
        settings = {"nonlinearity": "relu", "n_neurons": neurons, "random_state": 0}
        settings |= {"max_epochs": 5} if quick else {}
        model, taken = fitted(SMCLowRankRNN(2, readout=readout, **settings), train.observations)
        linear = LinearStateSpace(2, likelihood=likelihood, bin_size=1.0).fit(train.observations)
        scores = [model.score(held.observations)]
        scores += [model.with_dynamics(d).score(held.observations) for d in (net, linear.dynamics_)]
        shown = model.transform(held.observations).values.reshape(-1, 2)
        truth = held.latents.values.reshape(-1, 2)
        to_truth = np.linalg.lstsq(np.column_stack([shown, np.ones(len(shown))]), truth, rcond=None)[0][:2].T
        sd = np.sqrt(np.diag(to_truth @ model.dynamics_.latent_noise @ to_truth.T))
        row = f"{likelihood:>10} {seed:5} {taken:7.1f} {model.n_particles_:4} " + " ".join(f"{s:9.4f}" for s in scores)
        print(row + f" {sd[0]:8.4f} {sd[1]:8.4f}", flush=True)


def encoder(quick: bool) -> None:
    """Print held-out bounds of the Laplace proposal and of the CNN encoder on a planted Poisson student."""
    net = planted.relu_cycle("poisson", seed=0)
    train, held = (net.simulate(n, 75, random_state=k) for n, k in ((20 if quick else 150, 1), (50, 2)))
    print(f"{'proposal':>9} {'epochs':>7} {'CPU s':>7} {'held out':>9}")
    for proposal, epochs in (("laplace", 100), ("encoder", 300)):
        epochs = 3 if quick else epochs
        settings = {"nonlinearity": "relu", "n_neurons": 40, "n_particles": 32, "random_state": 0, "patience": epochs}
        model, taken = fitted(SMCLowRankRNN(2, proposal=proposal, max_epochs=epochs, **settings), train.observations)
        print(f"{proposal:>9} {model.n_iter_:7} {taken:7.1f} {model.score(held.observations):9.4f}", flush=True)


class PrincipalVar:
    """A VAR(1) of the first principal components, and white noise: the least that a generator must beat."""

    def __init__(self, rank: int, data: np.ndarray):
        self.mean = data.mean(0)
        self.axes = np.linalg.svd(data - self.mean, full_matrices=False)[2][:rank]
        scores = (data - self.mean) @ self.axes.T
        self.map = np.linalg.lstsq(scores[:-1], scores[1:], rcond=None)[0]
        self.noise = np.cov((scores[1:] - scores[:-1] @ self.map).T).reshape(rank, rank)
        self.rest = (data - self.mean - scores @ self.axes).std(0)

    def simulate(self, n_trials: int, n_steps: int, *, random_state: Any = None) -> xr.Dataset:
        """Return `observations` (trial, time, unit)."""
        rng = np.random.default_rng(random_state)
        z = np.zeros((n_trials, n_steps, len(self.map)))
        shocks = rng.multivariate_normal(np.zeros(len(self.map)), self.noise, (n_trials, n_steps))
        for t in range(1, n_steps):
            z[:, t] = z[:, t - 1] @ self.map + shocks[:, t]
        y = z @ self.axes + self.mean + self.rest * rng.standard_normal((n_trials, n_steps, len(self.mean)))
        return xr.Dataset({"observations": (("trial", "time", "unit"), y)})


def eeg(quick: bool) -> None:
    """Print held-out bounds and generation scores on a human EEG (Schalk et al. 2004), windows of 50 bins."""
    folder = os.environ.get("NWB_LRRNN_DATA")
    if not folder:
        print("skipped: NWB_LRRNN_DATA names no folder of recordings")
        return
    data = np.load(Path(folder) / "arrays" / "eeg_s001r01_deconvolved.npy")
    windows = data[: len(data) // WINDOW * WINDOW].reshape(-1, WINDOW, data.shape[1])
    n = int(0.8 * len(windows))
    train, held = windows[:n], windows[n:]
    about = {
        "n_generations": 3 if quick else 20,
        "n_steps": GENERATED,
        "n_discarded": DISCARDED,
        "smoothing": SMOOTHING,
        "spectral_smoothing": SPECTRAL_SMOOTHING,
    }
    print(f"{'model':>34} {'CPU s':>7} {'train':>9} {'held out':>9} {'ours - it [95 %]':>24} {'D_stsp':>7} {'D_H':>7}")
    for rank in (3, 8):
        settings = {"n_neurons": 512, "random_state": 0} | ({"max_epochs": 2} if quick else {})
        model, taken = fitted(SMCLowRankRNN(rank, **settings), train)
        begin = time.process_time()
        linear = LinearStateSpace(rank, max_iter=15).fit(train)
        linear_taken = time.process_time() - begin
        ours = model.score_trials(held).values
        same = model.with_dynamics(linear.dynamics_)
        bins = np.full(len(held), float(WINDOW))
        rows = [
            (f"SMCLowRankRNN (rank {rank}, K {model.n_particles_})", model, taken, model.score(train), ours),
            (
                f"linear, its bound (rank {rank})",
                linear,
                linear_taken,
                same.score(train),
                same.score_trials(held).values,
            ),
            (f"linear, exact (rank {rank})", None, linear_taken, linear.score(train), linear.score_trials(held).values),
        ]
        for name, generator, seconds, score, per_trial in rows:
            difference, _, low, high = paired_difference(ours, per_trial, bins)
            against = "" if per_trial is ours else f"{difference:+.3f} [{low:+.3f}, {high:+.3f}]"
            row = f"{name:>34} {seconds:7.1f} {score:9.3f} {per_trial.sum() / bins.sum():9.3f} {against:>24}"
            print(row + _generated(generator, data, about), flush=True)
        print(
            f"{f'principal components VAR ({rank})':>34} {'':>52}" + _generated(PrincipalVar(rank, data), data, about)
        )
    smooth = smooth_and_standardize(data, n_bins=SMOOTHING)
    surrogate = smooth_and_standardize(phase_surrogate(data, random_state=0), n_bins=SMOOTHING)
    divergence = float(state_space_divergence(smooth, surrogate).divergence.sel(rule="published"))
    distance = spectral_distance(smooth, surrogate, smoothing=SPECTRAL_SMOOTHING)
    print(f"{'phase-randomised surrogate':>34} {'':>52} {divergence:7.2f} {distance:7.3f}")


def _generated(model: Any, data: np.ndarray, about: dict) -> str:
    if model is None:
        return ""
    scores = generation_scores(model, data, **about)
    return (
        f" {float(scores.divergence_median.sel(rule='published')):7.2f} {float(scores.spectral_distance_median):7.3f}"
    )
