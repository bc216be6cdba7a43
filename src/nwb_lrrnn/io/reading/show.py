"""A recording as a table: what is in the file, how to read it, and why the rest is not fitted."""

import html
from typing import TYPE_CHECKING

import numpy as np

from nwb_lrrnn.io.files.source import Source
from nwb_lrrnn.io.reading.contents import Content

if TYPE_CHECKING:
    from nwb_lrrnn.io.reading.recording import Recording

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


def as_text(recording: "Recording") -> str:
    """Return the recording as a text table.

    Parameters
    ----------
    recording : Recording
        What to show.

    Returns
    -------
    text : str
        Several lines, without a line end at the end.
    """
    lines = [_title(recording), *(f"  {line}" for line in _session_lines(recording))]
    for title, rows in _sections(recording):
        lines += ["", title]
        widths = [max(len(row[k]) for row in rows) for k in range(3)]
        for row in rows:
            cells = [cell.ljust(width) for cell, width in zip(row[:3], widths, strict=True)]
            lines.append("  " + "  ".join([*cells, row[3]]).rstrip())
    reason = recording.reason
    return "\n".join([*lines, "", f"Nothing to fit: {reason}"] if reason else lines)


def as_html(recording: "Recording") -> str:
    """Return the recording as an HTML table for notebooks.

    Parameters
    ----------
    recording : Recording
        What to show.

    Returns
    -------
    html : str
        Escaped.
    """
    parts = [f"<p><b>{html.escape(_title(recording))}</b></p>"]
    parts += [f"<p>{html.escape(line)}</p>" for line in _session_lines(recording)]
    for title, rows in _sections(recording):
        cells = ["".join(f"<td style='text-align:left'>{html.escape(cell)}</td>" for cell in row) for row in rows]
        body = "".join(f"<tr>{row}</tr>" for row in cells)
        parts.append(f"<table><caption>{html.escape(title)}</caption>{body}</table>")
    if recording.reason:
        parts.append(f"<p>Nothing to fit: {html.escape(recording.reason)}</p>")
    return f"<div>{''.join(parts)}</div>"


def why_nothing(recording: "Recording") -> str | None:
    """Return the one sentence why nothing in the file can be fitted; None where something can.

    Parameters
    ----------
    recording : Recording
        The recording.

    Returns
    -------
    reason : str or None
        What the file lacks, and the reason of what came closest.
    """
    if recording.fittable:
        return None
    reasons = [content.reason for content in recording.contents if content.reason]
    if reasons:
        more = f" (and {len(reasons) - 1} more like it)" if len(reasons) > 1 else ""
        return reasons[0] + more
    if recording.contents:
        kinds = ", ".join(sorted({content.kind for content in recording.contents}))
        return f"the file holds {kinds}, but no population: no spike times, no ROI series and no electrical series"
    return "the file holds no units, no time series and no intervals"


def _title(recording: "Recording") -> str:
    """Return the first line."""
    n_bytes = recording.source.size
    size = f"{n_bytes / 1e6:.3g} MB, " if n_bytes else ""  # nobody tells the size of a Zarr store in a network
    return f"NWB recording {recording.source.name} ({size}NWB {recording.nwb_version})"


def _session_lines(recording: "Recording") -> list[str]:
    """Return a line about the session and one about the subject, as far as the file says."""
    session = recording.session
    subject = [str(session[key]) for key in ("subject_id", "subject_species") if session.get(key)]
    description = " ".join(str(session.get("session_description", "")).split())
    description = description if len(description) <= 100 else description[:97] + "..."
    started = str(session.get("session_start_time", ""))
    return [part for part in (description, " ".join([started, *subject]).strip()) if part]


def _sections(recording: "Recording") -> list[tuple[str, list[Line]]]:
    """Return title and rows of every section that has rows."""
    sections = []
    for title, kinds in _SECTIONS:
        found = [content for content in recording.contents if content.kind in kinds]
        names = [content.name for content in found]
        rows = [
            _line(recording, content, content.name if names.count(content.name) == 1 else content.path)
            for content in found[:_MOST_ROWS]
        ]
        if len(found) > _MOST_ROWS:
            rows.append((f"... and {len(found) - _MOST_ROWS} more", "", "", "see recording.contents"))
        if rows:
            sections.append((title, rows))
    return sections


def _line(recording: "Recording", content: Content, name: str) -> Line:
    """Return name, type, size and how to read it."""
    how = content.call if content.reason is None or content.kind == "input" and content.call else content.reason
    return name, content.neurodata_type, _size(recording, content), (how or "").removeprefix(f"{content.path}: ")


def _size(recording: "Recording", content: Content) -> str:
    """Return the size of a content in words."""
    if content.kind == "intervals":
        table = next(table for table in recording.catalog.tables if table.path == content.path)
        return f"{table.n_rows} rows: {', '.join(table.columns)}"
    if content.kind == "results":
        result = next(result for result in recording.catalog.results if result.path == content.path)
        return ", ".join(f"{series.name} {series.shape}" for series in result.series)
    if content.kind == "units":
        text = f"{content.n_units} units"
        return text if content.shape is None else f"{text}, {content.shape[0]} spikes{_mean_rate(recording, content)}"
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


def _mean_rate(recording: "Recording", content: Content) -> str:
    """Return the mean rate over units as text, from a few numbers of the file; empty where they do not tell.

    The duration is that of the observation intervals, else the time of the last unit's last spike: an estimate.
    """
    if not content.n_units or not content.shape or not content.shape[0]:
        return ""
    try:
        duration = _observed_duration(recording.source, content.path)
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
