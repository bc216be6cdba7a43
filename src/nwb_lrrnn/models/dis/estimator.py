"""The estimator `DisRNN`."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import xarray as xr
from sklearn.utils.validation import check_is_fitted

from nwb_lrrnn.align import Gauge, change_gauge, slices
from nwb_lrrnn.dynamics import LowRankDynamics
from nwb_lrrnn.models.dis import fitting
from nwb_lrrnn.models.dis.connectivity import standard_errors
from nwb_lrrnn.models.dis.dataset import dynamics_of, network_of, variables_of
from nwb_lrrnn.models.dis.network import GroupNetwork
from nwb_lrrnn.models.dis.settings import check_parameters, group_ranks_of
from nwb_lrrnn.models.dis.units import LIKELIHOODS
from nwb_lrrnn.models.posteriors import SeveralPosteriors
from nwb_lrrnn.models.scored_units import widened
from nwb_lrrnn.models.training.devices import one_thread
from nwb_lrrnn.parameters import Device, Dtype, Posterior
from nwb_lrrnn.trials import Trials

_NO_DYNAMICS = (
    "this model has no LowRankDynamics: with encoder='mlp' or n_lags > 1 its latents are no function of one low-rank "
    "network; fit with encoder='linear' and n_lags=1 for dynamics_, simulate and connectivity()"
)


class DisRNN(SeveralPosteriors, auto_wrap_output_keys=None):
    r"""A low-rank network of the recorded units whose latents fall into groups as independent as can be.

    .. math::

        z_{t+1} &= n^T \phi(x_t + e_t) / N + s + w_t, \quad w_t \sim N(0, \Sigma_z) \\
        x_t &= m z_t + B v_t + b, \quad y_t = \mathrm{scale}\,(x_t + e_t) + \mathrm{center}, \quad
        e_t \sim N(0, \mathrm{diag}\,\Sigma_x)

    (arXiv 2511.13899, Eq. 2-6, at alpha = 1.) Counts: y_t ~ p(scale softplus(x_t) dt), scale the mean rate of each
    unit, and x_t without e_t drives z_{t+1}. The latents z = (z_1, ..., z_G) are G groups with as little dependence
    between groups as can be; the connectivity m nᵀ / N is the sum of one sub-connectivity per group.

    The fit is closed-form: reduced-rank regression of each bin on phi of the bin before and the maximum-likelihood
    noise of latents and units; then a rotation of the latents into independent groups: components by lagged
    covariances, their best grouping, and descent of the groups' dependence (independent-subspace analysis).
    `objective="paper"` trains the variational objective of the paper by gradients instead.

    `transform` returns "smoothed" latents by default: of the three they tell most of a unit that the network has not
    seen, or within 3 % and chance as much as the best, on held-out trials of recordings and of planted networks with
    either noise. They are a regression on the bins around each bin, outside the model (linear, learnt from the training
    data), met with the bin's own likelihood; where the noise of the units feeds back they are the "filtered" ones,
    since bins further away tell nothing more of the latents. "filtered" is the posterior given the bin and the one
    before: exact for Gaussian values, Laplace for counts. "delayed" is the encoder of the paper: what the bins before
    foretell of a bin. `score` uses delayed means, so that no bin ever sees itself.

    Latents are of the bin in which units showed them, and behaviour follows at a lag of its own: it is compared at
    several lags. Delayed latents are later by construction, and they read the directions of activity that foretell the
    next bin. Summed over a trial, in which noise averages out, they can follow a slow behaviour better than smoothed
    latents do, that follow it better from bin to bin.

    Parameters
    ----------
    rank : int
        Number of latents R over all groups.
    n_groups : int
        Number of groups of equal rank.
    group_ranks : sequence of int or None
        Number of latents of each group, where they differ; overrides `n_groups` and sums to `rank`.
    nonlinearity : {"tanh", "erf", "relu", "softplus", "identity"}
        phi.
    likelihood : {"auto", "gaussian", "poisson", "negative_binomial"}
        auto: Poisson for whole numbers >= 0, else Gaussian.
    link : {None, "identity", "softplus", "exp"}
        None: identity for Gaussian values, softplus for counts.
    noise : {"auto", "recurrent", "readout"}
        Whether the noise of Gaussian units feeds back ("recurrent": phi of what a unit showed drives the latents) or is
        of the measurement ("readout": phi of the de-noised currents does); auto: what predicts held-out bins better.
    encoder : {"linear", "mlp"}
        How latents are inferred from the bins before; "mlp" has one hidden layer.
    n_lags : int
        How many bins before the encoder reads. With more than one, or an MLP, there are no `dynamics_`.
    objective : {"likelihood", "paper"}
        The closed form, or the paper's bound with its fixed posterior width and penalty (minibatches, AdamW).
    scaling : {"auto", "given", "unit"}
        Gaussian values: whether currents x are in the units of X, or standardised; auto: what predicts better, small
        standardised currents (s.d. 0.25), on which phi hardly bends, among them.
    posterior : {"smoothed", "filtered", "delayed"}
        What `transform` returns: latents given all bins (to describe what happened), given no bin after (for what must
        be causal), or given the bins before alone (forecasts, and comparisons with the paper).
    bin_size : float or None
        Seconds; None: X.attrs["bin_size"], else its time step, else 1.0 and times count in bins.
    fine_tune_epochs : int
        Epochs of the paper's objective after the closed form.
    penalty, block_penalty : float
        Weights, in the paper's objective, of the partial correlation between groups and of recurrence between them.
    max_epochs, batch_size, learning_rate : int, int, float
        Of `objective="paper"`.
    n_init : int
        Restarts of `objective="paper"` or of fine-tuning, trained side by side; the best on held-out pairs is kept.
    n_bootstraps : int
        How often blocks of bins are drawn again for the error bars of the connectivity; 0: no error bars.
    dtype : {"float64", "float32"}
        Of gradients on devices; the closed form is float64.
    device : str
        Of gradients: "cpu", "cuda", "cuda:1", ... or "auto".
    random_state : int or None

    Attributes
    ----------
    group_ranks_ : tuple of int
        Number of latents of each group; latents come group by group.
    latent_groups_ : array (latent,), int
        Which group each latent is in.
    dynamics_ : LowRankDynamics
        The network, alpha = 1; it raises for `encoder="mlp"` and `n_lags > 1`.
    readout_ : LowRankDynamics
        The network that says what units show, where there are no `dynamics_` too.
    is_linear_ : bool
        Whether latents are predicted linearly from what units showed: always of counts, whose encoder reads their
        roots, except by an MLP.
    loadings_, offset_ : arrays (unit, latent), (unit,)
        dy / dz before the link, and y where z is 0.
    left_vectors_, right_vectors_ : arrays (unit, latent)
    noise_ : {"recurrent", "readout"}
    history_ : Dataset (epoch)
        `log_likelihood` per bin, nats; with gradients every term of the objective.
    n_iter_ : int
    unit_ids_ : array (unit,)
    bin_size_ : float

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> z = np.stack([np.cos(0.3 * np.arange(400)), np.sin(0.7 * np.arange(400))], axis=1)
    >>> X = z @ rng.normal(size=(2, 6)) + 0.1 * rng.normal(size=(400, 6))
    >>> model = DisRNN(rank=2, n_groups=2, random_state=0).fit(X)
    >>> model.transform(X).shape
    (400, 2)
    """

    group_ranks_: tuple[int, ...]
    noise_: str
    history_: xr.Dataset
    n_iter_: int
    network_: GroupNetwork
    readout_: LowRankDynamics
    _bootstraps: tuple[np.ndarray, np.ndarray] | None = None

    def __init__(
        self,
        rank: int = 2,
        *,
        n_groups: int = 2,
        group_ranks=None,
        nonlinearity: Literal["tanh", "erf", "relu", "softplus", "identity"] = "tanh",
        likelihood: Literal["auto", "gaussian", "poisson", "negative_binomial"] = "auto",
        link: Literal["identity", "softplus", "exp"] | None = None,
        noise: Literal["auto", "recurrent", "readout"] = "auto",
        encoder: Literal["linear", "mlp"] = "linear",
        n_lags: int = 1,
        objective: Literal["likelihood", "paper"] = "likelihood",
        scaling: Literal["auto", "given", "unit"] = "auto",
        posterior: Posterior = "smoothed",
        bin_size: float | None = None,
        fine_tune_epochs: int = 0,
        penalty: float = 20.0,
        block_penalty: float = 0.0,
        max_epochs: int = 5000,
        batch_size: int = 128,
        learning_rate: float = 1e-3,
        n_init: int = 1,
        n_bootstraps: int = 50,
        dtype: Dtype = "float64",
        device: Device = "cpu",
        random_state: int | None = None,
    ):
        self.rank = rank
        self.n_groups = n_groups
        self.group_ranks = group_ranks
        self.nonlinearity = nonlinearity
        self.likelihood = likelihood
        self.link = link
        self.noise = noise
        self.encoder = encoder
        self.n_lags = n_lags
        self.objective = objective
        self.scaling = scaling
        self.posterior = posterior
        self.bin_size = bin_size
        self.fine_tune_epochs = fine_tune_epochs
        self.penalty = penalty
        self.block_penalty = block_penalty
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.n_init = n_init
        self.n_bootstraps = n_bootstraps
        self.dtype, self.device, self.random_state = dtype, device, random_state

    # --- the verbs of this model -----------------------------------------------------------------------------------

    def connectivity(self) -> xr.DataArray:
        """Return m nᵀ / N between recorded units, dims (target, source), in units of the currents x.

        The coordinate `standard_error` holds bootstrap standard errors, over trials or stretches of bins drawn again,
        given the latents; 1.96 of them hold the truth in about 93 % of entries where noise feeds back and 89 % where
        it is of the readout (`benchmarks/truth_connectivity.py`), attenuation by noise and the bias of the ridge being
        corrected. They speak of what activity shows: right vectors along patterns that the units never form are
        estimated as 0, and no interval holds them. This matters where noise is of the readout.

        Raises
        ------
        AttributeError
            With `encoder="mlp"` or `n_lags > 1`, where there is no such network.
        """
        return self._connectivity(slice(None), "connectivity")

    def sub_connectivity(self, group: int) -> xr.DataArray:
        """Return the part of the connectivity that one group makes, m_g n_gᵀ / N, like `connectivity`.

        Parameters
        ----------
        group : int
            0 ... G - 1, in the order of `group_ranks_`.
        """
        check_is_fitted(self)
        n = len(self.group_ranks_)
        if not isinstance(group, (int, np.integer)) or isinstance(group, bool) or not 0 <= group < n:
            raise ValueError(f"group: got {group!r}, wanted a whole number from 0 to {n - 1}: there are {n} groups")
        return self._connectivity(slices(self.group_ranks_)[int(group)], f"connectivity of group {int(group)}")

    def regrouped(self, matrix: Any, group_ranks: Sequence[int]) -> DisRNN:
        """Return the same fitted network in latents z' = M z, called groups of other ranks; its score is the same.

        Parameters
        ----------
        matrix : array (latent, latent)
            M, invertible.
        group_ranks : sequence of int
            Number of latents of each group, in order.
        """
        check_is_fitted(self)
        if self._scored is not self:
            around = self._around(self._scored.regrouped(matrix, group_ranks))
            around.group_ranks = around.group_ranks_
            return around
        mixing, ranks = np.asarray(matrix, dtype=float), group_ranks_of(self.readout_network_.rank, 1, group_ranks)
        other = copy.copy(self)
        other.network_ = self.network_.mixed(mixing)
        other.readout_ = change_gauge(self.readout_, Gauge(np.linalg.inv(mixing), np.zeros(len(mixing))))
        other.group_ranks_, other.group_ranks = ranks, ranks
        if self._bootstraps is not None:
            left, right = self._bootstraps
            other._bootstraps = left @ np.linalg.inv(mixing), mixing @ right
        return other

    @property
    def latent_groups_(self) -> np.ndarray:
        """Which group each latent is in, (latent,)."""
        return np.repeat(np.arange(len(self.group_ranks_)), self.group_ranks_)

    @property
    def dynamics_(self) -> LowRankDynamics:
        """The fitted network as mathematics."""
        if not hasattr(self, "readout_") or not self._has_dynamics():
            raise AttributeError(_NO_DYNAMICS if hasattr(self, "readout_") else "dynamics_: call fit first")
        return self.readout_

    @dynamics_.setter
    def dynamics_(self, dynamics: LowRankDynamics) -> None:
        self.readout_ = dynamics

    @property
    def loadings_(self) -> np.ndarray:
        """C = scale m (unit, latent)."""
        return np.asarray(self.readout_network_.loadings)[:, None] * self.readout_network_.left_vectors

    @property
    def offset_(self) -> np.ndarray:
        """The offset d (unit,): what the units show, before the link, where the latents are 0."""
        network = self.readout_network_
        bias = np.zeros(network.n_neurons) if network.bias is None else network.bias
        offset = np.zeros(network.n_neurons) if network.offset is None else network.offset
        return np.asarray(network.loadings) * bias + offset

    @property
    def is_linear_(self) -> bool:
        """Whether latents are predicted linearly from what units showed, or counts of it, in the bins before."""
        network = self.network_
        return network.mlp is None and (network.units.are_counts or network.units.nonlinearity == "identity")

    # --- what the verbs stand on -----------------------------------------------------------------------------------

    _likelihoods = ("auto", *LIKELIHOODS)
    _fitted_scalars = (*SeveralPosteriors._fitted_scalars, "noise_")

    @property
    def readout_network_(self) -> LowRankDynamics:
        """The network that says what units show: `readout_`, where there are no `dynamics_` too."""
        return self.readout_

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "readout_")

    def _has_dynamics(self) -> bool:
        return self.network_.mlp is None and self.network_.n_lags == 1

    def simulate(self, n_trials, n_steps, *, inputs=None, initial_latents=None, random_state=None) -> xr.Dataset:
        """Return a Dataset of `latents` and `observations` drawn from the fitted network, which runs freely."""
        check_is_fitted(self)
        return self.dynamics_.simulate(
            n_trials, n_steps, inputs=inputs, initial_latents=initial_latents, random_state=random_state
        )

    def _fit_trials(self, trials: Trials) -> None:
        ranks = check_parameters(self, trials)
        of_groups, of_gradients, of_bootstraps = np.random.SeedSequence(self.random_state).spawn(3)
        with one_thread():
            choice = fitting.choose_scaling(self, trials, sum(ranks))
            if self.objective == "paper" or self.encoder == "mlp" or self.fine_tune_epochs:
                from nwb_lrrnn.models.dis.paper.fit import fit_by_gradients

                found = fit_by_gradients(self, trials, choice, ranks, of_groups, of_gradients)
            else:
                found = fitting.fit(self, trials, choice, ranks, of_groups)
            network, latents = fitting.in_gauge(trials, found.network, ranks)
            driven = fitting.recurrence(self, trials, network, latents, found.ridge, of_bootstraps)
        self.group_ranks_, self.network_, self.noise_ = ranks, network, driven.noise
        moments = fitting.moments(latents[trials.bins])
        self.readout_ = dynamics_of(network, driven, moments, trials.unit_ids)
        self._bootstraps = driven.bootstraps
        found.ending.tell(self)

    def _settle_beginnings(self, begin: Trials) -> None:
        with one_thread():
            first = fitting.with_laws(begin, self.network_).first
        self.network_ = replace(self.network_, first=first)
        weights = first.input_weights if begin.n_inputs else None
        self.readout_ = self.readout_.replace(
            initial_mean=first.mean, initial_covariance=first.covariance, initial_input_weights=weights
        )

    def _widen(self, inner: DisRNN, means: np.ndarray) -> None:
        super()._widen(inner, means)
        if inner._bootstraps is not None:
            left, right = inner._bootstraps
            self._bootstraps = widened(left, (1,), self.scored_units_), widened(right, (2,), self.scored_units_)

    def _posterior(self, trials: Trials, posterior: str) -> np.ndarray:
        network = self.network_
        # where the noise of the units feeds back, a bin and the one before it tell all that there is of its latents,
        # and bins after it tell of what it showed, noise included
        with one_thread():
            if posterior == "smoothed" and network.neighbours is not None and self.noise_ != "recurrent":
                return network.smoothed(trials)
            return network.delayed(trials) if posterior == "delayed" else network.filtered(trials)

    def _log_evidence(self, trials: Trials) -> np.ndarray:
        with one_thread():
            return self.network_.evidence(trials)

    def _connectivity(self, part: slice, name: str) -> xr.DataArray:
        check_is_fitted(self)
        network = self.dynamics_
        left, right = network.left_vectors[:, part], network.right_vectors[:, part] / network.n_neurons
        ids = np.asarray(self.unit_ids_)
        coords = {"target": ids, "source": ids}
        found = xr.DataArray(left @ right.T, dims=("target", "source"), name=name, coords=coords)
        if self._bootstraps is None:
            return found
        errors = standard_errors(left + self._bootstraps[0][:, :, part], right.T + self._bootstraps[1][:, part])
        return found.assign_coords(standard_error=(("target", "source"), errors))

    # --- the file --------------------------------------------------------------------------------------------------

    def _state(self) -> dict[str, tuple]:
        found = variables_of(self.network_)
        found["group_ranks"] = (("group",), np.array(self.group_ranks_))
        if self._bootstraps is not None:
            found["bootstrap_left"] = (("bootstrap", "unit", "latent"), self._bootstraps[0])
            found["bootstrap_right"] = (("bootstrap", "latent", "unit"), self._bootstraps[1])
        return found

    def _complete(self, dataset: xr.Dataset) -> None:
        self.network_ = network_of(self.readout_, dataset, int(self.n_lags))
        super()._complete(dataset)
        if "group_ranks" in dataset:
            self.group_ranks_ = tuple(int(rank) for rank in dataset["group_ranks"].values)
        else:
            asked = self.n_groups if self.rank % self.n_groups == 0 else 1
            self.group_ranks_ = group_ranks_of(self.rank, asked, None)
        if self.group_ranks is not None:
            self.set_params(group_ranks=tuple(self.group_ranks_))  # JSON, in which parameters are stored, has no tuples
        self._bootstraps = None
        if "bootstrap_left" in dataset:
            self._bootstraps = dataset["bootstrap_left"].values, dataset["bootstrap_right"].values
        if not hasattr(self, "noise_"):
            self.noise_ = "readout" if self.readout_.private_noise is None else "recurrent"
