"""Other latents of the same fitted network: principal, independent components, singular vectors of the connectivity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.models.dis.lagged import independent_components as fast_ica
from nwb_lrrnn.models.dis.separation import into_parts, whitened

if TYPE_CHECKING:
    from nwb_lrrnn.models.dis import DisRNN

Array = NDArray[np.floating]
Mask = NDArray[np.bool_]

_ICA_STEPS = 1000


def principal(model: DisRNN, group_ranks: Sequence[int]) -> DisRNN:
    """Return the network in its latents by variance, cut into groups in that order: what lrRNN and no grouping give."""
    return model.regrouped(np.eye(sum(group_ranks)), group_ranks)


def independent_components(
    model: DisRNN, latents: Array, seen: Mask, group_ranks: Sequence[int], random_state: int | None = 0
) -> DisRNN:
    """Return the network in independent components (FastICA, Hyvarinen 1999) of its latents, in their best grouping.

    Parameters
    ----------
    model : DisRNN
    latents, seen : arrays (trial, time, latent), (trial, time)
        Of the model.
    group_ranks : sequence of int
    random_state : int or None
    """
    matrix, white = whitened(latents, seen)
    rotation = fast_ica(white[seen], np.random.default_rng(random_state), n_steps=_ICA_STEPS)
    order = into_parts(white @ rotation, seen, group_ranks)
    return model.regrouped(rotation.T[order] @ matrix, group_ranks)


def singular_vectors(model: DisRNN, latents: Array, seen: Mask, group_ranks: Sequence[int]) -> DisRNN:
    """Return the network in the singular vectors of its connectivity (LINT), in their best grouping.

    m nᵀ / N = U S Vᵀ; the latents are Vᵀ phi(x), the columns of U S the loadings (Valente, Pillow & Ostojic 2022).
    """
    network = model.dynamics_
    weights = network.right_vectors.T / network.n_neurons  # (latent, neuron)
    axes = np.linalg.svd(network.left_vectors @ weights, full_matrices=False)[2][: network.rank]
    matrix = axes @ np.linalg.pinv(weights)
    return grouped(model.regrouped(matrix, (model.rank,)), latents @ matrix.T, seen, group_ranks)


def grouped(model: DisRNN, latents: Array, seen: Mask, group_ranks: Sequence[int]) -> DisRNN:
    """Return the network with its latents, as they are, in their best grouping."""
    turned = np.where(seen[..., None], latents - latents[seen].mean(axis=0), 0.0)
    order = into_parts(turned / turned[seen].std(axis=0), seen, group_ranks)
    return model.regrouped(np.eye(latents.shape[2])[order], group_ranks)
