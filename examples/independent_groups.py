"""Do two processes go on side by side in one recording? Independent groups of latents, and whether they are there.

Run it with `python examples/independent_groups.py`. The data are simulated from two cycles that know nothing of each
other, while every unit shows both.
"""

import sys

import numpy as np
import pandas as pd

import nwb_lrrnn as lr
from nwb_lrrnn import compare_disentanglement, group_stability, judge_groups, select_groups, select_rank


def two_cycles(n_bins: int, n_units: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Return units (time, unit) with noise of their own, and the latents (time, 4) of the two cycles that they show."""
    rng = np.random.default_rng(0)
    angles = np.exp(1j * np.array([0.45, 0.17]))  # per bin
    z, path = np.ones(2, dtype=complex), np.empty((n_bins, 2), dtype=complex)
    for t in range(n_bins):
        path[t] = z
        z = angles * z * (1.3 - 0.3 * np.abs(z) ** 2) + 0.05 * (rng.standard_normal(2) + 1j * rng.standard_normal(2))
    latents = path.view(float)  # real and imaginary parts side by side: (time, 4)
    X = latents @ rng.standard_normal((4, n_units)) + 0.2 * rng.standard_normal((n_bins, n_units))
    return X, latents


def main(n_bins: int = 600, n_surrogates: int = 60) -> pd.DataFrame:
    X, latents = two_cycles(n_bins)
    # noise of the measurement, and no error bars of the connectivity: nothing to choose, a quicker fit
    settings = {"noise": "readout", "scaling": "unit", "n_bootstraps": 0, "random_state": 0}
    rank = select_rank(lr.DisRNN(**settings), X, [2, 4, 6], cv=2).rank
    model = lr.DisRNN(rank, n_groups=2, **settings)
    print(f"rank {rank}")
    print(f"search: {select_groups(model, X, n_surrogates=n_surrogates)}")
    print(f"two groups: {judge_groups(model, X, n_surrogates=n_surrogates)}")
    print("how well the groups of refits predict them:")
    print(group_stability(model, X, n_bootstraps=2).round(3).to_string())
    print("beside other ways to choose latents; the true ones are known here:")
    truth = {"latents": latents, "latent_ranks": (2, 2)}
    table = compare_disentanglement(X, rank, 2, max_epochs=0, n_surrogates=n_surrogates, **truth, **settings)
    print(table.round(3).to_string())
    return table


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
