"""The nonlinearities of model neurons: values, slopes, symmetries and averages over private noise."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from nwb_lrrnn.dynamics import HOMOGENEOUS, NONLINEARITIES, ODD
from nwb_lrrnn.dynamics.nonlinearity import noisy_phi, noisy_slope, phi, slope


def test_phi_by_hand():
    x, h = np.array([-2.0, 0.0, 0.5]), np.array([1.0, 1.0, 1.0])
    np.testing.assert_array_equal(phi("relu", x), [0, 0, 0.5])
    np.testing.assert_array_equal(phi("clipped_relu", x, h), [0, 1, 1])
    np.testing.assert_allclose(phi("softplus", x), np.log1p(np.exp(x)))
    np.testing.assert_array_equal(phi("identity", x), x)
    np.testing.assert_allclose(phi("tanh", x), np.tanh(x))
    # erf(sqrt(pi) x / 2) as the integral of exp(-pi t^2 / 4), so of unit slope at 0
    np.testing.assert_allclose(phi("erf", x)[2], quad(lambda t: np.exp(-np.pi * t**2 / 4), 0, 0.5)[0])


@pytest.mark.parametrize("name", NONLINEARITIES)
def test_slope_is_the_derivative(rng, name):
    x, h, step = rng.normal(size=200) * 2, np.full(200, 1.5), 1e-5
    smooth = (np.abs(x) > step) & (np.abs(x + h) > step)  # away from the kinks
    numeric = (phi(name, x + step, h) - phi(name, x - step, h)) / (2 * step)
    # the error is step^2 / 6 of the third derivative, and rounding / step
    np.testing.assert_allclose(slope(name, x, h)[smooth], numeric[smooth], atol=1e-9)


@pytest.mark.parametrize("name", NONLINEARITIES)
def test_symmetries_are_what_the_gauge_takes_them_for(rng, name):
    x, h, scale = rng.normal(size=50), np.full(50, 0.7), rng.uniform(0.2, 5, size=50)
    assert np.allclose(phi(name, -x, h), -phi(name, x, h)) == (name in ODD)
    assert np.allclose(phi(name, scale * x, scale * h), scale * phi(name, x, h)) == (name in HOMOGENEOUS)


@pytest.mark.parametrize("name", NONLINEARITIES)
@pytest.mark.parametrize("sd", [1e-200, 0.1, 1.0, 4.0])
def test_noisy_phi_against_quadrature(name, sd):
    x, h = np.array([-3.0, -0.4, 0.0, 0.7, 5.0]), np.full(5, 1.2)
    variance = np.full(5, sd**2)

    def average(function, centre):
        def integrand(u):
            return float(function(name, np.array(centre + sd * u), np.array(1.2))) * norm.pdf(u)

        kinks = [k for k in (-centre / sd, (-1.2 - centre) / sd) if abs(k) < 10]
        return quad(integrand, -10, 10, points=kinks or None, limit=300, epsabs=1e-12)[0]

    for exact, function in ((noisy_phi, phi), (noisy_slope, slope)):
        got = exact(name, x, variance, h)
        if sd < 1e-100:  # no noise; the slope at a kink has two sides
            np.testing.assert_allclose(got[x != 0], function(name, x, h)[x != 0], atol=1e-15)
        else:
            np.testing.assert_allclose(got, [average(function, centre) for centre in x], atol=1e-9)


@pytest.mark.parametrize("name", ["tanh", "softplus"])
@pytest.mark.parametrize("sd", [31.0, 33.0, 300.0, 1e12])
def test_noise_of_any_width_costs_the_same(name, sd):
    x = sd * np.array([-3.0, -0.4, 0.0, 0.7, 5.0])
    for exact, function in ((noisy_phi, phi), (noisy_slope, slope)):
        got = exact(name, x, np.full(5, sd**2))
        if sd < 1e3:  # the trapezoidal rule, nodes a twentieth of the width of tanh apart
            u = 0.05 * np.arange(-int(200 * sd), int(200 * sd))
            wanted = [0.05 * np.sum(function(name, c + u) * norm.pdf(u / sd) / sd) for c in x]
            np.testing.assert_allclose(got, wanted, atol=2e-8)
        else:  # a step
            step = {phi: 2 * norm.cdf(x / sd) - 1, slope: 2 * norm.pdf(x / sd) / sd}[function]
            relu = {phi: sd * (x / sd * norm.cdf(x / sd) + norm.pdf(x / sd)), slope: norm.cdf(x / sd)}[function]
            np.testing.assert_allclose(got, step if name == "tanh" else relu, rtol=1e-9, atol=1e-300)


@pytest.mark.parametrize("name", NONLINEARITIES)
def test_noisy_phi_against_draws_with_a_variance_per_neuron(rng, name):
    x, variance, h = np.array([-1.0, 0.3]), np.array([0.0, 2.0]), np.ones(2)
    values = phi(name, x + rng.normal(size=(200_000, 2)) * np.sqrt(variance), h)
    error = 5 * values.std(0) / np.sqrt(len(values)) + 1e-10  # five standard errors, and rounding of the mean
    np.testing.assert_array_less(np.abs(noisy_phi(name, x, variance, h) - values.mean(0)), error)


def test_noisy_phi_keeps_leading_axes(rng):
    x, variance = rng.normal(size=(3, 4, 2)), np.array([0.5, 1.0])
    for name in NONLINEARITIES:
        got = noisy_phi(name, x, variance, np.ones(2))
        assert got.shape == (3, 4, 2)
        np.testing.assert_allclose(got[1, 2], noisy_phi(name, x[1, 2], variance, np.ones(2)), atol=1e-14)
