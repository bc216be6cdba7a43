"""Imports point down: every file of the package is read and its imports are held against the table of layers."""

import ast
import functools
import graphlib
import re

import pytest

from source_files import FILES, code_of, dotted, module_name, parsed

LEVELS = {
    0: (
        "parameters",
        "trials",
        "dynamics",
        "binning",
        "resample",
        "align",
        "queries",
        "caches",
        "attributes",
        "locks",
        "showing",
        "progress",
    ),
    1: ("io", "preprocessing", "models", "analysis"),
    2: ("results", "plotting", "compare"),
    3: ("report", "groups", "pipeline", "alignment"),
    4: ("batch", "demo"),
    5: ("__init__", "__main__", "cli"),
}
LEVEL_OF = {name: level for level, names in LEVELS.items() for name in names}
# within one level: the gauge is that of a network, so `align` stands on `dynamics`, whose choices are checked like any
# parameter; the command speaks the user's names
BESIDE = {
    ("align", "dynamics"),
    ("align", "showing"),
    ("trials", "locks"),
    ("dynamics", "parameters"),
    ("cli", "__init__"),
    ("__main__", "cli"),
}

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
# what a room must not know, even of its types
SHUT = {
    "io.files": ("nwb_lrrnn.io.reading", "nwb_lrrnn.io.writing", "pynwb", "hdmf"),
    "io.reading": ("nwb_lrrnn.io.writing",),
    "analysis": ("nwb_lrrnn.models",),
}
NWB_WORDS = re.compile(
    r"neurodata_type|nwb_version|spike_times|TimeSeries|TimeIntervals|DynamicTable|NWBFile"
    r"|^/?(units|intervals|acquisition|processing|stimulus|general)\b"
)
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


@functools.cache
def imports(file, *, at_import_time=False, of_types=False):
    """Return the absolute dotted names that a file imports, with every name of `from x import y` as x.y."""
    found = set()

    def visit(node):
        if at_import_time and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            return
        if not of_types and isinstance(node, ast.If) and dotted(node.test).endswith("TYPE_CHECKING"):
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            found.update(f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(parsed(file))
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


def test_the_reader_sees_every_form_of_import(tmp_path):
    file = tmp_path / "io" / "thing.py"
    file.parent.mkdir()
    file.write_text(
        "import h5py as h\nfrom nwb_lrrnn import models\nfrom . import lazy\nfrom .grid import Grid\n"
        "from ..trials import as_trials\nif TYPE_CHECKING:\n    import pynwb\n"
        "def f():\n    import torch.nn\nclass A:\n    import numba\n"
    )
    everywhere = {"h5py", "nwb_lrrnn.models", "..lazy", ".grid.Grid", "..trials.as_trials", "torch.nn", "numba"}
    assert imports(file) == everywhere
    assert imports(file, at_import_time=True) == everywhere - {"torch.nn"}
    assert imports(file, of_types=True) == everywhere | {"pynwb"}
    assert module_name(file, tmp_path) == "io.thing"
    assert wrong_directions("io.thing", everywhere) == ["nwb_lrrnn.models"]
    assert wrong_directions("align", {"nwb_lrrnn.dynamics.x", "nwb_lrrnn.trials.y"}) == ["nwb_lrrnn.trials.y"]
    assert wrong_directions("report", {"nwb_lrrnn.load_model"}) == ["nwb_lrrnn.load_model"]


def every(judge):
    """Return what is wrong by file: `judge(file, name)` lists it for one."""
    found = {module_name(file): judge(file, module_name(file)) for file in FILES}
    return {name: wrong for name, wrong in found.items() if wrong}


def test_every_module_has_a_level_and_imports_only_below_it():
    assert {name for name in map(module_name, FILES) if name.split(".")[0] not in LEVEL_OF} == set()
    assert every(lambda file, name: wrong_directions(name, imports(file))) == {}


def test_dependencies_stay_at_home():
    def strays(file, name):
        away = [dependency for dependency, homes in HOMES.items() if not is_within(name, homes)]
        return [target for target in imports(file) if is_within(target, (*away, *REFUSED))]

    assert every(strays) == {}


def test_rooms_know_what_they_may():
    def strays(file, name):
        shut = [other for room, others in SHUT.items() if is_within(name, [room]) for other in others]
        return [target for target in imports(file, of_types=True) if is_within(target, shut)]

    assert every(strays) == {}


def test_files_know_no_nwb():
    # one function tells what is NWB from what is not; everything else is bytes, groups and datasets
    def words(file, name):
        if not is_within(name, ["io.files"]):
            return []
        texts = (
            node.value for node in code_of(parsed(file), without=("check_nwb2",)) if isinstance(node, ast.Constant)
        )
        return [text for text in texts if isinstance(text, str) and NWB_WORDS.search(text)]

    assert every(words) == {"io.files.zarr.file": ["general/"]}  # a hint: what lies below is not fetched ahead


def test_no_file_imports_itself_by_way_of_others():
    by_name = {f"nwb_lrrnn.{module_name(file)}".removesuffix(".__init__"): file for file in FILES}

    def imported(file):
        targets = imports(file, of_types=True)
        # x.y is the module of this name, or a name that x defines
        return {target if target in by_name else target.rpartition(".")[0] for target in targets} & by_name.keys()

    graph = graphlib.TopologicalSorter({name: imported(file) for name, file in by_name.items()})
    try:
        graph.prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"a circle: {' <- '.join(error.args[1])}")


def test_there_is_one_way_to_import():
    assert every(lambda file, name: [target for target in imports(file, of_types=True) if target[0] == "."]) == {}


def test_loggers_are_named_by_module():
    def others(file, name):
        calls = [node for node in ast.walk(parsed(file)) if isinstance(node, ast.Call)]
        asked = [ast.unparse(node.args[0]) for node in calls if dotted(node.func) == "logging.getLogger"]
        return [logger for logger in asked if logger != "__name__"]

    # those of the whole package, of urllib3 and of the client of DANDI, whose filters and handlers are set
    assert every(others) == {
        "batch.process": ["'nwb_lrrnn'"],
        "cli": ["'nwb_lrrnn'"],
        "io.files.network.web": ["_name"],
        "io.files.dandi.client": ["'dandi'"],
    }


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
