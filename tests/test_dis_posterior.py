"""The default posterior of `DisRNN` is the one that tells most of a unit that the network has not seen."""

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

import planted_groups as planted
from nwb_lrrnn import DisRNN

POSTERIORS = ("smoothed", "filtered", "delayed")
N_TRAIN = 18


def gains(others, unit, **settings):
    """Return how much better latents of other units predict `unit` (trial, time) on held-out trials than its mean."""
    model = DisRNN(4, **{"n_groups": 1, "n_bootstraps": 0, "scaling": "unit", **settings}).fit(others[:N_TRAIN])
    rest, found = unit[N_TRAIN:].ravel() - unit[:N_TRAIN].mean(), {}
    for posterior in (None, *POSTERIORS):
        z = model.transform(others, posterior=posterior)
        fit = LinearRegression().fit(z[:N_TRAIN].reshape(-1, 4), unit[:N_TRAIN].ravel())
        missed = unit[N_TRAIN:].ravel() - fit.predict(z[N_TRAIN:].reshape(-1, 4))
        found[posterior] = 0.5 * np.log(np.mean(rest**2) / np.mean(missed**2))
    return found


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("noise", ["readout", "recurrent"])
@pytest.mark.parametrize("sd", [0.2, 1.0])
def test_the_default_tells_most_of_a_unit_left_out(noise, sd, seed):
    X = getattr(planted, noise)(planted.network(seed=seed), 24, 60, sd=sd, seed=seed).observations
    units = (3, 12)
    found = [gains(np.delete(X, unit, axis=2), X[..., unit], random_state=0) for unit in units]
    default, smoothed, filtered, delayed = np.mean([list(one.values()) for one in found], axis=0)
    assert default == smoothed
    assert smoothed > filtered - 0.02  # of 0.3 to 2 nats, on 360 held-out bins
    assert smoothed > delayed - 0.01
    if noise == "readout":  # a bin of its own and those after it do tell something
        assert smoothed > delayed + 0.04


def test_no_posterior_tells_of_a_unit_that_has_nothing_to_do_with_the_others():
    X = planted.readout(planted.network(), 24, 60).observations
    alone = np.random.default_rng(5).standard_normal(X.shape[:2])
    assert max(gains(X, alone, random_state=0).values()) < 0.01
