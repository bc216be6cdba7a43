"""A network read out by some of its units, and one that has further units which never change."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.dynamics import fields
from nwb_lrrnn.dynamics.likelihoods import LIKELIHOODS, Likelihood
from nwb_lrrnn.dynamics.network import LowRankDynamics

Array = NDArray[np.floating]

# what a unit shows that no latent moves, beside its offset: of a readout of neurons it is one, without connections
_FILL = {"thresholds": 1.0, "link_gain": 1.0}
_QUIET = 1e-6  # variance of a unit that never changes, in the mean variance of the others


def select_units(network: LowRankDynamics, kept: NDArray[np.bool_]) -> LowRankDynamics:
    """Return the network with only the units of `kept` (unit,), bool; neurons that are units go with them."""
    changes = {name: getattr(network, name)[kept] for name in _unit_fields(network)}
    if network.readout != "latents":
        changes["right_vectors"] = changes["right_vectors"] * (int(kept.sum()) / len(kept))
    if network.unit_ids is not None:
        changes["unit_ids"] = network.unit_ids[kept]
    return network.replace(**changes)


def with_constant_units(
    network: LowRankDynamics, kept: NDArray[np.bool_], means: Array, unit_ids: NDArray
) -> LowRankDynamics:
    """Return the network with units more, which no latent moves and which move no latent.

    Parameters
    ----------
    network : LowRankDynamics
        Of the units of `kept`.
    kept : array (unit,), bool
        Which of all units those are.
    means : array (unit,)
        Expected values per bin of the others.
    unit_ids : array (unit,)
    """
    changes: dict[str, Any] = {}
    for name in _unit_fields(network):
        old = getattr(network, name)
        changes[name] = np.full((len(kept), *old.shape[1:]), _FILL.get(name, 0.0))
        changes[name][kept] = old
    likelihood = Likelihood(network.likelihood, str(network.link), network.dt)
    level = likelihood.eta_of(likelihood.family.bounded(np.asarray(means, dtype=float)[~kept]))
    if network.readout == "latents" or network.likelihood == "gaussian":
        changes.setdefault("offset", np.zeros(len(kept)))[~kept] = level
    else:  # counts of neurons: their current, or what is added to their rate
        changes.setdefault("bias" if network.readout == "currents" else "offset", np.zeros(len(kept)))[~kept] = level
    if network.readout != "latents":
        changes["right_vectors"] = changes["right_vectors"] * (len(kept) / int(kept.sum()))
        size = np.sqrt(np.mean(np.square(changes["loadings"][kept]))) if network.likelihood == "gaussian" else 1.0
        changes["loadings"][~kept] = size if network.readout == "currents" else 0.0
    if network.observation_variance is not None:
        changes["observation_variance"][~kept] = _QUIET * network.observation_variance.mean()
    elif network.private_noise is not None:
        changes["private_noise"][~kept] = _QUIET * network.private_noise.mean()
    if network.dispersion is not None:
        changes["dispersion"][~kept] = LIKELIHOODS[network.likelihood].spread_limits[1]
    return network.replace(**changes, unit_ids=unit_ids)


def _unit_fields(network: LowRankDynamics) -> list[str]:
    """Return the fields that a network has with one row a unit."""
    dims = {"unit"} if network.readout == "latents" else {"unit", "neuron"}
    names = [name for name, of in fields.DIMS.items() if of[0] in dims]
    return [name for name in names if getattr(network, name) is not None]
