"""A recording as a table: what is in the file, how to read it, and why the rest is not fitted."""

import html
from collections.abc import Sequence

import numpy as np

from nwb_lrrnn.io.files.source import Source
from nwb_lrrnn.io.reading.catalog import Catalog
from nwb_lrrnn.io.reading.contents import Content, why_nothing

_MOST_ROWS = 20
_SECTIONS = (
    ("Populations", ("units", "roi", "channel", "series")),
    ("Behaviour, stimuli, events", ("behaviour", "stimulus", "input", "events")),
    ("Trials and other intervals", ("intervals",)),
    ("Results of earlier fits", ("results",)),
    ("Not read", ("other",)),
)
_ONE_OF = {"units": "units", "roi": "ROIs", "channel": "channels", "series": "columns"}
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
    return "\n".join([*lines, "", f"Nothing to fit: {reason}"] if reason else lines)


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
        parts.append(f"<p>Nothing to fit: {html.escape(reason)}</p>")
    return f"<div>{''.join(parts)}</div>"


def _title(catalog: Catalog) -> str:
    """Return the first line."""
    n_bytes = catalog.source.size
    size = f"{n_bytes / 1e6:.3g} MB, " if n_bytes else ""  # nobody tells the size of a Zarr store in a network
    return f"NWB recording {catalog.source.name} ({size}NWB {catalog.nwb_version})"


def _session_lines(catalog: Catalog) -> list[str]:
    """Return a line about the session and one about the subject, as far as the file says."""
    session = catalog.session
    subject = [str(session[key]) for key in ("subject_id", "subject_species") if session.get(key)]
    description = " ".join(str(session.get("session_description", "")).split())
    description = description if len(description) <= 100 else description[:97] + "..."
    started = str(session.get("session_start_time", ""))
    return [part for part in (description, " ".join([started, *subject]).strip()) if part]


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
    return name, content.neurodata_type, _size(catalog, content), (how or "").removeprefix(f"{content.path}: ")


def _size(catalog: Catalog, content: Content) -> str:
    """Return the size of a content in words."""
    if content.kind == "intervals":
        table = next(table for table in catalog.tables if table.path == content.path)
        return f"{table.n_rows} rows: {', '.join(table.columns)}"
    if content.kind == "results":
        result = next(result for result in catalog.results if result.path == content.path)
        return ", ".join(f"{series.name} {series.shape}" for series in result.series)
    if content.kind == "units":
        text = f"{content.n_units} units"
        return text if content.shape is None else f"{text}, {content.shape[0]} spikes{_mean_rate(catalog, content)}"
    if content.shape is None:
        return ""
    if content.n_units is None:
        parts = [f"shape {content.shape}"]
    else:
        n_samples = int(np.prod(content.shape)) // content.n_units
        noun = _ONE_OF.get(content.kind, "columns")
        parts = [f"{content.n_units} {noun if content.n_units > 1 else noun[:-1]}", f"{n_samples} samples"]
    if content.rate:
        parts.append(f"{content.rate:.6g} Hz")
    if content.duration:
        parts.append(f"{content.duration:.4g} s")
    return ", ".join([*parts, content.units])


def _mean_rate(catalog: Catalog, content: Content) -> str:
    """Return the mean rate over units as text, from a few numbers of the file; empty where they do not tell.

    The duration is that of the observation intervals, else the time of the last unit's last spike: an estimate.
    """
    if not content.n_units or not content.shape or not content.shape[0]:
        return ""
    try:
        duration = _observed_duration(catalog.source, content.path)
    except (OSError, ValueError):  # the file is gone or damaged: printing must work all the same
        return ""
    if not duration > 0:
        return ""
    return f", about {content.shape[0] / content.n_units / duration:.2g} spikes/s per unit"


def _observed_duration(source: Source, path: str) -> float:
    """Return how long units were observed on average, in s."""
    with source.open() as file:
        group = file[path]
        if "obs_intervals" in group and group["obs_intervals"].ndim == 2 and len(group["obs_intervals"]):
            lengths = np.diff(group["obs_intervals"][()], axis=1)
            return float(lengths[np.isfinite(lengths)].sum()) / len(group["id"])
        return float(group["spike_times"][-1])
