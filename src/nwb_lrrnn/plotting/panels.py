"""What figures are made of: one panel each, drawn into given axes."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from nwb_lrrnn.dynamics import LowRankDynamics

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe & Ito: told apart by readers with any colour vision.
MODEL, TRUTH, OTHER, HELD_OUT = "#0072B2", "#D55E00", "#8C8C8C", "#009E73"
_DASHES = (0, (4, 1.5))  # so that what lies under the truth can be seen


def draw_paths(axes: "Axes", z: np.ndarray, truth: np.ndarray | None) -> None:
    """Draw trials (trial, time, latent) in the plane of the first two latents; a dot marks where each begins."""
    for k, path in enumerate(z):
        if truth is not None:
            axes.plot(truth[k, :, 0], truth[k, :, 1], color=TRUTH, lw=1.0, ls=_DASHES, zorder=6)
        axes.plot(path[:, 0], path[:, 1], color=MODEL, lw=1.0, alpha=0.9, zorder=4)
        axes.plot(path[0, 0], path[0, 1], "o", color=MODEL, ms=3, zorder=5)
    axes.set(xlabel="latent 1 (a.u.)", ylabel="latent 2 (a.u.)", title="Latents (dots: first bin)")


def draw_courses(axes: "Axes", z: np.ndarray, truth: np.ndarray | None, time: np.ndarray) -> None:
    """Draw one latent (trial, time) over time."""
    for k, course in enumerate(z):
        if truth is not None:
            axes.plot(time, truth[k], color=TRUTH, lw=1.2, ls=_DASHES, zorder=4)
        axes.plot(time, course, color=MODEL, lw=1.2, alpha=0.9 if len(z) < 4 else 0.5)


def draw_flow(axes: "Axes", network: LowRankDynamics, z: np.ndarray | None, n_points: int) -> None:
    """Draw the flow in the plane of the first two latents, its speed as a shade of grey."""
    from matplotlib.ticker import MaxNLocator

    mean, low, high = _range(network, z)
    first, second = (np.linspace(low[k], high[k], n_points) for k in (0, 1))
    points = np.broadcast_to(mean, (n_points, n_points, network.rank)).copy()
    points[..., 0], points[..., 1] = np.meshgrid(first, second)
    flow = _velocity(network, points)[..., :2]
    speed = np.linalg.norm(flow, axis=-1)
    shade = axes.pcolormesh(
        first, second, speed, cmap="Greys", vmin=0, vmax=3 * np.quantile(speed, 0.98), rasterized=True
    )
    axes.streamplot(
        first, second, flow[..., 0], flow[..., 1], color="#5A5A5A", linewidth=0.6, arrowsize=0.7, density=1.0
    )
    figure: Any = axes.figure
    bar = figure.colorbar(shade, ax=axes, shrink=0.8, boundaries=np.linspace(0, np.quantile(speed, 0.98), 64))
    bar.set_label(f"speed (a.u. per {_time_unit(network)})")
    bar.locator = MaxNLocator(4)
    bar.update_ticks()
    title = "Flow" if network.rank == 2 else "Flow, other latents at their mean"
    axes.set(xlabel="latent 1 (a.u.)", ylabel="latent 2 (a.u.)", title=title)
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))


def draw_velocity(axes: "Axes", network: LowRankDynamics, z: np.ndarray | None, n_points: int) -> None:
    """Draw velocity against the one latent; the ticks at the bottom are where the latents were."""
    _, low, high = _range(network, z)
    grid = np.linspace(low[0], high[0], max(200, n_points))
    axes.axhline(0.0, color=OTHER, lw=0.8)
    axes.plot(grid, _velocity(network, grid[:, None])[:, 0], color=MODEL, lw=1.5)
    if z is not None:
        seen = z[np.isfinite(z)]
        axes.plot(
            seen[:: max(1, len(seen) // 400)], np.zeros(len(seen[:: max(1, len(seen) // 400)])), "|", color=HELD_OUT
        )
    axes.set(xlabel="latent 1 (a.u.)", ylabel=f"velocity (a.u. per {_time_unit(network)})", title="Flow")


def draw_history(axes: "Axes", history: xr.Dataset) -> None:
    """Draw training and held-out evidence against epoch, each below its own best: their levels tell of the trials only.

    The scale leaves out the first steep rise.
    """
    names = {"log_evidence": ("training", MODEL), "validation": ("held-out", HELD_OUT)}
    shown = {name: look for name, look in names.items() if name in history}
    shown = shown or {"log_likelihood": ("training", MODEL)}
    curves = [np.asarray(history[name].values, dtype=float) for name in shown]
    curves = [curve - np.nanmax(curve, initial=-np.inf, where=np.isfinite(curve)) for curve in curves]
    for curve, (label, color) in zip(curves, shown.values(), strict=True):
        axes.plot(history["epoch"].values, curve, color=color, lw=1.3, label=label)
    seen = np.concatenate([curve[np.isfinite(curve)] for curve in curves])
    bottom = np.quantile(seen, 0.05) if len(seen) else -1.0
    axes.set_ylim(1.2 * bottom - 1e-9, -0.15 * bottom + 1e-9)
    if len(shown) > 1:
        axes.legend(loc="best", frameon=False, fontsize=8)
    axes.set(xlabel="epoch", ylabel="log-likelihood below its best\n(nats per bin)", title="Training")


def draw_gains(axes: "Axes", table: pd.DataFrame) -> None:
    """Draw each model's gain over the mean rate as a bar with its value, the model's own in colour."""
    rows, gain = _rows(table, "vs_mean_rate")
    axes.barh(rows, gain, color=[OTHER] * (len(table) - 1) + [MODEL], height=0.65)
    reach = max(np.nanmax(gain), 0.0) - min(np.nanmin(gain), 0.0) or 1.0
    for row, value in zip(rows, gain, strict=True):
        axes.text(max(value, 0.0) + 0.02 * reach, row, f"{value:.3g}", va="center", fontsize=8)
    axes.set_xlim(min(np.nanmin(gain), 0.0) - 0.02 * reach, max(np.nanmax(gain), 0.0) + 0.2 * reach)
    axes.set_yticks(rows, [_short(name) for name in table.index])
    word = table.attrs.get("nonlinear")
    title = "Held-out score" if word is None else f"Held-out score (nonlinear: {word})"
    axes.set(xlabel="gain over mean rate (nats per bin)", title=title)


def draw_differences(axes: "Axes", table: pd.DataFrame) -> None:
    """Draw by how much the model is above each other one, with the 95 % interval over trials."""
    rows, difference = _rows(table, "model_above")
    keep = table.index != "mean rate"  # so far below that the others would not be told apart
    low, high = (np.asarray(table[name], dtype=float) for name in ("low", "high"))
    error = np.nan_to_num(np.stack([difference - low, high - difference]))
    axes.axvline(0.0, color=MODEL, lw=1.0)
    axes.errorbar(difference[keep], rows[keep], xerr=error[:, keep], fmt="o", color="black", ms=4, lw=1.0, capsize=2)
    for row, *numbers in zip(rows[keep], difference[keep], low[keep], high[keep], strict=True):
        text = "the model" if row == rows[-1] else "{:+.3g} [{:+.3g}, {:+.3g}]".format(*numbers)
        axes.text(1.02, row, text, transform=axes.get_yaxis_transform(), va="center", fontsize=8)
    axes.set(xlabel="the model is above it by (nats per bin)", title="Right of the line: the model is better")


def draw_activity(
    data: "Axes", fit: "Axes", network: LowRankDynamics, x: np.ndarray, z: np.ndarray, time: np.ndarray, unit: str
) -> None:
    """Draw one trial and what the model expects of it on one scale, units in order of their first loading."""
    loadings: Any = network.loadings
    first = loadings[:, 0] if network.readout == "latents" else loadings * network.left_vectors[:, 0]
    order = np.argsort(first)
    seen = np.isfinite(z).all(axis=1)
    z, x, time = z[seen], x[seen], time[seen]
    expected = network.expected(z, np.zeros((len(z), network.n_inputs)) if network.n_inputs else None)
    counts = network.likelihood != "gaussian"
    scale = 1.0 / network.dt if counts and unit == "s" else 1.0
    step = time[1] - time[0] if len(time) > 1 else 1.0
    extent = (time[0] - step / 2, time[-1] + step / 2, len(order), 0)
    top = float(np.quantile(expected * scale, 0.995))
    bottom = 0.0 if counts else float(np.quantile(expected, 0.005))
    look: dict[str, Any] = {
        "aspect": "auto",
        "extent": extent,
        "interpolation": "nearest",
        "vmin": bottom,
        "cmap": "Greys",
    }
    data.imshow(x.T[order], vmax=max(1.0, float(np.quantile(x, 0.995))) if counts else top, **look)
    image = fit.imshow(expected.T[order] * scale, vmax=top, **look)
    figure: Any = fit.figure
    bar = figure.colorbar(image, ax=fit, shrink=0.8)
    bar.set_label(("spikes/s" if unit == "s" else "counts per bin") if counts else "units of the data")
    for axes, title in (
        (data, "One trial: " + ("counts per bin" if counts else "data")),
        (fit, "The same trial: model"),
    ):
        axes.set(xlabel=f"time ({unit})", ylabel="units, by first loading", title=title)


def legend(axes: "Axes", with_truth: bool) -> None:
    """Say which colour is the model's and which the truth's, where there is a truth."""
    if with_truth:
        axes.plot([], [], color=MODEL, label="model")
        axes.plot([], [], color=TRUTH, ls=_DASHES, label="truth, aligned")
        low, high = axes.get_ylim()
        axes.set_ylim(low, high + 0.18 * (high - low))  # room above the lines
        axes.legend(loc="upper right", ncols=2, frameon=False, fontsize=8)


def _rows(table: pd.DataFrame, column: str) -> tuple[np.ndarray, np.ndarray]:
    """Return places from top to bottom and the values of a column."""
    refuse_other_tables(table, column)
    return -np.arange(len(table)), np.asarray(table[column], dtype=float)


def refuse_other_tables(table: pd.DataFrame, column: str) -> None:
    """Refuse what is not the table of `compare_baselines`."""
    if column not in table:
        raise ValueError(f"table: got no column {column!r}, wanted the table of compare_baselines")
    if not len(table):
        raise ValueError("table: got no rows, wanted the table of compare_baselines")


def note(axes: "Axes", text: str) -> None:
    """Write a sentence into the upper left corner of axes."""
    if text:
        axes.text(0.01, 0.99, text, transform=axes.transAxes, va="top", fontsize=7, color=TRUTH)


def _short(name: Any) -> str:
    text = str(name)
    for long, broken in (("linear state space", "linear\nstate space"), ("autoregression per", "autoregression\nper")):
        text = text.replace(long, broken) if len(str(name)) > 22 else text
    return text


def _time_unit(network: LowRankDynamics) -> str:
    return "bin" if network.dt == 1.0 else "s"


def _range(network: LowRankDynamics, z: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mean, low and high end of what is shown of each latent."""
    if z is not None:
        seen = z.reshape(-1, z.shape[-1])
        seen = seen[np.isfinite(seen).all(axis=1)]
        low, high = seen.min(axis=0), seen.max(axis=0)
        margin = 0.15 * (high - low) + 1e-9
        return seen.mean(axis=0), low - margin, high + margin
    mean = network.latent_mean if network.latent_mean is not None else np.zeros(network.rank)
    spread = network.latent_covariance if network.latent_covariance is not None else network.initial_covariance
    sd = np.ones(network.rank) if spread is None else np.sqrt(np.diag(spread)) + 1e-9
    return mean, mean - 3 * sd, mean + 3 * sd


def _velocity(network: LowRankDynamics, latents: np.ndarray) -> np.ndarray:
    inputs = np.zeros((*latents.shape[:-1], network.n_inputs)) if network.n_inputs else None
    return network.velocity(latents, inputs)
