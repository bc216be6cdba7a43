"""Figures of a fitted model: its latents, its flow, the course of its fit, and how it compares with simpler models.

A function that draws one panel takes `ax=` and returns its Axes; one that makes a page of several returns the array of
its Axes (`page.figure.savefig(path)` writes it). Without `ax=` figures are made by pyplot, so that a notebook shows
them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

import numpy as np
import pandas as pd
import xarray as xr

from nwb_lrrnn.analysis.fixed_points import dynamics_of
from nwb_lrrnn.plotting.canvas import Page, finished, new_axes, new_figure, page_of, save
from nwb_lrrnn.plotting.courses import courses_of
from nwb_lrrnn.plotting.dimension import draw_autocorrelations, draw_spectrum
from nwb_lrrnn.plotting.fits import draw_distances, draw_tree
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
    note,
    refuse_other_tables,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from nwb_lrrnn.dynamics import LowRankDynamics
    from nwb_lrrnn.models.base import LatentModel

__all__ = [
    "Page",
    "plot_comparison",
    "plot_dimension",
    "plot_fits",
    "plot_flow",
    "plot_history",
    "plot_latents",
    "plot_summary",
    "save",
]


@overload
def plot_latents(latents: Any, *, truth: Any = None, max_trials: int = 8, ax: None = None) -> Page: ...
@overload
def plot_latents(latents: Any, *, truth: Any = None, max_trials: int = 8, ax: Axes) -> Axes: ...
def plot_latents(latents: Any, *, truth: Any = None, max_trials: int = 8, ax: Axes | None = None) -> Page | Axes:
    """Return a page of latents: the plane of the first two, and each over time.

    Parameters
    ----------
    latents : what `model.transform` returns
        (trial, time, latent) or (time, latent), or a list of trials, of unequal length too. Bins that are NaN are not
        drawn, and their number is written into the figure.
    truth : of the same trials and bins, optional
        Known latents in the coordinates of the model's, drawn in another colour.
    max_trials : int
        How many trials are drawn; the first ones.
    ax : matplotlib Axes, optional
        Given, only the plane is drawn, into it; of rank 1 the course over time.

    Returns
    -------
    axes : array (panel,) of matplotlib Axes, or `ax`
        The plane first, then the latents over time, at most four.

    Raises
    ------
    ValueError
        If the array has another number of dims, or no finite bin.
    """
    z, time, unit, _ = shown = courses_of("latents", latents)
    known = None if truth is None else courses_of("truth", truth).values[:max_trials]
    z, rank = z[:max_trials], z.shape[2]
    if ax is not None:
        if rank > 1:
            draw_paths(ax, z, known)
        else:
            _draw_course(ax, z, known, 0, time, unit)
        legend(ax, known is not None)
        note(ax, shown.said)
        return finished(ax)
    rows = min(rank, 4)
    figure = new_figure(3.6 if rank == 1 else 8.0, 2.6 if rank == 1 else max(3.4, 1.5 * rows))
    grid = figure.add_gridspec(rows, 1 if rank == 1 else 2)
    panels = [figure.add_subplot(grid[:, 0])] if rank > 1 else []
    if rank > 1:
        draw_paths(panels[0], z, known)
        legend(panels[0], known is not None)
    for k in range(rows):
        panels.append(figure.add_subplot(grid[k, -1]))
        _draw_course(panels[-1], z, known, k, time, unit)
        if k < rows - 1:
            panels[-1].set_xlabel("")
            panels[-1].tick_params(labelbottom=False)
    note(panels[0], shown.said)
    return page_of(panels)


def _draw_course(axes: Axes, z: np.ndarray, known: np.ndarray | None, k: int, time: np.ndarray, unit: str) -> None:
    draw_courses(axes, z[..., k], None if known is None else known[..., k], time)
    axes.set(xlabel=f"time ({unit})", ylabel=f"latent {k + 1} (a.u.)")


def plot_flow(
    model: LatentModel | LowRankDynamics, *, latents: Any = None, n_points: int = 40, ax: Axes | None = None
) -> Axes:
    """Return the axes of the flow of the latents, without inputs.

    Rank 2: the flow field. Rank 1: velocity against the latent, which rests where the curve crosses zero. Higher rank:
    the plane of the first two latents through the mean, with the flow inside that plane.

    Parameters
    ----------
    model : fitted model or LowRankDynamics
        Whose flow.
    latents : what `model.transform` returns, optional
        Drawn on top; they also say which range is shown. By default 3 standard deviations about the mean.
    n_points : int
        Resolution of the flow along each axis.
    ax : matplotlib Axes, optional
        Where to draw; None: a new figure.

    Returns
    -------
    ax : matplotlib Axes

    Raises
    ------
    TypeError
        If `model` has no dynamics.
    """
    network = dynamics_of(model)
    shown = None if latents is None else courses_of("latents", latents)
    z = None if shown is None else shown.values
    axes = new_axes(4.4, 3.6, ax)
    if network.rank == 1:
        draw_velocity(axes, network, z, n_points)
    else:
        draw_flow(axes, network, z, n_points)
        if z is not None:
            draw_paths(axes, z[:20], None)
    note(axes, "" if shown is None else shown.said)
    return finished(axes)


def plot_history(model: LatentModel | xr.Dataset, *, ax: Axes | None = None) -> Axes:
    """Return the axes of the course of a fit.

    Parameters
    ----------
    model : fitted model, or its `history_` (Dataset over `epoch`)
        Whose fit.
    ax : matplotlib Axes, optional
        Where to draw; None: a new figure.

    Returns
    -------
    ax : matplotlib Axes
        Log-likelihood per bin against epoch.

    Raises
    ------
    TypeError
        If `model` has no history.
    """
    history = _history(model)
    axes = new_axes(4.4, 3.0, ax)
    draw_history(axes, history)
    return finished(axes)


@overload
def plot_comparison(table: pd.DataFrame, *, ax: None = None) -> Page: ...
@overload
def plot_comparison(table: pd.DataFrame, *, ax: Axes) -> Axes: ...
def plot_comparison(table: pd.DataFrame, *, ax: Axes | None = None) -> Page | Axes:
    """Return a page of held-out scores: each model's gain over the mean rate, and what the model is above it.

    Parameters
    ----------
    table : DataFrame
        From `compare_baselines`; the model is the last row.
    ax : matplotlib Axes, optional
        Given, only the gains are drawn, into it.

    Returns
    -------
    axes : array (2,) of matplotlib Axes, or `ax`
        With one row a model; the intervals are the 95 % intervals of the paired differences.

    Raises
    ------
    ValueError
        If a column is missing, or every row.
    """
    for column in ("vs_mean_rate", "model_above", "low", "high"):
        refuse_other_tables(table, column)
    if ax is not None:
        draw_gains(ax, table)
        return finished(ax)
    figure = new_figure(9.5, 0.9 + 0.36 * len(table))
    left, right = figure.subplots(1, 2, sharey=True)
    draw_gains(left, table)
    draw_differences(right, table)
    return page_of([left, right])


def plot_dimension(table: xr.Dataset) -> Page:
    """Return a page of the dimension of a recording: the spectrum of its covariance, and how long it remembers.

    Parameters
    ----------
    table : what `dimension_of_recording` returns
        Its spectrum is cross-validated: shares of the variance in one half along the axes of the other half.

    Returns
    -------
    axes : array (2,) of matplotlib Axes

    Raises
    ------
    ValueError
        If `table` is no such table.
    """
    if not {"spectrum", "autocorrelation", "dimension"} <= set(getattr(table, "data_vars", ())):
        raise ValueError(f"table: got {type(table).__name__}, wanted what dimension_of_recording returns")
    figure = new_figure(8.4, 3.2)
    left, right = figure.subplots(1, 2)
    draw_spectrum(left, table)
    draw_autocorrelations(right, table)
    return page_of([left, right])


def plot_fits(table: xr.Dataset) -> Page:
    """Return a page of how alike many fits are: the tree of their distances, and the distances in its order.

    Parameters
    ----------
    table : what `compare_fits` returns

    Returns
    -------
    axes : array (2,) of matplotlib Axes
        Lines part the kinds.

    Raises
    ------
    ValueError
        If `table` is no such table.
    """
    if not {"distance", "cluster", "medoid"} <= set(getattr(table, "data_vars", ())):
        raise ValueError(f"table: got {type(table).__name__}, wanted what compare_fits returns")
    figure = new_figure(8.4, 3.8)
    left, right = figure.subplots(1, 2, width_ratios=(1, 2))
    draw_distances(right, table, draw_tree(left, table))
    return page_of([left, right])


def plot_summary(
    model: LatentModel,
    X: Any,
    *,
    latents: Any = None,
    comparison: pd.DataFrame | None = None,
    truth: Any = None,
    trial: int = 0,
    title: str = "",
) -> Page:
    """Return one page about a fit: data and model of one trial, latents in their flow, scores and training.

    Parameters
    ----------
    model : fitted model
        The model.
    X : like X of `fit`
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
    axes : array (2, 3) of matplotlib Axes
    """
    network = dynamics_of(model)
    latents = model.transform(X) if latents is None else latents
    z, time, unit, _ = shown = courses_of("latents", latents)
    known = None if truth is None else courses_of("truth", truth).values
    x = courses_of("X", X).values
    figure = new_figure(11.5, 6.6)
    panels = figure.subplots(2, 3)
    draw_activity(panels[0, 0], panels[0, 1], network, x[trial], z[trial], time, unit)
    if network.rank == 1:
        draw_velocity(panels[0, 2], network, z, 200)
    else:
        draw_flow(panels[0, 2], network, z, 30)
        draw_paths(panels[0, 2], z[:8], None if known is None else known[:8])
    panels[0, 2].set_title("Latents in the fitted flow")
    note(panels[0, 2], shown.said)
    drawn = range(min(network.rank, 4))
    step = 1.1 * float(np.nanmax(np.nanmax(z[trial], axis=0) - np.nanmin(z[trial], axis=0)))
    for k in drawn:
        course = None if known is None else known[trial][None, :, k] - k * step
        draw_courses(panels[1, 0], z[trial][None, :, k] - k * step, course, time)
    panels[1, 0].set(xlabel=f"time ({unit})", title="Latents of the same trial")
    panels[1, 0].set_yticks([-k * step for k in drawn], [f"latent {k + 1}" for k in drawn])
    legend(panels[1, 0], known is not None)
    if comparison is None:
        panels[1, 1].set_axis_off()
    else:
        draw_gains(panels[1, 1], comparison)
    draw_history(panels[1, 2], _history(model))
    if title:
        figure.suptitle(title, fontsize=12)
    return page_of(panels)


def _history(model: LatentModel | xr.Dataset) -> xr.Dataset:
    history = getattr(model, "history_", model)
    if not isinstance(history, xr.Dataset) or "epoch" not in history.dims:
        raise TypeError(f"model: got {type(model).__name__} without history_, wanted a fitted model or its history_")
    return history
