"""The two panels of a comparison of fits: the tree of their distances, and the distances in its order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nwb_lrrnn.plotting.panels import OTHER, TRUTH

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

_NAMED = 40  # fits, above which names would overlap


def draw_tree(axes: Axes, table: xr.Dataset) -> list[int]:
    """Draw the average-linkage tree, first fit on top, and return the fits from top to bottom."""
    from scipy.cluster.hierarchy import dendrogram, linkage
    from scipy.spatial.distance import squareform

    distance = table["distance"].values
    tree = linkage(squareform(0.5 * (distance + distance.T), checks=False), "average")
    shape = dendrogram(tree, no_plot=True, count_sort=True)
    for heights, places in zip(shape["dcoord"], shape["icoord"], strict=True):
        axes.plot(heights, (np.array(places) - 5.0) / 10.0, color=OTHER, lw=0.9)
    axes.set(xlabel="distance of flows", title="Tree", ylim=(len(distance) - 0.5, -0.5))
    axes.invert_xaxis()
    axes.spines[["top", "left", "right"]].set_visible(False)
    axes.set_yticks([])
    return list(map(int, shape["leaves"]))


def draw_distances(axes: Axes, table: xr.Dataset, order: list[int]) -> None:
    """Draw distances in an order of fits, with lines between kinds and how many there are."""
    image = axes.imshow(table["distance"].values[np.ix_(order, order)], cmap="viridis", vmin=0.0, aspect="auto")
    axes.figure.colorbar(image, ax=axes, label="distance of flows")
    cluster = table["cluster"].values[order]
    for edge in np.flatnonzero(np.diff(cluster)) + 0.5:
        axes.axhline(edge, color=TRUTH, lw=1.0)
        axes.axvline(edge, color=TRUTH, lw=1.0)
    n_kinds = table.sizes["kind"]
    axes.set(title=f"Distances: {n_kinds} kind{'s' if n_kinds > 1 else ''}", xticks=[], yticks=[])
    if len(order) <= _NAMED:
        names = [str(name)[:24] for name in table["fit"].values[order]]
        axes.set_yticks(range(len(order)), names, fontsize=6)
