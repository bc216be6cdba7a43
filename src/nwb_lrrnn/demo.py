"""A recording with known dynamics, fitted by the same public path as a user's file and compared with the truth."""

import logging
import textwrap
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from nwb_lrrnn.align import affine_map, aligned_r2
from nwb_lrrnn.compare import compare_baselines
from nwb_lrrnn.dynamics import LowRankDynamics
from nwb_lrrnn.io.reading.recording import open_nwb
from nwb_lrrnn.io.writing.recording_file import write_recording
from nwb_lrrnn.results import load_model, write_results

if TYPE_CHECKING:
    from nwb_lrrnn.models.low_rank import LowRankRNN

logger = logging.getLogger(__name__)

BIN_SIZE, BEFORE = 0.02, 0.5  # s; trials begin this long before the go cue


@dataclass(frozen=True)
class Size:
    """How much is recorded and how long is fitted."""

    n_units: int
    n_trials: int
    n_bins: int
    fit: dict[str, Any]
    larger_ranks: tuple[int, ...]


FULL = Size(60, 60, 150, {"n_neurons": 60, "max_epochs": 300, "patience": 15}, larger_ranks=(4,))
QUICK = Size(24, 20, 80, {"n_neurons": 30, "max_epochs": 40, "patience": 10}, larger_ranks=(4,))


@dataclass(frozen=True)
class DemoReport:
    """What the demo made and how good the fit is, all of it on held-out trials.

    Attributes
    ----------
    recording, results : Path
        The NWB files.
    figure : Path or None
        The PNG; None without matplotlib.
    r2 : float
        Of the true latents explained by an affine map of the model's, fitted on training trials.
    frequency, true_frequency : float
        Of the limit cycle, in Hz.
    share_explained : float
        (model - mean rate) / (truth - mean rate) in held-out log-likelihood.
    comparison : DataFrame
        From `compare_baselines`.
    loads_equal : bool
        Whether the model read back from the file gives the same latents, to the last bit.
    """

    recording: Path
    results: Path
    figure: Path | None
    r2: float
    frequency: float
    true_frequency: float
    share_explained: float
    comparison: pd.DataFrame
    loads_equal: bool


def run_demo(
    out: str | Path = "nwb_lrrnn_demo", *, seed: int = 0, quick: bool = False, say: Callable[[str], Any] = logger.info
) -> DemoReport:
    """Return a report of a fit to a simulated recording; its files lie in `out`.

    Parameters
    ----------
    out : path-like
        Folder, made if missing; files of an earlier demo are replaced.
    seed : int
        Of the simulation and of the fit.
    quick : bool
        Less data and a shorter fit.
    say : callable
        Called with each line of text for the user.

    Returns
    -------
    report : DemoReport
        Files and numbers.

    Raises
    ------
    OSError
        If the folder cannot be made or written.
    """
    from nwb_lrrnn.models.low_rank import LowRankRNN

    size, folder, begin = QUICK if quick else FULL, Path(out), time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    truth = planted_network(size.n_units, seed)
    true_latents, recorded = _record(folder / "recording.nwb", truth, size, seed)
    say(f"1. A network with a limit cycle of {cycle_frequency(truth):.3f} Hz was simulated and recorded as NWB:")
    say(f"   {size.n_units} units, {size.n_trials} trials, {_mean_rate(recorded):.1f} spikes/s.")

    recording = open_nwb(folder / "recording.nwb")
    stop = size.n_bins * BIN_SIZE - BEFORE
    X = recording.spikes(bin_size=BIN_SIZE, align="go_cue_time", window=(-BEFORE, stop)).load()
    held = np.arange(len(X)) % 4 == 3
    say(f"2. LowRankRNN(rank=2) is fitted to {int((~held).sum())} trials of that file; {int(held.sum())} are held out.")
    model = _quietly(LowRankRNN(rank=2, random_state=seed, **size.fit).fit, X[~held])
    say(f"   {model.n_iter_} epochs; {time.perf_counter() - begin:.0f} s so far.")

    latents = model.transform(X)
    comparison = _quietly(
        compare_baselines, model, X[held], cv="prefit", X_train=X[~held], larger_ranks=size.larger_ranks
    )
    path = write_results(
        folder / "result.nwb",
        model,
        latents=latents.assign_coords(held_out=("trial", held)),
        metrics=comparison,
        source=recording,
        overwrite=True,
    )
    report = DemoReport(
        recording=folder / "recording.nwb",
        results=path,
        figure=_draw(folder / "summary.png", model, X, latents, true_latents, held, comparison),
        r2=aligned_r2(latents[~held], true_latents[~held], test_source=latents[held], test_target=true_latents[held]),
        frequency=cycle_frequency(model.dynamics_),
        true_frequency=cycle_frequency(truth),
        share_explained=_share(model, truth, comparison, X[held]),
        comparison=comparison,
        loads_equal=bool(np.array_equal(load_model(path).transform(X[held]), model.transform(X[held]))),
    )
    _tell(report, say)
    say(f"Done in {time.perf_counter() - begin:.0f} s.")
    return report


def planted_network(n_units: int, seed: int) -> LowRankDynamics:
    """Return a rank-2 tanh network on a limit cycle of about 1 Hz, read out by Poisson units.

    The overlap n^T m / N is gain * [[1, -w tau], [w tau, 1]] with w the angular frequency: gain > 1 makes the origin
    unstable, the saturation of tanh closes the cycle.
    """
    rng = np.random.default_rng(seed)
    n_neurons, tau, gain, frequency = 100, 0.1, 2.2, 1.0
    m = rng.standard_normal((n_neurons, 2))
    turn = 2 * np.pi * frequency * tau
    overlap = gain * np.array([[1.0, -turn], [turn, 1.0]])  # of latents: target x source
    n = m @ np.linalg.solve(m.T @ m / n_neurons, overlap.T)
    angle = rng.uniform(0, 2 * np.pi, n_units)
    mean_rate = np.clip(rng.lognormal(np.log(9.0), 0.7, n_units), 1.0, 40.0)  # spikes/s: cortex is skewed
    depth = 0.7 * mean_rate * rng.uniform(0.5, 1.0, n_units)
    return LowRankDynamics(
        m,
        n,
        dt=BIN_SIZE,
        tau=tau,
        initial_covariance=np.eye(2),
        loadings=depth[:, None] * np.column_stack([np.cos(angle), np.sin(angle)]),
        offset=mean_rate,
        likelihood="poisson",
        unit_ids=np.arange(n_units),
    )


def cycle_frequency(network: LowRankDynamics) -> float:
    """Return the frequency in Hz at which latents of rank 2 turn once they have settled; 0 where they rest."""
    n_steps = round(20.0 / network.dt)
    quiet = network.replace(latent_noise=None, loadings=None, offset=None, unit_ids=None, observation_variance=None)
    z = quiet.simulate(8, n_steps, random_state=0)["latents"].values[:, n_steps // 2 :]
    around = z - z.mean(axis=(0, 1))
    scale = around.std(axis=(0, 1))
    if not (scale > 1e-6).all():
        return 0.0
    phase = np.unwrap(np.arctan2(around[..., 1] / scale[1], around[..., 0] / scale[0]), axis=1)
    turns = np.abs(phase[:, -1] - phase[:, 0]) / (2 * np.pi)
    return float(np.median(turns) / ((z.shape[1] - 1) * network.dt))


def _record(path: Path, network: LowRankDynamics, size: Size, seed: int) -> tuple[np.ndarray, xr.DataArray]:
    """Return the true latents and the counts of a simulated experiment, which is written as an NWB recording."""
    rng = np.random.default_rng(seed + 1)
    drawn = network.simulate(size.n_trials, size.n_bins, random_state=seed + 2)
    gaps = rng.uniform(1.0, 2.0, size.n_trials)  # s between trials
    duration = size.n_bins * BIN_SIZE
    counts = drawn["observations"].astype(np.int64)
    counts = counts.assign_coords(
        time=(np.arange(size.n_bins) + 0.5) * BIN_SIZE - BEFORE,
        align_time=("trial", np.cumsum(gaps + duration) - duration + BEFORE),
        block=("trial", np.arange(size.n_trials) * 3 // size.n_trials),
        location=("unit", np.where(rng.random(size.n_units) < 0.6, "M1", "PMd")),
        quality=("unit", np.where(rng.random(size.n_units) < 0.8, "good", "mua")),
    )
    write_recording(
        path,
        counts,
        session_description="Simulated: a rank-2 network on a limit cycle seen by Poisson units",
        subject={"subject_id": "simulated-1", "description": "A simulated network; no animal"},
        random_state=seed + 3,
        overwrite=True,
    )
    return drawn["latents"].values, counts


def _quietly(call: Callable, *args: Any, **options: Any) -> Any:
    """Return what the call returns; that the short fit of a demo ends by its number of epochs is no news."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return call(*args, **options)


def _mean_rate(counts: xr.DataArray) -> float:
    return float(counts.mean()) / BIN_SIZE


def _share(model: "LowRankRNN", truth: LowRankDynamics, comparison: pd.DataFrame, X: xr.DataArray) -> float:
    """Return which share of what can be known the model knows: its gain over the mean rate by that of the truth."""
    best = type(model).from_dataset(truth.to_dataset()).score(X)
    reference = float(comparison.loc["mean rate", "log_likelihood"])
    return (float(comparison["log_likelihood"].iloc[-1]) - reference) / (best - reference)


def _draw(
    path: Path, model: "LowRankRNN", X: Any, latents: Any, truth: np.ndarray, held: np.ndarray, table: pd.DataFrame
) -> Path | None:
    """Return the path of the summary figure; None where matplotlib is not installed."""
    from nwb_lrrnn.plotting import plot_summary, save

    to_model = affine_map(truth[~held], latents[~held])
    try:
        page = plot_summary(
            model,
            X[held],
            latents=latents[held],
            comparison=table,
            truth=to_model(truth[held]),
            title="A planted rank-2 network, found again (held-out trials)",
        )
    except ImportError:
        return None
    save(page, path)
    return path


def _tell(report: DemoReport, say: Callable[[str], Any]) -> None:
    """Say in plain words how good the fit is and where everything lies."""
    table = report.comparison
    linear = table[table.index.str.startswith("linear state space")]
    best = str(linear.index[int(np.argmax(linear["log_likelihood"]))])
    less, least, most = (float(linear.loc[best, name]) for name in ("model_above", "low", "high"))
    same = (
        "the same latents to the last bit" if report.loads_equal else "OTHER latents, which is a bug: please report it"
    )
    say("3. On the held-out trials:")
    say(f"   the latents are the true ones up to an affine map with R2 = {report.r2:.3f};")
    say(f"   the limit cycle has {report.frequency:.3f} Hz, in truth {report.true_frequency:.3f} Hz;")
    share = report.share_explained
    say(f"   it gains {share:.1%} of what the true network gains over constant rates in log-likelihood;")
    say(f"   the best linear model, {best}, is {abs(less):.3f} nats per bin {'worse' if less > 0 else 'BETTER'}")
    say(f"   than it (95 % interval of the difference: {least:.3f} to {most:.3f}).")
    for line in textwrap.wrap(f"Verdict: {table.attrs['verdict']}", 110):
        say(f"   {line}")
    say("4. Files:")
    say(f"   {report.recording}: the recording; try `nwb-lrrnn inspect {report.recording}`")
    say(f"   {report.results}: model, latents, scores; the model read back from it gives {same}")
    if report.figure is None:
        say("   no figure: matplotlib is not installed (pip install 'nwb-lrrnn[plot]')")
    else:
        say(f"   {report.figure}: a picture of it all")
