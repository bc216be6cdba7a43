"""The fused observation kernels against plain torch, scipy and finite differences."""

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import expit

from nwb_lrrnn.dynamics.fields import DIMS
from nwb_lrrnn.dynamics.likelihoods import LIKELIHOODS as TABLE
from nwb_lrrnn.dynamics.likelihoods import Likelihood
from nwb_lrrnn.dynamics.links import LINKS
from nwb_lrrnn.models.observation import likelihoods, readouts
from nwb_lrrnn.models.observation.readouts import Data, Readout

LIKELIHOODS = [
    Likelihood("gaussian", "identity", 1.0),
    Likelihood("poisson", "softplus", 0.05),
    Likelihood("poisson", "exp", 0.05),
    Likelihood("bernoulli", "logit", 0.002),
]


def problem(likelihood, by_unit=False, nets=2, windows=5, steps=7, units=11, rank=3):
    rng = np.random.default_rng(0)
    latents = torch.tensor(rng.normal(size=(nets, windows, steps, rank)))
    loadings, offset = torch.tensor(rng.normal(size=(nets, units, rank))), torch.tensor(rng.normal(size=(nets, units)))
    readout = Readout(loadings, offset, torch.tensor(rng.uniform(0.5, 2.0, size=(nets, units))))
    counts = likelihood.name != "gaussian"
    y = rng.poisson(0.7, size=(windows, steps, units)) if counts else rng.normal(size=(windows, steps, units))
    y = np.minimum(y, 1) if likelihood.name == "bernoulli" else y
    seen = rng.random((windows, steps, units if by_unit else 1)) > 0.3
    y = torch.tensor(np.where(seen, y, 0.0))
    constants = (
        -(torch.lgamma(y + 1)).sum((1, 2))
        if likelihood.name == "poisson"
        else torch.zeros(windows, dtype=torch.float64)
    )
    return readout, latents, Data(y, torch.tensor(seen, dtype=torch.float64), constants)


@pytest.mark.parametrize("by_unit", [False, True])
@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=lambda x: f"{x.name}-{x.link}")
def test_fused_value_gradient_and_curvature_equal_torch(likelihood, by_unit):
    readout, latents, data = problem(likelihood, by_unit)
    weights = torch.tensor(np.random.default_rng(1).normal(size=(2, 5)))
    results = []
    for kernels in (True, False):
        leaves = [t.clone().requires_grad_() for t in (latents, *readout)]
        value = readouts.log_likelihood(likelihood, Readout(*leaves[1:]), leaves[0], data, kernels=kernels)
        (value * weights).sum().backward()
        grads = [torch.zeros_like(t) if t.grad is None else t.grad for t in leaves]
        curvature = readouts.curvature(likelihood, readout, latents, data, kernels=kernels)
        results.append([value.detach(), *grads, *curvature])
    for fused, plain in zip(*results, strict=True):
        torch.testing.assert_close(fused, plain, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=lambda x: f"{x.name}-{x.link}")
def test_log_likelihood_equals_scipy(likelihood):
    readout, latents, data = problem(likelihood)
    value = readouts.log_likelihood(likelihood, readout, latents, data).numpy()
    eta = readouts.predictor(readout, latents).numpy()
    y, seen = data.y.numpy(), data.seen.numpy()
    if likelihood.name == "gaussian":
        log_p = stats.norm.logpdf(y, eta, np.sqrt(readout.spread.numpy())[:, None, None])
    elif likelihood.name == "bernoulli":
        log_p = stats.bernoulli.logpmf(y, expit(eta))
    else:
        rate = np.logaddexp(0, eta) if likelihood.link == "softplus" else np.exp(eta)
        log_p = stats.poisson.logpmf(y, rate * likelihood.bin_size)
    np.testing.assert_allclose(value, (log_p * seen).sum((2, 3)), rtol=1e-11)


@pytest.mark.parametrize("eta", [-300.0, -44.5, -36.0, -31.0, -29.0, 0.0, 29.0, 60.0, 400.0])
@pytest.mark.parametrize("count", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("likelihood", [LIKELIHOODS[1], LIKELIHOODS[3]], ids=["poisson", "bernoulli"])
def test_extreme_rates_are_finite_and_equal_torch(likelihood, eta, count):
    if count > 1 and likelihood.name == "bernoulli":
        return
    likelihood = likelihood._replace(bin_size=0.02)
    one = torch.ones((1, 1, 1), dtype=torch.float64)
    readout = Readout(one, torch.full((1, 1), eta - 1.0, dtype=torch.float64), one[0])
    data = Data(one * count, one, -torch.lgamma(one[0, 0] * count + 1))  # 0 where a bin holds 0 or 1
    values = [readouts.log_likelihood(likelihood, readout, one[None], data, kernels=k) for k in (True, False)]
    assert torch.isfinite(values[0]).all()
    torch.testing.assert_close(values[0], values[1], rtol=1e-9, atol=1e-9)
    slopes = [readouts.curvature(likelihood, readout, one[None], data, kernels=k)[0] for k in (True, False)]
    torch.testing.assert_close(slopes[0], slopes[1], rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", ["gaussian", "poisson", "negative_binomial"])
def test_every_likelihood_runs_on_the_meta_device_without_a_host_sync(name):
    likelihood = Likelihood(name, "identity" if name == "gaussian" else "softplus", 0.1)
    readout, latents, data = problem(likelihood)
    readout = Readout(*(t.to("meta").requires_grad_() for t in readout))
    data, latents = Data(*(t.to("meta") for t in data)), latents.to("meta")
    readouts.log_likelihood(likelihood, readout, latents, data).sum().backward()
    assert readout.loadings.grad is not None
    readouts.curvature(likelihood, readout, latents, data)


def test_curvature_is_the_expected_curvature():
    # Fisher information = E[slope^2] over y ~ Poisson(mean): a sum over counts, exact to the truncation at 60
    likelihood = Likelihood("poisson", "softplus", 0.3)
    readout, latents, data = problem(likelihood, units=1, nets=1, windows=1, steps=1, rank=1)
    ones = torch.ones((1, 1, 1), dtype=torch.float64)
    eta = readouts.predictor(readout, latents)
    mean = 0.3 * np.logaddexp(0, float(eta))
    expected = 0.0
    for k in range(60):
        slope, information = readouts.curvature(likelihood, readout, latents, Data(ones * k, ones, ones[0, 0]))
        expected += stats.poisson.pmf(k, mean) * float(slope) ** 2
    np.testing.assert_allclose(float(information), expected, rtol=1e-10)


def test_every_likelihood_of_the_table_has_its_torch_and_codes_of_its_own():
    assert set(likelihoods._OF) == set(TABLE)
    codes = [code for family in TABLE.values() for code in family.codes.values()]
    assert sorted(codes) == list(range(len(codes)))
    assert all(set(family.codes) <= set(family.links) <= set(LINKS) for family in TABLE.values())
    assert all(family.spread is None or family.spread in DIMS for family in TABLE.values())
