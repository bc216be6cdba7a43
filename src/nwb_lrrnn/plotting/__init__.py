"""Figures of a fitted model: its latents, its flow, the course of its fit, and how it compares with simpler models.

Every function returns a matplotlib Figure that no window and no global state knows of; `figure.savefig(path)` writes
it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from nwb_lrrnn.analysis.fixed_points import dynamics_of
from nwb_lrrnn.plotting.panels import (
    draw_activity,
    draw_courses,
    draw_differences,
    draw_flow,
    draw_gains,
    draw_history,
    draw_paths,
    draw_velocity,
    legend,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from nwb_lrrnn.dynamics import LowRankDynamics
    from nwb_lrrnn.models.base import LatentModel

__all__ = ["plot_comparison", "plot_flow", "plot_history", "plot_latents", "plot_summary"]


def plot_latents(latents: Any, *, truth: Any = None, max_trials: int = 8) -> Figure:
    """Return a figure of latents: the plane of the first two, and each over time.

    Parameters
    ----------
    latents : DataArray or array, (trial, time, latent) or (time, latent)
        As `model.transform` returns them.
    truth : array of the same trials and bins, optional
        Known latents in the coordinates of the model's, drawn in another colour.
    max_trials : int
        How many trials are drawn; the first ones.

    Returns
    -------
    figure : matplotlib.figure.Figure
        With one panel for rank 1.

    Raises
    ------
    ValueError
        If the array has another number of dims.
    """
    z, time, unit = _as_trials("latents", latents)
    known = None if truth is None else _as_trials("truth", truth)[0][:max_trials]
    z, rank = z[:max_trials], z.shape[2]
    rows = min(rank, 4)
    figure = _figure(3.6 if rank == 1 else 8.0, 2.6 if rank == 1 else max(3.4, 1.5 * rows))
    grid = figure.add_gridspec(rows, 1 if rank == 1 else 2)
    if rank > 1:
        axes = figure.add_subplot(grid[:, 0])
        draw_paths(axes, z, known)
        legend(axes, known is not None)
    for k in range(rows):
        axes = figure.add_subplot(grid[k, -1])
        draw_courses(axes, z[..., k], None if known is None else known[..., k], time)
        axes.set_ylabel(f"latent {k + 1} (a.u.)")
        if k == rows - 1:
            axes.set_xlabel(f"time ({unit})")
        else:
            axes.tick_params(labelbottom=False)
    return _styled(figure)


def plot_flow(model: LatentModel | LowRankDynamics, *, latents: Any = None, n_points: int = 40) -> Figure:
    """Return a figure of the flow of the latents, without inputs.

    Rank 2: the flow field. Rank 1: velocity against the latent, which rests where the curve crosses zero. Higher rank:
    the plane of the first two latents through the mean, with the flow inside that plane.

    Parameters
    ----------
    model : fitted model or LowRankDynamics
        Whose flow.
    latents : DataArray or array, (trial, time, latent) or (time, latent), optional
        Drawn on top; they also say which range is shown. By default 3 standard deviations about the mean.
    n_points : int
        Resolution of the flow along each axis.

    Returns
    -------
    figure : matplotlib.figure.Figure
        One panel.

    Raises
    ------
    TypeError
        If `model` has no dynamics.
    """
    network = dynamics_of(model)
    z = None if latents is None else _as_trials("latents", latents)[0]
    figure = _figure(4.4, 3.6)
    axes = figure.add_subplot()
    if network.rank == 1:
        draw_velocity(axes, network, z, n_points)
    else:
        draw_flow(axes, network, z, n_points)
        if z is not None:
            draw_paths(axes, z[:20], None)
    return _styled(figure)


def plot_history(model: LatentModel | xr.Dataset) -> Figure:
    """Return a figure of the course of a fit.

    Parameters
    ----------
    model : fitted model, or its `history_` (Dataset over `epoch`)
        Whose fit.

    Returns
    -------
    figure : matplotlib.figure.Figure
        One panel: log-likelihood per bin against epoch.

    Raises
    ------
    TypeError
        If `model` has no history.
    """
    figure = _figure(4.4, 3.0)
    draw_history(figure.add_subplot(), _history(model))
    return _styled(figure)


def plot_comparison(table: pd.DataFrame) -> Figure:
    """Return a figure of held-out scores: each model's gain over the mean rate, and its difference from the model.

    Parameters
    ----------
    table : DataFrame
        From `compare_baselines`; the model is the last row.

    Returns
    -------
    figure : matplotlib.figure.Figure
        Two panels with one row a model; the intervals are the 95 % intervals of the paired differences.

    Raises
    ------
    ValueError
        If a column is missing.
    """
    figure = _figure(9.5, 0.9 + 0.36 * len(table))
    left, right = figure.subplots(1, 2, sharey=True)
    draw_gains(left, table)
    draw_differences(right, table)
    return _styled(figure)


def plot_summary(
    model: LatentModel,
    X: Any,
    *,
    latents: Any = None,
    comparison: pd.DataFrame | None = None,
    truth: Any = None,
    trial: int = 0,
    title: str = "",
) -> Figure:
    """Return one page about a fit: data and model of one trial, latents in their flow, scores and training.

    Parameters
    ----------
    model : fitted model
        The model.
    X : DataArray or array, (trial, time, unit) or (time, unit)
        What the latents were inferred from, held-out trials at best.
    latents : what `model.transform(X)` returns, optional
        Computed where it is not given (a model with inputs needs them given).
    comparison : DataFrame, optional
        From `compare_baselines`.
    truth : array like latents, optional
        Known latents in the coordinates of the model's.
    trial : int
        Which trial of X is shown.
    title : str
        Above everything.

    Returns
    -------
    figure : matplotlib.figure.Figure
        Six panels.
    """
    network = dynamics_of(model)
    latents = model.transform(X) if latents is None else latents
    z, time, unit = _as_trials("latents", latents)
    known = None if truth is None else _as_trials("truth", truth)[0]
    figure = _figure(11.5, 6.6)
    panels = figure.subplots(2, 3)
    draw_activity(panels[0, 0], panels[0, 1], network, _as_trials("X", X)[0][trial], z[trial], time, unit)
    if network.rank == 1:
        draw_velocity(panels[0, 2], network, z, 200)
    else:
        draw_flow(panels[0, 2], network, z, 30)
        draw_paths(panels[0, 2], z[:8], None if known is None else known[:8])
    panels[0, 2].set_title("Latents in the fitted flow")
    shown = range(min(network.rank, 4))
    step = 1.1 * float(np.nanmax(np.ptp(z[trial], axis=0)))
    for k in shown:
        course = None if known is None else known[trial][None, :, k] - k * step
        draw_courses(panels[1, 0], z[trial][None, :, k] - k * step, course, time)
    panels[1, 0].set(xlabel=f"time ({unit})", title="Latents of the same trial")
    panels[1, 0].set_yticks([-k * step for k in shown], [f"latent {k + 1}" for k in shown])
    legend(panels[1, 0], known is not None)
    if comparison is None:
        panels[1, 1].set_axis_off()
    else:
        draw_gains(panels[1, 1], comparison)
    draw_history(panels[1, 2], _history(model))
    if title:
        figure.suptitle(title, fontsize=12)
    return _styled(figure)


def _figure(width: float, height: float) -> Figure:
    """Return an empty figure of a size in inches."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("plotting needs matplotlib, which is not installed: pip install 'nwb-lrrnn[plot]'") from error
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _styled(figure: Figure) -> Figure:
    """Return the figure with the letters and frames of all figures here; global settings stay as they are."""
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
        axes.title.set_fontsize(10)
        for label in (axes.xaxis.label, axes.yaxis.label):
            label.set_fontsize(9)
    return figure


def _history(model: LatentModel | xr.Dataset) -> xr.Dataset:
    history = getattr(model, "history_", model)
    if not isinstance(history, xr.Dataset) or "epoch" not in history.dims:
        raise TypeError(f"model: got {type(model).__name__} without history_, wanted a fitted model or its history_")
    return history


def _as_trials(argument: str, given: Any) -> tuple[np.ndarray, np.ndarray, str]:
    """Return (trial, time, k), the times, and their unit."""
    values = np.asarray(given, dtype=float)
    if values.ndim not in (2, 3):
        raise ValueError(f"{argument}: got shape {values.shape}, wanted (trial, time, k) or (time, k)")
    values = values if values.ndim == 3 else values[None]
    if isinstance(given, xr.DataArray) and "time" in given.coords:
        return values, given["time"].values, "s"
    return values, np.arange(values.shape[1], dtype=float), "bins"
