"""D_stsp: how far the states that a model visits are from those that the data visit."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwb_lrrnn.analysis.metrics.series import positive, read_pair, whole

Array = NDArray[np.float64]

RULES = ("all", "published")
_BLOCK = 2_000_000  # distances held at a time, 16 MB


def state_space_divergence(
    data: Any,
    generated: Any,
    *,
    bandwidth: float = 1.0,
    n_samples: int = 1000,
    max_points: int = 10_000,
    n_seeds: int = 10,
    random_state: int | np.random.Generator | None = 0,
) -> xr.Dataset:
    r"""Return the divergence D_stsp of generated from recorded states, in nats, averaged over Monte Carlo seeds.

    .. math::

        D = \frac{1}{S} \sum_s \ln \hat p(x_s) - \ln \hat q(x_s), \quad x_s \sim \hat p, \quad
        \hat p(x) = \frac{1}{T} \sum_t N(x; x_t, \sigma^2 I)

    p is the kernel density of the data and q that of the generated series, in the space of all units (Koppe et al.
    2019; as in Pals et al. 2024). Two rules are reported. "all" works with logarithms and keeps every sample.
    "published" forms both densities in single precision, without the constant of the normal density, and drops the
    samples where one of them is 0 (ln density below about -103.6); it cuts off the tail that tells most, so that a bad
    model looks better than it is.

    Parameters
    ----------
    data, generated : DataArray or array (trial, time, unit) or (time, unit), or DataFrame
        Recorded and generated values, in units where `bandwidth` is a sensible width: z-scored for 1.0. Trials follow
        each other in time.
    bandwidth : float
        sigma, in units of X.
    n_samples : int
        Samples S of a seed.
    max_points : int
        The first so many time points of each are used.
    n_seeds : int
        Independent repetitions.
    random_state : int, Generator or None
        Seed of the samples.

    Returns
    -------
    Dataset
        `divergence` (rule,) with its s.d. over seeds `seed_sd` (rule,; NaN for one seed), `rule` being "all" and
        "published", and `dropped_fraction` (), the share of samples that the published rule drops. Where it drops all
        samples of a seed its divergence is NaN.

    Raises
    ------
    ValueError
        If the arrays have other dims, gaps or units, or a number is out of range.

    Examples
    --------
    >>> x = np.random.default_rng(0).standard_normal((500, 3))
    >>> result = state_space_divergence(x, 2 * x)
    >>> result.divergence.sel(rule="all").round(1).item(), result.dropped_fraction.item()
    (0.5, 0.0)
    """
    first, second = read_pair(data, generated)
    sigma, limit = positive("bandwidth", bandwidth), whole("max_points", max_points)
    n_samples, n_seeds = whole("n_samples", n_samples), whole("n_seeds", n_seeds)
    states = first.reshape(-1, first.shape[2])[:limit] / sigma  # (point, unit)
    others = second.reshape(-1, second.shape[2])[:limit] / sigma
    centre = states.mean(axis=0)  # distances as |a|^2 + |b|^2 - 2ab lose digits far from 0
    states, others = states - centre, others - centre
    values, dropped = np.empty((2, n_seeds)), np.empty(n_seeds)
    for k, rng in enumerate(np.random.default_rng(random_state).spawn(n_seeds)):
        samples = states[rng.integers(len(states), size=n_samples)]
        samples = samples + rng.standard_normal(samples.shape)
        values[:, k], dropped[k] = _divergences(samples, states, others)
    sd = values.std(axis=1, ddof=1) if n_seeds > 1 else np.full(2, np.nan)
    return xr.Dataset(
        {
            "divergence": ("rule", values.mean(axis=1), {"units": "nats"}),
            "seed_sd": ("rule", sd, {"units": "nats"}),
            "dropped_fraction": ((), dropped.mean()),
        },
        coords={"rule": list(RULES)},
        attrs={"bandwidth": sigma, "n_samples": n_samples, "n_seeds": n_seeds},
    )


def _divergences(samples: Array, states: Array, others: Array) -> tuple[tuple[float, float], float]:
    """Return the divergence under both rules, and the fraction that the published one drops."""
    (log_p, p), (log_q, q) = log_densities(samples, states), log_densities(samples, others)
    kept = (p > 0) & (q > 0)
    published = float(np.mean(np.log(p[kept]) - np.log(q[kept]))) if kept.any() else np.nan
    return (float(np.mean(log_p - log_q)), published), float(1.0 - kept.mean())


def log_densities(samples: Array, centres: Array) -> tuple[Array, NDArray[np.float32]]:
    """Return ln of the mean of exp(-|x - x_t|^2 / 2) at each sample, and that mean as single precision has it.

    Parameters
    ----------
    samples, centres : arrays (sample, unit), (point, unit)
        In units of the bandwidth.
    """
    log_density, single = np.empty(len(samples)), np.empty(len(samples), dtype=np.float32)
    half_square = 0.5 * (centres**2).sum(axis=1)
    rows = max(1, _BLOCK // len(centres))
    for begin in range(0, len(samples), rows):
        block = samples[begin : begin + rows]
        exponent = block @ centres.T  # (sample, point), from here on in place
        exponent -= half_square
        exponent -= 0.5 * (block**2).sum(axis=1)[:, None]
        np.minimum(exponent, 0.0, out=exponent)  # -|x - x_t|^2 / 2, whatever rounding says
        largest = exponent.max(axis=1)
        exponent -= largest[:, None]
        kernel = np.exp(exponent, out=exponent)
        log_density[begin : begin + rows] = largest + np.log(kernel.mean(axis=1))
        kernel *= np.exp(largest)[:, None]
        total = kernel.astype(np.float32).sum(axis=1)  # kernels below 2^-150 are lost here, as in single precision
        single[begin : begin + rows] = total / np.float32(len(centres))
    return log_density, single
