"""The two panels of the dimension of a recording."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nwb_lrrnn.plotting.panels import MODEL, OTHER, TRUTH

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes


def draw_spectrum(axes: Axes, table: xr.Dataset) -> None:
    """Draw shares of the variance against the component, and the dimension with its interval."""
    share = table["spectrum"].values
    axes.axhline(0.0, color=OTHER, lw=0.8)
    dimension, low, high = (float(table[f"dimension{end}"]) for end in ("", "_low", "_high"))
    if np.isfinite(dimension):
        axes.axvspan(low, high if np.isfinite(high) else len(share), color=TRUTH, alpha=0.15, lw=0)
        axes.axvline(dimension, color=TRUTH, lw=1.2, label="dimension, 95 % interval")
        axes.legend(loc="upper right", frameon=False, fontsize=8)
    axes.plot(table["component"].values, share, "o-", color=MODEL, ms=3, lw=1.0)
    if not np.isfinite(share).any():
        axes.text(0.5, 0.6, "units share nothing that shows", transform=axes.transAxes, ha="center", fontsize=8)
    ends = [len(share) + 0.5, dimension * 1.1 if np.isfinite(dimension) else 0.0]
    axes.set(xlabel="component", ylabel="share of the variance\n(in the other half)", title="Spectrum")
    axes.set_xlim(0.0, max(ends))


def draw_autocorrelations(axes: Axes, table: xr.Dataset) -> None:
    """Draw the correlation of single units, and that between units, against the lag."""
    lag = table["lag"].values
    shown = (("autocorrelation", "single units", MODEL), ("component_autocorrelation", "leading components", TRUTH))
    last = 0.0
    for name, label, color in shown:
        values = table[name].values
        if not np.isfinite(values).any():
            continue
        axes.plot(lag, values, ".-", color=color, lw=1.2, ms=4, label=label)
        above = np.flatnonzero(np.abs(values) > 0.1)
        last = max(last, 2.0 * float(lag[above[-1]]) if len(above) else 0.0)
    axes.axhline(0.0, color=OTHER, lw=0.8)
    axes.axhline(0.5, color=OTHER, lw=0.8, ls=":")
    if 0.0 < last < lag[-1]:
        axes.set_xlim(-0.02 * last, last)
    unit = table["lag"].attrs.get("units", "s")
    axes.set(xlabel=f"lag ({unit})", ylabel="autocorrelation", title="Time-scales")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="upper right", frameon=False, fontsize=8)
