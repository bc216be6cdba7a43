"""The regression in torch: the numbers of numpy, and not one wait for the device."""

import numpy as np
import pytest
import torch

from nwb_lrrnn.dynamics import NONLINEARITIES
from nwb_lrrnn.models.least_squares import on_device
from nwb_lrrnn.models.least_squares.features import draw_features
from nwb_lrrnn.models.least_squares.field import fit_field_samples
from nwb_lrrnn.models.least_squares.ridge import penalties, ridge, shares
from planted_fields import VAN_DER_POL, samples


@pytest.mark.parametrize("name", NONLINEARITIES)
def test_rates_and_regression_are_those_of_numpy(name):
    z, dz = samples(VAN_DER_POL, 200, 0)
    u, rng = np.random.default_rng(1).standard_normal((200, 1)), np.random.default_rng(0)
    features = draw_features(z, 20, nonlinearity=name, rng=rng, inputs=u)
    rates = features(z, u)
    np.testing.assert_allclose(on_device.rates_on("cpu", features, z, u), rates, atol=1e-12)
    weight = rng.uniform(size=200)
    for intercept in (True, False):
        wanted = ridge(rates, dz, 1e-5, weight=weight, intercept=intercept)
        found = on_device.ridge_on("cpu", rates, dz, penalties(1e-5, 20, 0), shares(weight, 200), intercept)
        for one, other in zip(found, wanted, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-9)


def test_nothing_waits_for_the_device():
    def there(*shape):
        return torch.empty(*shape, dtype=torch.float64, device="meta")

    rates = on_device.rates("tanh", there(50, 2), there(7, 2), there(7), there(7), there(50, 7))
    weights, offset = on_device.ridge(rates, there(50, 2), there(7), there(50), True)
    assert (weights.shape, offset.shape, weights.device.type) == ((7, 2), (2,), "meta")


def test_a_device_that_is_not_there_is_refused():
    z, dz = samples(VAN_DER_POL, 50, 0)
    with pytest.raises(ValueError, match="device: got 'abacus'"):
        fit_field_samples(z, dz, tau=1.0, n_neurons=5, device="abacus", rng=np.random.default_rng(0))


@pytest.mark.cuda
def test_a_gpu_gives_the_same_field():
    z, dz = samples(VAN_DER_POL, 500, 0)
    fields = [
        fit_field_samples(z, dz, tau=1.0, n_neurons=50, device=device, rng=np.random.default_rng(0))
        for device in ("cpu", "cuda")
    ]
    np.testing.assert_allclose(fields[0].velocity(z), fields[1].velocity(z), atol=1e-8)
