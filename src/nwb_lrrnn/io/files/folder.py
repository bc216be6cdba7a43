"""Folders of recordings, such as a downloaded dandiset: which files in them could be opened."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_NAMED = 6  # files that a sentence names


def recordings_in(folder: str | Path) -> list[Path]:
    """Return the recordings in a folder and below by name: files that end in .nwb, and Zarr stores.

    Hidden folders are left out, those of git and datalad among them; linked folders are not entered.
    """
    return sorted(_found(Path(folder)))


def _found(folder: Path) -> Iterator[Path]:
    """Yield the recordings in a folder and below."""
    from nwb_lrrnn.io.files.zarr.store import is_store

    for root, folders, files in os.walk(folder):
        here = Path(root)
        stores = [name for name in folders if name.endswith(".zarr") or is_store(here / name)]
        yield from (here / name for name in (*stores, *files) if name in stores or name.lower().endswith(".nwb"))
        folders[:] = sorted(name for name in folders if name not in stores and not name.startswith("."))


def what_is_in(folder: Path) -> str:
    """Return what a folder holds in words: recordings, by name, or none."""
    names = [path.relative_to(folder).as_posix() for path in recordings_in(folder)]
    if not names:
        return "it holds no recordings, no file that ends in .nwb"
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"it holds {len(names)} recording{'s' if len(names) > 1 else ''}: {', '.join(names[:_NAMED])}{more}"
