"""`LinearSystem`: the parameters of a linear state-space model, and its two-way bridge to `LowRankDynamics`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.dynamics import LowRankDynamics

Array = NDArray[np.floating]


@dataclass(frozen=True)
class LinearSystem:
    r"""The parameters of a linear state-space model.

    z_{t+1} = A z_t + c + B u_t + w_t, w_t ~ N(0, Q), z_1 ~ N(mu_1 + K u_1, Sigma_1), eta_t = C z_t + F u_t + d.

    Attributes
    ----------
    transition : array (latent, latent)
        A.
    drive : array (latent,)
        c.
    noise : array (latent, latent)
        Q.
    initial_mean, initial_covariance : arrays (latent,), (latent, latent)
        mu_1 and Sigma_1.
    loadings, offset : arrays (unit, latent), (unit,)
        C and d.
    variance : array (unit,) or None
        Diagonal of the Gaussian noise of y; None for counts.
    dispersion : array (unit,) or None
        r of the negative binomial.
    input_weights, initial_input_weights, readout_input_weights : arrays (., input) or None
        B, K and F.
    """

    transition: Array
    drive: Array
    noise: Array
    initial_mean: Array
    initial_covariance: Array
    loadings: Array
    offset: Array
    variance: Array | None = None
    dispersion: Array | None = None
    input_weights: Array | None = None
    initial_input_weights: Array | None = None
    readout_input_weights: Array | None = None

    @property
    def spread(self) -> Array | None:
        """The second number of each unit: variance, or dispersion of counts; None where there is none."""
        return self.dispersion if self.variance is None else self.variance

    @property
    def rank(self) -> int:
        """Number of latents R."""
        return self.transition.shape[0]

    def replace(self, **changes) -> LinearSystem:
        """Return a copy with the named parameters changed."""
        return dataclasses.replace(self, **changes)

    def drives(self, inputs: Array | None, n_trials: int, n_steps: int) -> tuple[Array, Array]:
        """Return c + B u_t, (trial, time, latent), and mu_1 + K u_1, (trial, latent)."""
        drive = np.tile(self.drive, (n_trials, n_steps, 1))
        initial = np.tile(self.initial_mean, (n_trials, 1))
        if inputs is not None and self.input_weights is not None:
            drive += inputs @ self.input_weights.T
        if inputs is not None and self.initial_input_weights is not None:
            initial += inputs[:, 0] @ self.initial_input_weights.T
        return drive, initial

    def offsets(self, inputs: Array | None) -> Array:
        """Return d + F u_t: (unit,), or (trial, time, unit) where the readout sees inputs."""
        if inputs is None or self.readout_input_weights is None:
            return self.offset
        return self.offset + inputs @ self.readout_input_weights.T

    def in_units(self, center: Array, scale: Array) -> LinearSystem:
        """Return the Gaussian system of center + scale * y, given the one of y."""
        if self.variance is None:
            raise ValueError("variance: None, but only a Gaussian readout can change its units")
        read = self.readout_input_weights
        return self.replace(
            loadings=self.loadings * scale[:, None],
            offset=self.offset * scale + center,
            variance=self.variance * scale**2,
            readout_input_weights=None if read is None else read * scale[:, None],
        )

    def in_gauge(self, change: Array, shift: Array) -> LinearSystem:
        """Return the same model with latents z' where z = shift + change z'."""
        inverse = np.linalg.inv(change)
        drive = self.drive + self.transition @ shift - shift

        def rotated(weights: Array | None) -> Array | None:
            return None if weights is None else inverse @ weights

        return self.replace(
            transition=inverse @ self.transition @ change,
            drive=inverse @ drive,
            noise=_symmetric(inverse @ self.noise @ inverse.T),
            initial_mean=inverse @ (self.initial_mean - shift),
            initial_covariance=_symmetric(inverse @ self.initial_covariance @ inverse.T),
            loadings=self.loadings @ change,
            offset=self.offset + self.loadings @ shift,
            input_weights=rotated(self.input_weights),
            initial_input_weights=rotated(self.initial_input_weights),
        )


def canonical_gauge(system: LinearSystem, mean: Array, covariance: Array) -> tuple[Array, Array]:
    """Return (change, shift) of the gauge in which latents have mean 0, covariance I and orthogonal loadings.

    The loadings are compared in noise units, and latents are ordered by how much of that they explain; the entry of
    largest size in each column of the loadings is positive.
    """
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 1e-12 * max(values.max(), 1e-300)))  # z = mean + root z_white
    weight = np.ones(len(system.offset)) if system.variance is None else 1.0 / np.sqrt(system.variance)
    shown = (system.loadings * weight[:, None]) @ root
    _, rotation = np.linalg.eigh(shown.T @ shown)
    change = root @ rotation[:, ::-1]
    shown = shown @ rotation[:, ::-1]
    sign = np.sign(shown[np.abs(shown).argmax(axis=0), np.arange(shown.shape[1])])
    return change * np.where(sign == 0, 1.0, sign), mean


def to_dynamics(
    system: LinearSystem,
    bin_size: float,
    likelihood: str,
    link: str | None,
    latent_mean: Array,
    latent_covariance: Array,
    unit_ids: NDArray,
) -> LowRankDynamics:
    """Return the system as N = R identity neurons with dt = tau: m = I, n = R A^T, so that n^T m z / N = A z."""
    rank = system.rank
    names: dict[str, Any] = {"likelihood": likelihood, "link": link}  # of a fit, which checked them
    return LowRankDynamics(
        left_vectors=np.eye(rank),
        right_vectors=rank * system.transition.T,
        dt=bin_size,
        tau=bin_size,
        nonlinearity="identity",
        drive=system.drive,
        latent_input_weights=system.input_weights,
        latent_noise=system.noise,
        initial_mean=system.initial_mean,
        initial_covariance=system.initial_covariance,
        initial_input_weights=system.initial_input_weights,
        loadings=system.loadings,
        readout_input_weights=system.readout_input_weights,
        offset=system.offset,
        **names,
        observation_variance=system.variance,
        dispersion=system.dispersion,
        latent_mean=latent_mean,
        latent_covariance=latent_covariance,
        unit_ids=unit_ids,
    )


def from_dynamics(network: LowRankDynamics) -> LinearSystem:
    """Return the linear system that a network of identity neurons is, whatever its N, tau and readout.

    Raises
    ------
    ValueError
        If the network is nonlinear, unobserved, has private noise or link_gain, or filters one of two kinds of input.
    """
    _check_linear(network)
    rank, n_units = network.rank, network.n_units
    zero = np.zeros(rank)
    bias = np.zeros(network.n_neurons) if network.bias is None else network.bias
    to_latents = network.alpha * network.right_vectors.T / network.n_neurons  # (latent, neuron)
    drive = to_latents @ bias + (0.0 if network.drive is None else network.alpha * network.drive)
    weights = None
    if network.input_weights is not None:
        weights = to_latents @ network.input_weights
    if network.latent_input_weights is not None:
        direct = network.alpha * network.latent_input_weights
        weights = direct if weights is None else weights + direct
    loadings, offset, read = network.loadings, network.offset, network.readout_input_weights
    offset = np.zeros(n_units) if offset is None else offset
    if network.readout != "latents":  # y reads x = m z + B v + b
        gains = np.asarray(loadings)
        loadings, offset = gains[:, None] * network.left_vectors, offset + gains * bias
        if network.input_weights is not None:
            through = gains[:, None] * network.input_weights
            read = through if read is None else read + through
    return LinearSystem(
        transition=network.jacobian(zero),
        drive=drive,
        noise=np.zeros((rank, rank)) if network.latent_noise is None else network.latent_noise,
        initial_mean=zero if network.initial_mean is None else network.initial_mean,
        initial_covariance=np.eye(rank) if network.initial_covariance is None else network.initial_covariance,
        loadings=np.asarray(loadings),
        offset=offset,
        variance=network.observation_variance if network.likelihood == "gaussian" else None,
        dispersion=network.dispersion,
        input_weights=weights,
        initial_input_weights=network.initial_input_weights,
        readout_input_weights=read,
    )


def _check_linear(network: LowRankDynamics) -> None:
    if network.nonlinearity != "identity":
        raise ValueError(f"dynamics: got nonlinearity {network.nonlinearity!r}, wanted 'identity': only that is linear")
    if network.loadings is None:
        raise ValueError("dynamics: got a network without a readout, wanted loadings= and offset=")
    if network.private_noise is not None:
        raise ValueError("dynamics: got private_noise, wanted none: it is no part of a linear state-space model")
    if network.link_gain is not None:
        raise ValueError(
            "dynamics: got link_gain, wanted none: a linear state-space model has no such term; drop it with "
            "dynamics.replace(link_gain=None)"
        )
    if network.filter_inputs and network.latent_input_weights is not None:
        raise ValueError("dynamics: got filtered inputs beside latent_input_weights, wanted only one of the two")
    if network.likelihood == "gaussian":
        variance = network.observation_variance
        if variance is None or not (variance > 0).all():
            raise ValueError("dynamics: got no observation_variance > 0 per unit, wanted it for a Gaussian readout")


def _symmetric(matrix: Array) -> Array:
    return 0.5 * (matrix + matrix.T)
