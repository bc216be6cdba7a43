"""`Comparison`: the table of `compare_baselines`, a DataFrame that shows all of itself and its verdict."""

from __future__ import annotations

import textwrap
from html import escape
from typing import Any

import pandas as pd

from nwb_lrrnn.attributes import as_list

_NUMBERS = {"log_likelihood", "vs_mean_rate", "model_above", "low", "high"}
_OTHERS = {
    "gain_low", "gain_high", "bits_per_spike", "standard_error", "n_blocks", "interval_holds", "scored_by", "is_linear",
    "has_latents", "at_floor", "is_outdone",
}  # fmt: skip


class Comparison(pd.DataFrame):
    """A DataFrame of scores, one row a model, whose text and HTML are made for reading and end in the verdict.

    What is taken from it (columns, rows, a rounded copy) is an ordinary DataFrame.
    """

    def __repr__(self) -> str:
        return table_text(self) if self._is_whole else super().__repr__()

    def _repr_html_(self) -> str | None:
        return _html(self) if self._is_whole else super()._repr_html_()  # pyright: ignore[reportCallIssue]

    @property
    def _is_whole(self) -> bool:
        """Whether it holds what its text shows, and nothing that the text would hide."""
        names = set(self.columns)
        return names >= _NUMBERS and names <= _NUMBERS | _OTHERS and {"n_trials", "n_bins"} <= set(self.attrs)

    def __getitem__(self, key: Any) -> Any:
        _refuse_vs_model(self.columns, key)
        return super().__getitem__(key)

    def __getattr__(self, name: str) -> Any:
        if name == "vs_model":
            raise AttributeError(_RENAMED)
        return super().__getattr__(name)

    @property
    def loc(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Rows and columns by name."""
        return _Loc(super().loc, self.columns)


class _Loc:
    """`DataFrame.loc` that names the column which a renamed one has become."""

    def __init__(self, loc: Any, columns: pd.Index):
        self._loc, self._columns = loc, columns

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, tuple) and len(key) == 2:
            _refuse_vs_model(self._columns, key[1])
        return self._loc[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self._loc[key] = value

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._loc, name)

    def __call__(self, axis: Any = None) -> Any:
        return self._loc(axis)


_RENAMED = (
    "vs_model: this column is now `model_above`, the model minus this row in nats per bin (it was this row minus the "
    "model), and `low` and `high` are the interval of that; ask for table['model_above']"
)


def _refuse_vs_model(columns: pd.Index, key: Any) -> None:
    asked = key if isinstance(key, list) else [key]
    if any(isinstance(name, str) and name == "vs_model" for name in asked) and "vs_model" not in columns:
        raise KeyError(_RENAMED)


def table_text(table: pd.DataFrame) -> str:
    """Return the table of `compare_baselines` as text: scores, gains, what the model is above, and the verdict."""
    lines = _cells(table)
    widths = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]
    rows = [
        "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))])
        for line in lines
    ]
    said = [line for sentence in _conclusions(table) for line in textwrap.wrap(sentence, 110)]
    return "\n".join([_title(table), *(row.rstrip() for row in rows), *([""] if said else []), *said])


def _html(table: pd.DataFrame) -> str:
    """Return the same as HTML."""
    head, *rows = _cells(table)
    style = "text-align: right"
    parts = [f"<caption>{escape(_title(table))}</caption>"]
    parts.append("<thead><tr>" + "".join(f'<th style="{style}">{escape(c)}</th>' for c in head) + "</tr></thead>")
    parts.append("<tbody>")
    for name, *cells in rows:
        numbers = "".join(f'<td style="{style}">{escape(cell)}</td>' for cell in cells)
        parts.append(f'<tr><th style="text-align: left">{escape(name)}</th>{numbers}</tr>')
    parts.append("</tbody>")
    said = "".join(f"<p>{escape(sentence)}</p>" for sentence in _conclusions(table))
    return f"<div><table>{''.join(parts)}</table>{said}</div>"


def _title(table: pd.DataFrame) -> str:
    n_trials, n_bins = table.attrs["n_trials"], table.attrs["n_bins"]
    noun = "windows" if table.attrs.get("interval_over") == "windows" else "trials"
    return f"log-likelihood of {n_trials} held-out {noun} ({n_bins} bins), nats per bin"


def _cells(table: pd.DataFrame) -> list[list[str]]:
    """Return heads and rows as texts; the model stands last and is above itself by nothing."""
    heads = ["", "score", "over mean rate", "the model is above it by [95 %]"]
    spikes = "bits_per_spike" in table
    if spikes:
        heads.insert(3, "bits/spike")
    lines = [heads]
    for place, (name, row) in enumerate(table.iterrows()):
        cells = [str(name), f"{row['log_likelihood']:.4f}", f"{row['vs_mean_rate']:+.4f}"]
        cells += [f"{row['bits_per_spike']:+.4f}"] if spikes else []
        is_model = place == len(table) - 1
        cells.append("" if is_model else f"{row['model_above']:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}]")
        lines.append(cells)
    return lines


def _conclusions(table: pd.DataFrame) -> list[str]:
    """Return who scored the linear models, what intervals rest on, what is useless, and the verdict: sentences."""
    attrs, said = table.attrs, []
    if "scored_by" in table and not table["is_linear"].iloc[-1]:
        scorers = table["scored_by"]
        if (scorers.iloc[:-1] == scorers.iloc[-1]).any():  # its score is a bound: held against the same bound
            said.append("Linear state spaces are scored by the particle filter of the model, as the model is.")
    if attrs.get("interval_over") == "windows":
        windows = f"{attrs['block_length']} window{'s' if attrs['block_length'] > 1 else ''}"
        said.append(f"The intervals are over blocks of up to {windows}, at least {attrs['n_blocks']} blocks.")
    highs = table["gain_high"].tolist() if "gain_high" in table else [0.0] * len(table)
    useless = [str(name) for name, high in zip(table.index, highs, strict=True) if high < 0]
    if useless:
        said.append(f"Below the mean rate, and useless: {', '.join(useless)}.")
    if "verdict" in attrs:
        said.append(f"Verdict: {attrs['verdict']}")
    else:  # the model is itself linear: no word, but what the data forbid holds of its scores as well
        said += [f"The scores allow no comparison: {reason}." for reason in as_list(attrs.get("forbidden", []))]
        said += as_list(attrs.get("notes", []))
    return said
