"""`dependence`: whether groups of latents go together more than chance does, in nats and as a p-value."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from nwb_lrrnn.align import slices
from nwb_lrrnn.analysis.independence import surrogates as nulls
from nwb_lrrnn.analysis.independence.filtered import Group, Pair, banks, filter_bank, whiten, without_leak
from nwb_lrrnn.analysis.independence.partial_correlation import partial_correlation
from nwb_lrrnn.analysis.independence.surrogates import Surrogates, effective_number

Array = NDArray[np.floating]
Mask = NDArray[np.bool_]

_N_POINTS = 400  # of the kernel density, whose cost grows with their square
_N_KERNEL = 150  # surrogates for it
_N_LEAK = 60  # surrogates that only weigh the moments by which a leak is found
_MOST_BINS = 20_000  # more are thinned: filtered latents of neighbouring bins are alike
_N_TIMES = 3
_N_COUPLINGS = 20
_FEWEST_BINS = 40
_APART = 2.0  # correlation times
_NULLS = ("auto", "window", "shift", "permutation")


class DependenceTest(NamedTuple):
    """How dependent groups are, and whether chance explains it."""

    score: float  # partial correlation by leave-one-out kernels, summed over pairs of groups, less its null; nats
    p_value: float  # of all pairs together
    null_sd: float  # of the score over surrogates
    kind: str  # of surrogates: window, shift or permutation
    n_surrogates: int
    effective_surrogates: float  # independent ones, at least, of any pair
    pairs: tuple[tuple[int, int], ...]
    pair_p_values: tuple[float, ...]
    filtered_p_values: tuple[float, ...]  # of the filtered latents of each pair
    kernel_p_values: tuple[float, ...]  # of the kernel density of each pair
    power: float  # share of simulated couplings of the size asked about that the test finds


def dependence(
    latents: ArrayLike,
    seen: ArrayLike | None,
    group_ranks: Sequence[int],
    *,
    tested: ArrayLike | None = None,
    conditions: ArrayLike | None = None,
    null: str = "auto",
    n_surrogates: int = 399,
    leak: bool = True,
    power_at: float | None = None,
    level: float = 0.01,
    random_state: int | np.random.Generator | None = None,
) -> DependenceTest:
    """Return the dependence between groups of latents beyond chance, with a p-value for all pairs together.

    Each pair of groups is tested for what the filtered past and future of one tells about the other (module
    `filtered`), and for dependence of any shape at one time (the partial correlation by leave-one-out kernels, on
    whitened groups: no scale enters). Each is compared with surrogates in which the groups are independent. Those of
    neighbouring shifts are alike, so the p-value is not a rank: the cube root of the statistic is nearly normal, and p
    is the tail of Student's t with as many degrees of freedom as there are independent surrogates, less one. The
    smallest p is multiplied by the number of tests (Bonferroni).

    Parameters
    ----------
    latents : array (trial, time, latent)
        Columns in the order of the groups. Any linear change within a group leaves the result as it is.
    seen : bool array (trial, time), or None
        Where there are latents; None: everywhere.
    group_ranks : sequence of int
        Latents of each group; two groups or more.
    tested : bool array (trial, time), optional
        Bins that are tested; in a single trial they must be contiguous. The rest gives surrogates. None: all.
    conditions : array (trial,), optional
        Trials change places only within a condition. Of five trials or more the mean of each bin over the trials of its
        condition does not count, and bins whose variance is more than twice the median bin's are scaled down to that.
    null : {"auto", "window", "shift", "permutation"}
        "window": one group is taken from another stretch of the recording. "shift": circularly shifted within trials.
        "permutation": trials change places. "auto": windows in a single trial of which a part is tested, shifts where
        trials are long or too few, else permutations.
    n_surrogates : int
        For each pair, at least 20.
    leak : bool
        Whether small leaks between groups, as an imperfect separation leaves, are taken out first.
    power_at : float, optional
        Correlation of the coupling whose detection is simulated; None: `power` is NaN.
    level : float
        Level of the test whose power is simulated.
    random_state : int, Generator or None
        Of shifts, permutations and simulated couplings.

    Raises
    ------
    ValueError
        If the ranks do not sum to the latents, there is one group only, or too few bins are tested.

    Examples
    --------
    >>> z = np.random.default_rng(0).standard_normal((40, 25, 2))
    >>> dependence(z, None, (1, 1), random_state=0).p_value > 0.01
    True
    >>> z[..., 1] += z[..., 0] ** 2
    >>> dependence(z, None, (1, 1), random_state=0).p_value < 0.01
    True
    """
    z, there, chosen = _arrays(latents, seen, tested, group_ranks)
    strata = _strata(conditions, len(z))
    rng = np.random.default_rng(random_state)
    n_surrogates = max(20, int(n_surrogates))
    times, slowest = _times(z, there)
    kind = _kind(null, there, chosen, strata, slowest)
    used = there if kind == "window" else chosen
    # what the time in the trial explains does not count
    if kind == "permutation":
        z = nulls.evened(nulls.without_mean(z, there, strata), there)
    else:
        z = nulls.without_mean(nulls.evened(nulls.without_time_in_trial(z, there, strata), there), there, None)
    used, chosen = _thinned(used, chosen)
    index = np.flatnonzero(chosen[used])
    apart = max(1, int(np.ceil(_APART * slowest * used.sum() / there.sum())))
    worlds = _surrogates(kind, used, index, strata, apart, n_surrogates, rng)
    parts = [z[..., part] for part in slices(group_ranks)]
    if leak:
        parts = without_leak(parts, chosen, used, times, worlds.thinned(_N_LEAK), index)
    parts = [whiten(part, chosen) for part in parts]
    seen_parts = banks(parts, used, times)
    pairs = tuple(combinations(range(len(parts)), 2))
    results, powers = [], []
    for g, h in pairs:
        pair = Pair.of(seen_parts[g], seen_parts[h], index, worlds)
        kernel = _kernel(seen_parts[g][0], seen_parts[h][0], index, worlds.thinned(_N_KERNEL))
        results.append((_filtered(pair, worlds), kernel))
        if power_at is not None:
            cut = level / (2 * len(pairs))
            world = _World(parts[g], parts[h], seen_parts[g], seen_parts[h], used, times)
            powers.append(_power(world, pair, worlds, power_at, cut, rng))
    return _collected(results, pairs, worlds, min(powers, default=float("nan")))


class _Tail(NamedTuple):
    p_value: float
    excess: float  # over the null's mean
    null_sd: float
    effective: float


def _tail(value: float, null: Array, runs: nulls.Index | None) -> _Tail:
    effective = effective_number(null, runs)
    mean, sd = float(null.mean()), float(null.std(ddof=1))
    if sd <= 0:
        return _Tail(1.0 if value <= mean else 0.0, value - mean, sd, effective)
    t = (value - mean) / (sd * np.sqrt(1 + 1 / effective))
    return _Tail(float(stats.t.sf(t, max(1.0, effective - 1))), value - mean, sd, effective)


def _filtered(pair: Pair, worlds: Surrogates) -> _Tail:
    value, null = pair.off_leak()
    return _tail(float(np.cbrt(value)), np.cbrt(null), worlds.runs)


def _kernel(first: Array, second: Array, index: nulls.Index, worlds: Surrogates) -> _Tail:
    """Return the partial correlation of two groups at evenly spaced bins, beside that of surrogates."""
    rows = np.unique(np.linspace(0, len(index) - 1, min(_N_POINTS, len(index))).astype(np.int64))
    d = first.shape[1]
    ends = np.array([d, d + second.shape[1]])
    bandwidth = len(rows) ** (-1.0 / (ends[-1] + 4))  # Scott's rule

    def at(left: nulls.Index, right: nulls.Index) -> float:
        left, right = left[rows], right[rows]
        there = (left < len(first)) & (right < len(second))
        points = np.concatenate([first[left[there]], second[right[there]]], axis=1)
        return partial_correlation(np.ascontiguousarray(points), ends, bandwidth)

    null = np.array([at(left, right) for left, right in zip(worlds.left, worlds.right, strict=True)])
    return _tail(at(index, index) if worlds.kind == "window" else at(*2 * [np.arange(len(first))]), null, worlds.runs)


def _collected(results: list[tuple[_Tail, _Tail]], pairs: tuple, worlds: Surrogates, power: float) -> DependenceTest:
    pair_p = [min(1.0, 2 * min(tail.p_value for tail in both)) for both in results]
    return DependenceTest(
        score=sum(kernel.excess for _, kernel in results),
        p_value=min(1.0, len(pairs) * min(pair_p)),
        null_sd=float(np.sqrt(sum(kernel.null_sd**2 for _, kernel in results))),
        kind=worlds.kind,
        n_surrogates=len(worlds),
        effective_surrogates=min(filtered.effective for filtered, _ in results),
        pairs=pairs,
        pair_p_values=tuple(pair_p),
        filtered_p_values=tuple(filtered.p_value for filtered, _ in results),
        kernel_p_values=tuple(kernel.p_value for _, kernel in results),
        power=power,
    )


def _times(z: Array, seen: Mask) -> tuple[list[float], float]:
    """Return the time constants of the filters, from the fastest latent's to the slowest's, and the latter, in bins."""
    each = nulls.correlation_time(z, seen)
    longest = max(2.0, float(np.median(seen.sum(1))) / 10)
    low, high = np.clip([each.min(), each.max()], 2.0, longest)
    times = [low] if high < 1.5 * low else list(np.geomspace(low, high, _N_TIMES))
    return [float(time) for time in times], float(each.max())


def _kind(null: str, seen: Mask, tested: Mask, strata: nulls.Index, slowest: float) -> str:
    if null not in _NULLS:
        raise ValueError(f"null: got {null!r}, wanted one of {', '.join(_NULLS)}")
    if null == "window" and (len(seen) > 1 or tested.sum() == seen.sum()):
        raise ValueError("null: got 'window' without bins beside the tested ones of a single trial; use 'shift'")
    if null != "auto":
        return null
    if len(seen) == 1:
        return "window" if tested.sum() <= 0.7 * seen.sum() else "shift"
    rows = tested.any(1)
    most = np.unique(strata[rows], return_counts=True)[1].max()
    is_long = np.median(tested[rows].sum(1)) >= max(nulls.LONG * slowest, nulls.LONG_BINS)
    return "shift" if is_long or most < nulls.FEWEST_TRIALS else "permutation"


def _surrogates(kind, used, index, strata, apart, n_surrogates, rng) -> Surrogates:
    if kind == "window":
        worlds = nulls.windows(int(used.sum()), int(index[0]), len(index), apart, n_surrogates)
        if len(worlds) < 20:
            raise ValueError(
                f"tested: got {len(index)} bins of {int(used.sum())}, which leaves no other stretch as long "
                f"{apart} bins away; test fewer, or pass null='shift'"
            )
        return worlds
    if kind == "shift":
        return nulls.shifts(used, apart, n_surrogates, rng)
    return nulls.permutations(used, strata, n_surrogates, rng)


def _thinned(used: Mask, tested: Mask) -> tuple[Mask, Mask]:
    step = -(-int(used.sum()) // _MOST_BINS)
    if step == 1:
        return used, tested
    kept = np.zeros_like(used)
    kept[:, ::step] = used[:, ::step]
    return kept, tested & kept


class _World(NamedTuple):
    """A pair of groups: latents (trial, time, latent), and (plain, bank) at the used bins."""

    first: Array
    second: Array
    first_seen: tuple[Array, Array]
    second_seen: tuple[Array, Array]
    used: Mask
    times: list[float]


def _power(
    world: _World, pair: Pair, worlds: Surrogates, correlation: float, cut: float, rng: np.random.Generator
) -> float:
    """Return the share of simulated couplings found: a filtered latent of one group enters one of the other.

    The groups come from surrogates, where they are independent, and are compared with the null of the data.
    """
    null = np.cbrt(pair.off_leak()[1])
    (plain, bank), (other_plain, other_bank) = world.first_seen, world.second_seen
    n_filters = other_bank.shape[1] // other_plain.shape[1]
    found = []
    for k in np.linspace(0, len(worlds) - 1, _N_COUPLINGS).astype(np.int64):
        left, right = worlds.left[k], worlds.right[k]
        there = (left < len(plain)) & (right < len(other_plain))
        left, right = left[there], right[there]
        into = rng.standard_normal(other_plain.shape[1])
        into /= np.linalg.norm(into)
        drive = world.first @ rng.standard_normal(plain.shape[1])
        drive = filter_bank(drive[..., None], world.times[-1:])[:, :, 1]  # of the past
        drive = drive / drive[world.used][left].std()
        added = filter_bank(drive, world.times)[world.used][left][..., 0]  # bin, filter
        mixing = np.eye(len(into)) + (np.sqrt(1 - correlation**2) - 1) * np.outer(into, into)
        filtered = other_bank[right].reshape(len(right), n_filters, -1) @ mixing
        filtered = (filtered + correlation * added[..., None] * into).reshape(len(right), -1)
        whole = np.arange(len(left))
        first = Group.at(plain[left], bank[left], whole)
        second = Group.at(other_plain[right] @ mixing + correlation * added[:, :1] * into, filtered, whole)
        found.append(_tail(np.cbrt(pair.of_others(first, second)), null, worlds.runs).p_value < cut)
    return float(np.mean(found))


def _arrays(
    latents: ArrayLike, seen: ArrayLike | None, tested: ArrayLike | None, ranks: Sequence[int]
) -> tuple[Array, Mask, Mask]:
    z = np.asarray(latents, dtype=np.float64)
    if z.ndim != 3:
        raise ValueError(f"latents: got shape {z.shape}, wanted (trial, time, latent)")
    if len(ranks) < 2 or min(ranks) < 1 or sum(ranks) != z.shape[2]:
        raise ValueError(
            f"group_ranks: got {tuple(ranks)} for {z.shape[2]} latents, wanted sizes of at least two groups of that sum"
        )
    masks = []
    for name, mask in (("seen", seen), ("tested", tested)):
        mask = np.ones(z.shape[:2], dtype=bool) if mask is None else np.asarray(mask, dtype=bool)
        if mask.shape != z.shape[:2]:
            raise ValueError(f"{name}: got shape {mask.shape}, wanted (trial, time) = {z.shape[:2]}")
        masks.append(mask)
    seen_, tested_ = masks[0], masks[0] & masks[1]
    if not np.isfinite(z[seen_]).all():
        raise ValueError("latents: got NaN or infinity in seen bins; mark them False in seen")
    fewest = max(_FEWEST_BINS, 4 * z.shape[2])
    if tested_.sum() < fewest:
        raise ValueError(f"tested: got {int(tested_.sum())} bins, wanted at least {fewest}")
    return np.where(seen_[..., None], z, 0.0), seen_, tested_


def _strata(conditions: ArrayLike | None, n_trials: int) -> nulls.Index:
    if conditions is None:
        return np.zeros(n_trials, dtype=np.int64)
    values = np.asarray(conditions)
    if values.shape != (n_trials,):
        raise ValueError(f"conditions: got shape {values.shape}, wanted one per trial, ({n_trials},)")
    return np.unique(values.astype(str), return_inverse=True)[1].astype(np.int64)
