"""The Newton system of the nodes of a trial, each coupled with the next: fused kernels on CPUs, plain torch elsewhere.

A chain may have thousands of nodes, in a trial of many minutes; what torch does node by node takes longer there than
all that is computed between the nodes.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from nwb_lrrnn.models.training.devices import arrays, use_kernels
from nwb_lrrnn.models.training.threads import over_ranges


class Chains(NamedTuple):
    """Block-tridiagonal systems, one for each trial; absent nodes are identities."""

    diagonal: Tensor  # (S, trial, node, R, R)
    upper: Tensor  # (S, trial, node, R, R), coupling of a node with the next
    gradient: Tensor  # (S, trial, node, R)
    n_nodes: Tensor  # (trial,), int64


class Inverse(NamedTuple):
    """What is needed of the inverses of the matrices of chains."""

    log_det: Tensor  # of the matrices themselves, (S, trial)
    diagonal: Tensor  # (S, trial, node, R, R)
    upper: Tensor  # of a node with the next, (S, trial, node, R, R)


def solve(chains: Chains, damping: Tensor, *, kernels: bool | None = None) -> Tensor:
    """Return the damped steps (S, trial, node, R); damping (S, trial) raises each diagonal by such a share.

    `kernels` overrides the choice of path.
    """
    if use_kernels(damping) if kernels is None else kernels:
        from nwb_lrrnn.models.kernels import chain

        diagonal, upper, gradient, share = arrays((*chains[:3], damping))
        steps, n_nodes = np.zeros_like(gradient), chains.n_nodes.numpy()
        over_ranges(
            lambda a, b: chain.solve(a, b, diagonal, upper, gradient, share, n_nodes, steps), share.size, diagonal.size
        )
        return torch.from_numpy(steps).to(damping.dtype)
    scale = torch.diagonal(chains.diagonal, dim1=-2, dim2=-1) * damping[:, :, None, None]
    roots, sides = _eliminate(chains._replace(diagonal=chains.diagonal + torch.diag_embed(scale)))
    found = [torch.cholesky_solve(sides[-1], roots[-1])]
    for k in range(len(roots) - 2, -1, -1):
        found.append(torch.cholesky_solve(sides[k] - chains.upper[:, :, k] @ found[-1], roots[k]))
    return torch.stack(found[::-1], dim=2)[..., 0]


def invert(chains: Chains, *, kernels: bool | None = None) -> Inverse:
    """Return what is needed of the inverses; `kernels` overrides the choice of path."""
    if use_kernels(chains.diagonal) if kernels is None else kernels:
        from nwb_lrrnn.models.kernels import chain

        diagonal, upper = arrays(chains[:2])
        log_det, own, mixed = np.zeros(diagonal.shape[:2]), np.zeros_like(diagonal), np.zeros_like(diagonal)
        fixed = (diagonal, upper, chains.n_nodes.numpy(), log_det, own, mixed)
        over_ranges(lambda a, b: chain.invert(a, b, *fixed), log_det.size, diagonal.size)
        return Inverse(*(torch.from_numpy(a).to(chains.diagonal.dtype) for a in (log_det, own, mixed)))
    roots, _ = _eliminate(chains)
    log_dets = [2 * torch.log(torch.diagonal(root, dim1=-2, dim2=-1)).sum(-1) for root in roots]
    covariances, crosses = [torch.cholesky_inverse(roots[-1])], [torch.zeros_like(roots[-1])]
    for k in range(len(roots) - 2, -1, -1):
        gain = torch.cholesky_solve(chains.upper[:, :, k], roots[k])  # pivot^-1 upper
        crosses.append(-gain @ covariances[-1])
        covariances.append(torch.cholesky_inverse(roots[k]) + gain @ covariances[-1] @ gain.mT)
    own, mixed = (torch.stack(found[::-1], dim=2) for found in (covariances, crosses))
    return Inverse(torch.stack(log_dets).sum(0), own, mixed)


def _eliminate(chains: Chains) -> tuple[list[Tensor], list[Tensor]]:
    """Return the Cholesky roots of the pivots and the reduced right-hand sides, node by node."""
    diagonal, upper, gradient, _ = chains
    roots, sides = [], []
    for k in range(diagonal.shape[2]):
        pivot, side = diagonal[:, :, k], gradient[:, :, k, :, None]
        if k:
            carry = torch.cholesky_solve(upper[:, :, k - 1], roots[-1]).mT  # upper^T pivot^-1
            pivot = pivot - carry @ upper[:, :, k - 1]
            side = side - carry @ sides[-1]
        root, failed = torch.linalg.cholesky_ex(0.5 * (pivot + pivot.mT))
        # a trajectory that left every bound: not finite, so that it is never taken, instead of an error for all trials
        roots.append(torch.where(failed[..., None, None] > 0, torch.full_like(root, math.nan), root))
        sides.append(side)
    return roots, sides
