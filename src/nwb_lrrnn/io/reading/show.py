"""A recording as a table: what is in the file, how to read it, and why the rest is not fitted."""

from __future__ import annotations

import html
from collections.abc import Sequence

from nwb_lrrnn.io.files.source import Source
from nwb_lrrnn.io.reading.catalog import Catalog, ResultEntry
from nwb_lrrnn.io.reading.contents import why_nothing
from nwb_lrrnn.io.reading.entries import TableEntry
from nwb_lrrnn.io.reading.event_times import size_of_events
from nwb_lrrnn.io.reading.intervals import left_out_columns
from nwb_lrrnn.io.reading.kinds import Content
from nwb_lrrnn.io.reading.populations import POPULATIONS
from nwb_lrrnn.io.reading.series import size_of_series
from nwb_lrrnn.showing import printable

_MOST_ROWS = 20
_SECTIONS = (
    ("Populations", tuple(population.kind for population in POPULATIONS)),
    ("Behaviour, stimuli, events", ("behaviour", "stimulus", "input", "events")),
    ("Trials and other intervals", ("intervals",)),
    ("Results of earlier fits", ("results",)),
    ("Not read", ("other",)),
)
Line = tuple[str, str, str, str]


def as_text(catalog: Catalog, contents: Sequence[Content]) -> str:
    """Return a recording as a text table of several lines, without a line end at the end."""
    lines = [_title(catalog), *(f"  {line}" for line in _session_lines(catalog))]
    for title, rows in _sections(catalog, contents):
        lines += ["", title]
        widths = [max(len(row[k]) for row in rows) for k in range(3)]
        for row in rows:
            cells = [cell.ljust(width) for cell, width in zip(row[:3], widths, strict=True)]
            lines.append("  " + "  ".join([*cells, row[3]]).rstrip())
    reason = why_nothing(contents)
    return "\n".join([*lines, "", f"Nothing to fit: {printable(reason)}"] if reason else lines)


def as_html(catalog: Catalog, contents: Sequence[Content]) -> str:
    """Return a recording as an HTML table for notebooks, escaped."""
    parts = [f"<p><b>{html.escape(_title(catalog))}</b></p>"]
    parts += [f"<p>{html.escape(line)}</p>" for line in _session_lines(catalog)]
    for title, rows in _sections(catalog, contents):
        cells = ["".join(f"<td style='text-align:left'>{html.escape(cell)}</td>" for cell in row) for row in rows]
        body = "".join(f"<tr>{row}</tr>" for row in cells)
        parts.append(f"<table><caption>{html.escape(title)}</caption>{body}</table>")
    reason = why_nothing(contents)
    if reason:
        parts.append(f"<p>Nothing to fit: {html.escape(printable(reason))}</p>")
    return f"<div>{''.join(parts)}</div>"


def _title(catalog: Catalog) -> str:
    """Return the first line."""
    n_bytes = catalog.source.size
    size = f"{n_bytes / 1e6:.3g} MB, " if n_bytes else ""  # nobody tells the size of a Zarr store in a network
    name, version = printable(catalog.source.name), printable(catalog.nwb_version.removeprefix("NWB-"))
    return f"NWB recording {name} ({size}NWB {version})"


def _session_lines(catalog: Catalog) -> list[str]:
    """Return a line about the session and one about the subject, as far as the file says."""
    session = catalog.session
    subject = [str(session[key]) for key in ("subject_id", "subject_species") if session.get(key)]
    description = " ".join(str(session.get("session_description", "")).split())
    description = description if len(description) <= 100 else description[:97] + "..."
    started = str(session.get("session_start_time", ""))
    return [printable(part) for part in (description, " ".join([started, *subject]).strip()) if part]


def _sections(catalog: Catalog, contents: Sequence[Content]) -> list[tuple[str, list[Line]]]:
    """Return title and rows of every section that has rows."""
    sections = []
    for title, kinds in _SECTIONS:
        found = [content for content in contents if content.kind in kinds]
        names = [content.name for content in found]
        rows = [
            _line(catalog, content, content.name if names.count(content.name) == 1 else content.path)
            for content in found[:_MOST_ROWS]
        ]
        if len(found) > _MOST_ROWS:
            rows.append((f"... and {len(found) - _MOST_ROWS} more", "", "", "see recording.contents"))
        if rows:
            sections.append((title, rows))
    return sections


def _line(catalog: Catalog, content: Content, name: str) -> Line:
    """Return name, type, size and how to read it."""
    how = content.call if content.reason is None or content.kind == "input" and content.call else content.reason
    how = (how or "").removeprefix(f"{content.path}: ") + _left_out(catalog.source, content)
    return printable(name), printable(content.neurodata_type), printable(size_of(catalog, content)), printable(how)


def size_of(catalog: Catalog, content: Content) -> str:
    """Return the size of a content in words, and the other file that it lies in."""
    size, elsewhere = _size_alone(catalog, content), getattr(content.entry, "elsewhere", None)
    return f"{size}, in {elsewhere}" if elsewhere else size


def _size_alone(catalog: Catalog, content: Content) -> str:
    """Return the size of a content in words."""
    if content.population is not None:
        return content.population.size(catalog, content)
    entry = content.entry
    if content.kind == "events":
        return size_of_events(entry)
    if isinstance(entry, TableEntry):
        return f"{entry.n_rows} rows: {', '.join(entry.columns)}"
    if isinstance(entry, ResultEntry):
        return ", ".join(f"{series.name} {series.shape}" for series in entry.series)
    return size_of_series(catalog, content)


def _left_out(source: Source, content: Content) -> str:
    """Return which columns of a table of intervals that is read are not, and why; empty where all are."""
    if content.kind != "intervals" or not content.call:
        return ""
    try:
        with source.open() as file:
            found = left_out_columns(file[content.path], content.entry)
    except (OSError, ValueError, KeyError):  # the file is gone or damaged: printing must work all the same
        return ""
    return f" (not read: {'; '.join(f'{name}, {why}' for name, why in found)})" if found else ""
