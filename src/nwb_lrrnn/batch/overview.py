"""A page of a batch: one row for each fit, with its picture and links to what it left."""

from __future__ import annotations

import html
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nwb_lrrnn.batch.folder import LOG, PICTURE, RESULT, write_at_once
from nwb_lrrnn.batch.summary import WHICH
from nwb_lrrnn.showing import printable

if TYPE_CHECKING:
    import pandas as pd

    from nwb_lrrnn.batch.study import Study

NAME = "overview.html"
_SHOWN = (*WHICH, "rank", "fold", "seed", "score", "above_mean_rate", "nonlinear", "seconds")
_STYLE = """
body { font: 14px/1.4 system-ui, sans-serif; margin: 2em; color: #222; }
table { border-collapse: collapse; } th { text-align: left; position: sticky; top: 0; background: #fff; }
td, th { padding: .3em .8em; border-bottom: 1px solid #ddd; vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
tr.failed td { color: #a11; } img { width: 220px; display: block; }
p.verdict { margin: 0; color: #555; max-width: 36em; }
"""


def write_overview(table: pd.DataFrame, out: Path, study: Study) -> Path:
    """Write the page into the folder of the batch; all its links are relative, so that the folder can be moved."""
    columns = [name for name in (*_SHOWN, *study.grid) if name in table and len(table[name].dropna())]
    columns = list(dict.fromkeys(columns))
    status = list(table["status"])
    n_failed = status.count("failed")
    head = f"{status.count('done')} of {len(status)} fits done" + (f", {n_failed} failed" if n_failed else "")
    names = "".join(f"<th>{html.escape(name.replace('_', ' '))}</th>" for name in columns)
    rows = "\n".join(_row(row, columns, out) for _, row in table.iterrows())
    page = (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{study.model}: {head}</title>"
        f"<style>{_STYLE}</style><h1>{study.model}</h1><p>{head}. Scores are nats per time bin of held-out trials.</p>"
        f"<table><thead><tr><th></th>{names}<th>result</th></tr></thead><tbody>\n{rows}\n</tbody></table></html>\n"
    )
    write_at_once(out / NAME, page)
    return out / NAME


def _row(row: Any, columns: list[str], out: Path) -> str:
    cells = "".join(_cell(row[name]) for name in columns)
    folder = f"runs/{row['key']}"
    picture = ""
    if row["status"] == "done":
        if (out / folder / PICTURE).exists():
            picture = f"<a href='{folder}/{PICTURE}'><img loading='lazy' src='{folder}/{PICTURE}' alt='latents'></a>"
        links = f"<a href='{folder}/{RESULT}'>NWB</a> <a href='{folder}/{LOG}'>log</a>"
        verdict = row.get("verdict")
        said = f"<p class='verdict'>{_text(verdict)}</p>" if isinstance(verdict, str) else ""
        return f"<tr><td>{picture}</td>{cells}<td>{links}{said}</td></tr>"
    log = f" <a href='{folder}.partial/{LOG}'>log</a>" if row["key"] else ""
    return f"<tr class='failed'><td></td>{cells}<td>{_text(row.get('sentence', ''))}{log}</td></tr>"


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "<td></td>" if math.isnan(value) else f"<td class='number'>{value:.4g}</td>"
    return f"<td>{'' if value is None else _text(value)}</td>"


def _text(value: Any) -> str:
    return html.escape(printable(str(value)))
