"""`LowRankDynamics`: a low-rank recurrent network, its latent dynamics and its readout, as frozen numpy."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from nwb_lrrnn.dynamics import fields, nonlinearity, observation, ode
from nwb_lrrnn.dynamics.simulation import simulate
from nwb_lrrnn.parameters import LikelihoodName, Link, Nonlinearity, Readout

Array = NDArray[np.floating]


@dataclass(frozen=True, eq=False, repr=False)
class LowRankDynamics:
    r"""A network of N neurons whose connectivity has rank R, as the dynamics of its R latents.

    With alpha = dt / tau, inputs u and, per time step,

    .. math::

        x_t &= m z_t + B v_t + b \\
        z_{t+1} &= (1-\alpha) z_t + \alpha [ n^T \phi(x_t + e_t; h) / N + s + S u_t ] + w_t,
        \quad w_t \sim N(0, \Sigma_z) \\
        y_t &\sim p(y \mid g(C r_t + F v_t + d))

    v_t = u_t, or filtered: v_{t+1} = (1-alpha) v_t + alpha u_t, v_1 = 0. z_1 ~ N(mu_1 + K v_1, Sigma_1).
    r_t is z_t, x_t or phi(x_t), by `readout`. e_t is private noise of the neurons with stationary law
    N(0, Sigma_x), e_{t+1} = (1-alpha) e_t + xi_t, present only where the recorded units are the network;
    `step`, `velocity` and `jacobian` average phi over it. Gaussian units that read currents show it,
    y_t = C (x_t + e_t) + F v_t + d; all others read r_t as it stands, rates being averaged over it. The
    connectivity is J = m n^T / N.

    Parameters
    ----------
    left_vectors, right_vectors : array (neuron, latent)
        m and n.
    dt : float
        Time step, seconds (1.0: time counts in bins).
    tau : float
        Time constant, seconds, at least `dt`.
    nonlinearity : {"tanh", "erf", "relu", "clipped_relu", "softplus", "identity"}
        phi; erf means erf(sqrt(pi) x / 2), of unit slope; clipped_relu is relu(x + h) - relu(x).
    bias : array (neuron,), optional
        b.
    thresholds : array (neuron,), optional
        h, for clipped_relu.
    input_weights : array (neuron, input), optional
        B.
    drive : array (latent,), optional
        s; given, the latents may be translated by a gauge.
    latent_input_weights : array (latent, input), optional
        S.
    filter_inputs : bool
        Whether v is the filtered input.
    latent_noise : array (latent, latent), optional
        Sigma_z, per step at `dt`.
    private_noise : array (neuron,), optional
        The diagonal of Sigma_x.
    initial_mean, initial_covariance : arrays (latent,), (latent, latent), optional
        mu_1 and Sigma_1 (zero and identity when absent).
    initial_input_weights : array (latent, input), optional
        K.
    readout : {"latents", "currents", "rates"}
        What the units read; for the last two the neurons are the units and `loadings` is a vector.
    loadings : array (unit, latent), or (neuron,) for readout "currents" and "rates", optional
        C; absent, the network is not observed.
    readout_input_weights : array (unit, input), optional
        F.
    offset : array (unit,), optional
        d.
    likelihood : str
        p: "gaussian", "poisson" or another name in `nwb_lrrnn.dynamics.LIKELIHOODS`.
    link : str, optional
        g: "identity" for gaussian; for counts dt * softplus(.) (default) or dt * exp(.), in spikes/s; None: the first
        `links` of the likelihood.
    link_gain : array (unit,), optional
        Counts only: factor of the link, so that a unit's mean is dt * gain * softplus(.); 1 when absent.
    observation_variance : array (unit,), optional
        Variance of the Gaussian likelihood.
    dispersion : array (unit,), optional
        r of the negative binomial, variance = mean + mean^2 / r.
    latent_mean, latent_covariance : arrays (latent,), (latent, latent), optional
        First two moments of the latents where the network lives (for a fitted network: over the training data);
        they set the gauge and the ranges of plots and searches.
    unit_ids : array (unit,), optional
        Names of the recorded units.

    Raises
    ------
    ValueError
        If a shape, the time step or a name does not fit; the message names the field.

    Examples
    --------
    >>> ring = LowRankDynamics([[1.0], [1.0]], [[2.0], [2.0]], dt=0.1, tau=1.0)
    >>> ring.step([0.5]).round(4)
    array([0.5424])
    """

    left_vectors: Array
    right_vectors: Array
    dt: float
    tau: float
    nonlinearity: Nonlinearity = "tanh"
    bias: Array | None = None
    thresholds: Array | None = None
    input_weights: Array | None = None
    drive: Array | None = None
    latent_input_weights: Array | None = None
    filter_inputs: bool = False
    latent_noise: Array | None = None
    private_noise: Array | None = None
    initial_mean: Array | None = None
    initial_covariance: Array | None = None
    initial_input_weights: Array | None = None
    readout: Readout = "latents"
    loadings: Array | None = None
    readout_input_weights: Array | None = None
    offset: Array | None = None
    likelihood: LikelihoodName = "gaussian"
    link: Link | None = None
    link_gain: Array | None = None
    observation_variance: Array | None = None
    dispersion: Array | None = None
    latent_mean: Array | None = None
    latent_covariance: Array | None = None
    unit_ids: NDArray | None = None

    def __post_init__(self):
        fields.normalise(self)

    def __repr__(self) -> str:
        return fields.summary(self)

    # --- sizes -----------------------------------------------------------------------------------------------------

    @property
    def rank(self) -> int:
        """Number of latents R."""
        return self.left_vectors.shape[1]

    @property
    def n_neurons(self) -> int:
        """Number of model neurons N."""
        return self.left_vectors.shape[0]

    @property
    def n_inputs(self) -> int:
        """Number of inputs."""
        return fields.n_inputs(self)

    @property
    def n_units(self) -> int:
        """Number of observed units, 0 for a network without a readout."""
        return 0 if self.loadings is None else self.loadings.shape[0]

    @property
    def alpha(self) -> float:
        """The Euler factor dt / tau, at most 1."""
        return min(1.0, self.dt / self.tau)

    # --- dynamics --------------------------------------------------------------------------------------------------

    def currents(self, latents: ArrayLike, inputs: ArrayLike | None = None) -> Array:
        """Return x = m z + B v + b, (..., neuron), from latents (..., latent) and inputs v (..., input)."""
        z = fields.checked_latents(self, latents)
        x = z @ self.left_vectors.T
        if self.bias is not None:
            x = x + self.bias
        v = None if inputs is None else fields.checked_inputs(self, inputs)
        if v is not None and self.input_weights is not None:
            x = x + v @ self.input_weights.T
        return x

    def rates(self, latents: ArrayLike, inputs: ArrayLike | None = None) -> Array:
        """Return phi(x), averaged over the private noise, (..., neuron)."""
        x = self.currents(latents, inputs)
        if self.private_noise is None:
            return nonlinearity.phi(self.nonlinearity, x, self.thresholds)
        return nonlinearity.noisy_phi(self.nonlinearity, x, self.private_noise, self.thresholds)

    def velocity(self, latents: ArrayLike, inputs: ArrayLike | None = None, raw_inputs: ArrayLike | None = None):
        """Return dz/dt per second, (..., latent): (-z + n^T phi(x) / N + s + S u) / tau.

        `inputs` are v; `raw_inputs` are u where v is filtered (default: the same).
        """
        z = fields.checked_latents(self, latents)
        return (self._target(self.rates(z, inputs), inputs, raw_inputs) - z) / self.tau

    def step(self, latents: ArrayLike, inputs: ArrayLike | None = None, raw_inputs: ArrayLike | None = None) -> Array:
        """Return the mean of z_{t+1} given z_t, (..., latent)."""
        z = fields.checked_latents(self, latents)
        return (1.0 - self.alpha) * z + self.alpha * self._target(self.rates(z, inputs), inputs, raw_inputs)

    def jacobian(self, latents: ArrayLike, inputs: ArrayLike | None = None) -> Array:
        """Return the one-step Jacobian (..., latent, latent): (1-alpha) I + alpha n^T diag(phi') m / N."""
        x = self.currents(latents, inputs)
        if self.private_noise is None:
            gain = nonlinearity.slope(self.nonlinearity, x, self.thresholds)
        else:
            gain = nonlinearity.noisy_slope(self.nonlinearity, x, self.private_noise, self.thresholds)
        recurrent = np.einsum("ir,...i,is->...rs", self.right_vectors, gain, self.left_vectors, optimize=True)
        return (1.0 - self.alpha) * np.eye(self.rank) + self.alpha / self.n_neurons * recurrent

    def _target(self, rates: Array, inputs: ArrayLike | None, raw_inputs: ArrayLike | None) -> Array:
        target = rates @ self.right_vectors / self.n_neurons  # (..., latent)
        if self.drive is not None:
            target = target + self.drive
        raw = inputs if raw_inputs is None else raw_inputs
        if raw is not None and self.latent_input_weights is not None:
            target = target + fields.checked_inputs(self, raw) @ self.latent_input_weights.T
        return target

    def filtered_inputs(self, inputs: ArrayLike) -> Array:
        """Return v (..., time, input) from u: u itself, or its leaky filter with v_1 = 0."""
        u = fields.checked_inputs(self, inputs)
        if not self.filter_inputs:
            return u
        v = np.zeros_like(u)
        for t in range(u.shape[-2] - 1):
            v[..., t + 1, :] = (1.0 - self.alpha) * v[..., t, :] + self.alpha * u[..., t, :]
        return v

    # --- connectivity ----------------------------------------------------------------------------------------------

    def connectivity(self) -> xr.DataArray:
        """Return J = m n^T / N with dims (target, source), over model neurons (compare only after `canonicalize`)."""
        return xr.DataArray(
            self.left_vectors @ self.right_vectors.T / self.n_neurons, dims=("target", "source"), name="connectivity"
        )

    def overlap(self) -> Array:
        """Return n^T m / N, (latent, latent): the linearised recurrence among latents where every slope is 1."""
        return self.right_vectors.T @ self.left_vectors / self.n_neurons

    # --- observation -----------------------------------------------------------------------------------------------

    def expected(self, latents: ArrayLike, inputs: ArrayLike | None = None) -> Array:
        """Return the expected observation g(C r + F v + d), (..., unit), in units of X (counts per bin for counts)."""
        return observation.expected(self, latents, inputs)

    def log_likelihood(self, observations: ArrayLike, latents: ArrayLike, inputs: ArrayLike | None = None) -> Array:
        """Return log p(y | z) per unit, (..., unit), in nats, constants included."""
        return observation.log_likelihood(self, observations, latents, inputs)

    def simulate(
        self,
        n_trials: int,
        n_steps: int,
        *,
        inputs: ArrayLike | None = None,
        initial_latents: ArrayLike | None = None,
        random_state: int | np.random.Generator | None = None,
    ) -> xr.Dataset:
        """Return a Dataset of `latents` (trial, time, latent) and, with a readout, `observations` (trial, time, unit).

        Parameters
        ----------
        n_trials, n_steps : int
            How many trials of how many steps of `dt`.
        inputs : array (trial, time, input), or (time, input) for every trial, optional
            u.
        initial_latents : array (trial, latent) or (latent,), optional
            z_1; absent, drawn from N(mu_1 + K v_1, Sigma_1).
        random_state : int, Generator or None
            Seed of every draw.
        """
        return simulate(self, n_trials, n_steps, inputs, initial_latents, random_state)

    # --- changes of representation ---------------------------------------------------------------------------------

    def replace(self, **changes) -> LowRankDynamics:
        """Return a copy with the named fields changed."""
        return dataclasses.replace(self, **changes)

    def with_dt(self, dt: float) -> LowRankDynamics:
        """Return the same continuous-time network at another step: alpha recomputed, Sigma_z times new/old.

        The stationary law of private noise, and the law of the observations per bin, stay as they are.

        Raises
        ------
        ValueError
            If the network is a map (alpha = 1, no continuous time behind it) or `dt` exceeds `tau`.
        """
        if self.alpha > 1.0 - 1e-12:
            raise ValueError("dt: this network is a map (alpha = 1) with no continuous time; its step is fixed")
        if not 0 < dt <= self.tau * (1 + 1e-12):
            raise ValueError(f"dt: got {dt}, wanted 0 < dt <= tau = {self.tau} s; choose a smaller step")
        noise = None if self.latent_noise is None else self.latent_noise * (dt / self.dt)
        return self.replace(dt=float(dt), latent_noise=noise)

    def to_ode(self) -> dict:
        """Return the network as a neural ODE with one hidden layer: the keyword arguments of `from_ode`.

        The readout, noise and initial state are not part of it.

        Raises
        ------
        ValueError
            If the neurons have private noise, whose average over phi is no single layer of phi.
        """
        return ode.layer_of(self)

    @classmethod
    def from_ode(
        cls,
        W_in: ArrayLike,
        b: ArrayLike,
        W_out: ArrayLike,
        *,
        tau: float,
        nonlinearity: str = "tanh",
        output_bias: ArrayLike | None = None,
        input_weights: ArrayLike | None = None,
        latent_input_weights: ArrayLike | None = None,
        thresholds: ArrayLike | None = None,
        leak: bool = True,
        dt: float | None = None,
    ) -> LowRankDynamics:
        """Return the network that is the neural ODE dz/dt = -z/tau + W_out phi(W_in z + B v + b) + c + D v, exactly.

        Parameters
        ----------
        W_in, b, W_out : arrays (neuron, latent), (neuron,), (latent, neuron)
            Weights and biases of the layers, as in ``torch.nn.Linear``.
        tau : float
            Time constant of the leak, seconds.
        nonlinearity : str
            phi.
        output_bias : array (latent,), optional
            c.
        input_weights, latent_input_weights : arrays (neuron, input), (latent, input), optional
            B and D.
        thresholds : array (neuron,), optional
            Of phi = clipped_relu.
        leak : bool
            False: the field has no -z/tau. Then neurons that cancel it are added, one for every latent (identity) or
            two (relu, softplus); other phi cannot.
        dt : float, optional
            Time step of the network, seconds; tau / 100 by default.

        Raises
        ------
        ValueError
            If shapes do not fit, or `leak=False` with a phi that cannot cancel the leak.

        Examples
        --------
        >>> network = LowRankDynamics.from_ode([[1.0]], [0.0], [[2.0]], tau=1.0)
        >>> network.velocity([0.5]).round(4)
        array([0.4242])
        """
        layer = ode.network_of(
            W_in, b, W_out, tau, nonlinearity, output_bias, input_weights, latent_input_weights, thresholds, leak, dt
        )
        return cls(**layer)

    def to_dataset(self) -> xr.Dataset:
        """Return every field as a Dataset: arrays with named dims, scalars and names as attrs."""
        return fields.to_dataset(self)

    @classmethod
    def from_dataset(cls, dataset: xr.Dataset) -> LowRankDynamics:
        """Return the network stored by `to_dataset`."""
        return cls(**fields.from_dataset(dataset))
