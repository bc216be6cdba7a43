"""Imports point down: every file of the package is read and its imports are held against the table of layers."""

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

import nwb_lrrnn

PACKAGE = Path(nwb_lrrnn.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

LEVELS = {
    0: ("parameters", "trials", "dynamics", "binning", "resample", "align"),
    1: ("io", "preprocessing", "models", "analysis"),
    2: ("results", "plotting", "compare"),
    3: ("report", "groups"),
    4: ("batch", "demo"),
    5: ("__init__", "__main__", "cli"),
}
LEVEL_OF = {name: level for level, names in LEVELS.items() for name in names}
# within one level: the gauge is that of a network, so `align` stands on `dynamics`, whose choices are checked like any
# parameter; the command speaks the user's names
BESIDE = {("align", "dynamics"), ("dynamics", "parameters"), ("cli", "__init__"), ("__main__", "cli")}

# where each heavy or special dependency may be imported at all (folders or modules of the package)
HOMES = {
    "h5py": ("io",),
    "hdmf": ("io",),
    "pynwb": ("io",),
    "dandi": ("io",),
    "urllib3": ("io",),
    "torch": ("models",),
    "numba": ("models.kernels", "analysis.fixed_points", "analysis.independence.partial_correlation"),
    "distributed": ("batch",),
    "dask.distributed": ("batch",),
    "dask_jobqueue": ("batch",),
    "matplotlib": ("plotting", "report"),
}
HEAVY = (
    "torch",
    "numba",
    "h5py",
    "hdmf",
    "pynwb",
    "dandi",
    "sklearn",
    "matplotlib",
    "scipy",
    "pandas",
    "xarray",
    "dask",
)
REFUSED = (
    "lightning",
    "pytorch_lightning",
    "hydra",
    "jax",
    "ray",
    "lazynwb",
    "lindi",
    "remfile",
    "elephant",
    "nlb_tools",
)


def module_name(file):
    """Return the dotted name inside the package: 'models.base'; '__init__' for the package itself."""
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    parts = parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts
    return ".".join(parts)


@functools.cache
def imports(file, *, at_import_time=False):
    """Return the absolute dotted names that a file imports, with every name of `from x import y` as x.y."""
    found = set()
    package = ("nwb_lrrnn", *file.relative_to(PACKAGE).parts[:-1])

    def visit(node):
        if at_import_time and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            return
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            source = ".".join((*base, node.module) if node.module else base)
            found.update(f"{source}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(file.read_text()))
    return found


def is_within(name, places):
    return any(name == place or name.startswith(place + ".") for place in places)


def wrong_directions(name, imported):
    """Return what a module imports from its own level or above."""
    top = name.split(".")[0]
    wrong = []
    for target in imported:
        parts = target.split(".")
        if parts[0] != "nwb_lrrnn":
            continue
        other = parts[1] if len(parts) > 1 and parts[1] in LEVEL_OF else "__init__"
        if other != top and (top, other) not in BESIDE and LEVEL_OF[other] >= LEVEL_OF[top]:
            wrong.append(target)
    return wrong


def test_the_reader_sees_every_form_of_import(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path)
    file = tmp_path / "io" / "thing.py"
    file.parent.mkdir()
    file.write_text(
        "import h5py as h\nfrom nwb_lrrnn import models\nfrom . import lazy\nfrom .grid import Grid\n"
        "from ..trials import as_trials\nif TYPE_CHECKING:\n    import pynwb\n"
        "def f():\n    import torch.nn\nclass A:\n    import numba\n"
    )
    everywhere = {"h5py", "nwb_lrrnn.models", "nwb_lrrnn.io.lazy", "nwb_lrrnn.io.grid.Grid", "numba"}
    everywhere |= {"nwb_lrrnn.trials.as_trials", "torch.nn"}
    assert imports(file) == everywhere
    assert imports(file, at_import_time=True) == everywhere - {"torch.nn"}
    assert module_name(file) == "io.thing"
    assert wrong_directions("io.thing", everywhere) == ["nwb_lrrnn.models"]
    assert wrong_directions("align", {"nwb_lrrnn.dynamics.x", "nwb_lrrnn.trials.y"}) == ["nwb_lrrnn.trials.y"]
    assert wrong_directions("report", {"nwb_lrrnn.load_model"}) == ["nwb_lrrnn.load_model"]


@pytest.mark.parametrize("file", FILES, ids=module_name)
def test_every_module_has_a_level_and_imports_only_below_it(file):
    name = module_name(file)
    assert name.split(".")[0] in LEVEL_OF, f"{name} stands in no level of the design"
    assert not wrong_directions(name, imports(file)), f"{name} imports from its own level or above"


@pytest.mark.parametrize("file", FILES, ids=module_name)
def test_dependencies_stay_at_home(file):
    name = module_name(file)
    for dependency, homes in HOMES.items():
        found = [target for target in imports(file) if is_within(target, [dependency])]
        assert not found or is_within(name, homes), f"{name} imports {found}; {dependency} belongs in {homes}"
    assert not [target for target in imports(file) if is_within(target, REFUSED)]


def at_import_time(names):
    """Return the package's modules that importing the given ones runs, and what those import from outside."""
    by_name = {module_name(file): file for file in FILES}
    waiting, seen, outside = list(names), set(), set()
    while waiting:
        name = waiting.pop()
        if name in seen or name not in by_name:
            continue
        seen.add(name)
        for target in imports(by_name[name], at_import_time=True):
            parts = target.split(".")
            if parts[0] == "nwb_lrrnn":
                # importing a.b.c runs a, a.b and a.b.c
                waiting += [".".join(parts[1:end]) for end in range(2, len(parts) + 1)]
            else:
                outside.add(target)
    return seen, outside


def test_the_package_and_its_command_import_nothing_heavy():
    _, outside = at_import_time(["__init__", "__main__", "cli"])
    assert not [target for target in outside if is_within(target, HEAVY)]


def test_level_0_imports_nothing_that_takes_a_second():
    # xarray (0.45 s with pandas) and scipy.special are its vocabulary; sklearn alone takes another second
    _, outside = at_import_time(LEVELS[0])
    slow = ("torch", "numba", "h5py", "hdmf", "pynwb", "dandi", "sklearn", "matplotlib", "dask.array")
    assert not [target for target in outside if is_within(target, slow)]


def test_reading_imports_no_pynwb():
    _, outside = at_import_time(["io.reading.recording"])
    assert not [target for target in outside if is_within(target, ("pynwb", "hdmf", "dandi", "torch", "sklearn"))]


def test_import_loads_none_of_the_heavy_ones():
    program = "import sys; before = len(sys.modules); import nwb_lrrnn; print(len(sys.modules) - before, *sys.modules)"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    added, *loaded = ran.stdout.split()
    assert not sorted(set(HEAVY) & {name.split(".")[0] for name in loaded})
    # under 0.3 s, told by a count that no busy machine changes: numpy alone is some 150 modules and 0.1 s
    assert int(added) < 100
