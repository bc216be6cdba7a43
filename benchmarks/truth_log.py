"""The log of long benchmarks: a case a line (JSON), written when it is done, left out when it is there already."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd


class Log:
    """A file of cases. `key` names the fields that make a case; a line cut off by an interruption counts for nothing.

    Parameters
    ----------
    path : path-like
        Read if it is there; every new case is appended.
    key : sequence of str
    """

    def __init__(self, path: Path | str, key: Sequence[str]):
        self.path, self.key = Path(path), tuple(key)
        self._done = {self._key_of(line) for line in read(self.path)}

    def _key_of(self, case: dict[str, Any]) -> tuple[Any, ...]:
        return tuple(case.get(name) for name in self.key)

    def has(self, **case: Any) -> bool:
        """Return whether a case is done."""
        return self._key_of(case) in self._done

    def add(self, **case: Any) -> None:
        """Append a case."""
        cut_off = self.path.exists() and self.path.read_bytes()[-1:] not in (b"", b"\n")
        with self.path.open("a") as file:
            file.write("\n" * cut_off + json.dumps(case, default=float) + "\n")
        self._done.add(self._key_of(case))

    def run(self, case: dict[str, Any], compute: Callable[[], dict[str, Any]]) -> None:
        """Compute a case unless it is there, and append its result with the CPU seconds; an error is a result."""
        if self.has(**case):
            return
        begin = time.process_time()
        try:
            result = compute()
        except Exception as error:  # noqa: BLE001  what a user would see is what is to be shown
            result = {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"}
        self.add(**case, **result, seconds=round(time.process_time() - begin, 3))


def read(path: Path | str) -> list[dict[str, Any]]:
    """Return the cases of a log, [] where there is no file."""
    path, cases = Path(path), []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            cases.append(json.loads(line))
        except json.JSONDecodeError:
            continue  # the run ended while it was written
    return cases


def frame(paths: Sequence[Path | str]) -> pd.DataFrame:
    """Return the cases of one or more logs, one a row; a part may also keep its cases in a CSV file with a header."""
    tables = [pd.DataFrame(cases) if (cases := read(path)) else _table(Path(path)) for path in paths]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _table(path: Path) -> pd.DataFrame:
    return pd.read_csv(path) if path.exists() and path.stat().st_size else pd.DataFrame()


def print_table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table in Markdown."""
    print("| " + " | ".join(map(str, heads)) + " |\n|" + "---|" * len(heads))
    for row in rows:
        print("| " + " | ".join(map(_cell, row)) + " |")
    print(flush=True)


def _cell(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.3f}" if abs(value) < 1e4 else f"{value:.1e}"
