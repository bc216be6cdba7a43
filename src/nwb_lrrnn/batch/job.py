"""What one fit does: read, hold out, preprocess, fit, compare, write."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nwb_lrrnn.batch.folder import CHECKPOINT, PICTURE, RESULT
from nwb_lrrnn.io.errors import ChangedFileError
from nwb_lrrnn.pipeline.estimators import estimator_class, parameters_of
from nwb_lrrnn.pipeline.held_out import check_trials, held_out, trials_of
from nwb_lrrnn.pipeline.outcome import held_out_table, part_of, write_fit
from nwb_lrrnn.pipeline.population import described, driving_inputs, population

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from nwb_lrrnn.io.reading.recording import Recording
    from nwb_lrrnn.models.base import LatentModel

logger = logging.getLogger(__name__)

SELECTION = ("align", "window", "intervals", "trials")
# what is known of a session, by the name that it has in the summary
_SESSION = {
    "subject": "subject_id",
    "species": "subject_species",
    "session": "session_id",
    "session_start_time": "session_start_time",
    "identifier": "identifier",
}
_AREAS = ("location", "brain_area", "area", "region", "group_location", "electrode_location")


@dataclass(frozen=True)
class Data:
    """Trials of a recording: X (trial, time, unit), inputs (trial, time, input) or None, and which are held out."""

    X: xr.DataArray
    inputs: xr.DataArray | None
    held: np.ndarray
    shortage: str

    def part(self, which: np.ndarray) -> tuple[xr.DataArray, xr.DataArray | None]:
        """Return X and inputs of some trials."""
        return self.X[which], part_of(self.inputs, which)


def run_job(task: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return the numbers of a fit, whose result and picture are then in `folder`."""
    from nwb_lrrnn.io.reading.recording import open_nwb

    steps, began = task["steps"], time.perf_counter()
    reading = steps["reading"]
    estimator = _estimator(task, folder)
    with open_nwb(task["uri"], follow_links=bool(reading.get("follow_links", False))) as recording:
        if task["version_tag"] not in (None, recording.version_tag):
            raise ChangedFileError(
                f"{recording.source.name}: the file was changed after the batch had listed it; start the batch again"
            )
        data = read_data(recording, task)
        check_trials(estimator, data.X, data.inputs)
        logger.info("data: %s, %d held out", described(data.X), data.held.sum())
        X, u = data.part(~data.held)
        estimator.fit(X, inputs=u)
        fitted = time.perf_counter()
        logger.info("fitted in %.3g s, %d iterations", fitted - began, estimator.n_iter_)
        table = None
        if steps["compare"]:
            table = held_out_table(estimator, data.X, data.inputs, data.held, task["seed"], data.shortage)
        numbers = _numbers(estimator, data, table)
        if hasattr(estimator, "checkpoint"):
            estimator.set_params(checkpoint=None)  # a file that ends with this fit
        write_fit(folder / RESULT, estimator, data.X, data.inputs, data.held, table, recording, overwrite=True)
        about = {name: str(recording.session[key]) for name, key in _SESSION.items() if recording.session.get(key)}
        about["areas"] = _areas(data.X)
    _draw(folder / PICTURE, estimator, data)
    return {**about, **numbers, "seconds_of_fit": fitted - began, "seconds": time.perf_counter() - began}


def _estimator(task: Mapping[str, Any], folder: Path) -> LatentModel:
    """Return the unfitted model, which keeps its checkpoint in the folder where it has one."""
    cls = estimator_class(task["steps"]["model"])
    parameters = {"random_state": task["seed"], **task["steps"]["parameters"]}
    if "checkpoint" in parameters_of(cls):
        parameters["checkpoint"] = folder / CHECKPOINT
    return cls(**parameters)


# --- the data -------------------------------------------------------------------------------------------------------


def read_data(recording: Recording, task: Mapping[str, Any]) -> Data:
    """Return what is fitted of a recording, preprocessed by steps that have not seen what is held out."""
    from nwb_lrrnn.io.files.memory import check_memory

    steps = task["steps"]
    reading = steps["reading"]
    select = {name: reading.get(name) for name in SELECTION}
    select["window"] = None if select["window"] is None else tuple(select["window"])
    X = population(
        recording,
        task["series"],
        reading.get("table"),
        reading.get("bin_size"),
        reading.get("units"),
        select,
        reading.get("time_scale", 1.0),
        reading.get("binning"),
    )
    sizes = " x ".join(f"{size} {dim}s" for dim, size in X.sizes.items())
    check_memory(X.size * 8, f"bin_size: {sizes}", "give [reading] a larger bin_size, a shorter window or fewer units")
    u = driving_inputs(recording, reading.get("inputs", ()), X)
    is_cut = X.ndim == 2
    trials, inputs, shortage = trials_of(X, u, reading.get("chop"), steps["test_fraction"], logger.info)
    held = _held(trials, task, is_cut)
    made = _steps(steps["preprocessing"])
    if not made:
        return Data(trials.load(), inputs, held, shortage)
    if is_cut:
        duration = trials.sizes["time"] * float(trials.attrs["bin_size"])
        whole = X.load()
        first, last = _longest_stretch(held, trials.sizes["time"])
        times = whole["time"].values[[first, min(last, whole.sizes["time"]) - 1]]
        for step in made:
            whole = step.fit(whole[_within(whole, times)]).transform(whole)
        trials, inputs, _ = trials_of(whole, u, duration, steps["test_fraction"], logger.info)
        return Data(trials.load(), inputs, held[: trials.sizes["trial"]], shortage)
    trials = trials.load()
    for step in made:
        trials = step.fit(trials[~held]).transform(trials)
    return Data(trials, inputs, held, shortage)


def _steps(given: Any) -> list[Any]:
    """Return the transformers, unfitted."""
    from nwb_lrrnn import preprocessing

    return [getattr(preprocessing, name)(**parameters) for name, parameters in given]


def _held(X: xr.DataArray, task: Mapping[str, Any], is_cut: bool) -> np.ndarray:
    """Return which trials are held out, (trial,): a share, or one of the folds; windows in the order of time."""
    folds, fold = task["steps"]["folds"], task["fold"]
    if folds is None:
        return held_out(X, task["steps"]["test_fraction"], task["seed"], is_cut)
    n = X.sizes["trial"]
    if n < 2 * folds:
        raise ValueError(f"folds: got {folds} for {n} trials, wanted at most half as many folds as trials")
    # the folds of one seed are parts of one order, so that each trial is held out once
    order = np.arange(n) if is_cut else np.random.default_rng(task["seed"]).permutation(n)
    held = np.zeros(n, dtype=bool)
    held[np.array_split(order, folds)[fold]] = True
    return held


def _longest_stretch(held: np.ndarray, n_bins: int) -> tuple[int, int]:
    """Return where the longest stretch without windows (of `n_bins`) that are held out begins and ends, in bins."""
    edges = np.flatnonzero(np.diff(np.concatenate([[True], held, [True]]).astype(int)))
    first, last = max(edges.reshape(-1, 2), key=lambda pair: pair[1] - pair[0])
    return int(first) * n_bins, int(last) * n_bins


def _within(X: xr.DataArray, times: np.ndarray) -> slice:
    """Return the bins from one time to another, in s."""
    first, last = np.searchsorted(X["time"].values, times)
    return slice(int(first), int(last) + 1)


# --- what is found --------------------------------------------------------------------------------------------------


def _numbers(estimator: LatentModel, data: Data, table: pd.DataFrame | None) -> dict[str, Any]:
    """Return what the summary says of a fit."""
    X, u = data.part(data.held)
    found: dict[str, Any] = {
        "n_trials": int(data.X.sizes["trial"]),
        "n_held_out": int(data.held.sum()),
        "n_bins": int(data.X.sizes["time"]),
        "n_units": int(data.X.sizes["unit"]),
        "bin_size": data.X.attrs.get("bin_size"),
        "likelihood": estimator.likelihood_,
        "rank": int(estimator.get_params()["rank"]),
        "n_iter": int(estimator.n_iter_),
        "score": float(estimator.score(X, inputs=u)),
    }
    if table is not None:
        found |= {
            "above_mean_rate": float(table["vs_mean_rate"].iloc[-1]),  # the model comes last
            "nonlinear": table.attrs.get("nonlinear"),
            "verdict": table.attrs.get("verdict"),
        }
    return found


def _areas(X: xr.DataArray) -> str:
    """Return where the units are, as far as the file says."""
    for name in _AREAS:
        if name in X.coords and X.coords[name].dims == ("unit",):
            return ", ".join(sorted({str(value) for value in X.coords[name].values if str(value).strip()}))
    return ""


def _draw(path: Path, estimator: LatentModel, data: Data) -> None:
    """Draw the latents of some held-out trials; a picture that cannot be drawn fails no fit."""
    try:
        from nwb_lrrnn.plotting import plot_latents, save
    except ImportError:
        return
    try:
        X, u = data.part(data.held)
        save(plot_latents(estimator.transform(X[:8], inputs=part_of(u, slice(8)))), path)
    except (ValueError, TypeError, ArithmeticError, ImportError) as error:
        logger.info("no picture: %s", error)
