"""Where a result came from: the session of its source, software and its versions, seed, device, preprocessing."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from nwb_lrrnn.io.files.ends import digest_of_ends
from nwb_lrrnn.io.files.secrets import is_address, without_secrets
from nwb_lrrnn.io.reading.recording import Recording, open_nwb
from nwb_lrrnn.io.writing.session import SESSION_FIELDS, SUBJECT_FIELDS

if TYPE_CHECKING:
    from nwb_lrrnn.models.base import LatentModel

# Those whose version can change a number in the file.
_PACKAGES = ("numpy", "scipy", "pandas", "xarray", "scikit-learn", "torch", "numba", "h5py", "pynwb")


def as_recording(source: Recording | str | os.PathLike[str] | None) -> Recording | None:
    """Return the source as a Recording; None for an address, which is noted and not opened."""
    if source is None or isinstance(source, Recording):
        return source
    if is_address(source):
        return None
    return open_nwb(source)


def is_same_file(source: Recording | str | os.PathLike[str], into: str | os.PathLike[str]) -> bool:
    """Return whether a source is the file that results go into, whichever links name it."""
    uri = source.uri if isinstance(source, Recording) else source
    if is_address(uri):
        return False
    one, other = (Path(os.fspath(path).removeprefix("file://")).expanduser().resolve() for path in (uri, into))
    return one == other or (one.exists() and other.exists() and one.samefile(other))


def place_of(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> str:
    """Return what is noted of where a source lies: an address without secrets, a path as seen from the result.

    Absolute paths tell of users and machines, and lead nowhere on others.
    """
    if is_address(source):
        return without_secrets(source)
    path = Path(os.fspath(source).removeprefix("file://")).expanduser()
    if not path.is_absolute():
        return path.as_posix()
    try:
        return Path(os.path.relpath(path, Path(target).expanduser().absolute().parent)).as_posix()
    except ValueError:  # on another drive
        return path.name


def check_source(into: str | os.PathLike[str], latents: Any) -> None:
    """Raise if latents, or one of a list of them, say that they came from another file than `into`."""
    arrays = latents if isinstance(latents, (list, tuple)) else [latents]
    stated = [array.attrs["source"] for array in arrays if "source" in getattr(array, "attrs", {})]
    for source in stated:
        if isinstance(source, (str, os.PathLike)) and not _may_be(source, into):
            name = without_secrets(source)
            raise ValueError(
                f"into: got {os.fspath(into)!r}, but the latents came from {name!r}; pass into={name!r}, or source= "
                "to say it on purpose: source=into where the file was moved or copied, or the other file, to whose "
                "units nothing is linked"
            )


def _may_be(source: str | os.PathLike[str], into: str | os.PathLike[str]) -> bool:
    """Return whether a source that latents state is `into`; of what a result has noted, whether it is called so."""
    if is_address(source) or Path(os.fspath(source).removeprefix("file://")).expanduser().is_absolute():
        return is_same_file(source, into)
    return is_same_file(source, into) or Path(source).name == Path(into).name


def session_of(recording: Recording) -> dict[str, Any]:
    """Return the session of a recording in the form of `write_module`, with the fields that it takes."""
    found = recording.session
    subject = {
        name: found[key]
        for name in SUBJECT_FIELDS
        if (key := name if name.startswith("subject_") else f"subject_{name}") in found
    }
    session = {name: found[name] for name in SESSION_FIELDS if name in found}
    return {**session, "subject": subject} if subject else session


def provenance(
    model: LatentModel | None,
    recording: Recording | None,
    source: Any,
    latents: xr.DataArray | None,
    target: str | os.PathLike[str],
) -> list[tuple[str, str, Any]]:
    """Return date, software, seed, device, source and preprocessing as rows of fit_info of the file `target`."""
    parameters = {} if model is None else model.get_params(deep=False)
    rows: list[tuple[str, str, Any]] = [
        ("provenance", "date", datetime.now(UTC).isoformat(timespec="seconds")),
        ("provenance", "software", f"nwb_lrrnn {version('nwb-lrrnn')}"),
        ("provenance", "python", platform.python_version()),
        ("provenance", "platform", f"{platform.system()} {platform.machine()}"),
    ]
    seed = parameters.get("random_state")
    rows.append(("provenance", "seed", seed if seed is None or isinstance(seed, (int, np.integer)) else str(seed)))
    rows.append(("provenance", "device", str(parameters.get("device", "cpu"))))
    rows += [("versions", name, _version(name)) for name in _PACKAGES]
    attrs = {} if latents is None else latents.attrs
    if recording is not None:
        rows += [
            ("source", "uri", place_of(recording.uri, target)),
            ("source", "name", recording.source.name),
            ("source", "version_tag", recording.version_tag),
            ("source", "size_in_bytes", recording.source.size),
            ("source", "nwb_version", recording.nwb_version),
            ("source", "identifier", str(recording.session.get("identifier", ""))),
        ]
        if not recording.source.is_remote and not is_same_file(recording, target):  # which this very writing changes
            rows += _of_local_file(Path(recording.uri))
    elif source is not None or "source" in attrs:
        rows.append(("source", "uri", place_of(str(attrs["source"] if source is None else source), target)))
    rows += [("source", key, str(attrs[key])) for key in ("nwb_path", "neurodata_type", "object_id") if key in attrs]
    steps = attrs.get("preprocessing", [])
    steps = [steps] if isinstance(steps, str) else list(steps)
    return [*rows, *(("preprocessing", f"step_{k + 1}", str(step)) for k, step in enumerate(steps))]


def _of_local_file(path: Path) -> list[tuple[str, str, Any]]:
    """Return time of change and digest of a file as rows; of a folder, such as a Zarr store, nothing."""
    if not path.is_file():
        return []
    changed = datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="seconds")
    return [("source", "changed", changed), ("source", "sha256_of_first_and_last_MiB", digest_of_ends(path))]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # a vendored or renamed build
        return "unknown"
