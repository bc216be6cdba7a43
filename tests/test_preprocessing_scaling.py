"""`SquareRoot`, `ZScore`, `SoftNormalise`, `PCADenoise`, `DeltaFOverF`: closed forms, gaps, ways back, refusals."""

import numpy as np
import pandas as pd
import pytest

import nwb_lrrnn as lr
from small_preprocessing import kinds, trials


def test_the_square_root_makes_poisson_variance_one_quarter(rng):
    roots = lr.SquareRoot().fit_transform(rng.poisson([20.0, 100.0, 400.0], size=(20000, 3)))
    # Var = 1/4 + 3/(32 lambda) + O(1/lambda^2); the variance of 20000 draws is known to 1 %, here 4 sd
    np.testing.assert_allclose(roots.var(axis=0), 0.25, rtol=0.05)


def test_a_negative_value_is_named(rng):
    X = trials(rng)
    X.values[3, 8, 2] = -2.0
    message = "X: Negative values in data: -2 at trial 13, time -0.6, unit 102; the square root wants counts"
    with pytest.raises(ValueError, match=message):
        lr.SquareRoot().fit(X)
    lazy = lr.SquareRoot().fit(X.chunk(trial=2, time=5)).transform(X.chunk(trial=2, time=5, unit=2))
    with pytest.raises(ValueError, match=message):
        lazy.compute()
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": [4.0, -1.0]}, index=["x", "y"])
    with pytest.raises(ValueError, match="-1 at trial 0, time y, unit b"):
        lr.SquareRoot().fit(frame)


def test_z_scores_have_mean_0_and_sd_1_over_what_is_observed(rng):
    X = trials(rng, gaps=True)
    step = lr.ZScore().fit(X)
    seen = X.where(X["observed"]).values.reshape(-1, 4)
    np.testing.assert_allclose(step.mean_, np.nanmean(seen, axis=0), rtol=1e-13)
    np.testing.assert_allclose(step.scale_, np.nanstd(seen, axis=0), rtol=1e-13)
    Z = step.transform(X).where(X["observed"]).values.reshape(-1, 4)
    np.testing.assert_allclose(np.nanmean(Z, axis=0), 0.0, atol=1e-13)
    np.testing.assert_allclose(np.nanstd(Z, axis=0), 1.0, rtol=1e-13)


def test_statistics_are_those_of_the_training_data(rng):
    step = lr.ZScore().fit(np.array([[0.0], [2.0]]))
    np.testing.assert_array_equal(step.transform(np.array([[5.0]])), [[4.0]])


def test_constant_and_unseen_units_are_divided_by_1():
    x = np.array([[1e9 + 0.1, np.nan, 1.0]] * 6)
    x[0, 2] = 7.0
    step = lr.ZScore().fit(x)
    np.testing.assert_array_equal(step.scale_[:2], 1.0)
    np.testing.assert_array_equal(step.transform(x)[:, 0], 0.0)
    soft = lr.SoftNormalise(offset=0.0).fit(x)
    np.testing.assert_array_equal(soft.range_, [0.0, 0.0, 6.0])
    np.testing.assert_array_equal(soft.scale_, [1.0, 1.0, 6.0])


def test_moments_far_from_zero_keep_their_digits(rng):
    x = 1e8 + rng.standard_normal((1000, 1))
    lazy = trials(rng, shape=(4, 250, 1)).copy(data=x.reshape(4, 250, 1)).chunk(trial=1, time=10)
    assert lr.ZScore().fit(lazy).scale_[0] == pytest.approx(x.std(), rel=1e-6)  # x has 1e-8 of them


def test_soft_normalisation_divides_by_range_plus_offset(rng):
    X = trials(rng, gaps=True)
    seen = X.where(X["observed"]).values.reshape(-1, 4)
    span = np.nanmax(seen, axis=0) - np.nanmin(seen, axis=0)
    step = lr.SoftNormalise(offset=5.0).fit(X)
    np.testing.assert_allclose(step.range_, span, rtol=1e-15)
    np.testing.assert_allclose(step.transform(X).values[1, 10], X.values[1, 10] / (span + 5.0), rtol=1e-15)


@pytest.mark.parametrize("step", [lr.ZScore(), lr.SoftNormalise(offset=2.0)], ids=repr)
@pytest.mark.parametrize("kind", list(kinds(trials(np.random.default_rng(0)))))
def test_the_inverse_leads_back_in_every_kind(step, kind, rng):
    X = kinds(trials(rng, gaps=True))[kind]
    back = step.inverse_transform(step.fit_transform(X))
    assert type(back) is (np.ndarray if kind == "numbers" else type(X))
    for a, b in zip(back, X, strict=True) if "ragged" in kind else [(back, X)]:
        # arrays cannot hide their 1e6, beside which a mean keeps 1e-10
        np.testing.assert_allclose(a, b, rtol=1e-9)
        assert getattr(a, "attrs", None) == getattr(b, "attrs", None)


def test_an_inverse_out_of_turn_is_noted(rng):
    X = trials(rng)
    step = lr.ZScore().fit(X)
    assert step.inverse_transform(X).attrs["preprocessing"] == ["inverse of ZScore()"]
    lazy = step.inverse_transform(step.transform(X.chunk(time=5)))
    assert lazy.chunks is not None
    np.testing.assert_allclose(lazy.values, X.values, rtol=1e-12)


def test_data_of_low_rank_come_back_and_noise_beside_it_goes(rng):
    basis = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    signal = rng.standard_normal((4, 50, 2)) @ basis[:2] * 3.0 + 1.5
    np.testing.assert_allclose(lr.PCADenoise(rank=2).fit_transform(signal), signal, atol=1e-12)
    step = lr.PCADenoise(rank=2).fit(signal)
    beside = signal + 0.7 * basis[4]  # orthogonal to the components
    np.testing.assert_allclose(step.transform(beside), signal, atol=1e-12)
    np.testing.assert_allclose(step.components_ @ step.components_.T, np.eye(2), atol=1e-12)
    assert step.explained_variance_ratio_.sum() == pytest.approx(1.0, abs=1e-12)
    hidden = signal.copy()
    hidden[2, 7, [0, 3]] = np.nan  # the rest determines the scores: nothing changes where it is seen
    shown = ~np.isnan(hidden)
    np.testing.assert_allclose(lr.PCADenoise(2).fit(signal).transform(hidden)[shown], signal[shown], atol=1e-11)


def test_components_are_those_of_the_covariance_of_complete_bins(rng):
    X = trials(rng, gaps=True)
    rows = X.where(X["observed"]).values.reshape(-1, 4)
    rows = rows[~np.isnan(rows).any(axis=1)]
    variances = np.linalg.eigvalsh(np.cov(rows.T, bias=True))[::-1]
    step = lr.PCADenoise(rank=3).fit(X)
    np.testing.assert_allclose(step.explained_variance_ratio_, variances[:3] / variances.sum(), rtol=1e-12)
    np.testing.assert_allclose(step.mean_, rows.mean(axis=0), rtol=1e-13)


def test_the_baseline_is_a_percentile_of_what_is_observed(rng):
    X = trials(rng, gaps=True)
    seen = X.where(X["observed"]).values.reshape(-1, 4)
    step = lr.DeltaFOverF(percentile=20.0).fit(X)
    np.testing.assert_allclose(step.baseline_, np.nanpercentile(seen, 20.0, axis=0), rtol=1e-14)
    np.testing.assert_allclose(step.transform(X).values[1, 9], X.values[1, 9] / step.baseline_ - 1, rtol=1e-12)
    lazy = lr.DeltaFOverF(percentile=20.0).fit([X[k].chunk(time=6) for k in range(5)])
    np.testing.assert_allclose(lazy.baseline_, step.baseline_, rtol=1e-14)


def test_a_running_baseline_follows_the_bleaching():
    decay = np.exp(-np.arange(400) / 200)[:, None]
    decay[100] *= 1.5
    step = lr.DeltaFOverF(percentile=50.0, window=5)
    y = step.fit_transform(decay)
    assert y[100, 0] == pytest.approx(decay[100, 0] / decay[99, 0] - 1, rel=1e-12)  # 99 is the median of 98..102
    assert np.abs(np.delete(y, np.arange(98, 103))).max() < 0.011  # edges: the median lies up to 2 bins away
    assert step.baseline_ is None
    x = np.array([3.0, 1.0, np.nan, 9.0, 5.0])[:, None]
    by_hand = [np.nanmedian(x[max(0, t - 1) : t + 2]) for t in range(5)]
    y = lr.DeltaFOverF(percentile=50, window=3).fit_transform(x)[:, 0]
    np.testing.assert_allclose(y, np.where(np.isnan(x[:, 0]), np.nan, x[:, 0] / by_hand - 1), rtol=1e-12)


def test_a_baseline_that_is_not_positive_is_refused(rng):
    X = trials(rng)
    X.values[..., 1] = 0.0
    with pytest.raises(ValueError, match="X: the baseline F0 is 0 at unit 101, wanted > 0; add back the offset"):
        lr.DeltaFOverF().fit(X)
    with pytest.raises(ValueError, match="the baseline F0 is 0 at trial 10, time -1, unit 101"):
        lr.DeltaFOverF(window=0.5).fit(X)
    lazy = lr.DeltaFOverF(window=0.5).fit_transform(X.chunk(time=10))
    with pytest.raises(ValueError, match=r"the baseline F0 is 0 at trial 1., time (-1|-0.5|0|0.5), unit 101"):
        lazy.compute()
    with pytest.raises(ValueError, match="X: Negative values in data: the baseline F0 is -"):
        lr.DeltaFOverF().fit(X - 50)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (lr.SoftNormalise(offset=-1), "offset: got -1, wanted a finite number >= 0, in the units of X"),
        (lr.DeltaFOverF(percentile=101), "percentile: got 101, wanted at most 100"),
        (lr.DeltaFOverF(percentile=None), "percentile: got None, wanted a finite number >= 0 and <= 100"),
        (lr.DeltaFOverF(window=0.01), "window: got 0.01, wanted at least one bin, 0.05 s"),
        (lr.PCADenoise(rank=5), "rank: got 5, wanted at most 4, the number of units; lower rank"),
        (lr.PCADenoise(rank=1.5), "rank: got 1.5, wanted a whole number >= 1"),
    ],
)
def test_wrong_parameters_are_refused(step, message, rng):
    with pytest.raises(ValueError, match=message):
        step.fit(trials(rng))


def test_denoising_needs_complete_bins():
    x = np.full((5, 2), np.nan)
    x[:3, 0] = x[3:, 1] = 1.0
    with pytest.raises(ValueError, match="X: got 0 bins observed in all units, wanted at least 2"):
        lr.PCADenoise(rank=1).fit(x)
