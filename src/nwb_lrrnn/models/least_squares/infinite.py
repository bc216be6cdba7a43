"""`InfiniteRNN`: the field of a network of infinitely many neurons, its error bars, and finite networks of its law."""

from __future__ import annotations

import dataclasses
import json
import logging
from typing import ClassVar

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy import linalg
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from nwb_lrrnn.models.least_squares import limits
from nwb_lrrnn.models.least_squares.features import Features
from nwb_lrrnn.models.least_squares.field import FittedField, Scaling, checked_samples, fit_field_samples
from nwb_lrrnn.parameters import choose, positive, whole_number

Array = NDArray[np.floating]

logger = logging.getLogger(__name__)

_N_TUNE = 300  # samples that the law of the neurons is found from
_GREW = 10.0  # times the weights of neurons of unit scale that are said


class InfiniteRNN(BaseEstimator):
    """A Gaussian process over dz/dt: the low-rank network of infinitely many neurons with random encoders.

    z + tau dz/dt is given the prior of a network whose neurons are drawn, m ~ N(0, a²), b ~ N(0, c²), and whose weights
    are N(0, s² / N), for N to infinity; its posterior under samples of the field is in closed form. Latents and inputs
    are in units of their standard deviation inside.

    Parameters
    ----------
    nonlinearity : {"erf", "relu"}
        phi; the covariance of tanh has no closed form and is that of erf to a few per cent.
    tau : float
        Time constant, seconds.
    tune : {"evidence", "likelihood", "none"}
        How a, c, s and the noise are found: by the evidence of a network of `n_neurons` drawn once, which suits finite
        networks; by the likelihood of the process itself, bounded, which for relu may leave the data (refused then);
        or a = c = s = 1 and noise 1e-2.
    n_neurons : int
        Size of the network that the evidence is of.
    max_samples : int
        More samples than these are thinned out at random: the posterior costs their number to the third.
    random_state : int
        Seed of every draw.

    Attributes
    ----------
    encoder_scale_, bias_scale_ : array (latent + input,), float
        a, c.
    weight_scale_, noise_ : arrays (latent,)
        s, and the standard deviation of the noise of each target, in standard deviations of the targets.
    log_likelihood_ : float
        Of the samples that the law was found from, in nats.

    Examples
    --------
    >>> z = np.linspace(-1.5, 1.5, 40)[:, None]
    >>> model = InfiniteRNN(tau=1.0).fit(z, z - z**3)
    >>> velocity, error = model.predict([[0.5], [9.0]], return_std=True)
    >>> velocity[0].round(2), bool(error[0] < error[1])
    (array([0.38]), True)
    """

    def __init__(
        self,
        nonlinearity: str = "erf",
        *,
        tau: float = 1.0,
        tune: str = "evidence",
        n_neurons: int = 100,
        max_samples: int = 2000,
        random_state: int = 0,
    ):
        self.nonlinearity = nonlinearity
        self.tau = tau
        self.tune = tune
        self.n_neurons = n_neurons
        self.max_samples = max_samples
        self.random_state = random_state

    def fit(self, latents: ArrayLike, velocity: ArrayLike, inputs: ArrayLike | None = None) -> InfiniteRNN:
        """Learn from samples: `velocity` (T, R) per second at `latents` (T, R) and, inside the neurons, inputs (T, P).

        Raises
        ------
        ValueError
            If samples do not fit each other or are not finite, or tune="likelihood" leads out of the data (relu).
        """
        choose("nonlinearity", self.nonlinearity, limits.KERNELS)
        choose("tune", self.tune, ("evidence", "likelihood", "none"))
        tau, rng = positive("tau", self.tau, hint=" seconds"), np.random.default_rng(self.random_state)
        z, dz, v = checked_samples(latents, velocity, inputs)
        most = whole_number("max_samples", self.max_samples, 2)
        if len(z) > most:
            logger.info("max_samples: %d of %d samples are used", most, len(z))
            kept = np.sort(rng.choice(len(z), most, replace=False))
            z, dz, v = z[kept], dz[kept], None if v is None else v[kept]
        self.n_inputs_ = 0 if v is None else v.shape[1]
        self.latents_, self.velocity_, self.inputs_ = z, dz, np.zeros((len(z), 0)) if v is None else v
        points, targets = self._standardised(tau)
        few = np.sort(rng.choice(len(z), min(len(z), _N_TUNE), replace=False))
        law = self._law(points[few], targets[few], rng)
        self.encoder_scale_, self.bias_scale_ = law.encoder_scale, law.bias_scale
        self.weight_scale_, self.noise_, self.log_likelihood_ = law.weight_scale, law.noise, law.log_likelihood
        self._solve(tau)
        return self

    def predict(
        self, latents: ArrayLike, inputs: ArrayLike | None = None, *, return_std: bool = False
    ) -> Array | tuple[Array, Array]:
        """Return dz/dt (..., R) expected at latents (..., R), and with `return_std` its standard deviation (..., R)."""
        check_is_fitted(self)
        z = np.asarray(latents, dtype=float)
        if not z.ndim or z.shape[-1] != self.latents_.shape[1]:
            raise ValueError(f"latents: got shape {z.shape}, wanted (..., {self.latents_.shape[1]})")
        at = self._points(z, inputs)
        law = (self.encoder_scale_, self.bias_scale_)
        cross = limits.kernel(self.nonlinearity, at, self._trained, *law)
        target = self._centre + self._size * (cross @ self._alpha)
        velocity = (target.reshape(z.shape) - z) / self.tau
        if not return_std:
            return velocity
        own = limits.own_kernel(self.nonlinearity, at, *law)
        variance = np.empty((len(at), len(self.noise_)))
        for k, root in enumerate(self._roots):
            seen = linalg.solve_triangular(root, cross.T, lower=True, check_finite=False)
            variance[:, k] = self.weight_scale_[k] ** 2 * np.maximum(own - (seen**2).sum(0), 0.0)
        return velocity, (self._size * np.sqrt(variance) / self.tau).reshape(z.shape)

    def finite_network(
        self, n_neurons: int, *, nonlinearity: str | None = None, random_state: int = 0, **options
    ) -> FittedField:
        """Return a network of `n_neurons` with neurons of the law found, fitted to the same samples by regression.

        `options` are those of the regression (`ridge`, `rate_noise`); `nonlinearity` may be one, such as tanh, that is
        near that of the process. Its `warnings` say where the law was paid for with large weights.
        """
        check_is_fitted(self)
        phi = self.nonlinearity if nonlinearity is None else nonlinearity
        drawn = self._draw(n_neurons, phi, np.random.default_rng(random_state))
        fields = [self._regressed(features, options) for features in (drawn, self._unit(drawn))]
        largest, usual = (float(np.abs(field.weights).max()) for field in fields)
        if largest <= _GREW * usual:
            return fields[0]
        text = (
            f"weights reach {largest:.3g}, {largest / usual:.0f} times those with encoders of unit scale: noise of the "
            "rates enters the field that much more; give a larger ridge, or tune='none'"
        )
        return dataclasses.replace(fields[0], warnings=(*fields[0].warnings, text))

    def sample_networks(self, n_networks: int, n_neurons: int, *, random_state: int = 0) -> list[FittedField]:
        """Return networks of `n_neurons` drawn from the posterior: neurons of the law, weights given the samples.

        What they agree on the samples fix; where they differ the samples are silent.
        """
        check_is_fitted(self)
        rng = np.random.default_rng(random_state)
        number = whole_number("n_networks", n_networks)
        return [self._sampled(self._draw(n_neurons, self.nonlinearity, rng), rng) for _ in range(number)]

    # --- storing ---------------------------------------------------------------------------------------------------

    _STATE: ClassVar = {
        "latents_": ("sample", "latent"),
        "velocity_": ("sample", "latent"),
        "inputs_": ("sample", "input"),
        "encoder_scale_": ("axis",),
        "weight_scale_": ("latent",),
        "noise_": ("latent",),
    }

    def to_dataset(self) -> xr.Dataset:
        """Return all that the fitted model is as a Dataset: arrays by name, the rest in attrs."""
        check_is_fitted(self)
        arrays = {name.rstrip("_"): (dims, np.array(getattr(self, name))) for name, dims in self._STATE.items()}
        scalars = {"bias_scale": self.bias_scale_, "log_likelihood": self.log_likelihood_}
        arrays |= {name: ((), np.array(value)) for name, value in scalars.items()}
        parameters = json.dumps(self.get_params(deep=False), default=str)
        return xr.Dataset(arrays, attrs={"estimator": type(self).__name__, "parameters": parameters})

    @classmethod
    def from_dataset(cls, dataset: xr.Dataset) -> InfiniteRNN:
        """Return the model stored by `to_dataset`.

        Raises
        ------
        ValueError
            If the Dataset is another's.
        """
        name = dataset.attrs.get("estimator", cls.__name__)
        if name != cls.__name__ or "encoder_scale" not in dataset:
            raise ValueError(f"dataset: got that of a {name}, wanted one made by {cls.__name__}.to_dataset()")
        model = cls(**json.loads(dataset.attrs["parameters"]))
        for attribute in cls._STATE:
            setattr(model, attribute, np.array(dataset[attribute.rstrip("_")].values, dtype=float))
        if model.inputs_.ndim != 2:
            model.inputs_ = np.zeros((len(model.latents_), 0))
        model.bias_scale_ = float(dataset["bias_scale"].values)
        model.log_likelihood_ = float(dataset["log_likelihood"].values)
        model.n_inputs_ = model.inputs_.shape[1]
        model._solve(model.tau)
        return model

    # --- what is behind --------------------------------------------------------------------------------------------

    def _law(self, points: Array, targets: Array, rng: np.random.Generator) -> limits.Law:
        if self.tune == "evidence":
            return limits.most_evident(
                self.nonlinearity, points, targets, whole_number("n_neurons", self.n_neurons), rng
            )
        if self.tune == "likelihood":
            return limits.most_likely(self.nonlinearity, points, targets)
        ones = np.ones(targets.shape[1])
        return limits.Law(np.ones(points.shape[1]), 1.0, ones, 1e-2 * ones, float("nan"))

    def _standardised(self, tau: float) -> tuple[Array, Array]:
        """Return latents with inputs (T, R + P) and targets (T, R), both of standard deviation 1."""
        share = np.full(len(self.latents_), 1.0 / len(self.latents_))
        self._units = Scaling.of(self.latents_, self.inputs_, share)
        targets = self.latents_ + tau * self.velocity_
        self._centre, self._size = targets.mean(0), targets.std(0)
        self._size = np.where(self._size > 0, self._size, 1.0)
        return self._points(self.latents_, self.inputs_), (targets - self._centre) / self._size

    def _points(self, latents: Array, inputs: ArrayLike | None) -> Array:
        """Return latents (..., R) with inputs (..., P) in units of the samples' standard deviation, (A, R + P)."""
        z = (latents - self._units.centre) / self._units.scale
        z = z.reshape(-1, z.shape[-1])
        if not self.n_inputs_:
            return z
        if inputs is None:
            raise ValueError(f"inputs: got None, wanted (..., {self.n_inputs_}): the field was learnt under inputs")
        v = (np.asarray(inputs, dtype=float) - self._units.input_centre) / self._units.input_scale
        return np.concatenate(
            [z, np.broadcast_to(v, (*latents.shape[:-1], self.n_inputs_)).reshape(len(z), -1)], axis=1
        )

    def _solve(self, tau: float) -> None:
        """Set what the posterior needs: per target, the root of K + (noise / s)² I, and its inverse on the targets."""
        self._trained, targets = self._standardised(tau)
        base = limits.kernel(self.nonlinearity, self._trained, self._trained, self.encoder_scale_, self.bias_scale_)
        self._roots, columns = [], []
        for k, ratio in enumerate((self.noise_ / self.weight_scale_) ** 2):
            held = base + max(float(ratio), 1e-10) * np.eye(len(base))  # rounding of the kernel is of 1e-13
            root = linalg.cholesky(held, lower=True, check_finite=False)
            self._roots.append(root)
            columns.append(linalg.cho_solve((root, True), targets[:, k], check_finite=False))
        self._alpha = np.stack(columns, axis=1)

    def _draw(self, n_neurons: int, phi: str, rng: np.random.Generator) -> Features:
        """Return neurons of the law found, in units of the samples."""
        n, rank = whole_number("n_neurons", n_neurons), self.latents_.shape[1]
        weights = self.encoder_scale_ * rng.standard_normal((n, rank + self.n_inputs_))
        return Features(weights[:, :rank], self.bias_scale_ * rng.standard_normal(n), weights[:, rank:], phi)

    def _unit(self, drawn: Features) -> Features:
        rank = self.latents_.shape[1]
        scale = self.encoder_scale_
        return Features(
            drawn.encoders / scale[:rank], drawn.biases / self.bias_scale_, drawn.input_weights / scale[rank:],
            drawn.nonlinearity,
        )  # fmt: skip

    def _of_units(self, drawn: Features) -> Features:
        u = self._units
        return drawn.of_units(u.centre, u.scale, u.input_centre, u.input_scale)

    def _regressed(self, drawn: Features, options: dict) -> FittedField:
        inputs = self.inputs_ if self.n_inputs_ else None
        return fit_field_samples(
            self.latents_, self.velocity_, tau=self.tau, n_neurons=drawn.n_neurons, inputs=inputs, input_mode="neuron",
            features=self._of_units(drawn), rng=np.random.default_rng(0), **options,
        )  # fmt: skip

    def _sampled(self, drawn: Features, rng: np.random.Generator) -> FittedField:
        """Return the network of these neurons with weights drawn given the samples."""
        n, rank = drawn.n_neurons, self.latents_.shape[1]
        rates = drawn(self._trained[:, :rank], self._trained[:, rank:])
        targets = (self.latents_ + self.tau * self.velocity_ - self._centre) / self._size
        axes, sizes, directions = np.linalg.svd(rates, full_matrices=True)
        square = np.zeros(n)
        square[: len(sizes)] = sizes**2
        along = np.zeros((n, rank))
        along[: len(sizes)] = sizes[:, None] * (axes[:, : len(sizes)].T @ targets)
        # precision of the weights along `directions`: sizes² / noise² + N / s²
        precision = square[:, None] / self.noise_**2 + n / self.weight_scale_**2
        mean = along / self.noise_**2 / precision
        weights = directions.T @ (mean + rng.standard_normal((n, rank)) / np.sqrt(precision))
        features, spread = self._of_units(drawn), np.cov(self.latents_.T, bias=True).reshape(rank, rank)
        missed = (targets - rates @ weights) * self._size / self.tau
        return FittedField(
            features, weights * self._size, self._centre, None, self.tau,
            float(np.mean((self.noise_ / self.weight_scale_) ** 2) * n / len(targets)), len(targets),
            missed.T @ missed / len(missed), self.latents_.mean(0), spread,
        )  # fmt: skip
