"""What the driver of a batch has seen, in one append-only file of JSON lines that only it writes."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

LEDGER = "ledger.jsonl"


class Ledger:
    """The lines of a batch, used as a context; one driver at a time holds it.

    Parameters
    ----------
    path : Path
        The file; a last line that a kill has cut off is left as it is and skipped when read.
    """

    def __init__(self, path: Path):
        self.path = path

    def __enter__(self) -> Ledger:
        from nwb_lrrnn.batch.folder import lock_file

        self._file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        lock = lock_file(self.path.with_name(f".{self.path.name}.lock"))
        if lock is None:
            os.close(self._file)
            raise ValueError(
                f"out: another batch runs in {str(self.path.parent)!r}; wait for it, or give this one another folder"
            )
        self._lock = lock
        size = os.fstat(self._file).st_size
        if size and os.pread(self._file, 1, size - 1) != b"\n":
            os.write(self._file, b"\n")
        self.note("driver", host=socket.gethostname(), process=os.getpid())
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)
        os.close(self._lock)

    def note(self, state: str, **more: Any) -> None:
        """Write one line: the time, a state, and what belongs to it."""
        line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "state": state, **more}
        os.write(self._file, json.dumps(line, default=str).encode() + b"\n")


def read_ledger(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of a ledger, without those that are no JSON."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        for line in file:
            try:
                found = json.loads(line)
            except ValueError:
                continue
            if isinstance(found, dict):
                yield found
