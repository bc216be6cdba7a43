"""The errors of reading and writing have one home."""

import ast
from pathlib import Path

import nwb_lrrnn.io.errors as errors

IO = Path(errors.__file__).parent
INSIDE = {"DamagedChunkError", "TooSlowError"}  # become a TruncatedFileError and an UnreachableError


def error_classes(file):
    """Return the names of the public exceptions that a file defines."""
    names = {node.name for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.ClassDef)}
    return {name for name in names if name.endswith("Error") and not name.startswith("_")}


def test_every_error_that_a_user_may_catch_is_defined_in_io_errors():
    elsewhere = {name for file in IO.rglob("*.py") if file != IO / "errors.py" for name in error_classes(file)}
    assert elsewhere == INSIDE
    assert all(issubclass(getattr(errors, name), (ValueError, OSError)) for name in error_classes(IO / "errors.py"))


def test_the_home_of_errors_imports_nothing():
    tree = ast.parse((IO / "errors.py").read_text())
    assert not [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
