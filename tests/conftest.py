"""Fixtures that more than one test file uses."""

import os
import re
from pathlib import Path

import numpy as np
import pytest

from nwb_lrrnn.dynamics import LowRankDynamics
from nwb_lrrnn.io.reading.recording import open_nwb
from small_archive import without_accounts
from small_nwb import new_nwb

# A fresh machine compiles kernels for minutes: tests that need the same ones go to one worker, which does it once.
_KERNELS = {
    "particles": "smc|particle|baseline|linear|FactorAnalysis|compare|demo|cli|readme|example",
    "trajectories": "low_?rank|trajector|scan|train",
    "groups": r"dis(rnn|ent|[_.\-\]])|paper|group",
}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Give tests to workers by the kernels that their names tell, the others by file, whose fixtures they share."""
    from xdist.scheduler import LoadScopeScheduling

    class ByKernels(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            found = (name for name, words in _KERNELS.items() if re.search(words, nodeid, re.IGNORECASE))
            return next(found, nodeid.split("::")[0])

    return ByKernels(config, log)


@pytest.fixture
def rng():
    """Return a generator with a fixed seed, fresh for each test."""
    return np.random.default_rng(20240611)


@pytest.fixture(scope="session")
def data_folder():
    """Return the folder of real recordings that the environment names; without it the test is skipped."""
    folder = os.environ.get("NWB_LRRNN_DATA")
    if not folder:
        pytest.skip("NWB_LRRNN_DATA is unset: it names the folder of real recordings")
    return Path(folder)


@pytest.fixture
def no_accounts(tmp_path):
    """Keep keys and folders of whoever runs the tests out of them, and see that nothing is written there."""
    with without_accounts(tmp_path / "home"):
        yield
    assert not (tmp_path / "home").exists()  # neither log files nor keyrings


@pytest.fixture
def make(tmp_path):
    """Return a function that writes a small NWB file through `build(file)` and opens it."""

    def make(build):
        with new_nwb(tmp_path / "a.nwb") as file:
            build(file)
        return open_nwb(tmp_path / "a.nwb")

    return make


@pytest.fixture
def make_network(rng):
    """Return a maker of networks with every field that suits the nonlinearity and the readout; None drops one."""

    def make(nonlinearity="tanh", *, neurons=12, rank=2, units=5, inputs=2, readout="latents", **changes):
        units = units if readout == "latents" else neurons
        root = rng.normal(size=(rank, rank))
        fields = {
            "left_vectors": rng.normal(size=(neurons, rank)),
            "right_vectors": rng.normal(size=(neurons, rank)),
            "dt": 0.1,
            "tau": 0.5,
            "nonlinearity": nonlinearity,
            "bias": rng.normal(size=neurons),
            "thresholds": rng.uniform(0.5, 2.0, size=neurons) if nonlinearity == "clipped_relu" else None,
            "input_weights": rng.normal(size=(neurons, inputs)),
            "drive": rng.normal(size=rank),
            "latent_input_weights": rng.normal(size=(rank, inputs)),
            "latent_noise": 0.01 * root @ root.T,
            "initial_mean": rng.normal(size=rank),
            "initial_covariance": root @ root.T + np.eye(rank),
            "initial_input_weights": rng.normal(size=(rank, inputs)),
            "readout": readout,
            "loadings": rng.normal(size=(units, rank) if readout == "latents" else units),
            "readout_input_weights": rng.normal(size=(units, inputs)),
            "offset": rng.normal(size=units),
            "observation_variance": rng.uniform(0.5, 1.5, size=units),
            "latent_mean": rng.normal(size=rank),
            "latent_covariance": 2.0 * root.T @ root + 0.1 * np.eye(rank),
        }
        return LowRankDynamics(**(fields | changes))

    return make
