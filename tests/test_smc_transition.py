"""The transition fitted to pairs of latents: slopes by hand, and a planted network."""

import numpy as np
import pytest

from nwb_lrrnn.models.smc.transition import NEURONS, Transition

RANK, N, INPUTS, PAIRS = 2, 7, 2, 300


def drawn(nonlinearity, alpha, ridge):
    """Return pairs of latents of a nonlinear map, and parameters."""
    rng = np.random.default_rng(0)
    shapes = [(RANK, N), (N,), (INPUTS, N), (N,), ()]
    parts = {name: np.asarray(rng.standard_normal(shape)) for name, shape in zip(NEURONS, shapes, strict=True)}
    if alpha is not None:
        del parts["logit_alpha"]
    if nonlinearity != "clipped_relu":
        del parts["log_thresholds"]
    now, v = rng.standard_normal((PAIRS, RANK)), rng.standard_normal((PAIRS, INPUTS))
    then = 0.8 * now + np.tanh(now[:, ::-1]) + 0.3 * rng.standard_normal((PAIRS, RANK))
    return Transition(nonlinearity, alpha, now, then, v, 0.1 * rng.standard_normal((N, RANK)), ridge), parts


def value(transition, parts):
    return 0.5 * np.linalg.slogdet(transition.solve(parts).covariance)[1]


@pytest.mark.parametrize("alpha", [None, 0.3])
@pytest.mark.parametrize("nonlinearity", ["tanh", "erf", "relu", "clipped_relu", "softplus", "identity"])
@pytest.mark.parametrize("ridge", [1.0, 1e-4])
def test_slopes_equal_finite_differences(nonlinearity, alpha, ridge):
    transition, parts = drawn(nonlinearity, alpha, ridge)
    slopes = transition.slopes(parts, transition.solve(parts))
    step = 1e-6
    for name, part in parts.items():
        wanted = np.empty(part.shape)
        for at in np.ndindex(part.shape):
            moved = [part.copy(), part.copy()]
            moved[0][at] += step
            moved[1][at] -= step
            high, low = (value(transition, parts | {name: one}) for one in moved)
            wanted[at] = (high - low) / (2 * step)
        np.testing.assert_allclose(slopes[name], wanted, rtol=1e-5, atol=1e-7)  # rounding / step


def test_the_climb_finds_the_neurons_that_made_the_latents():
    transition, parts = drawn("tanh", None, 1e-6)
    rng = np.random.default_rng(1)
    x = transition.now @ parts["left_vectors"] + parts["bias"] + transition.inputs @ parts["input_weights"]
    then = 0.6 * transition.now + 0.4 * np.tanh(x) @ rng.standard_normal((N, RANK))
    then = then + 0.01 * rng.standard_normal(then.shape)
    planted = Transition("tanh", None, transition.now, then, transition.inputs, transition.centre, 1e-6)
    start = parts | {"left_vectors": parts["left_vectors"] + 0.2, "logit_alpha": np.asarray(1.0)}
    found = planted.climb(start, list(parts), 2000)
    sd = np.sqrt(np.diag(planted.solve(found).covariance))
    assert np.all(sd < 0.0115)  # that of the noise, 0.01
    assert np.sqrt(np.diag(planted.solve(start).covariance)).max() > 0.02


def test_the_order_of_the_neurons_does_not_matter():
    transition, parts = drawn("clipped_relu", None, 1e-2)
    order = np.random.default_rng(2).permutation(N)
    turned = {name: part[..., order] if part.ndim else part for name, part in parts.items()}
    other = Transition("clipped_relu", None, *_of(transition), transition.centre[order], 1e-2)
    assert value(other, turned) == pytest.approx(value(transition, parts), rel=1e-10)


def _of(transition):
    return transition.now, transition.then, transition.inputs
