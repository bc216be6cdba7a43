"""Planted networks: known dynamics that a fit must find again."""

import numpy as np
from scipy.optimize import brentq

from nwb_lrrnn.dynamics import LowRankDynamics

DT = 0.02


def oscillator(likelihood="gaussian", n_neurons=100, n_units=60, seed=0):
    """Return a rank-2 network with a limit cycle, z_1 ~ N(0, I), as the issue of known answers states it.

    Gaussian: noise variance = signal variance of every unit. Poisson: mean 0.5 counts per bin, s.d. of the rate 0.7 of
    its mean, over the network's own trajectories.
    """
    rng = np.random.default_rng(seed)
    m = rng.standard_normal((n_neurons, 2))
    n = m @ np.array([[2.2, 0.9], [-0.9, 2.2]])
    net = LowRankDynamics(m, n, dt=DT, tau=5 * DT)
    z = net.simulate(200, 200, random_state=1).latents.values.reshape(-1, 2)
    loadings = rng.standard_normal((n_units, 2))
    loadings /= (z @ loadings.T).std(0)[:, None]
    if likelihood == "gaussian":
        return net.replace(
            loadings=loadings, offset=rng.standard_normal(n_units), observation_variance=np.ones(n_units)
        )
    gains, offsets = np.array([_spiking(z @ c, 0.5 / DT, 0.7) for c in loadings]).T
    return net.replace(loadings=loadings * gains[:, None], offset=offsets, likelihood="poisson", link="softplus")


def relu_cycle(likelihood="gaussian", seed=0):
    """Return a rank-2 relu network (N 20, bins of 1, tau 10) with noise of s.d. 0.2 on a limit cycle, z_1 ~ N(0, I).

    Right vectors and drive are the ridge regression, on random neurons, of a field that turns by 0.35 rad a bin and
    pulls towards a radius of 2.5; neurons whose network runs away or comes to rest are drawn again. Gaussian: a unit
    is the current of each neuron, with noise of s.d. 0.1. Poisson: 40 units that read the latents, mean 0.5 counts per
    bin, s.d. of the rate 0.7 of its mean.
    """
    net = next(net for s in range(200) if _cycles(net := _turning_relu(np.random.default_rng(1000 * seed + s))))
    if likelihood == "gaussian":
        n = net.n_neurons
        return net.replace(
            readout="currents", loadings=np.ones(n), offset=np.zeros(n), observation_variance=np.full(n, 0.1**2)
        )
    z = net.simulate(100, 75, random_state=3).latents.values.reshape(-1, 2)
    loadings = np.random.default_rng(seed + 7).standard_normal((40, 2))
    loadings /= (z @ loadings.T).std(0)[:, None]
    gains, offsets = np.array([_spiking(z @ c, 0.5, 0.7) for c in loadings]).T
    return net.replace(loadings=loadings * gains[:, None], offset=offsets, likelihood="poisson", link="softplus")


def _turning_relu(rng, n_neurons=20, alpha=0.1, ridge=0.3):
    """Return a relu network whose one-step map approximates z -> rotation(0.35) z (1 + 0.3 clip(1 - |z| / 2.5))."""
    m, bias = rng.standard_normal((n_neurons, 2)), -rng.uniform(-2, 2, n_neurons)
    z = rng.uniform(-5, 5, (3000, 2))
    pull = np.clip(1 - np.linalg.norm(z, axis=1, keepdims=True) / 2.5, -1, 1)
    turn = np.array([[np.cos(0.35), -np.sin(0.35)], [np.sin(0.35), np.cos(0.35)]])
    target = (z @ turn.T * (1 + 0.3 * pull) - (1 - alpha) * z) / alpha
    features = np.column_stack([np.maximum(z @ m.T + bias, 0), np.ones(len(z))])
    penalty = ridge**2 * np.eye(n_neurons + 1)
    solved = np.linalg.solve(features.T @ features + penalty, features.T @ target)
    return LowRankDynamics(
        m, n_neurons * solved[:-1], dt=1.0, tau=1.0 / alpha, nonlinearity="relu", bias=bias, drive=solved[-1],
        latent_noise=0.2**2 * np.eye(2), initial_mean=np.zeros(2), initial_covariance=np.eye(2),
    )  # fmt: skip


def _cycles(net):
    """Return whether a network stays bounded and keeps moving in both dims."""
    z, path = np.array([1.0, 0.0]), []
    for _ in range(600):
        z = net.step(z)
        if not (np.abs(z) < 20).all():
            return False
        path.append(z)
    return np.std(path[200:], axis=0).min() > 1.3


def _spiking(signal, mean, relative_sd):
    """Return gain and offset such that softplus(gain * signal + offset) has this mean and s.d."""

    def rate(gain):
        offset = brentq(lambda d: np.logaddexp(0, gain * signal + d).mean() - mean, -20 * gain - 1e3, 20 * gain + 1e3)
        return np.logaddexp(0, gain * signal + offset), offset

    gain = brentq(lambda a: rate(a)[0].std() / mean - relative_sd, 0.1 * mean, 10 * mean)
    return gain, rate(gain)[1]


def lorenz(nonlinearity="tanh", n_neurons=100, n_units=60, seed=0):
    """Return a chaotic rank-3 network that moves like the Lorenz system, its attractor (time, latent), its exponent.

    The network's right vectors are the ridge regression of the standardised Lorenz field on random neurons.
    """
    rng = np.random.default_rng(seed)
    centre, scale, tau = np.array([0, 0, 23.5]), np.array([7.9, 9.0, 8.6]), 0.1

    def field(q):
        x, y, z = q.T
        return np.stack([10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z], 1)

    q, points = np.ones((1, 3)), []
    for _ in range(20_000):
        q = q + 0.005 * field(q)
        points.append(q[0])
    z = (np.array(points[1000::5]) - centre) / scale
    z = np.concatenate([z, z + 0.2 * rng.standard_normal(z.shape)])
    m, b = 0.6 * rng.standard_normal((n_neurons, 3)), rng.standard_normal(n_neurons)
    x = z @ m.T + b
    rates = np.column_stack([np.tanh(x) if nonlinearity == "tanh" else np.maximum(x, 0), np.ones(len(x))])
    target = z + tau * field(z * scale + centre) / scale
    solved = np.linalg.solve(rates.T @ rates / len(x) + 1e-6 * np.eye(n_neurons + 1), rates.T @ target / len(x))
    net = LowRankDynamics(
        m, n_neurons * solved[:-1], dt=DT, tau=tau, nonlinearity=nonlinearity, bias=b, drive=solved[-1]
    )
    path, exponent = attractor(net, np.array([0.1, 0.2, 0.3]))
    loadings = rng.standard_normal((n_units, 3))
    loadings /= (path @ loadings.T).std(0)[:, None]
    spread = np.cov(path.T)
    net = net.replace(
        loadings=loadings, offset=np.zeros(n_units), observation_variance=np.ones(n_units),
        initial_mean=path.mean(0), initial_covariance=spread, latent_mean=path.mean(0), latent_covariance=spread,
    )  # fmt: skip
    return net, path, exponent


def attractor(net, start, n_steps=5000, burn_in=1000):
    """Return where a network runs to (time, latent), and its largest Lyapunov exponent per second."""
    z, direction, growth, path = np.asarray(start), np.eye(net.rank)[0], 0.0, []
    for t in range(n_steps + burn_in):
        direction = net.jacobian(z) @ direction
        size = np.linalg.norm(direction)
        direction, z = direction / size, net.step(z)
        if t >= burn_in:
            growth += np.log(size)
            path.append(z)
    return np.array(path), growth / (n_steps * net.dt)


def cycle_frequency(net, n_steps=4000):
    """Return the frequency in Hz of the limit cycle that a rank-2 network runs to."""
    start = 0.5 if net.latent_mean is None else net.latent_mean + np.sqrt(np.diag(net.latent_covariance))
    z = net.simulate(1, n_steps, initial_latents=start * np.ones(2), random_state=0).latents.values[0]
    return frequency_of(z[n_steps // 2 :], net.dt)


def frequency_of(z, dt):
    """Return the mean frequency in Hz at which a planar path (time, 2) runs around its centre."""
    centred = (z - z.mean(0)) / z.std(0)
    phase = np.unwrap(np.angle(centred[:, 0] + 1j * centred[:, 1]))
    return abs(phase[-1] - phase[0]) / (2 * np.pi * dt * (len(z) - 1))
