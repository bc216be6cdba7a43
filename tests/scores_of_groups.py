"""How well groups of latents were found, whatever their order and basis."""

from itertools import permutations

import numpy as np


def r2(wanted, found):
    """Return the variance of `wanted` (..., latent) that an affine map of `found` explains, the mean over latents."""
    z, x = (a.reshape(-1, a.shape[-1]) for a in (wanted, found))
    design = np.column_stack([x, np.ones(len(x))])
    rest = z - design @ np.linalg.lstsq(design, z, rcond=None)[0]
    return float(np.mean(1 - (rest**2).sum(0) / ((z - z.mean(0)) ** 2).sum(0)))


def matching(wanted, found, group_ranks):
    """Return the best R2 of groups each mapped from one group of equal rank, and which group each was mapped from."""
    ends = np.cumsum(group_ranks)
    parts = [slice(int(end) - rank, int(end)) for end, rank in zip(ends, group_ranks, strict=True)]
    best = (-np.inf, ())
    for order in permutations(range(len(parts))):
        if any(group_ranks[a] != group_ranks[b] for a, b in enumerate(order)):
            continue
        each = [r2(wanted[..., parts[a]], found[..., parts[b]]) for a, b in enumerate(order)]
        best = max(best, (min(each), order))
    return best


def group_r2(wanted, found, group_ranks):
    """Return the R2 of the worst group, each mapped from its own group alone."""
    return matching(wanted, found, group_ranks)[0]
