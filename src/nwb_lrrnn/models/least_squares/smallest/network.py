"""Whitened latents and back: samples for the search, and the network that was found in the user's latents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.align import Gauge, change_gauge
from nwb_lrrnn.dynamics import LowRankDynamics
from nwb_lrrnn.models.least_squares.smallest.problem import Fit, Samples
from nwb_lrrnn.models.least_squares.smallest.shooting import Runs
from nwb_lrrnn.models.least_squares.smallest.source import Source
from nwb_lrrnn.parameters import Nonlinearity

Array = NDArray[np.floating]

_FLAT = 1e-9  # of the largest standard deviation: a direction of less has none of its own
_KEPT = (  # what a network of other neurons has in common with the one it stands for
    "latent_noise", "initial_mean", "initial_covariance", "initial_input_weights", "likelihood", "link", "link_gain",
    "observation_variance", "dispersion", "unit_ids", "filter_inputs", "offset", "readout_input_weights",
)  # fmt: skip


@dataclass(frozen=True)
class Whitening:
    """z = centre + A zeta, A along the principal axes, so that turning, shifting or scaling z changes no digit."""

    centre: Array  # (R,)
    matrix: Array  # A (R, R)
    input_centre: Array  # (P,)
    input_scale: Array  # (P,)
    has_drive: bool

    @classmethod
    def of(cls, source: Source, has_drive: bool) -> Whitening:
        """Return that of a source; without a drive latents keep their origin, at which a network then has to be."""
        z, v = source.latents, source.inside
        values, axes = np.linalg.eigh(np.atleast_2d(np.cov(z.T, bias=True)))
        scale = np.sqrt(np.maximum(values, 0.0))[::-1]
        if not scale[0] > 0:
            raise ValueError("source: got latents that never change, wanted samples at many latents")
        scale = np.where(scale > _FLAT * scale[0], scale, scale[0])
        axes = axes[:, ::-1]
        skew = (((z - z.mean(0)) @ axes / scale) ** 3).mean(0)
        axes = axes * np.where(skew < 0, -1.0, 1.0)
        spread = v.std(0)
        centre = z.mean(0) if has_drive else np.zeros(z.shape[1])
        return cls(centre, axes * scale, v.mean(0), np.where(spread > 1e-12, spread, 1.0), has_drive)

    def latents(self, z: Array) -> Array:
        """Return zeta (..., R)."""
        return np.linalg.solve(self.matrix, (z - self.centre).reshape(-1, len(self.centre)).T).T.reshape(z.shape)

    def inside(self, v: Array) -> Array:
        """Return inputs that enter neurons, of standard deviation 1."""
        return (v - self.input_centre) / self.input_scale

    def free(self, raw: Array) -> Array:
        """Return what is explained without a penalty, (..., F): inputs that enter latents, and 1 for a drive."""
        ones = np.ones((*raw.shape[:-1], int(self.has_drive)))
        return np.concatenate([raw, ones], axis=-1)

    def samples(self, source: Source, tau: float) -> Samples:
        """Return the samples that the search sees."""
        zeta = self.latents(source.latents)
        velocity = np.linalg.solve(self.matrix, tau * source.velocity.T).T
        variance = float(((velocity - velocity.mean(0)) ** 2).sum(1).mean())
        if not variance > 0:
            raise ValueError(
                "source: got a field that is the same everywhere, wanted one that changes with the latents"
            )
        points = np.concatenate([zeta, self.inside(source.inside)], axis=1)
        return Samples(points, zeta + velocity, self.free(source.raw), variance)

    def runs(self, source: Source) -> Runs | None:
        """Return the trajectories of a source, where it has them."""
        if source.paths is None or source.path_inside is None or source.path_raw is None:
            return None
        return Runs(self.latents(source.paths), self.inside(source.path_inside), self.free(source.path_raw))

    def speed(self, source: Source) -> float:
        """Return the root mean square of dzeta/dt, 1/s."""
        return float(np.sqrt((np.linalg.solve(self.matrix, source.velocity.T) ** 2).sum(0).mean() / source.rank))


def to_dynamics(fit: Fit, whitening: Whitening, source: Source, tau: float, dt: float) -> LowRankDynamics:
    """Return the network in the user's latents, read by the units as the network is that it stands for."""
    theta, rank, n_raw = fit.neurons.theta, source.rank, source.raw.shape[1]
    weights = theta[:, rank:-1] / whitening.input_scale
    net = LowRankDynamics(
        theta[:, :rank], fit.size * fit.outgoing, dt=dt, tau=tau,
        nonlinearity=cast("Nonlinearity", fit.neurons.nonlinearity),
        bias=theta[:, -1] - weights @ whitening.input_centre,
        input_weights=weights if weights.shape[1] else None,
        drive=fit.free[n_raw] if whitening.has_drive else None,
        latent_input_weights=fit.free[:n_raw].T if n_raw else None,
    )  # fmt: skip
    inverse = np.linalg.inv(whitening.matrix)
    net = change_gauge(net, Gauge(inverse, -inverse @ whitening.centre))
    spread = np.atleast_2d(np.cov(source.latents.T, bias=True))
    net = net.replace(latent_mean=source.latents.mean(0), latent_covariance=spread, initial_covariance=None)
    return net if source.network is None else _read_like(net, source.network)


def _read_like(net: LowRankDynamics, other: LowRankDynamics) -> LowRankDynamics:
    """Return a network with the readout, noise and start of another one whose latents it shares.

    Where the units of the other are its neurons and show their currents C (m z + B v + b), they become readers of the
    latents. Rates are not linear in the latents: the network is then without a readout.
    """
    moments = {"latent_mean": other.latent_mean, "latent_covariance": other.latent_covariance}
    kept = {name: getattr(other, name) for name in _KEPT} | {k: v for k, v in moments.items() if v is not None}
    if other.loadings is None or other.readout == "rates":
        shown = ("likelihood", "link", "link_gain", "observation_variance", "dispersion", "unit_ids", "offset")
        return net.replace(
            **{name: value for name, value in kept.items() if name not in (*shown, "readout_input_weights")}
        )
    kept["loadings"] = other.loadings
    if other.readout == "currents":
        kept["loadings"] = other.loadings[:, None] * other.left_vectors
        if other.bias is not None:
            kept["offset"] = (0.0 if other.offset is None else other.offset) + other.loadings * other.bias
        if other.input_weights is not None:
            through = other.loadings[:, None] * other.input_weights
            own = other.readout_input_weights
            kept["readout_input_weights"] = through if own is None else own + through
        if other.private_noise is not None and other.likelihood == "gaussian":
            own = 0.0 if other.observation_variance is None else other.observation_variance
            kept["observation_variance"] = own + other.loadings**2 * other.private_noise
    return net.replace(**kept)
