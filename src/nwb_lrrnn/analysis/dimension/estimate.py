"""`dimension_of_recording`: dimension, effective rank and time-scales of a recording, with their intervals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.analysis.dimension import memory
from nwb_lrrnn.analysis.dimension.chance import LEVEL, interval, p_of_nothing_shared, spread
from nwb_lrrnn.analysis.dimension.grains import Grains, grains_of
from nwb_lrrnn.analysis.dimension.pairs import Pairs, by_units, pairs_of
from nwb_lrrnn.analysis.dimension.products import Course, Products, lags_of, lagged_products, products_of
from nwb_lrrnn.analysis.dimension.reading import Recorded
from nwb_lrrnn.analysis.dimension.result import RecordedDimension
from nwb_lrrnn.analysis.dimension.spectrum import cross_validated
from nwb_lrrnn.analysis.dimension.table import as_table
from nwb_lrrnn.analysis.dimension.units import MOST_UNITS, Survey, survey
from nwb_lrrnn.analysis.dimension.wording import notes_of, paragraph
from nwb_lrrnn.parameters import choose

Array = NDArray[np.floating]

_FEWEST_SAMPLES = 10.0
_APART = 5.0  # times of an independent sample between two bins that are taken for independent
_STRETCH = 2.0  # the same, of the stretches that are drawn
_CLEAR = 3.0  # standard errors


def dimension_of_recording(
    X: Any,
    *,
    bin_size: float | None = None,
    n_population: float | None = None,
    private: Literal["auto", "poisson", "kept"] = "auto",
    random_state: int | None = 0,
) -> RecordedDimension:
    """Return how many dimensions the activity of a recording has, and its time-scales, without a fit.

    The dimension of activity with covariance C is (tr C)^2 / tr C^2, the participation ratio of its eigenvalues. Bins
    that are far apart give products of C with itself that are right whatever the length of the recording: with
    K_tt' = x_t . x_t', tr C^2 = <K_tt'^2> over independent t and t' (other trials, or five correlation times apart),
    and so on for (tr C)^2 and the diagonal. Of N units the dimension is N a^2 / (d + (N - 1) c), with a the mean
    variance, d the mean square of the variances and c the mean squared covariance of two units; a^2 / c of ever more
    units, which does not change when units are left out, is called the effective rank.

    Parameters
    ----------
    X : DataArray (trial, time, unit) or (time, unit), array, list of trials, or Recording
        Counts or values, in memory or on dask, which is read piece by piece. Of a `Recording` the spikes, in bins of
        `bin_size` or 20 ms, else its only series. NaN and bins that are not `observed` are left out.
    bin_size : float, optional
        Seconds, where X does not say; of a Recording, the bins of its spikes.
    n_population : float, optional
        Adds `dimension_of_population`: of so many units like these.
    private : {"auto", "poisson", "kept"}
        What is done about the noise that each unit has of its own. "poisson": of counts, the variance that a Poisson
        process adds is taken out, as by thinning spikes into two halves, averaged over all ways to do so. "kept": it
        counts as variance. "auto": "poisson" for counts, unless units vary less than Poisson counts do, and "kept" for
        the rest.
    random_state : int or None
        Seed of the draws behind intervals and p-value.

    Returns
    -------
    RecordedDimension
        A Dataset that prints as a paragraph. Numbers come with `_low` and `_high`, their 95 % interval from drawing
        stretches of the recording anew: `dimension`, `z_scored_dimension` (every unit divided by its standard
        deviation), `effective_rank` and `z_scored_effective_rank` (inf where units covary no more than can be seen;
        units are drawn anew too), `dimension_of_population`, `half_time` of the autocorrelation of single units and
        `half_time_of_components` (of the covariances between units, in which large components weigh most).
        `autocorrelation` and `component_autocorrelation` (lag,), `spectrum` (component,): shares of the variance,
        along axes from one half of the recording and in the other one. `attrs`: `shared` (1: units covary beyond
        chance), `p_value` of that, `private`, `quantity` (what the dimension is one of), `n_independent` (samples),
        `n_units`, `n_bins`, `n_trials`, `text` and more. The dimension of counts that share nothing is NaN.

    Raises
    ------
    ValueError
        If the recording holds fewer than ten independent samples, or fewer than two units that change; as the gate of
        every estimator does, if X is no recording.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((2000, 3)) @ rng.standard_normal((3, 40))
    >>> table = dimension_of_recording(X)
    >>> 2.5 < table["effective_rank"] < 3.5
    True
    """
    choose("private", private, ("auto", "poisson", "kept"))
    recorded = Recorded(_activity(X, bin_size), bin_size)
    found = survey(recorded)
    _check_units(found, recorded)
    if private == "poisson" and not found.are_counts:
        raise ValueError("private: got 'poisson', but X holds no counts; pass 'kept', or the counts of bins")
    rng = np.random.default_rng(random_state)
    work = _work_on(recorded, found, found.are_counts and private != "kept", rng)
    numbers, table_attrs = _numbers(work, found, private, n_population, rng)
    table = as_table(numbers, table_attrs, work.products.lags * recorded.bin_size, recorded.is_known)
    drawn = len(work.course.drawn) if len(work.course.drawn) < len(found.kept) else 0
    notes = notes_of(recorded.unit_ids, found.constant, found.copies, int((~found.trials).sum()), drawn)
    table.attrs["text"] = paragraph(table, notes)
    return table


@dataclass(frozen=True)
class _Work:
    """What was read, and how it is cut."""

    course: Course
    grains: Grains
    products: Products
    apart: NDArray[np.bool_]
    stretches: NDArray[np.integer]
    correlation: Array  # (lag,) of single units
    n_independent: float
    n_bins: int


def _activity(X: Any, bin_size: float | None) -> Any:
    """Return the activity in a Recording, anything else as it is."""
    contents = getattr(X, "fittable", None)
    if contents is None or not hasattr(X, "spikes"):
        return X
    if any(content.method == "spikes" for content in contents):
        return X.spikes(0.02 if bin_size is None else bin_size)
    return X.series(None, bin_size)


def _check_units(found: Survey, recorded: Recorded) -> None:
    n = len(found.kept)
    if n < 2:
        raise ValueError(
            f"X: {n} of {recorded.n_units} units change and are no copies of others, wanted two or more; dimension is "
            "a matter of units together"
        )


def _work_on(recorded: Recorded, found: Survey, is_poisson: bool, rng: np.random.Generator) -> _Work:
    """Return the products of a recording, or refuse one that is too short."""
    kept = found.kept
    drawn = np.arange(len(kept))
    if len(kept) > MOST_UNITS:
        drawn = np.sort(rng.choice(len(kept), MOST_UNITS, replace=False))
    lengths = np.where(found.trials, recorded.lengths, 0)
    lags = lags_of(lengths, len(kept))
    mean = found.mean[kept]
    course = Course(recorded, kept, drawn, mean, found.trials, int(lags[-1]))
    grains = grains_of(recorded.lengths, recorded.starts, found.trials, len(drawn))
    products = products_of(course, grains, lags, mean if is_poisson else None)
    rho = memory.correlation(products.autocovariance, products.n_pairs)
    of_grains = products.variances.sum(axis=1)[products.n_seen > 0]
    clear = of_grains.mean() > _CLEAR * of_grains.std() / np.sqrt(len(of_grains))
    seen = float(products.n_seen.sum())
    share = seen / lengths.sum()
    # of counts whose rates do not vary beyond chance, bins are as unrelated as Poisson counts are
    n_independent, one = memory.independent_samples(
        rho if clear or not is_poisson else np.zeros(len(rho)), lags, lengths, share
    )
    lag = min(_APART * one, (grains.stops.max() - grains.starts.min()) / 3)
    apart, stretches = grains.apart(lag), grains.stretches(min(_STRETCH * one, lag))
    if n_independent < _FEWEST_SAMPLES or not apart.any() or stretches.max() < 3:
        unit = "s" if recorded.is_known else "bins"
        raise ValueError(
            f"X: holds about {n_independent:.2g} independent samples, one in {one * recorded.bin_size:.3g} {unit}; "
            f"wanted {_FEWEST_SAMPLES:.0f} or more for a dimension: record longer, or pass more trials"
        )
    return _Work(course, grains, products, apart, stretches, rho, n_independent, int(seen))


def _numbers(
    work: _Work, found: Survey, private: str, n_population: float | None, rng: np.random.Generator
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the numbers with their intervals, and the attributes."""
    products, drawn = work.products, work.course.drawn
    kept = found.kept
    is_poisson = found.are_counts and private != "kept"
    sd = np.sqrt(found.variance[kept])
    variances = products.variances

    def pairs(scale: Array) -> Pairs:
        return pairs_of(products, variances, scale, drawn, work.apart, work.stretches)

    typical = np.full(len(kept), float(np.sqrt(np.mean(sd**2))))
    raw = pairs(typical)
    p_value = p_of_nothing_shared(pairs(sd), work.stretches, rng)
    shared = p_value <= LEVEL
    if is_poisson and private == "auto" and shared and _less_than_poisson(raw, products):
        is_poisson = False
        variances = products.variances + products.means + found.mean[kept]
        raw = pairs(typical)
    numbers: dict[str, Any] = {}
    known = shared or not found.are_counts
    for prefix, scale in (("", typical), ("z_scored_", sd)):
        numbers |= _dimensions(prefix, raw if not prefix else pairs(scale), work, scale, n_population, rng, known)
    numbers |= _times(work, shared, rng)
    numbers["spectrum"] = cross_validated(products, variances[:, drawn], work.stretches, shared)
    attrs = {
        "shared": int(shared),
        "p_value": p_value,
        "private": "poisson" if is_poisson else "kept",
        "quantity": "dimension of counts" if found.are_counts and not is_poisson else "dimension of the activity",
        "n_independent": work.n_independent,
        "n_stretches": int(work.stretches.max()) + 1,
        "n_units": len(kept),
        "n_bins": work.n_bins,
        "n_trials": int(found.trials.sum()),
    }
    return numbers, attrs


def _less_than_poisson(pairs: Pairs, products: Products) -> bool:
    """Return whether too little is left of the variances for the covariances: counts are more regular than Poisson."""
    limit = pairs.inverse_dimensions()[1]
    return bool(products.variances.sum() <= 0 or not np.isfinite(limit) or limit > 1.0 / 0.9)


def _dimensions(
    prefix: str, pairs: Pairs, work: _Work, scale: Array, n_population: float | None, rng: np.random.Generator,
    known: bool,
) -> dict[str, tuple[float, float, float]]:
    """Return dimension, effective rank and that of a population, each with its interval."""
    names = [f"{prefix}dimension", f"{prefix}effective_rank"]

    def inverses(counts: Array | None = None) -> Array:
        found = list(pairs.inverse_dimensions(counts))
        return np.array(found if n_population is None else [*found, pairs.inverse_dimension_of(n_population, counts)])

    if n_population is not None:
        names.append(f"{prefix}dimension_of_population")
    if not known:
        return dict.fromkeys(names, (np.nan, np.nan, np.nan))
    values = inverses()
    draws, n = spread(inverses, work.stretches, rng)
    more = _by_leaving_units_out(pairs, work, scale[work.course.drawn])
    found = {}
    for k, name in enumerate(names):
        spare = 0.0 if k == 0 else more if k == 1 else more * (1 - pairs.n_units / max(n_population or 1, pairs.n_units))
        found[name] = _inverse(values[k], draws[:, k], n, spare)
    return found


def _by_leaving_units_out(pairs: Pairs, work: _Work, scale: Array) -> float:
    """Return the standard error of 1 / effective rank that comes from which units were recorded, by the jackknife."""
    n = len(scale)
    if n < 4:
        return np.nan
    total, own = pairs.shared_sum(), by_units(work.products, scale, pairs.weights)
    variance = work.products.n_seen @ (work.products.variances[:, work.course.drawn] / scale**2)
    without = (total - 2 * own) / ((n - 1) * (n - 2))
    trace = (variance.sum() - variance) / (n - 1) / work.products.n_seen.sum()
    inverse = without / trace**2
    return float(np.sqrt((n - 1) / n * np.sum((inverse - inverse.mean()) ** 2)))


def _inverse(value: float, draws: Array, n: int, more: float) -> tuple[float, float, float]:
    """Return a dimension and its interval from its inverse, which may be 0 or less: of infinitely many dimensions."""
    low, high = interval(value, draws, n, more=more)
    if low > 0.3 * value > 0:  # far from 0: errors of a ratio are relative
        log_low, log_high = interval(
            float(np.log(value)), np.log(np.maximum(draws, 1e-300)), n, more=more / value
        )
        low, high = np.exp(log_low), np.exp(log_high)

    def turned(one: float) -> float:
        return np.nan if np.isnan(one) else 1.0 / one if one > 0 else np.inf

    return turned(value), turned(high), turned(low)


def _times(work: _Work, shared: bool, rng: np.random.Generator) -> dict[str, Any]:
    """Return autocorrelations and their half-times, in bins."""
    products = work.products
    lags = products.lags
    numbers: dict[str, Any] = {"autocorrelation": work.correlation}
    sums = {"half_time": (products.autocovariance, products.n_pairs)}
    if shared:
        sums["half_time_of_components"] = lagged_products(work.course, work.grains, products, work.apart)
        numbers["component_autocorrelation"] = memory.correlation(*sums["half_time_of_components"])
    else:
        numbers["component_autocorrelation"] = np.full(len(lags), np.nan)
    numbers["half_time_of_components"] = (np.nan, np.nan, np.nan)
    for name, (values, n_pairs) in sums.items():
        statistic: Callable[[Array | None], Array] = lambda counts=None, v=values, m=n_pairs: np.array(
            memory.half_time(memory.correlation(v, m, counts), lags)
        )
        value = float(statistic(None))
        draws, n = spread(statistic, work.stretches, rng)
        low, high = interval(value, draws, n)
        numbers[name] = value, max(low, 0.0), high
    return numbers
