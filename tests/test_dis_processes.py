"""A seed means the same in the process that compiles the kernels and in those that load them, whatever ran before."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import nwb_lrrnn

ENTROPY = """
import sys
import numpy as np
from nwb_lrrnn.models.kernels import group_density
points = np.random.default_rng(0).normal(size=(2, 300))
if "density first" in sys.argv:
    group_density.log_density(points, 0.4, 1.0)
slope = np.empty_like(points)
value = group_density.entropy(points, 0.4, 1.0, slope)
np.savez(sys.argv[1], value=value, slope=slope)
"""

MODELS = """
import sys
import numpy as np
import nwb_lrrnn as lr
rng = np.random.default_rng(0)
phase = rng.uniform(0, 2 * np.pi, (12, 1, 1)) + 0.25 * np.arange(60)[:, None]
rate = 0.3 * (1 + 0.8 * np.cos(phase + rng.uniform(0, 2 * np.pi, 9)))
counts, values = rng.poisson(rate), rate + 0.1 * rng.normal(size=rate.shape)
numbers = {}
for name, X, settings in (
    ("counts", counts, {}),
    ("values", values, {}),
    ("paper", values, {"objective": "paper", "max_epochs": 3}),
    ("tuned", values, {"fine_tune_epochs": 3}),
):
    model = lr.DisRNN(rank=2, random_state=0, **settings).fit(X)
    described = model.to_dataset()
    numbers |= {f"{name} {k}": v.values for k, v in described.variables.items() if v.dtype.kind in "fiu"}
    numbers[f"{name} transform"] = model.transform(X)
np.savez(sys.argv[1], **numbers)
"""


def numbers(script, folder, name, *words):
    """Return what a script saves in a new process, all processes of a folder having one cache of kernels."""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(folder / "kernels"), "OMP_NUM_THREADS": "1"}
    path = folder / f"{name}.npz"
    subprocess.run([sys.executable, "-W", "ignore", "-c", script, path, *words], env=environment, check=True)
    return dict(np.load(path))


def assert_equal_bits(one, other):
    assert one.keys() == other.keys()
    assert [name for name in one if one[name].tobytes() != other[name].tobytes()] == []


@pytest.mark.slow
def test_densities_are_the_same_bits_compiled_loaded_and_after_others(tmp_path):
    compiled = numbers(ENTROPY, tmp_path, "compiled")
    assert_equal_bits(compiled, numbers(ENTROPY, tmp_path, "loaded"))
    assert_equal_bits(compiled, numbers(ENTROPY, tmp_path, "after", "density first"))


@pytest.mark.slow
def test_fits_are_the_same_bits_compiled_and_loaded(tmp_path):
    assert_equal_bits(numbers(MODELS, tmp_path, "compiled"), numbers(MODELS, tmp_path, "loaded"))


@pytest.mark.parametrize("name", ["group_density", "paper_objective"])
def test_kernels_that_others_call_are_inlined(name):
    # `test_fits_are_the_same_bits_compiled_and_loaded` is what this guards, without a compilation
    tree = ast.parse((Path(nwb_lrrnn.__file__).parent / "models" / "kernels" / f"{name}.py").read_text())
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    inner = {
        function.name: ast.unparse(function.decorator_list[0]) for function in functions if function.name in called
    }
    assert inner
    assert [who for who, how in inner.items() if "forceinline=True" not in how and "inline='always'" not in how] == []
