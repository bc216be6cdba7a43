"""Whether the latents of a fitted network grow when it runs freely: measured, and said once, at the end of a fit."""

from __future__ import annotations

import logging
from typing import NamedTuple, Protocol

import numpy as np

from nwb_lrrnn.dynamics import LowRankDynamics
from nwb_lrrnn.dynamics.distance import distance_from_data
from nwb_lrrnn.dynamics.simulation import covariance_root

logger = logging.getLogger(__name__)

N_STEPS = 500
FAR = 10.0  # standard deviations: no data have been there
_N_RUNS = 16
_LOOK_EVERY = 20  # steps
_AT_REST = 1e-4  # standard deviations of the latents between two looks: the rest of the run goes nowhere else


class Fitted(Protocol):
    """What is told of a fitted model; it may have `dynamics_`."""

    growth_: float
    is_stable_: bool


class Growth(NamedTuple):
    """Where a free run ends, standard deviations from the data (inf: nowhere), and whether it stays with them."""

    distance: float
    is_stable: bool
    says: str  # "" where it is stable


def growth(network: LowRankDynamics) -> Growth:
    """Return how a network runs freely, without noise and inputs, from where the data had its latents.

    A linear one is stable where every eigenvalue of its step is inside the unit circle; any other where its latents,
    after `N_STEPS` steps, are within `FAR` standard deviations of those of the data.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        jacobian = network.jacobian(np.zeros(network.rank))
    if not np.isfinite(jacobian).all():
        return Growth(np.inf, False, "its latents grow beyond all numbers in one step")
    distance = _end_of_free_run(network)
    if network.nonlinearity == "identity":
        largest = float(np.abs(np.linalg.eigvals(jacobian)).max(initial=0.0))
        if largest < 1.0:
            return Growth(distance, True, "")
        bins = f"by a factor e in {1 / np.log(largest):.3g} bins" if largest > 1.0 else "for ever"
        return Growth(distance, False, f"its latents grow {bins}: the largest eigenvalue of its step is {largest:.6g}")
    if distance <= FAR:
        return Growth(distance, True, "")
    where = f"{distance:.3g} standard deviations of them away" if np.isfinite(distance) else "at infinity"
    return Growth(
        distance, False, f"run freely, its latents leave those of the data: after {N_STEPS} bins they are {where}"
    )


def tell(model: Fitted) -> None:
    """Set `growth_` and `is_stable_` of a fitted model, and say in the log where it is not stable."""
    network = getattr(model, "dynamics_", None)
    if not isinstance(network, LowRankDynamics) or not network.rank:
        return
    found = growth(network)
    model.growth_, model.is_stable_ = found.distance, found.is_stable
    if not found.is_stable:
        logger.warning("%s: %s; what it simulates for long is of no use", type(model).__name__, found.says)


def _end_of_free_run(network: LowRankDynamics) -> float:
    """Return how far, in standard deviations, the farthest of some free runs ends from the data."""
    mean, covariance = network.latent_mean, network.latent_covariance
    if covariance is None:
        mean = network.initial_mean
        covariance = np.eye(network.rank) if network.initial_covariance is None else network.initial_covariance
        network = network.replace(latent_mean=mean, latent_covariance=covariance)
    draws = np.random.default_rng(0).standard_normal((_N_RUNS, network.rank))
    z = (0.0 if mean is None else mean) + draws @ covariance_root(np.asarray(covariance)).T
    at_rest = _AT_REST * float(np.sqrt(np.linalg.eigvalsh(covariance)[0].clip(min=0.0)))
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(0, N_STEPS, _LOOK_EVERY):
            before = z
            for _ in range(_LOOK_EVERY):
                z = network.step(z)
            if not np.isfinite(z).all():
                return np.inf
            if np.abs(z - before).max() < at_rest:
                break
    distance = distance_from_data(network, z)
    return np.inf if distance is None else float(distance.max())
