"""Whether the theory of large random networks applies to a network: what it would need, and what is not so here."""

from __future__ import annotations

import numpy as np

from nwb_lrrnn.dynamics import LowRankDynamics

_EXTENSIVE, _FEWEST = 0.05, 10  # modes, of N and at all
_OUTLYING = 1.25  # of the radius of the bulk
_MEAN = 0.5  # of it
_FEED_FORWARD = 0.7  # of it


def against_the_theory(numbers: dict[str, float], rank: int, n: int, network: LowRankDynamics | None) -> list[str]:
    """Return what speaks against the theory, in words; it applies where there is nothing."""
    said = [] if network is None else _of_network(network)
    if numbers["g"] <= 1.0:
        said.append(f"the coupling strength is {numbers['g']:.2g}, at most 1, so that there is no chaos")
    if rank < max(_FEWEST, _EXTENSIVE * n):
        said.append(f"{rank} modes in {n} neurons are no extensive rank, so that single modes carry the activity")
    if abs(numbers["mean_outlier"]) > _MEAN:
        said.append("the connections have a mean, which is a mode of its own")
    elif numbers["radius"] > _OUTLYING:
        said.append(
            f"an eigenvalue lies at {numbers['radius']:.2g} times the radius of random modes: a mode that stands out"
        )
    elif numbers["radius"] < _FEED_FORWARD:
        said.append(
            f"eigenvalues lie within {numbers['radius']:.2g} of the radius of random modes: the network feeds forward"
        )
    if numbers["one_sign"] > 0.9:
        said.append("sources have one sign each (Dale's law)")
    return said


def _of_network(network: LowRankDynamics) -> list[str]:
    given = {
        "it has inputs": network.n_inputs > 0,
        "it has noise of its own": _is_there(network.latent_noise) or _is_there(network.private_noise),
        "its neurons have biases or a constant drive": _is_there(network.bias) or _is_there(network.drive),
        f"{network.nonlinearity} is no odd saturating nonlinearity": network.nonlinearity not in ("tanh", "erf"),
    }
    return [words for words, so in given.items() if so]


def _is_there(field: np.ndarray | None) -> bool:
    return field is not None and bool(np.any(field))
