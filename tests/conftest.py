"""Fixtures that more than one test file uses."""

import os
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pytest

from nwb_lrrnn.dynamics import LowRankDynamics
from nwb_lrrnn.io.reading.recording import open_nwb
from small_archive import without_accounts
from small_nwb import new_nwb
from source_files import FILES

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None


def pytest_configure():
    """Keep compiled kernels by the sources of all of them, before anything imports numba.

    Numba compiles anew where the file of a kernel has changed, but not where that of another has which it calls, or
    of a constant that it knows.
    """
    texts = [(file.parent.name, file.read_bytes()) for file in FILES]
    sources = b"".join(text for room, text in texts if b"njit" in text or room in ("kernels", "observation"))
    folder = Path(__file__).parent.parent / ".numba_cache" / blake2b(sources, digest_size=8).hexdigest()
    os.environ.setdefault("NUMBA_CACHE_DIR", str(folder))


# what takes longest, and few tests: begun first, so that no worker is left alone with it at the end
FIRST = (
    "contract", "kill", "low_rank", "readme", "contract_selection", "bernoulli", "smc", "dis_extremes",
    "results_models", "checkpoints", "smc_planted", "preprocessing_stretches", "lazy_training", "contract_processes",
    "demo", "examples",
)  # fmt: skip


def pytest_collection_modifyitems(items):
    """Put the files of `FIRST` before all others."""
    places = {f"test_{name}.py": place for place, name in enumerate(FIRST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


@pytest.fixture(scope="session", autouse=True)
def _every_kernel_is_compiled_once(tmp_path_factory):
    """Let a worker that needs a kernel which another compiles wait for it, and load it.

    A fresh machine compiles for minutes. Twice over is dear, and workers that compile at once end with kernels that
    differ in their last bits, by what of each other's they find.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ or fcntl is None:
        yield
        return
    from numba.core.compiler_lock import global_compiler_lock
    from numba.core.dispatcher import Dispatcher

    from nwb_lrrnn.models.training import threads

    folder = tmp_path_factory.getbasetemp().parent / "kernels"  # of this run, all workers see it
    folder.mkdir(exist_ok=True)
    compile_now = Dispatcher.compile

    def compile_in_turn(kernel, signature):
        name = f"{kernel.py_func.__module__}.{kernel.py_func.__qualname__}"
        if not name.startswith("nwb_lrrnn."):
            return compile_now(kernel, signature)
        of_types = blake2b(str(signature).encode(), digest_size=8).hexdigest()
        # one thread of a worker at a time, and no kernel calls itself, even through others: nobody waits in a circle
        with global_compiler_lock, (folder / f"{name}.{of_types}").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            return compile_now(kernel, signature)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Dispatcher, "compile", compile_in_turn)
        patch.setattr(threads, "n_cores", lambda: 1)  # of a worker; results do not depend on it, see test_threads.py
        yield


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
