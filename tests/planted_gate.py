"""A planted rank-1 network that integrates one of two inputs, whichever the context says, and its conditions."""

import numpy as np

from nwb_lrrnn.models.least_squares.field import fit_field_samples

STEPS = (18, 32, 5)  # context alone, inputs too, delay
LEVELS = (0.05, 0.15, 0.5)


def gated_integrator(n_neurons=512, dt=0.02, tau=0.1, seed=0):
    """Return the network; inputs are two signals and two contexts, and enter the neurons alone.

    Right vectors are the regression of dz/dt = 4 (signal of the context) + 0.3 (z - z^3) on random neurons.
    """
    rng = np.random.default_rng(seed)
    z = rng.uniform(-1.5, 1.5, (4000, 1))
    context, signals = rng.integers(0, 2, len(z)), rng.uniform(-0.6, 0.6, (len(z), 2))
    on = np.zeros((len(z), 2))
    on[np.arange(len(z)), context] = rng.uniform(0.5, 1.0, len(z))
    velocity = 4 * signals[np.arange(len(z)), context][:, None] + 0.3 * (z - z**3)
    field = fit_field_samples(
        z, velocity, tau=tau, n_neurons=n_neurons, inputs=np.hstack([signals, on]), input_mode="neuron", ridge=1e-4,
        rng=rng,
    )  # fmt: skip
    return field.to_dynamics(dt, filter_inputs=True, initial_mean=[0.0], initial_covariance=[[1e-4]])


def conditions(levels=LEVELS, steps=STEPS):
    """Return inputs (condition, time, 4): every pair of signed levels in both contexts."""
    signed = [sign * level for level in levels for sign in (-1, 1)]
    inputs = np.zeros((2 * len(signed) ** 2, sum(steps), 4))
    grid = [(context, a, b) for context in (0, 1) for a in signed for b in signed]
    for u, (context, a, b) in zip(inputs, grid, strict=True):
        u[:, 2 + context] = 1.0
        u[steps[0] : steps[0] + steps[1], :2] = a, b
    return inputs


def integrated_right(latents, inputs):
    """Return the fraction of conditions whose last latent has the sign of the signal that the context selects."""
    context = inputs[:, 0, 2:].argmax(1)
    signal = inputs[np.arange(len(inputs)), STEPS[0], context]
    return float((np.sign(latents[:, -1, 0]) == np.sign(signal)).mean())
