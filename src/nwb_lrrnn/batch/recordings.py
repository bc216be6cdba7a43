"""What a batch is run over: the recordings that a dandiset, a folder or a manifest names."""

from __future__ import annotations

import csv
import fnmatch
import glob as globbing
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nwb_lrrnn.io.files.ends import digest_of_ends
from nwb_lrrnn.io.files.secrets import is_address, without_secrets

_WHOLE = 64 * 2**20  # bytes: a file up to here is known by all of its content, a larger one by its ends
_URI_COLUMNS = ("uri", "path", "url", "file")


@dataclass(frozen=True)
class BatchRecording:
    """A recording of a batch.

    Parameters
    ----------
    uri : str
        Absolute path or address, without anything secret.
    name : str
        What it is called in tables: its path in the dandiset or folder.
    size : int or None
        Bytes, where they are known.
    version_tag : str or None
        What `open_nwb` must find, where it is known.
    metadata : mapping
        Other columns of a manifest.
    """

    uri: str
    name: str
    size: int | None = None
    version_tag: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    def identified(self) -> tuple[str, str]:
        """Return digest of the content and version tag; one request where a server has it and no archive told.

        The errors are those of `open_nwb`.
        """
        if self.version_tag is not None:
            return self.version_tag, self.version_tag
        from nwb_lrrnn.io.files.source import resolve

        source = resolve(self.uri)
        if source.is_remote or source.is_zarr:
            return source.version_tag, source.version_tag
        return _digest(Path(source.uri), source.version_tag), source.version_tag


class Identities:
    """Digests and version tags, each found once: the fits of a recording come one after the other."""

    def __init__(self) -> None:
        self._last: tuple[str, tuple[str, str]] | None = None

    def of(self, recording: BatchRecording) -> tuple[str, str]:
        """Return what `identified` does."""
        if self._last is None or self._last[0] != recording.uri:
            self._last = recording.uri, recording.identified()
        return self._last[1]


def _digest(path: Path, version_tag: str) -> str:
    """Return the SHA-256 of a file; of a large one that of its ends, size and time of change."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size <= _WHOLE:
            return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    return f"ends:{digest_of_ends(path)}:{version_tag}"


def recordings_of(source: str | os.PathLike[str], *, glob: str | None = None) -> list[BatchRecording]:
    """Return the recordings that a batch is run over, sorted by name.

    Parameters
    ----------
    source : str or path-like
        A dandiset or folder of it (`dandi://000140`, `dandi://000140@0.220113.0408/sub-Jenkins/*.nwb`), a folder or a
        pattern of paths (`data/*.nwb`), a recording, or a manifest: a CSV file with a column `uri` and any others.
    glob : str, optional
        Which files of a dandiset or folder; `*` stands for slashes too. By default all that end in .nwb.

    Raises
    ------
    ValueError, FileNotFoundError
        If nothing is there, or a manifest names no files; and what `list_assets` raises.
    """
    text = os.fspath(source)
    if not text.strip():
        raise ValueError("source: got an empty text, wanted a dandiset, a folder or a manifest")
    if is_address(text):
        found = _of_archive(text, glob)
    else:
        path = Path(text).expanduser()
        if path.suffix.lower() in (".csv", ".tsv") and path.is_file():
            if glob is not None:
                raise ValueError("glob: a manifest names its files; drop it")
            return _of_manifest(path)
        found = _of_folder(path, glob)
    if not found:
        raise FileNotFoundError(
            f"source: {without_secrets(text)!r} holds no recordings{f' that match {glob!r}' if glob else ''}; name "
            "another place or pattern"
        )
    return sorted(found, key=lambda one: one.name)


def _of_archive(text: str, glob: str | None) -> list[BatchRecording]:
    """Return the files of a dandiset; a pattern may be the end of the address."""
    from nwb_lrrnn.io.files.dandi.listing import list_assets

    scheme, found, rest = text.partition("://")
    parts = rest.split("/")
    wild = next((k for k, part in enumerate(parts) if any(sign in part for sign in "*[")), None)
    if scheme == "dandi" and wild is not None:
        if glob is not None:
            raise ValueError(f"glob: got {glob!r}, but the address ends in the pattern {'/'.join(parts[wild:])!r}")
        text, glob = f"{scheme}{found}{'/'.join(parts[:wild])}", "/".join(parts[wild:])
    assets = list_assets(text, glob="*.nwb" if glob is None else glob)
    return [BatchRecording(one.uri, one.path, one.size, one.digest) for one in assets]


def _of_folder(path: Path, glob: str | None) -> list[BatchRecording]:
    from nwb_lrrnn.io.files.folder import recordings_in
    from nwb_lrrnn.io.files.zarr.store import is_store

    if path.is_dir() and not is_store(path):
        names = {found.relative_to(path).as_posix(): found for found in recordings_in(path)}
        kept = [name for name in names if glob is None or fnmatch.fnmatch(name.lower(), glob.lower())]
        return [_local(names[name], name) for name in kept]
    if path.exists():
        return [_local(path, path.name)]
    paths = [Path(found) for found in globbing.glob(str(path), recursive=True)]
    if not paths and not globbing.has_magic(str(path)):
        raise FileNotFoundError(f"source: {str(path)!r} does not exist, wanted a dandiset, a folder or a manifest")
    return [_local(found, found.as_posix()) for found in paths]


def _local(path: Path, name: str) -> BatchRecording:
    return BatchRecording(path.absolute().as_posix(), name, path.stat().st_size if path.is_file() else None)


def _of_manifest(path: Path) -> list[BatchRecording]:
    """Return the recordings of a CSV file, in its order; paths are relative to it."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        try:
            rows = list(csv.DictReader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ","))
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f"{path.name}: this is no table of text ({error}); write it as CSV in UTF-8") from None
    columns = list(rows[0]) if rows else []
    column = next((name for name in columns if str(name).strip().lower() in _URI_COLUMNS), None)
    if column is None:
        raise ValueError(f"{path.name}: the manifest has no column uri and rows below it; it has {columns}")
    found: dict[str, BatchRecording] = {}
    for number, row in enumerate(rows, start=2):
        text = (row[column] or "").strip()
        if not text:
            raise ValueError(f"{path.name}: line {number} has no {column}; fill it in or drop the line")
        one = _row(path, number, text, {key: value or "" for key, value in row.items() if key and key != column})
        if one.uri in found:
            raise ValueError(f"{path.name}: line {number} names {text!r} again; drop it")
        found[one.uri] = one
    return list(found.values())


def _row(path: Path, number: int, text: str, metadata: Mapping[str, Any]) -> BatchRecording:
    if is_address(text):
        if without_secrets(text) != text:
            raise ValueError(
                f"{path.name}: line {number} has an address with a signature, token or password, which would be noted "
                "in the ledger; name the file without it, or download it"
            )
        return BatchRecording(text, text, metadata=metadata)
    here = Path(text).expanduser()
    here = here if here.is_absolute() else path.absolute().parent / here
    return BatchRecording(here.as_posix(), text, here.stat().st_size if here.is_file() else None, metadata=metadata)
