"""Session and subject metadata, from a source or from honest defaults, to a new NWB file in memory."""

from __future__ import annotations

import difflib
import uuid
from collections.abc import Mapping
from datetime import UTC, date, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pynwb

SESSION_FIELDS = (
    "identifier",
    "session_description",
    "session_start_time",
    "timestamps_reference_time",
    "session_id",
    "experimenter",
    "experiment_description",
    "institution",
    "lab",
    "keywords",
    "subject",
)
SUBJECT_FIELDS = (
    "subject_id",
    "species",
    "age",
    "date_of_birth",
    "sex",
    "description",
    "strain",
    "genotype",
    "weight",
)
# What validators insist on, saying that nothing is known: any age, and the root of the NCBI taxonomy.
UNKNOWN_SUBJECT = {
    "subject_id": "unknown",
    "species": "http://purl.obolibrary.org/obo/NCBITaxon_1",
    "sex": "U",
    "age": "P0D/",
    "description": "What is not stated here is not known",
}


def new_nwbfile(session: Mapping[str, Any], defaults: Mapping[str, Any]) -> pynwb.NWBFile:
    """Return an NWB file in memory with metadata, a new identifier and the mark of this package.

    `session` holds any of `SESSION_FIELDS`; `subject` is a mapping of any of `SUBJECT_FIELDS`. None counts as absent
    and takes the value in `defaults`, which must have `session_description` and `session_start_time`. Times may be ISO
    8601 text; times without a zone are taken as UTC. `identifier` is that of a source and is noted in the file.
    ValueError if a field is unknown, or a time cannot be read.
    """
    from pynwb import NWBFile
    from pynwb.file import Subject

    given = _present("session", session, SESSION_FIELDS)
    subject = _present("session['subject']", given.pop("subject", None) or {}, SUBJECT_FIELDS)
    source = given.pop("identifier", None)
    fields = {**defaults, **given}
    for name in ("session_start_time", "timestamps_reference_time"):
        if name in fields:
            fields[name] = _as_time(name, fields[name])
    for name in ("experimenter", "keywords"):
        if name in fields:
            value = fields[name]
            fields[name] = [value] if isinstance(value, str) else [str(item) for item in value]
    if "date_of_birth" in subject:
        subject["date_of_birth"] = _as_time("date_of_birth", subject["date_of_birth"])
    unknown = {
        name: value for name, value in UNKNOWN_SUBJECT.items() if name != "age" or "date_of_birth" not in subject
    }
    return NWBFile(
        identifier=str(uuid.uuid4()),
        notes=None if source is None else f"Derived from the NWB file with the identifier {source}.",
        was_generated_by=[["nwb_lrrnn", version("nwb-lrrnn")]],
        subject=Subject(**{**unknown, **subject}),
        **fields,
    )


def _present(argument: str, given: Mapping[str, Any], known: tuple[str, ...]) -> dict[str, Any]:
    """Return the fields that are not None, or raise on unknown names."""
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(str(name), known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"{argument}: got the field {name!r}, wanted any of {', '.join(known)}{hint}")
    return {name: value for name, value in given.items() if value is not None}


def _as_time(name: str, value: Any) -> datetime:
    """Return a moment with a time zone, or raise."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError as error:
            raise ValueError(
                f"{name}: got {value!r}, wanted ISO 8601 such as '2025-01-31T12:00:00+00:00', or a datetime"
            ) from error
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    if not isinstance(value, datetime):
        raise ValueError(f"{name}: got {value!r}, wanted a datetime or ISO 8601 text")
    return value if value.tzinfo is not None else value.replace(tzinfo=UTC)
