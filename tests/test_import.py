"""What `import nwb_lrrnn` costs and offers."""

import ast
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import nwb_lrrnn
import nwb_lrrnn.models

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


def test_import_loads_nothing_heavy():
    loaded = run(f"import sys, nwb_lrrnn; print(*[name for name in {HEAVY} if name in sys.modules])")
    assert loaded == []


def test_import_is_quick():
    # Only what the import adds to a bare Python; the best of three, for other programs run beside the tests.
    code = "import time; begin = time.perf_counter(); import nwb_lrrnn; print(time.perf_counter() - begin)"
    assert min(float(run(code)[0]) for _ in range(3)) < 0.3


def test_help_is_quick():
    code = (
        "import sys, time; begin = time.perf_counter()\n"
        "from nwb_lrrnn.cli import cli\n"
        "cli.main(['--help'], standalone_mode=False)\n"
        f"print(*[name for name in {HEAVY[:-1]} if name in sys.modules], time.perf_counter() - begin)"
    )
    last = [run(code)[-1] for _ in range(3)]
    assert min(float(seconds) for seconds in last) < 0.3


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
