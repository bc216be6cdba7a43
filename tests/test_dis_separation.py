"""Latents are turned into independent groups."""

import numpy as np
import pytest

from nwb_lrrnn.align import slices
from nwb_lrrnn.models.dis.grouping import best_partitions
from nwb_lrrnn.models.dis.lagged import joint_diagonal, lagged_covariances, windows
from nwb_lrrnn.models.dis.separation import Criterion, separate
from nwb_lrrnn.models.kernels.group_density import entropy, log_density


def _white(z):
    """Return z (point, latent) with zero mean and identity covariance."""
    z = z - z.mean(axis=0)
    return z @ np.linalg.inv(np.linalg.cholesky(z.T @ z / len(z))).T


def _mixed(sources, rng):
    """Return white latents (1, time, latent) that are a random map of the sources, and a mask that is all true."""
    z = _white(sources @ rng.standard_normal((sources.shape[1],) * 2))
    return z[None], np.ones((1, len(z)), dtype=bool)


def _oscillator(rng, n, frequency, rank=2):
    """Return a noisy rotation of the plane, (time, 2), or its first coordinate (time, 1)."""
    turn = 0.97 * np.array([[np.cos(frequency), -np.sin(frequency)], [np.sin(frequency), np.cos(frequency)]])
    noise = rng.standard_normal((n + 100, 2))
    x = np.zeros((n + 100, 2))
    for t in range(1, n + 100):
        x[t] = turn @ x[t - 1] + noise[t]
    return x[100:, :rank]


def _shells(rng, n, rank):
    """Return points without order in time near a sphere, whose coordinates are uncorrelated but dependent."""
    u = rng.standard_normal((n, rank))
    return u / np.linalg.norm(u, axis=1, keepdims=True) * (1.0 + 0.1 * rng.standard_normal((n, 1)))


def _lorenz(n):
    """Return a Lorenz attractor, (time, 3), Euler steps of 0.01, every fifth kept."""
    s, kept = np.array([1.0, 1.0, 20.0]), []
    for t in range(5 * (n + 100)):
        s = s + 0.01 * np.array([10 * (s[1] - s[0]), s[0] * (28 - s[2]) - s[1], s[0] * s[1] - 8 / 3 * s[2]])
        if t % 5 == 0:
            kept.append(s)
    return np.array(kept[100:])


def _r2(sources, found):
    """Return R2 of an affine fit, mean over the columns of `sources`."""
    design = np.column_stack([found, np.ones(len(found))])
    left = sources - design @ np.linalg.lstsq(design, sources, rcond=None)[0]
    return float(np.mean(1.0 - left.var(axis=0) / sources.var(axis=0)))


def _worst_group(groups, latents, matrix, ranks):
    """Return the lowest over true groups of the best R2 among the found ones."""
    found = latents[0] @ matrix
    return min(max(_r2(group, found[:, c]) for c in slices(ranks)) for group in groups)


@pytest.mark.parametrize("own", [0.0, 1.0])
def test_density_is_the_sum_of_kernels(own):
    points = np.random.default_rng(0).standard_normal((3, 40))
    squares = ((points[:, :, None] - points[:, None, :]) ** 2).sum(axis=0)
    kernels = np.exp(-squares / (2 * 0.7**2))
    np.fill_diagonal(kernels, own)
    expected = np.log(kernels.sum(axis=1) / (39 + own))
    # 1e-8: the fused exp is exact to 1e-10 per kernel, lonely points have few
    np.testing.assert_allclose(log_density(points, 0.7, own), expected, rtol=0, atol=1e-8)
    assert entropy(points, 0.7, own, np.empty_like(points)) == pytest.approx(-expected.mean(), abs=1e-8)


@pytest.mark.parametrize("own", [0.0, 1.0])
def test_slope_of_the_entropy_is_its_finite_difference(own):
    rng = np.random.default_rng(1)
    points, step = rng.standard_normal((2, 30)), rng.standard_normal((2, 30))
    slope, unused = np.empty_like(points), np.empty_like(points)
    entropy(points, 0.5, own, slope)
    h = 1e-5
    up, down = (entropy(points + sign * h * step, 0.5, own, unused) for sign in (1, -1))
    assert (slope * step).sum() == pytest.approx((up - down) / (2 * h), rel=1e-6)  # truncation is of order h^2


@pytest.mark.parametrize("ranks", [(3, 2), (1, 1, 1, 1, 1), (4, 1), (2, 2, 1)])
@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_slope_of_the_criterion_is_its_finite_difference(ranks, weight):
    rng = np.random.default_rng(2)
    latents, seen = _mixed(np.hstack([_lorenz(300), _oscillator(rng, 300, 0.3)]), rng)
    criterion = Criterion(windows(latents, seen, 300), latents[0, :100], weight)
    matrix, step = rng.standard_normal((5, 5)), rng.standard_normal((5, 5))
    slope = criterion.value(matrix, ranks)[1]
    h = 1e-5
    up, down = (criterion.value(matrix + sign * h * step, ranks)[0] for sign in (1, -1))
    # 1e-4: the ridge, 1e-6, is not blind to a change of basis within a group, as the slope takes the criterion to be
    assert (slope * step).sum() == pytest.approx((up - down) / (2 * h), rel=1e-4, abs=1e-5)


def test_criterion_does_not_see_the_basis_of_a_group():
    rng = np.random.default_rng(3)
    latents, seen = _mixed(np.hstack([_lorenz(300), _oscillator(rng, 300, 0.3)]), rng)
    criterion = Criterion(windows(latents, seen, 300), latents[0, :100], 0.3)
    matrix, within = rng.standard_normal((5, 5)), np.zeros((5, 5))
    within[:3, :3], within[3:, 3:] = rng.standard_normal((3, 3)), rng.standard_normal((2, 2))
    # 1e-4: the ridge
    assert criterion.value(matrix @ within, (3, 2))[0] == pytest.approx(criterion.value(matrix, (3, 2))[0], abs=1e-4)


@pytest.mark.parametrize(
    ("ranks", "bar", "orthogonal"),
    [
        ((2, 2, 2), 0.97, False),
        ((3, 2), 0.99, False),
        ((2, 3), 0.99, True),
        ((1, 1, 1), 0.95, False),
    ],
)
def test_groups_that_evolve_by_themselves_are_found(ranks, bar, orthogonal):
    rng = np.random.default_rng(4)
    groups = {
        (2, 2, 2): lambda: [_oscillator(rng, 1000, f) for f in (0.2, 0.4, 0.7)],
        (3, 2): lambda: [_lorenz(1000), _oscillator(rng, 1000, 0.3)],
        (2, 3): lambda: [_oscillator(rng, 1000, 0.3), _lorenz(1000)],
        (1, 1, 1): lambda: [_oscillator(rng, 1000, f, rank=1) for f in (0.2, 0.5, 1.0)],
    }[ranks]()
    latents, seen = _mixed(np.hstack(groups), rng)
    matrix, _ = separate(latents, seen, ranks, 0, orthogonal=orthogonal)
    # bars: linear noise-driven sources of 1000 bins are told apart to a few per cent, chaos to less; a rotation loses
    # besides the squared correlation that groups have by chance
    assert _worst_group(groups, latents, matrix, ranks) > bar - (0.02 if orthogonal else 0.0)


@pytest.mark.parametrize("ranks", [(2, 2), (1, 3), (1, 1, 1)])
def test_groups_without_dynamics_are_found_by_their_density(ranks):
    rng = np.random.default_rng(5)
    groups = [_shells(rng, 1000, rank) if rank > 1 else rng.uniform(size=(1000, 1)) for rank in ranks]
    latents, seen = _mixed(np.hstack(groups), rng)
    matrix, _ = separate(latents, seen, ranks, 0)
    assert _worst_group(groups, latents, matrix, ranks) > 0.98  # ICA of 1000 samples errs by about 1/1000 per pair


def test_short_recordings_of_slow_groups_are_separated_though_correlated():
    lorenz = _lorenz(400)
    slow = _oscillator(np.random.default_rng(6), 400, 0.02)
    latents, seen = _mixed(np.hstack([lorenz, slow]), np.random.default_rng(7))
    free, _ = separate(latents, seen, (3, 2), 0)
    turned, _ = separate(latents, seen, (3, 2), 0, orthogonal=True)
    np.testing.assert_allclose(turned.T @ turned, np.eye(5), atol=1e-10)
    for columns in slices((3, 2)):
        np.testing.assert_allclose(
            free[:, columns].T @ free[:, columns], np.eye(columns.stop - columns.start), atol=1e-10
        )
    score = _worst_group([lorenz, slow], latents, free, (3, 2))
    assert score > 0.96  # the oscillator turns once in 300 bins: the recording holds little more than one turn
    assert score > _worst_group([lorenz, slow], latents, turned, (3, 2))


def test_many_latents_are_grouped():
    rng = np.random.default_rng(8)
    groups = [_oscillator(rng, 1000, f) for f in (0.1, 0.25, 0.45, 0.7, 1.0, 1.4)]
    latents, seen = _mixed(np.hstack(groups), rng)
    matrix, _ = separate(latents, seen, (2,) * 6, 0)
    assert _worst_group(groups, latents, matrix, (2,) * 6) > 0.95


def test_lags_stay_within_trials():
    rng = np.random.default_rng(9)
    latents = rng.standard_normal((20, 16, 2))
    seen = np.ones((20, 16), dtype=bool)
    seen[:, 14:] = False
    spoilt = latents.copy()
    spoilt[~seen] = 1e6
    expected = np.sum([np.outer(x[t], x[t + 3]) for x in latents for t in range(11)], axis=0) / 220
    np.testing.assert_allclose(lagged_covariances(spoilt, seen, 3)[2], (expected + expected.T) / 2, atol=1e-12)
    found = windows(spoilt, seen, 1000)
    assert len(found.now) == 20 * 9  # bins 2 to 10 of 14 have two before and three after
    assert max(np.abs(z).max() for z in (found.now, *found.before, *found.after)) < 1e6
    joined, whole = latents[:, :14].reshape(1, 280, 2), np.ones((1, 280), dtype=bool)
    assert len(windows(joined, whole, 1000).now) == 275
    assert separate(joined, whole, (1, 1), 0)[1] != separate(spoilt, seen, (1, 1), 0)[1]


def test_trials_too_short_for_pairs_leave_the_density():
    rng = np.random.default_rng(10)
    groups = [_shells(rng, 600, 2), _shells(rng, 600, 2)]
    latents, seen = _mixed(np.hstack(groups), rng)
    assert not windows(latents.reshape(600, 1, 4), seen.reshape(600, 1), 100).after
    matrix, _ = separate(latents.reshape(600, 1, 4), seen.reshape(600, 1), (2, 2), 0)
    assert _worst_group(groups, latents, matrix, (2, 2)) > 0.98  # as above


def test_order_of_trials_does_not_matter():
    rng = np.random.default_rng(11)
    groups = [_oscillator(rng, 480, 0.2), _oscillator(rng, 480, 0.6)]
    latents = _mixed(np.hstack(groups), rng)[0].reshape(24, 20, 4)
    seen = np.ones((24, 20), dtype=bool)
    order = rng.permutation(24)
    one, other = (separate(x, seen, (2, 2), 0)[0] for x in (latents, latents[order]))
    flat = latents.reshape(-1, 4)
    # points of the density are every so many bins, so they change a little with the order
    assert min(max(_r2(flat @ one[:, a], flat @ other[:, b]) for b in slices((2, 2))) for a in slices((2, 2))) > 0.99


def test_equal_seeds_give_equal_bits():
    rng = np.random.default_rng(12)
    latents, seen = _mixed(np.hstack([_oscillator(rng, 300, 0.2), _oscillator(rng, 300, 0.6)]), rng)
    first, second = separate(latents, seen, (2, 2), 3), separate(latents, seen, (2, 2), 3)
    assert np.array_equal(first[0], second[0])
    assert first[1] == second[1]


def test_one_group_is_left_as_it_is():
    latents = np.random.default_rng(13).standard_normal((1, 50, 3))
    matrix, value = separate(latents, np.ones((1, 50), dtype=bool), (3,), 0)
    assert np.array_equal(matrix, np.eye(3))
    assert value == 0.0


def test_symmetric_matrices_with_common_axes_become_diagonal():
    rng = np.random.default_rng(14)
    axes = np.linalg.qr(rng.standard_normal((5, 5)))[0]
    rotation = joint_diagonal([axes @ np.diag(rng.standard_normal(5)) @ axes.T for _ in range(4)])
    np.testing.assert_allclose(np.sort(np.abs(axes.T @ rotation), axis=0)[:-1], 0, atol=1e-6)  # angles end at 1e-5


@pytest.mark.parametrize("sizes", [(3, 3), (1, 2, 3), (2, 2, 2), (6, 6), (7, 7)])
def test_members_that_belong_together_are_grouped(sizes):
    n = sum(sizes)
    place = np.random.default_rng(15).permutation(n)
    label = np.repeat(np.arange(len(sizes)), sizes)[place]

    def score(part):
        return -sum(label[i] == label[j] for i in part for j in part)

    parts = best_partitions(n, sizes, score, 3)[0]
    assert [len(part) for part in parts] == list(sizes)
    assert all(len({label[i] for i in part}) == 1 for part in parts)


def test_best_partitions_come_in_order():
    value = np.random.default_rng(16).standard_normal((6, 6))
    found = best_partitions(6, (3, 3), lambda part: sum(value[i, j] for i in part for j in part), 10)
    sums = [sum(value[i, j] for part in parts for i in part for j in part) for parts in found]
    assert len({tuple(sorted(parts)) for parts in found}) == 10  # all there are
    assert sums == sorted(sums)
