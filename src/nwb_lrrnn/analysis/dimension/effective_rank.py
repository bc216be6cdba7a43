"""`effective_rank`: the number of modes of a connectivity matrix, the same when neurons are left out."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def effective_rank(connectivity: ArrayLike) -> float:
    """Return the effective number of modes of a connectivity, which does not change when neurons are left out.

    N / kappa with kappa = N sum S^4 / (sum S^2)^2 - 2, S the singular values: in a network of random modes J = L D R',
    (sum D^2)^2 / sum D^4 (Eqs. 12 and 13 of Clark, Marschall, van Meegen & Litwin-Kumar 2025). The `- 2` is what
    independent entries have by chance, so that they have infinitely many modes.

    Parameters
    ----------
    connectivity : array (target, source)
        Of all neurons, or of some of them.

    Returns
    -------
    k_eff : float
        inf where kappa <= 0: the singular values are as even as those of independent entries, or more so.

    Raises
    ------
    ValueError
        If it is no square matrix of finite numbers, or holds only zeros.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> J = rng.standard_normal((800, 100)) @ rng.standard_normal((100, 800))
    >>> 90 < effective_rank(J) < 110, 80 < effective_rank(J[:300, :300]) < 120
    (True, True)
    """
    J = np.asarray(connectivity, dtype=float)
    if J.ndim != 2 or J.shape[0] != J.shape[1] or not np.isfinite(J).all() or not J.any():
        raise ValueError(
            f"connectivity: got an array of shape {J.shape}, wanted a square one (target, source) of finite numbers, "
            "not all 0; pass that of the neurons that are both"
        )
    gram = J @ J.T / np.abs(J).max() ** 2
    kappa = len(J) * float(np.sum(gram**2)) / float(np.trace(gram)) ** 2 - 2.0
    return len(J) / kappa if kappa > 0 else np.inf
