"""Small fits whose checkpoints are tested."""

import numpy as np

from nwb_lrrnn.models.low_rank import LowRankRNN
from nwb_lrrnn.models.smc import SMCLowRankRNN


def low_rank(**parameters):
    return LowRankRNN(**{"rank": 2, "n_neurons": 10, "max_epochs": 12, "n_init": 2, "random_state": 0, **parameters})


def smc(**parameters):
    few = {"n_neurons": 8, "n_particles": 8, "n_trajectories": 8, "max_epochs": 4, "batch_size": 3}
    return SMCLowRankRNN(**{"rank": 2, "random_state": 0, **few, **parameters})


MODELS = {"low_rank": low_rank, "smc": smc}


def make_waves():
    """Return trials of units that read a rotation with noise, (trial, time, unit)."""
    rng = np.random.default_rng(0)
    phase = rng.uniform(0, 2 * np.pi, size=(8, 1))
    z = np.stack([np.cos(0.3 * np.arange(24) + phase), np.sin(0.3 * np.arange(24) + phase)], -1)
    return z @ rng.standard_normal((2, 5)) + 0.3 * rng.standard_normal((8, 24, 5))
