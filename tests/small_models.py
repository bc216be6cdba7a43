"""Every estimator with settings that fit in an instant, and one small recording as every kind of X that has trials."""

import dask.array as da
import numpy as np
import pandas as pd
import xarray as xr

from nwb_lrrnn import DisRNN, LeastSquaresRNN, LinearStateSpace, LowRankRNN, SMCLowRankRNN
from nwb_lrrnn.models import ESTIMATORS
from nwb_lrrnn.models.linear import FactorAnalysis, MeanRate, UnitAutoregression, VectorAutoregression

N_TRIALS, N_BINS = 6, 12
BIN = 0.1

TRAINED = {"validation_fraction": 0.0, "max_epochs": 1, "n_neurons": 4, "bin_size": BIN, "random_state": 0}
MODELS = {
    "LowRankRNN": LowRankRNN(1, shooting_window=0.6, **TRAINED),
    "SMCLowRankRNN": SMCLowRankRNN(1, n_particles=8, n_trajectories=4, **TRAINED),
    "DisRNN": DisRNN(1, n_groups=1, n_bootstraps=2, bin_size=BIN, random_state=0),
    "LeastSquaresRNN": LeastSquaresRNN(1, **TRAINED),
    "LinearStateSpace": LinearStateSpace(1, max_iter=3, bin_size=BIN),
    "FactorAnalysis": FactorAnalysis(1, max_iter=5, bin_size=BIN),
    "MeanRate": MeanRate(bin_size=BIN),
    "VectorAutoregression": VectorAutoregression(1, alpha=1.0, bin_size=BIN),
    "UnitAutoregression": UnitAutoregression(2, bin_size=BIN),
}
WITH_LATENTS = list(ESTIMATORS)
NETWORKS = [name for name, entry in ESTIMATORS.items() if entry.word]
GRIDS = {
    **dict.fromkeys(WITH_LATENTS, {"rank": [1, 2]}),
    "MeanRate": {"likelihood": ["gaussian", "auto"]},
    "VectorAutoregression": {"alpha": [0.1, 10.0]},
    "UnitAutoregression": {"max_lags": [1, 2]},
}


def recording() -> xr.DataArray:
    """Return trials of three units that share an oscillation, two of each of three blocks of the session."""
    rng = np.random.default_rng(0)
    z = np.cos(0.6 * np.arange(N_BINS) + rng.uniform(0, 6, size=(N_TRIALS, 1)))
    values = 3.0 + z[..., None] * [1.0, -1.0, 0.5] + 0.2 * rng.standard_normal((N_TRIALS, N_BINS, 3))
    coords = {
        "trial": 10 + np.arange(N_TRIALS),
        "time": BIN * np.arange(N_BINS),
        "unit": ["a", "b", "c"],
        "block": ("trial", ["x", "y", "x", "z", "y", "z"]),
    }
    return xr.DataArray(values, dims=("trial", "time", "unit"), coords=coords, attrs={"bin_size": BIN})


def drive(X: xr.DataArray) -> xr.DataArray:
    """Return inputs for the trials and bins of X."""
    values = np.random.default_rng(1).standard_normal((*X.shape[:2], 1))
    coords = {"trial": X["trial"], "time": X["time"], "input": ["light"]}
    return xr.DataArray(values, dims=("trial", "time", "input"), coords=coords)


def ragged(X: xr.DataArray) -> list[xr.DataArray]:
    """Return trials of unequal length."""
    return [trial[: N_BINS - k % 4] for k, trial in enumerate(X)]


def _as_frame(trial: xr.DataArray) -> pd.DataFrame:
    return pd.DataFrame(trial.values, index=trial["time"].values, columns=trial[trial.dims[-1]].values)


# what makes every kind with a trial axis of a labelled recording, or of inputs; lists hold trials of unequal length
KINDS = {
    "labelled": lambda X: X,
    "lazy": lambda X: X.chunk(trial=4, time=5),
    "array": lambda X: X.values,
    "dask array": lambda X: da.from_array(X.values, chunks=(4, 5, 1)),
    "list of labelled": ragged,
    "list of arrays": lambda X: [trial.values for trial in ragged(X)],
    "list of frames": lambda X: [_as_frame(trial) for trial in ragged(X)],
    "list of lazy": lambda X: [trial.chunk(time=5) for trial in ragged(X)],
    "list of dask arrays": lambda X: [da.from_array(trial.values) for trial in ragged(X)],
}
