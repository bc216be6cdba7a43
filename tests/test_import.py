"""What `import nwb_lrrnn` costs and offers."""

import ast
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import nwb_lrrnn
import nwb_lrrnn.models

# what takes a tenth of a second or more to load; benchmarks/importing.py shows the seconds
HEAVY = (
    "numpy",
    "pandas",
    "xarray",
    "torch",
    "numba",
    "h5py",
    "pynwb",
    "sklearn",
    "scipy",
    "dask",
    "matplotlib",
    "click",
)


def run(code):
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()


@pytest.mark.parametrize(
    ("program", "allowed", "most"),
    [
        ("import nwb_lrrnn", set(), 100),
        ("from nwb_lrrnn.cli import cli; cli.main(['--help'], standalone_mode=False)", {"click"}, 200),
    ],
    ids=["import", "help"],
)
def test_little_is_loaded(program, allowed, most):
    # numpy alone is some 150 modules and 0.1 s; 26 and 95 are loaded now
    code = f"import sys; before = set(sys.modules); {program}; print('loaded:', *set(sys.modules) - before)"
    said = run(code)
    loaded = said[said.index("loaded:") + 1 :]
    assert not set(HEAVY) & {name.split(".")[0] for name in loaded} - allowed
    assert "nwb_lrrnn" in loaded
    assert len(loaded) < most


@pytest.mark.parametrize("name", [name for name in nwb_lrrnn.__all__ if not name.startswith("_")])
def test_every_name_is_there(name):
    value = getattr(nwb_lrrnn, name)
    assert value.__name__ == name
    assert name in dir(nwb_lrrnn)


def test_type_checkers_see_the_same_names():
    tree = ast.parse(Path(nwb_lrrnn.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    imported = {alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert imported | {"__version__"} == set(nwb_lrrnn.__all__)
    assert set(nwb_lrrnn._HOMES) == imported


def test_version():
    assert nwb_lrrnn.__version__ == version("nwb-lrrnn")


def test_unknown_names_are_refused():
    with pytest.raises(AttributeError, match="has no attribute 'LowRankRNNN'"):
        nwb_lrrnn.LowRankRNNN  # noqa: B018
    with pytest.raises(AttributeError, match="has no attribute 'Other'"):
        nwb_lrrnn.models.Other  # noqa: B018


def test_estimators_are_in_models_too():
    assert {"DisRNN", "LinearStateSpace", "LowRankRNN", "SMCLowRankRNN"} <= set(nwb_lrrnn.models.ESTIMATORS)
    assert set(nwb_lrrnn.models.ESTIMATORS) <= set(dir(nwb_lrrnn.models))
    for name, entry in nwb_lrrnn.models.ESTIMATORS.items():
        estimator = getattr(nwb_lrrnn.models, name)
        assert estimator.__name__ == name
        assert (name in nwb_lrrnn.__all__) == (entry.word is not None)
        assert entry.word is None or estimator is getattr(nwb_lrrnn, name)


def test_module_runs_as_the_command():
    done = subprocess.run([sys.executable, "-m", "nwb_lrrnn", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"nwb-lrrnn {version('nwb-lrrnn')}\n"


def test_local_files_are_read_and_fitted_without_the_client_of_the_archive(tmp_path):
    made = f"""
import sys
sys.modules["dandi"] = None  # as if it were not installed
import numpy as np, xarray as xr, nwb_lrrnn as lr
counts = np.random.default_rng(0).poisson(1.0, (4, 30, 3))
X = xr.DataArray(counts, dims=("trial", "time", "unit"), attrs={{"bin_size": 0.1}})
path = lr.write_recording({str(tmp_path / "session.nwb")!r}, X, random_state=0)
recording = lr.open_nwb(path)
model = lr.LinearStateSpace(rank=1, max_iter=2, tol=1e9).fit(recording.spikes(bin_size=0.1))
lr.write_results({str(tmp_path / "fit.nwb")!r}, model, source=recording)
print(type(lr.load_model({str(tmp_path / "fit.nwb")!r})).__name__, [m for m in sys.modules if m.startswith("dandi.")])
"""
    assert run(made) == ["LinearStateSpace", "[]"]
