"""The command `nwb-lrrnn inspect FOLDER`: one line for each recording in a folder, such as a downloaded dandiset."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nwb_lrrnn.cli.output import json_line
from nwb_lrrnn.io.files.secrets import is_address

if TYPE_CHECKING:
    from nwb_lrrnn.io.reading.recording import Recording


def is_folder(uri: str) -> bool:
    """Return whether a text names a folder of this machine that is no Zarr store."""
    from nwb_lrrnn.io.files.zarr.store import is_store

    path = Path(uri).expanduser()
    return not is_address(uri) and path.is_dir() and not is_store(path)


def inspect_folder(uri: str, *, follow_links: bool, say: Callable[[str], object], as_json: bool = False) -> None:
    """Say what each recording in a folder holds that can be fitted, or why nothing; raise where there is none."""
    from nwb_lrrnn.io.files.folder import recordings_in

    folder = Path(uri).expanduser()
    paths = recordings_in(folder)
    if not paths:
        raise ValueError(f"{folder}: the folder holds no recordings, no file that ends in .nwb; name another one")
    names = [path.relative_to(folder).as_posix() for path in paths]
    if as_json:
        for path in paths:
            say(json_line(_event(path, follow_links)))
        return
    say(f"{folder}: {len(paths)} recording{'s' if len(paths) > 1 else ''}")
    for name, path in zip(names, paths, strict=True):
        say(f"  {name.ljust(max(map(len, names)))}  {_line(path, follow_links)}")
    say("\nFor one of them: nwb-lrrnn inspect FOLDER/NAME")


def event_of(recording: Recording) -> dict[str, Any]:
    """Return what is in a recording, for machines."""
    shown = "name path kind neurodata_type shape n_units units rate duration call reason".split()
    return {
        "event": "recording",
        "uri": recording.uri,
        "nwb_version": recording.nwb_version,
        "session": recording.session,
        "contents": [
            {"fittable": content.fittable, **{name: getattr(content, name) for name in shown}}
            for content in recording.contents
        ],
        "problems": recording.problems,
    }


def _event(path: Path, follow_links: bool) -> dict[str, Any]:
    """Return what is in a recording, or why it cannot be read, for machines."""
    from nwb_lrrnn.io.reading.recording import open_nwb

    try:
        with open_nwb(path, follow_links=follow_links) as recording:
            return event_of(recording)
    except (ValueError, OSError) as error:
        return {"event": "recording", "uri": str(path.absolute()), "error": " ".join(str(error).split())}


def _line(path: Path, follow_links: bool) -> str:
    """Return what can be fitted in a recording, or why nothing, in one line."""
    from nwb_lrrnn.io.reading.recording import open_nwb
    from nwb_lrrnn.io.reading.show import size_of

    try:
        with open_nwb(path, follow_links=follow_links) as recording:
            found = [f"{content.name} ({size_of(recording.catalog, content)})" for content in recording.fittable]
            return "; ".join(found) or f"nothing to fit: {recording.reason}"
    except (ValueError, OSError) as error:
        return "not read: " + " ".join(str(error).split()).removeprefix(f"{path.absolute().as_posix()}: ")
