"""A small recording, and models fitted to it for a few epochs: what is stored does not depend on how good they are."""

import warnings

import numpy as np
import xarray as xr
from sklearn.exceptions import ConvergenceWarning

from nwb_lrrnn.io.reading.recording import open_nwb
from nwb_lrrnn.io.writing.recording_file import write_recording
from nwb_lrrnn.models.dis import DisRNN
from nwb_lrrnn.models.least_squares import LeastSquaresRNN
from nwb_lrrnn.models.low_rank import LowRankRNN
from nwb_lrrnn.models.smc import SMCLowRankRNN

BIN = 0.02


def counts(n_trials=6, n_bins=30, n_units=5):
    rng = np.random.default_rng(0)
    time = (np.arange(n_bins) + 0.5) * BIN
    rate = 1.0 + 0.6 * np.sin(2 * np.pi * 2 * time[:, None] + np.arange(n_units))
    return xr.DataArray(
        rng.poisson(rate, size=(n_trials, n_bins, n_units)),
        dims=("trial", "time", "unit"),
        coords={
            "trial": np.arange(n_trials) + 10,
            "time": time - 0.2,
            "unit": np.arange(n_units) + 7,
            "choice": ("trial", ["left", "right"] * (n_trials // 2)),
            "location": ("unit", ["MOs"] * n_units),
            "quality": ("unit", ["good"] * n_units),
        },
        attrs={"bin_size": BIN},
    )


def quick(X, cls=LowRankRNN, inputs=None, **parameters):
    """Return a model fitted for a few epochs."""
    gradient = {"n_neurons": 12, "max_epochs": 3, "random_state": 3}
    particles = {"n_particles": 8, "n_trajectories": 8}
    groups = {"n_bootstraps": 3, "random_state": 3}
    of_class = {
        LowRankRNN: gradient,
        SMCLowRankRNN: gradient | particles,
        DisRNN: groups,
        LeastSquaresRNN: gradient | {"max_epochs": 1},
    }
    defaults = of_class.get(cls, {"max_iter": 3})
    model = cls(**{"rank": 2, **defaults, **parameters})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(X, inputs=inputs)


def make_recording(path):
    """Return the counts as a recording in an NWB file."""
    session = {"institution": "The University", "lab": "The Lab", "experimenter": ["Doe, Jane"]}
    subject = {"subject_id": "rat-7", "species": "Rattus norvegicus", "sex": "F", "age": "P90D"}
    write_recording(path, counts(), subject=subject, session=session, random_state=0)
    return open_nwb(path)


def aligned(recording):
    """Return the trials of the recording in memory."""
    return recording.spikes(BIN, align="go_cue_time", window=(-0.2, 0.4)).load()


def unstorable(data):
    """Return the attributes that netCDF has no form for, and the variables of a type that it does not know."""
    nodes = list(data.subtree) if isinstance(data, xr.DataTree) else [data]
    wrong = []
    for node in nodes:
        variables = dict(node.coords) | (dict(node.data_vars) if hasattr(node, "data_vars") else {"values": node})
        for name, owner in {"": node, **variables}.items():
            wrong += [f"{name}: {key}={value!r}" for key, value in owner.attrs.items() if not is_storable(value)]
        wrong += [f"{name} is {v.dtype}" for name, v in variables.items() if v.dtype.kind not in "biufUOM"]
    return wrong


def is_storable(value):
    entries = value if isinstance(value, (list, tuple, np.ndarray)) else [value]
    texts = all(isinstance(entry, str) for entry in entries)
    numbers = (int, float, np.integer, np.floating)
    return texts or all(isinstance(entry, numbers) and not isinstance(entry, bool) for entry in entries)
