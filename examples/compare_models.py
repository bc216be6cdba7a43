"""How many latents, and is a nonlinear network needed at all? Held-out scores of several models on the same trials.

Run it with `python examples/compare_models.py`. The data are simulated from a network with two stable states, which no
linear model can have.
"""

import sys
import warnings

import numpy as np
import pandas as pd
from sklearn.exceptions import ConvergenceWarning

import nwb_lrrnn as lr


def two_states(n_units: int = 20) -> lr.LowRankDynamics:
    """Return a rank-1 network that settles in one of two states, seen by units with Gaussian noise."""
    rng = np.random.default_rng(0)
    m = rng.standard_normal((100, 1))
    return lr.LowRankDynamics(
        m,
        2.5 * m,
        dt=0.02,
        tau=0.1,
        initial_covariance=np.array([[0.5]]),
        loadings=rng.standard_normal((n_units, 1)),
        offset=np.zeros(n_units),
        observation_variance=np.full(n_units, 0.5),
    )


def main(n_trials: int = 40, max_epochs: int = 200, folds: int = 3) -> pd.DataFrame:
    X = two_states().simulate(n_trials, 50, random_state=1)["observations"]
    model = lr.LowRankRNN(rank=1, n_neurons=40, max_epochs=max_epochs, patience=10, random_state=0)
    larger = lr.LowRankRNN(rank=2, n_neurons=40, max_epochs=max_epochs, patience=10, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a short fit is enough to see the difference
        table = lr.compare_baselines(model, X, cv=folds, others={"LowRankRNN (rank 2)": larger})
    print(table)
    print(table.attrs["verdict"])
    return table


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
