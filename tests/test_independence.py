"""Dependence between groups: closed forms, invariances, level and power."""

import numpy as np
import pytest
from scipy.signal import lfilter

from nwb_lrrnn.analysis.independence import dependence
from nwb_lrrnn.analysis.independence import surrogates as nulls
from nwb_lrrnn.analysis.independence.filtered import Pair, banks, whiten
from nwb_lrrnn.analysis.independence.partial_correlation import partial_correlation


def _autoregressive(rng, shape, decay):
    return np.asarray(lfilter([1.0], [1.0, -decay], rng.standard_normal(shape), axis=1))


def _last(n_bins, share=0.4):
    tested = np.zeros((1, n_bins), dtype=bool)
    tested[:, -int(share * n_bins) :] = True
    return tested


def _driven(rng, n_bins, gain):
    """Two groups of two latents; the first drives the second through a slow filter."""
    z = _autoregressive(rng, (1, n_bins, 4), 0.8)
    z[..., 2] += gain * lfilter([0.2], [1.0, -0.9], z[..., 0], axis=1)
    return z


@pytest.mark.parametrize("correlation", [0.0, 0.8])
def test_partial_correlation_of_gaussians_is_half_the_log_determinant(correlation):
    z = np.random.default_rng(0).multivariate_normal(np.zeros(2), [[1, correlation], [correlation, 1]], size=4000)
    # kernels of width h blur q, not the points: ln q is that of N(0, C + h^2 I), and its mean is over N(0, C)
    blurred = np.array([[1, correlation], [correlation, 1]]) + 0.2**2 * np.eye(2)
    joint = -0.5 * (
        np.linalg.slogdet(blurred)[1] + np.trace(np.linalg.solve(blurred, [[1, correlation], [correlation, 1]]))
    )
    expected = joint + np.log(1.04) + 1 / 1.04
    # a mean over 4000 points of a term with a spread of about 0.6 has a standard error of 0.01; kernels add noise
    assert partial_correlation(z, np.array([1, 2]), 0.2) == pytest.approx(expected, abs=0.05)


def test_partial_correlation_of_far_apart_points_is_finite():
    assert np.isfinite(partial_correlation(np.array([[0.0, 0.0], [1e6, 1e6], [2e6, -1e6]]), np.array([1, 2]), 0.1))


def test_result_does_not_change_with_linear_maps_within_groups():
    rng = np.random.default_rng(1)
    z = _driven(rng, 600, 0.5)
    mixed = z.copy()
    mixed[..., :2] = 100 * z[..., :2] @ rng.standard_normal((2, 2)) + 3
    a = dependence(z, None, (2, 2), tested=_last(600), leak=False, n_surrogates=60, random_state=0)
    b = dependence(mixed, None, (2, 2), tested=_last(600), leak=False, n_surrogates=60, random_state=0)
    # whitening leaves a rotation free, which the ridge, the spread of each moment and the filters' times see
    assert b.score == pytest.approx(a.score, abs=1e-8)
    assert np.log(b.p_value) == pytest.approx(np.log(a.p_value), abs=1.0)


@pytest.mark.parametrize("kind", ["window", "shift", "permutation"])
def test_p_values_are_uniform_for_independent_groups(kind):
    rng = np.random.default_rng(2)
    p = []
    for _ in range(15):
        if kind == "permutation":
            z, tested = _autoregressive(rng, (20, 10, 2), 0.8), None
        else:
            z, tested = _autoregressive(rng, (1, 250, 2), 0.8), _last(250) if kind == "window" else None
        found = dependence(z, None, (1, 1), tested=tested, null=kind, n_surrogates=40, leak=False, random_state=rng)
        p.append([found.filtered_p_values[0], found.kernel_p_values[0]])
    # of 15 uniform numbers the mean has a standard error of 0.075, and more than 1 below 0.01 come once in 100
    np.testing.assert_allclose(np.mean(p, 0), 0.5, atol=0.25)
    assert (np.array(p) < 0.01).sum(0).max() <= 1


def test_a_drive_through_a_filter_is_found():
    found = dependence(
        _driven(np.random.default_rng(3), 1500, 1.0), None, (2, 2), tested=_last(1500), n_surrogates=60, random_state=0
    )
    assert found.kind == "window"
    assert found.p_value < 0.01


def test_a_leak_is_no_alarm():
    rng = np.random.default_rng(0)
    fast, slow = _autoregressive(rng, (1, 900, 2), 0.5), 0.5 * _autoregressive(rng, (1, 900, 2), 0.9)
    leaking = np.concatenate([fast + 0.2 * slow[..., ::-1], slow - 0.2 * fast], axis=2)
    found = dependence(leaking, None, (2, 2), tested=_last(900), n_surrogates=60, random_state=0)
    assert found.filtered_p_values[0] > 0.01


def test_dependence_without_correlation_is_found_by_kernels():
    rng = np.random.default_rng(4)
    z = rng.standard_normal((40, 20, 2))
    z[..., 1] = z[..., 0] ** 2 + 0.5 * z[..., 1]
    found = dependence(z, None, (1, 1), n_surrogates=60, random_state=0)
    assert found.kind == "permutation"
    assert found.kernel_p_values[0] < 0.001
    assert found.score > 10 * found.null_sd


def test_dependence_within_a_condition_is_what_counts():
    rng = np.random.default_rng(5)
    conditions = np.repeat([0, 1], 20)
    z = rng.standard_normal((40, 15, 2)) + np.where(conditions, 2.0, -2.0)[:, None, None]
    assert dependence(z, None, (1, 1), n_surrogates=60, random_state=0).p_value < 0.01
    assert dependence(z, None, (1, 1), conditions=conditions, n_surrogates=60, random_state=0).p_value > 0.01


def test_only_the_coupled_pair_is_named():
    rng = np.random.default_rng(6)
    z = _autoregressive(rng, (1, 900, 3), 0.7)
    z[..., 2] += lfilter([0.3], [1.0, -0.9], z[..., 1], axis=1)
    found = dependence(z, None, (1, 1, 1), tested=_last(900), n_surrogates=60, random_state=0)
    assert found.pairs[int(np.argmin(found.pair_p_values))] == (1, 2)
    assert found.p_value < 0.01


def test_power_grows_with_the_recording():
    rng = np.random.default_rng(7)
    powers = [
        dependence(
            _autoregressive(rng, (1, n, 2), 0.9), None, (1, 1), tested=_last(n), n_surrogates=60, power_at=0.5
        ).power
        for n in (150, 3000)
    ]
    assert powers[0] < 0.5 < powers[1]


def test_shifts_stay_within_trials_and_apart():
    used = np.ones((3, 40), dtype=bool)
    used[1, 25:] = False
    worlds = nulls.shifts(used, 5, 30, np.random.default_rng(0))
    trial = np.nonzero(used)[0]
    np.testing.assert_array_equal(trial[worlds.right], np.broadcast_to(trial, worlds.right.shape))
    length = used.sum(1)[trial]
    steps = (worlds.right - worlds.left) % length
    assert (np.minimum(steps, length - steps) >= 5).all()


def test_permutations_keep_strata_and_time():
    used = np.ones((6, 4), dtype=bool)
    used[2, 2:] = False
    strata = np.array([0, 0, 0, 1, 1, 1])
    worlds = nulls.permutations(used, strata, 20, np.random.default_rng(0))
    trial, time = np.nonzero(used)
    present = worlds.right < len(trial)
    kept, moved = np.broadcast_to(np.arange(len(trial)), present.shape)[present], worlds.right[present]
    np.testing.assert_array_equal(strata[trial[kept]], strata[trial[moved]])
    np.testing.assert_array_equal(time[kept], time[moved])


def test_windows_leave_the_tested_bins():
    worlds = nulls.windows(100, 70, 30, 10, 40)
    starts = np.concatenate([worlds.left[:, 0], worlds.right[:, 0]])
    moved = starts[starts != 70]
    assert (np.abs(moved - 70) >= 10).all()
    assert max(worlds.left.max(), worlds.right.max()) < 100


def test_correlation_time_of_an_exponential():
    z = _autoregressive(np.random.default_rng(0), (1, 20000, 1), np.exp(-1 / 10))
    # first lag below 1/e, of an estimate with a relative error of a few per cent
    assert nulls.correlation_time(z, np.ones((1, 20000), dtype=bool))[0] == pytest.approx(11, abs=2)


def test_effective_number():
    rng = np.random.default_rng(0)
    white, slow = rng.standard_normal(2000), _autoregressive(rng, (1, 2000), 0.9)[0]
    runs = np.zeros(2000, dtype=np.int64)
    assert nulls.effective_number(white, None) == 2000
    assert nulls.effective_number(white, runs) > 1500
    # (1 - a) / (1 + a) of the number, estimated to a third
    assert nulls.effective_number(slow, runs) == pytest.approx(2000 / 19, rel=0.35)


def test_leak_directions_are_the_slopes_of_the_moments():
    rng = np.random.default_rng(8)
    z, used = _autoregressive(rng, (1, 20_000, 3), 0.7), np.ones((1, 20_000), dtype=bool)
    parts = [whiten(z[..., :2], used), whiten(z[..., 2:], used)]
    index = np.arange(20_000)
    worlds = nulls.shifts(used, 50, 20, rng)
    size = 0.02
    leaked = [parts[0] + size * parts[1] * np.array([1.0, 0.0]), parts[1]]
    before, after = (
        Pair.of(first, second, index, worlds) for first, second in (banks(p, used, [2.0]) for p in (parts, leaked))
    )
    moved = (after.observed * after.spread - before.observed * before.spread) / size
    slope = before.leak[:, 0] * before.spread
    # first order in the leak, and the slopes leave out what the groups share by chance: 1 / sqrt(20 000) of the size
    np.testing.assert_allclose(moved, slope, atol=0.05 * np.abs(slope).max())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"group_ranks": (2,)}, "at least two groups"),
        ({"group_ranks": (1, 2)}, "of that sum"),
        ({"null": "bootstrap"}, "wanted one of auto"),
        ({"null": "window"}, "use 'shift'"),
        ({"seen": np.ones((2, 3), dtype=bool)}, r"seen: got shape \(2, 3\)"),
        ({"conditions": [1, 2, 3]}, "wanted one per trial"),
        ({"latents": np.zeros((5, 2))}, r"wanted \(trial, time, latent\)"),
        ({"latents": np.full((1, 100, 2), np.nan)}, "NaN or infinity"),
        ({"tested": np.arange(100)[None] < 10}, "wanted at least 40"),
        ({"tested": np.arange(100)[None] < 99, "null": "window"}, "no other stretch"),
    ],
)
def test_refusals(change, message):
    arguments = {"latents": np.zeros((1, 100, 2)), "seen": None, "group_ranks": (1, 1), **change}
    with pytest.raises(ValueError, match=message):
        dependence(**arguments)
