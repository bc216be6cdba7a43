"""The paragraph of a comparison of fits."""

from __future__ import annotations

import numpy as np

from nwb_lrrnn.alignment.clusters import CHANCE, ENOUGH, FEWEST, Kinds
from nwb_lrrnn.alignment.given import Given


def said(
    given: Given,
    kinds: Kinds,
    cluster: np.ndarray,
    distance: np.ndarray,
    horizon: float,
    medoids: np.ndarray,
    shared: str,
) -> str:
    """Return what the comparison says in plain sentences."""
    n = len(given.fits)
    of = "" if given.n_recordings == n else f" of {given.n_recordings} recordings"
    first = f"{n} fits{of}, compared by what their flows do to their states within {horizon:.3g} s."
    sentences = [first, _kinds(given, kinds, medoids), _apart(cluster, distance), shared]
    if given.n_left_out:
        rows = "1 row is" if given.n_left_out == 1 else f"{given.n_left_out} rows are"
        sentences.insert(1, f"{rows} left out, whose status is not 'done'.")
    if any(fit.network.n_inputs for fit in given.fits):
        sentences.append("Inputs are zero.")
    return " ".join(sentence for sentence in sentences if sentence)


def _kinds(given: Given, kinds: Kinds, medoids: np.ndarray) -> str:
    if kinds.n_kinds > 1:
        sizes = np.bincount(kinds.labels)
        each = ", ".join(f"{size} like {given.fits[k].name}" for size, k in zip(sizes, medoids, strict=True))
        return (
            f"{kinds.n_kinds} kinds of dynamics: {each} (silhouette {kinds.silhouette:.2f}; of one kind, chance has as "
            f"good a cut with p = {kinds.p_value:.2g})."
        )
    if np.isnan(kinds.silhouette) and given.n_recordings < 2 * FEWEST:
        return f"They are too few to tell kinds, which takes {2 * FEWEST}: one kind."
    if np.isnan(kinds.silhouette) or kinds.silhouette < ENOUGH:
        best = (
            ""
            if np.isnan(kinds.silhouette) or kinds.silhouette < 0
            else f" (best silhouette {kinds.silhouette:.2f}, {ENOUGH} wanted)"
        )
        return f"Nothing shows more than one kind of dynamics{best}."
    return (
        f"Nothing shows more than one kind of dynamics: the best cut has silhouette {kinds.silhouette:.2f}, but chance "
        f"has as good a cut of one kind with p = {kinds.p_value:.2g}, and {CHANCE} is wanted."
    )


def _apart(cluster: np.ndarray, distance: np.ndarray) -> str:
    rows, columns = np.triu_indices(len(distance), 1)
    same = cluster[rows] == cluster[columns]
    values = distance[rows, columns]
    within = f"The median distance of two fits is {np.median(values):.2g}"
    if same.any() and not same.all():
        inside, outside = np.median(values[same]), np.median(values[~same])
        within = f"The median distance is {inside:.2g} within a kind and {outside:.2g} between kinds"
    return f"{within}, in the spread of the states at the start."
