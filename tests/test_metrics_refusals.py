"""What the metrics refuse, each in a sentence that says how to mend it."""

import numpy as np
import pytest
import xarray as xr

from nwb_lrrnn.analysis.metrics import (
    bits_per_spike,
    co_smoothing,
    co_smoothing_r2,
    compare_activity,
    forecast_scores,
    generation_scores,
    mean_rate_error,
    phase_surrogate,
    smooth_and_standardize,
    spectral_distance,
    state_space_divergence,
)
from nwb_lrrnn.dynamics import LowRankDynamics
from nwb_lrrnn.models.linear import LinearStateSpace, MeanRate
from nwb_lrrnn.models.low_rank import LowRankRNN
from test_metrics_of_models import linear

X3 = np.random.default_rng(0).standard_normal((2, 20, 3))


class ZeroFiller:
    """A model that does not know masks."""

    likelihood_, bin_size_, unit_ids_ = "poisson", 0.02, np.arange(4)

    def transform(self, X, *, inputs=None):
        return np.asarray(X) @ np.ones((4, 1))

    def inverse_transform(self, latents):
        return np.exp(latents @ np.ones((1, 4)))


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: state_space_divergence(xr.DataArray(X3, dims=("time", "trial", "unit")), X3), "data: got dims"),
        (lambda: spectral_distance(X3, "abc"), "generated: got no array of numbers"),
        (lambda: mean_rate_error(X3[0, 0], X3), r"data: got shape \(3,\)"),
        (lambda: compare_activity(X3, X3[:0]), "generated: got shape .* none empty"),
        (lambda: phase_surrogate(np.where(X3 > 1, np.nan, X3)), "data: got values that are not finite"),
        (lambda: state_space_divergence(X3, X3[..., :2]), "generated: got 2 units, wanted 3"),
        (lambda: spectral_distance(X3, X3[:, :9]), "generated: got trials of 9 bins, wanted 20"),
        (lambda: state_space_divergence(X3, X3, n_seeds=0), "n_seeds: got 0, wanted a whole number of at least 1"),
        (lambda: state_space_divergence(X3, X3, bandwidth=0.0), "bandwidth: got 0.0, wanted a finite number > 0"),
        (lambda: spectral_distance(X3, X3, smoothing=-1), "smoothing: got -1"),
        (lambda: spectral_distance(X3[:, :3], X3[:, :3]), "data: got trials of 3 bins, wanted at least 4"),
        (lambda: spectral_distance(X3, X3, smoothing=20), "smoothing: got 20 Hz, wanted less than 0.5 Hz"),
        (lambda: spectral_distance(0 * X3, X3), "data: no unit changes within a trial"),
        (lambda: mean_rate_error(X3, X3[:1]), "generated: got 20 bins, wanted 40"),
        (lambda: smooth_and_standardize(X3, n_bins=2), "n_bins: got 2, wanted a whole number of at least 3"),
        (lambda: generation_scores(linear(3), X3, n_steps=21), "n_steps: got 21, wanted at most 20"),
        (lambda: generation_scores(linear(4), X3), "generated: got 4 units, wanted 3"),
        (lambda: bits_per_spike([1, 0], [1.0], 0.5), "expected: got shape"),
        (lambda: bits_per_spike([0.5], [1.0], 0.5), "counts: got values that are no counts"),
        (lambda: bits_per_spike([0], [1.0], 0.5), "counts: got no spike"),
        (lambda: bits_per_spike([1], [-1.0], 0.5), "expected: got values that are negative"),
        (lambda: bits_per_spike([1], [0.0], 0.5), "expected: got 0 in a bin with a spike"),
        (lambda: bits_per_spike([1], [0.5], 0.0), "mean_counts: got 0 in a bin with a spike"),
        (lambda: co_smoothing(linear(3), X3, X3, [1]), "model: got a Gaussian one, .*call co_smoothing_r2"),
        (lambda: co_smoothing_r2(linear(3, "poisson"), X3, X3, [1]), "model: got a poisson one, .*call co_smoothing"),
        (lambda: co_smoothing_r2(linear(4), X3, X3, [1]), "X_train: got 3 units, wanted 4"),
        (lambda: co_smoothing_r2(linear(3), X3, X3, [5]), "held_out_units: got 5, which is no unit"),
        (lambda: co_smoothing_r2(linear(3), X3, X3, [True, False]), "held_out_units: got 2 booleans, wanted 3"),
        (lambda: co_smoothing_r2(linear(3), X3, X3, [0, 1, 2]), "held_out_units: got 3 of 3 units"),
        (lambda: co_smoothing_r2(linear(3), X3 * 0, X3 * 0, [1]), "unit 1 never differs from its mean"),
        (lambda: co_smoothing(linear(3, "poisson"), np.zeros((4, 5, 3)), np.ones((4, 5, 3)), [1]), "unit 1 has no sp"),
        (lambda: co_smoothing(ZeroFiller(), np.ones((4, 5, 4)), np.ones((4, 5, 4)), [1]), "ZeroFiller takes hidden"),
        (lambda: forecast_scores(linear(3), X3, [0]), "horizons: got 0, wanted a whole number"),
        (lambda: forecast_scores(linear(3), X3, [20]), "horizons: got .20., wanted bins ahead from 1 to 19"),
        (lambda: forecast_scores(linear(3), 0 * X3, [1]), "X: no unit changes among the bins 1 ahead"),
    ],
)
def test_values_that_do_not_fit_are_refused(call, text):
    with pytest.raises(ValueError, match=text):
        call()


def test_gaps_and_models_without_the_verbs_are_refused():
    gap = xr.DataArray(X3, dims=("trial", "time", "unit"), coords={"observed": ("time", np.arange(20) > 2)})
    with pytest.raises(ValueError, match="data: some bins are not observed"):
        spectral_distance(gap, X3)
    with pytest.raises(TypeError, match="model: got a object, wanted one with simulate"):
        generation_scores(object(), X3)
    with pytest.raises(TypeError, match="model: its simulate returned no observations"):
        generation_scores(LowRankDynamics([[1.0]], [[1.0]], dt=1, tau=1), X3)
    for function in (co_smoothing, co_smoothing_r2):
        with pytest.raises(TypeError, match="model: got a MeanRate without transform"):
            function(MeanRate().fit(X3), X3, X3, [1])
    with pytest.raises(TypeError, match="model: got a LinearStateSpace without .*; call fit first"):
        forecast_scores(LinearStateSpace(), X3, [1])
    net = linear(3).dynamics_
    with pytest.raises(ValueError, match="LowRankRNN.transform has no posterior="):
        forecast_scores(LowRankRNN.from_dataset(net.to_dataset()), X3, [1])
