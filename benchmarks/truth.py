"""Does the software tell the truth? False alarms, power, coverage, and what must not turn a verdict.

    python benchmarks/truth.py metamorphic --out FILE     # see truth_metamorphic.py; cycle, groups, ...: see below
    python benchmarks/truth.py power --out FILE           # the four words against the number of trials
    python benchmarks/truth.py table FILE ...             # the tables of the bars, from the logs
    python benchmarks/truth.py picture FILE ... [--to docs/verdicts.svg]

Every part is a file `truth_PART.py` beside this one, whose docstring states its bars. Runs can be interrupted: a case
is one line of the log, and what the log holds is not run again. `python benchmarks/truth.py PART --help` lists the
options of a part.
"""

from __future__ import annotations

import argparse
import importlib
import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
_COMMAND = r"^def (add_arguments|main)\("
sys.path.insert(0, str(HERE))


def parts() -> list[str]:
    """Return the names of the parts: files beside this one that offer `main`, or `add_arguments` and `run`."""
    files = sorted(HERE.glob("truth_*.py"))
    return [file.stem.removeprefix("truth_") for file in files if re.search(_COMMAND, file.read_text(), re.MULTILINE)]


def table(paths: list[Path]) -> None:
    """Print the tables that every part makes of the logs."""
    for name in parts():
        if "\ndef table(" in (HERE / f"truth_{name}.py").read_text():
            importlib.import_module(f"truth_{name}").table(paths)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="part", required=True, metavar="PART")
    asked = sys.argv[1] if len(sys.argv) > 1 else None
    for name in parts():
        says = (HERE / f"truth_{name}.py").read_text().split('"""')[1].splitlines()[0]
        command = commands.add_parser(
            name, formatter_class=argparse.RawDescriptionHelpFormatter, help=says.replace("%", "%%")
        )
        if name == asked:  # the others are not imported
            module = importlib.import_module(f"truth_{name}")
            if hasattr(module, "main"):  # it reads the command line by itself
                sys.argv = [f"truth_{name}.py", *sys.argv[2:]]
                module.main()
                return
            command.description = module.__doc__
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    tables = commands.add_parser("table", help="print the tables of the bars from the logs")
    tables.add_argument("logs", nargs="+", type=Path)
    tables.set_defaults(run=lambda options: table(options.logs))
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
