"""Planted networks of two independent groups of latents, small and quick, that a fit must find again.

A group of two latents is a limit cycle: unit i reads the latents along a_i, n directions evenly around the circle, and

    z[t+1] = (2 g / n) R(theta) sum_i a_i tanh(a_i' z[t] + e_i[t]) + w[t],

R a rotation; at rest the map is g R, so g > 1 makes a cycle whose angle moves by theta a bin. A group of one latent,
z[t+1] = (g / n) sum_i s_i tanh(s_i z[t] + e_i[t]) + w[t] with signs s_i, switches between two states, its w five times
the others'. Units belong to one group each, so that the groups are independent exactly, noise that feeds back included.
"""

from dataclasses import dataclass, replace

import numpy as np

ANGLES = (0.45, 0.17)  # rad per bin of the first and the second cycle
GAINS = (1.6, 2.2)
SWITCHING, SHAKEN = 1.15, 5.0  # gain of a group of one latent, and its latent noise relative to the others'
BURN_IN = 60

QUICK = {  # of a DisRNN: nothing to choose, no error bars
    "scaling": "unit",
    "noise": "readout",
    "n_bootstraps": 0,
    "random_state": 0,
}


@dataclass(frozen=True)
class Network:
    """y[t] = A z[t] + c + e[t], z[t+1] = B tanh(y[t] or A z[t] + c) + d + w[t]."""

    left_vectors: np.ndarray  # A (unit, latent)
    right_vectors: np.ndarray  # B (latent, unit)
    bias: np.ndarray  # c (unit,)
    drive: np.ndarray  # d (latent,)
    group_ranks: tuple[int, ...]

    def sub_connectivity(self, group: int) -> np.ndarray:
        """Return A_g B_g (unit, unit)."""
        end = int(np.sum(self.group_ranks[: group + 1]))
        columns = slice(end - self.group_ranks[group], end)
        return self.left_vectors[:, columns] @ self.right_vectors[columns]


@dataclass(frozen=True)
class Recording:
    """Observations (trial, time, unit) and latents (trial, time, latent) of a network."""

    observations: np.ndarray
    latents: np.ndarray
    network: Network

    def ragged(self, lengths):
        """Return a list of the first bins of each trial, as many as `lengths` says."""
        return [y[:n] for y, n in zip(self.observations, lengths, strict=True)]


def network(group_ranks=(2, 2), n_units=16, seed=0):
    """Return a network of groups of one or two latents; the units are shared out evenly, in a random order."""
    rng = np.random.default_rng([seed, 1])
    owners = np.sort(np.arange(n_units) % len(group_ranks))
    rank = sum(group_ranks)
    left, right = np.zeros((n_units, rank)), np.zeros((rank, n_units))
    column = 0
    for g, size in enumerate(group_ranks):
        units = np.flatnonzero(owners == g)
        columns = slice(column, column + size)
        if size == 1:
            signs = rng.choice([-1.0, 1.0], len(units))[:, None]
            left[units, columns], right[columns, units] = signs, SWITCHING / len(units) * signs.T
        elif size == 2:
            # Half a turn is enough: a and -a are one direction for an odd function.
            angles = np.pi * (np.arange(len(units)) + rng.uniform()) / len(units)
            read = np.column_stack([np.cos(angles), np.sin(angles)]) * rng.choice([-1.0, 1.0], len(units))[:, None]
            cos, sin = np.cos(ANGLES[g % 2]), np.sin(ANGLES[g % 2])
            turn = np.array([[cos, -sin], [sin, cos]])
            left[units, columns] = read
            right[columns, units] = 2 * GAINS[g % 2] / len(units) * turn @ read.T
        else:
            raise ValueError(f"group_ranks: got {group_ranks}, wanted groups of 1 or 2")
        column += size
    order = rng.permutation(n_units)
    return Network(left[order], right[:, order], np.zeros(n_units), np.zeros(rank), tuple(group_ranks))


def recurrent(net, n_trials=1, n_steps=1000, sd=0.2, latent_sd=0.05, seed=0):
    """Return a recording y[t] = A z[t] + c + e[t] whose noise feeds back: z[t+1] = B tanh(y[t]) + d + w[t]."""
    rng = np.random.default_rng([seed, 2])
    noise = sd * rng.standard_normal((n_trials, BURN_IN + n_steps, len(net.bias)))
    z = _run(net, noise, latent_sd, rng)
    return Recording(z @ net.left_vectors.T + net.bias + noise[:, BURN_IN:], z, net)


def readout(net, n_trials=1, n_steps=1000, sd=0.2, latent_sd=0.05, seed=0):
    """Return a recording y[t] = A z[t] + c + e[t] whose noise stays out of z[t+1] = B tanh(A z[t] + c) + d + w[t]."""
    rng = np.random.default_rng([seed, 3])
    z = _run(net, np.zeros((n_trials, BURN_IN + n_steps, len(net.bias))), latent_sd, rng)
    noise = sd * rng.standard_normal((n_trials, n_steps, len(net.bias)))
    return Recording(z @ net.left_vectors.T + net.bias + noise, z, net)


def oblique(net, n_trials=1, n_steps=1000, sd=0.2, latent_sd=0.05, seed=0):
    """Return `readout` of the same latents through a random A, dense and not orthogonal between groups.

    B is the regression of z[t+1] on tanh(A z[t]).
    """
    rng = np.random.default_rng([seed, 4])
    z = readout(net, n_trials, n_steps, 0.0, latent_sd, seed).latents
    left = rng.standard_normal(net.left_vectors.shape) / np.sqrt(2)
    rates, after = np.tanh(z[:, :-1] @ left.T).reshape(-1, len(left)), z[:, 1:].reshape(-1, z.shape[2])
    gram = rates.T @ rates
    right = np.linalg.solve(gram + 1e-5 * np.trace(gram) * np.eye(len(gram)), rates.T @ after).T
    noise = sd * rng.standard_normal((n_trials, n_steps, len(left)))
    return Recording(z @ left.T + noise, z, replace(net, left_vectors=left, right_vectors=right))


def counts(net, n_trials=1, n_steps=1000, mean=1.0, latent_sd=0.05, seed=0):
    """Return Poisson counts of rate proportional to softplus(x[t]), x = A z + c, `mean` per bin and unit on average."""
    rng = np.random.default_rng([seed, 5])
    z = readout(net, n_trials, n_steps, 0.0, latent_sd, seed).latents
    rates = np.logaddexp(0, z @ net.left_vectors.T + net.bias)
    return Recording(rng.poisson(mean * rates / rates.mean((0, 1))), z, net)


def _run(net, noise, latent_sd, rng):
    """Return latents (trial, time, latent) of trials that start anywhere, after the burn-in."""
    n_trials, n_steps, _ = noise.shape
    z = rng.standard_normal((n_trials, len(net.drive)))
    path = np.empty((n_steps, *z.shape))
    shocks = latent_sd * rng.standard_normal(path.shape)
    shocks *= np.concatenate([np.full(size, SHAKEN if size == 1 else 1.0) for size in net.group_ranks])
    for t in range(n_steps):
        path[t] = z
        z = np.tanh(z @ net.left_vectors.T + net.bias + noise[:, t]) @ net.right_vectors.T + net.drive + shocks[t]
    return path[BURN_IN:].transpose(1, 0, 2)
