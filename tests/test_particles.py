"""Weights and resampling: known values, and counts that keep what the scheme promises."""

import numpy as np

from nwb_lrrnn.models.particles import (
    log_mean_exp,
    noise_of_trial,
    normalised_weights,
    systematic_resample,
)


def test_log_mean_exp_survives_large_and_impossible_weights():
    np.testing.assert_allclose(log_mean_exp([1000.0, 1000.0 + np.log(3)]), 1000 + np.log(2))
    assert log_mean_exp([-np.inf, -np.inf]) == -np.inf
    np.testing.assert_allclose(log_mean_exp([-np.inf, 0.0]), -np.log(2))
    w = np.random.default_rng(0).standard_normal((3, 4, 5))
    np.testing.assert_allclose(log_mean_exp(w), np.log(np.exp(w).mean(-1)))


def test_impossible_weights_are_equal_ones():
    np.testing.assert_allclose(normalised_weights([-np.inf, -np.inf]), [0.5, 0.5])


def test_each_particle_is_drawn_nearly_its_share():
    rng = np.random.default_rng(1)
    log_w = rng.standard_normal((20, 50))
    index = systematic_resample(log_w, rng.uniform(size=20))
    counts = np.stack([np.bincount(row, minlength=50) for row in index])
    assert (np.abs(counts - 50 * normalised_weights(log_w)) < 1 + 1e-9).all()  # floor or ceil of K w


def test_resampling_is_unbiased():
    rng = np.random.default_rng(2)
    log_w = np.log([0.1, 0.2, 0.3, 0.4])
    n = 20_000
    index = systematic_resample(np.broadcast_to(log_w, (n, 4)), rng.uniform(size=n))
    share = np.bincount(index.ravel(), minlength=4) / index.size
    np.testing.assert_allclose(share, np.exp(log_w), atol=0.01)  # 4 standard errors of 20,000 multinomial rows
    assert (np.diff(index, axis=-1) >= 0).all()


def test_points_at_the_end_of_the_unit_interval_stay_inside():
    assert systematic_resample(np.log([1e-9, 1.0]), 1.0 - 1e-16).max() == 1


def test_unobserved_bins_at_the_end_of_a_trial_change_no_noise():
    rng = np.random.default_rng(0)
    values, seen = rng.standard_normal((9, 3)), np.ones((9, 3), dtype=bool)
    seen[2] = False
    longer = np.concatenate([values, np.zeros((4, 3))]), np.concatenate([seen, np.zeros((4, 3), dtype=bool)])
    for short, long in zip(noise_of_trial(1, values, seen, 2), noise_of_trial(1, *longer, 2), strict=True):
        np.testing.assert_array_equal(short.standard_normal(9), long.standard_normal(13)[:9])
    first, second = noise_of_trial(1, values, seen, 2)
    assert first.uniform() != second.uniform()
    seen[2] = True
    assert noise_of_trial(1, values, seen)[0].uniform() != noise_of_trial(1, *longer)[0].uniform()
