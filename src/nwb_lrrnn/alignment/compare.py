"""`compare_fits`: distances between the dynamics of many fits, kinds of them, and maps of their latents."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from nwb_lrrnn.alignment.clusters import kinds_of, medoids
from nwb_lrrnn.alignment.flow import QUANTILES, flow_signature
from nwb_lrrnn.alignment.given import Given, as_fits, as_labels, latents_of
from nwb_lrrnn.alignment.mapping import map_onto
from nwb_lrrnn.alignment.result import FitComparison
from nwb_lrrnn.alignment.shared_trials import canonical_correlations, courses_of
from nwb_lrrnn.alignment.wording import said

Array = NDArray[np.floating]

_N_BANDS, _REACH, _MOST_STEPS = 12, 64.0, 20_000


def compare_fits(
    fits: Sequence[str | os.PathLike[str] | object] | pd.DataFrame,
    *,
    recordings: Sequence[object] | None = None,
    horizon: float | None = None,
    condition: str | None = None,
    latents: Sequence[xr.DataArray | None] | None = None,
    random_state: int = 0,
) -> FitComparison:
    r"""Return how alike the dynamics of many fits are, which kinds there are, and how their latents map on each other.

    Fits may be of other animals, sessions, units, ranks, bin widths and estimators: no units and no trials are matched.
    From the law of its latents over its data each fit draws states, and its flow without noise and inputs carries them
    on. How far each has moved, :math:`|F^t(z) - z|`, and how far two are apart by then,
    :math:`|F^t(z) - F^t(z')|`, have laws that no rotation, reflection or scale of the latents changes; lengths are
    those the units show, :math:`|C z|`, so that no other invertible change of them matters either. The distance of two
    fits is the root mean square, over bands of time and both tables, of the Wasserstein-2 distances of these laws.

    Kinds are a cut of the average-linkage tree. There are several only where the mean silhouette of the best cut is at
    least 0.75 and one Gaussian kind has as good a cut in at most 5 % of draws (Liu et al. 2008); otherwise one. A kind
    has three recordings or more, and a twentieth of all. Fits of one recording (other seeds, folds or settings) count
    once, by the mean of their laws: alike as they are, they would be taken for a kind.

    Parameters
    ----------
    fits : list of paths of result files or of fitted models, or DataFrame
        The table of a batch has a column `results` (path); rows whose `status`, where there is one, is not "done" are
        left out, and all other columns become labels of the fits.
    recordings : sequence, optional
        Name of the recording of each fit (after rows were left out); None: by the columns `recording` and `series` of
        the table, and in a list each fit is of another recording.
    horizon : float, optional
        Longest time in s; None: 64 of the widest bins. The shortest is the widest bin.
    condition : str, optional
        Name of a trial column with the same conditions in all recordings: the canonical correlations of latents at the
        same condition and time are computed where both fits have it.
    latents : list of DataArray (trial, time, latent), optional
        For these; None: those in the result files.
    random_state : int
        Seed of states, null and maps.

    Returns
    -------
    FitComparison
        A Dataset that prints a paragraph (`text`): `distance` (fit, fit_), 0 for equal flows and about 1 for a point
        against one that stays where it is; `cluster` (fit,), 0 the largest kind; `medoid` (kind,), the name of the most
        central fit; `alignment` (fit, latent, latent_) and `alignment_offset` (fit, latent_), with which
        ``z @ alignment + alignment_offset`` are latents of a fit in the coordinates of its medoid, and
        `alignment_error` (fit,), what of the flow they miss (0: nothing, about 1.4: all; NaN: another rank);
        `canonical_correlation` (fit, fit_, latent), NaN where it does not apply; `signature` (fit, table, band,
        quantile), the laws. Labels of the table are coordinates over `fit`.

    Raises
    ------
    TypeError
        If an item is neither a path nor a fitted model.
    ValueError
        If there are fewer than two fits, the table has no `results`, or `horizon` does not suit the bins.

    Notes
    -----
    Mirror images are one kind, and so are flows that differ only where no data were. What every fit of one kind misses
    alike (a linear model of a cycle) cannot be told.

    Examples
    --------
    >>> from nwb_lrrnn import LowRankDynamics
    >>> m = np.random.default_rng(0).standard_normal((50, 2))
    >>> points = [LowRankDynamics(m, gain * m, dt=0.02, tau=0.1) for gain in (0.1, 0.12, 0.08)]
    >>> turned = [LowRankDynamics(m, m @ [[2.0, -g], [g, 2.0]], dt=0.02, tau=0.1) for g in (1.4, 1.5, 1.6)]
    >>> compare_fits(points + turned).cluster.values
    array([0, 0, 0, 1, 1, 1])
    """
    given = as_fits(fits, recordings)
    bands = _bands(given, horizon)
    signatures = np.stack([flow_signature(fit.network, bands, random_state=random_state) for fit in given.fits])
    points = signatures.reshape(len(signatures), -1)
    points = points / np.sqrt(points.shape[1])
    distance = np.linalg.norm(points[:, None] - points[None], axis=-1)
    means = np.stack([points[given.recordings == k].mean(0) for k in range(given.n_recordings)])
    kinds = kinds_of(means, np.random.default_rng([random_state, 1]))
    cluster = kinds.labels[given.recordings]
    central = medoids(distance, cluster)
    correlations, shared = _correlations(given, condition, latents)
    names = np.array([fit.name for fit in given.fits], dtype=object)
    return FitComparison(
        {
            "distance": (("fit", "fit_"), distance),
            "cluster": ("fit", cluster),
            "medoid": ("kind", names[central]),
            **_maps(given, central[cluster], random_state),
            "canonical_correlation": (("fit", "fit_", "latent"), correlations),
            "signature": (("fit", "table", "band", "quantile"), signatures),
        },
        coords={
            "fit": names,
            "fit_": names,
            "table": ["moved", "apart"],
            "band": ("band", np.sqrt(bands[:-1] * bands[1:]), {"units": "s"}),
            "quantile": QUANTILES,
            **{_label(name): ("fit", as_labels(given.labels[name])) for name in given.labels},
        },
        attrs={
            "text": said(given, kinds, cluster, distance, float(bands[-1]), central, shared),
            "silhouette": kinds.silhouette,
            "p_value": kinds.p_value,
            "horizon": float(bands[-1]),
        },
    )


_TAKEN = (
    "distance",
    "cluster",
    "medoid",
    "alignment",
    "alignment_offset",
    "alignment_error",
    "canonical_correlation",
    "signature",
    "fit",
    "fit_",
    "kind",
    "latent",
    "latent_",
    "table",
    "band",
    "quantile",
)


def _label(column: object) -> str:
    """Return the name of a column of the table among the coordinates."""
    return f"label_{column}" if str(column) in _TAKEN else str(column)


def _bands(given: Given, horizon: float | None) -> Array:
    """Return the edges of bands of time (band + 1,) in s, equal in their logarithm."""
    steps = [fit.network.dt for fit in given.fits]
    shortest = max(steps)
    longest = _REACH * shortest if horizon is None else float(horizon)
    if not 2 * shortest <= longest < np.inf:
        raise ValueError(f"horizon: got {horizon} s, wanted at least two of the widest bins, {2 * shortest:.4g} s")
    if longest / min(steps) > _MOST_STEPS:
        raise ValueError(
            f"horizon: {longest:.4g} s are {longest / min(steps):.3g} bins of the fit with the narrowest, "
            f"{min(steps):.3g} s, wanted at most {_MOST_STEPS}; were some fits made without a bin size (1 s)?"
        )
    return np.geomspace(shortest, longest, _N_BANDS + 1)


def _maps(given: Given, onto: NDArray[np.int64], random_state: int) -> dict[str, tuple]:
    """Return the maps of all fits onto the latents of their medoids, NaN where ranks differ."""
    n, rank = len(given.fits), max(fit.network.rank for fit in given.fits)
    weights, offset, error = np.full((n, rank, rank), np.nan), np.full((n, rank), np.nan), np.full(n, np.nan)
    for k, fit in enumerate(given.fits):
        found = map_onto(fit.network, given.fits[onto[k]].network, np.random.default_rng([random_state, 2]))
        if found is not None:
            r = fit.network.rank
            weights[k, :r, :r], offset[k, :r], error[k] = found.map.weights, found.map.offset, found.error
    return {
        "alignment": (("fit", "latent", "latent_"), weights),
        "alignment_offset": (("fit", "latent_"), offset),
        "alignment_error": ("fit", error),
    }


def _correlations(given: Given, condition: str | None, latents: Any) -> tuple[Array, str]:
    """Return the canonical correlations (fit, fit_, latent) of latents in shared conditions, and a sentence."""
    n, rank = len(given.fits), max(fit.network.rank for fit in given.fits)
    table = np.full((n, n, rank), np.nan)
    if condition is None:
        if latents is not None:
            raise ValueError("condition: got None with latents, wanted the trial column whose conditions are shared")
        return table, "Latents are not correlated: no condition= says which trials are alike."
    courses = [None if z is None else courses_of(z, condition) for z in latents_of(given, latents)]
    for i in range(n):
        for j in range(i, n):
            found = canonical_correlations(courses[i], courses[j])
            if found is not None:
                table[i, j, : len(found)] = table[j, i, : len(found)] = found
    pairs = np.isfinite(table[..., 0]) & ~np.eye(n, dtype=bool)
    n_pairs = int(pairs.sum()) // 2
    if not n_pairs:
        return table, f"Latents are not correlated: no two fits have latents of the same two values of {condition!r}."
    first = np.median(table[..., 0][pairs])
    return table, (
        f"Latents of the same {condition!r} and time have a median first canonical correlation of {first:.2f} "
        f"({n_pairs} of {n * (n - 1) // 2} pairs share conditions)."
    )
