"""Whether groups go on by themselves: closed forms, and what must not matter."""

import numpy as np
import pytest

from nwb_lrrnn.analysis.independence.autonomy import autonomy, inside, loss_p_value


def cycle(seed, n_bins, angle=0.4, sd=0.05):
    """Return a noisy limit cycle (time, 2) of radius 1."""
    rng = np.random.default_rng(seed)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    z, out = np.array([1.0, 0.0]), np.empty((n_bins, 2))
    for t in range(n_bins):
        out[t] = z
        z = turn @ z * (1.3 - 0.3 * z @ z) + sd * rng.standard_normal(2)
    return out


def ar(seed, n_bins, decay=0.8, drive: np.ndarray | float = 0.0):
    """Return an autoregression (time, 1), driven by the bin before of `drive`."""
    noise = np.random.default_rng(seed).standard_normal(n_bins)
    drive = np.broadcast_to(drive, n_bins)
    out = np.zeros(n_bins)
    for t in range(1, n_bins):
        out[t] = decay * out[t - 1] + drive[t - 1] + noise[t]
    return out[:, None]


def halves(n_bins):
    time = np.arange(n_bins)[None]
    return time < 0.6 * n_bins, time >= 0.65 * n_bins


def of(z, ranks, matrix=None, **options):
    matrix = np.eye(z.shape[-1]) if matrix is None else matrix
    return autonomy(z[None], matrix, ranks, *halves(len(z)), **options)


def alone(n_bins=2000):
    return np.concatenate([cycle(0, n_bins), ar(1, n_bins)], axis=1)


def test_groups_that_go_on_by_themselves_gain_nothing_by_others():
    found = of(alone(), (2, 1))
    assert found.gains.shape == (2, 16)
    # what 2 + 4 useless features of 1200 bins cost is 6 / (2 * 1200) nats; ridge leaves less
    assert np.abs(found.gains.mean(1)).max() < 0.01
    assert found.p_values.min() > 0.05


def test_a_driven_group_gains_by_what_drives_it():
    z = cycle(0, 2000)
    found = of(np.concatenate([z, ar(1, 2000, drive=1.5 * z[:, 0])], axis=1), (2, 1))
    assert found.p_values[1] < 1e-3
    assert found.p_values[0] > 0.05  # the cycle is not driven back


def test_a_split_of_a_cycle_loses_likelihood_and_one_of_independent_latents_does_not():
    assert loss_p_value(of(cycle(0, 1500), (2,)), of(cycle(0, 1500), (1, 1))) < 1e-3
    two = np.concatenate([ar(0, 1500), ar(1, 1500, 0.5)], axis=1)
    assert loss_p_value(of(two, (2,)), of(two, (1, 1))) > 0.05


def test_likelihood_of_an_autoregression_is_that_of_its_noise():
    # three bins ahead: variance 1 + a^2 + a^4; the density is Student's t of 4 degrees with that variance as its scale
    n, variance = 6000, 1 + 0.8**2 + 0.8**4
    rng = np.random.default_rng(0)
    draws = rng.standard_normal(200_000)
    wanted = np.mean(-0.9808 - 2.5 * np.log1p(draws**2 / 4)) - 0.5 * np.log(variance)  # ln of 3/8, t's height at 0
    found = of(ar(1, n), (1,)).log_likelihood.mean()
    assert found == pytest.approx(wanted, abs=0.03)  # sd of a mean over 6000 bins, correlated over 3: 0.013


def test_density_is_of_the_latents_whatever_the_scale_of_the_groups():
    z = alone(600)
    found = of(z, (2, 1)).log_likelihood
    np.testing.assert_allclose(of(z, (2, 1), np.diag([2.0, 0.5, -3.0])).log_likelihood, found, atol=1e-9)
    np.testing.assert_allclose(of(2.0 * z, (2, 1)).log_likelihood, found - 3 * np.log(2), atol=1e-9)
    np.testing.assert_allclose(of(z + 5.0, (2, 1)).log_likelihood, found, atol=1e-9)


def test_a_change_within_a_group_hardly_matters():
    z, rng = alone(1500), np.random.default_rng(2)
    matrix = np.eye(3)
    matrix[:2, :2] = np.linalg.qr(rng.standard_normal((2, 2)))[0] @ np.diag([1.0, 2.0])
    before, after = of(z, (2, 1)), of(z, (2, 1), matrix)
    # not exact: ridge and the clipping of extremes see the axes
    assert after.log_likelihood.mean() == pytest.approx(before.log_likelihood.mean(), abs=0.02)
    mixed = np.eye(3)
    mixed[2, 0] = 1.0  # across groups
    assert of(z, (2, 1), mixed).log_likelihood.mean() < before.log_likelihood.mean() - 0.1


@pytest.mark.parametrize(("ahead", "back"), [(3, 2), (2, 1), (1, 0)])
def test_windows_lie_within_trials_and_masks(ahead, back):
    mask = np.random.default_rng(0).random((6, 15)) < 0.8
    wanted = [(k, t) for k in range(6) for t in range(back, 15 - ahead) if mask[k, t - back : t + ahead + 1].all()]
    assert wanted
    assert list(zip(*map(np.ndarray.tolist, inside(mask, ahead, back)), strict=True)) == wanted
    assert len(inside(mask[:, : ahead + back], ahead, back)[0]) == 0


def test_what_is_in_neither_part_does_not_matter():
    z = np.stack([alone(60) for _ in range(12)])
    trained, tested = np.zeros((2, 12, 60), dtype=bool)
    trained[:7, :50], tested[8:, 5:50] = True, True
    before = autonomy(z, np.eye(3), (2, 1), trained, tested)
    z[~(trained | tested)] = 1e6
    after = autonomy(z, np.eye(3), (2, 1), trained, tested)
    np.testing.assert_array_equal(after.log_likelihood, before.log_likelihood)
    np.testing.assert_array_equal(after.gains, before.gains)


def test_nothing_is_learnt_from_tested_bins():
    z = alone(600)
    found = of(z, (2, 1)).log_likelihood
    z[390:] = np.random.default_rng(0).standard_normal((210, 3))  # tested: from 0.65 of 600
    changed = of(z, (2, 1)).log_likelihood
    np.testing.assert_array_equal(changed[:9], found[:9])  # 355 of 560 windows are of trained bins: 10 of 16 blocks
    assert (changed[11:] < found[11:]).all()


def test_short_trials_are_foretold_less_far():
    z = np.stack([ar(k, 3) for k in range(120)])
    trained = np.broadcast_to(np.arange(120)[:, None] < 80, (120, 3))
    assert np.isfinite(autonomy(z, np.eye(1), (1,), trained, ~trained).log_likelihood).all()


def test_gains_are_left_out_on_demand():
    assert of(alone(600), (2, 1), others=False).gains.size == 0
    assert of(alone(600), (3,)).p_values.size == 0  # one group has no others


def test_too_few_bins():
    z = alone(70)
    with pytest.raises(ValueError, match=r"X: got 41 bins to learn from and 23 to test, wanted at least 60 and 20"):
        of(z, (2, 1))
