"""Results in a few lines: arrays by their shape, and tables whole, with the sentence that they lead to."""

from __future__ import annotations

import logging
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

_WIDTH, _LONGEST = 110, 80


def printable(text: str, *, lines: bool = False) -> str:
    r"""Return a text of a file as a terminal may have it: what is no letter, sign or space stands as its escape.

    Escape sequences would colour or name the terminal, ring its bell or turn the direction of writing. `lines` keeps
    the ends of lines.

    >>> printable("\x1b[31mred\x07\u202e")
    '\\x1b[31mred\\x07\\u202e'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or (lines and c == "\n") else repr(c)[1:-1] for c in text)


class PrintableFormatter(logging.Formatter):
    """Makes lines of a log."""

    def format(self, record: logging.LogRecord) -> str:
        """Return what is printed of a record."""
        return printable(super().format(record), lines=True)


@contextmanager
def printable_errors() -> Iterator[None]:
    """Let no error out of the block, or of the function that it decorates, whose text a terminal would act upon."""
    try:
        yield
    except Exception as error:
        error.args = tuple(printable(arg, lines=True) if isinstance(arg, str) else arg for arg in error.args)
        raise


def in_short(self: Any) -> str:
    """Return a dataclass or named tuple by its name and its fields, as its `__repr__`; what is None is left out."""
    fields = self._asdict() if hasattr(self, "_asdict") else vars(self)
    shown = ", ".join(f"{name} {_short(value)}" for name, value in fields.items() if value is not None)
    return "\n".join(textwrap.wrap(f"{type(self).__name__}: {shown}", _WIDTH, subsequent_indent="  "))


def table_text(said: str, table: pd.DataFrame) -> str:
    """Return a sentence and the whole of a table below it."""
    lines = textwrap.wrap(said, _WIDTH)
    return "\n".join([*lines, "", table.round(4).to_string()] if len(table) else lines)


def table_html(said: str, table: pd.DataFrame) -> str:
    """Return the same for a notebook."""
    rows = table.round(4).to_html(max_rows=None, max_cols=None) if len(table) else ""
    return f"<div><p>{escape(said)}</p>{rows}</div>"


def _short(value: Any) -> str:
    shape = getattr(value, "shape", ())
    if shape:
        return f"{'' if type(value).__name__ == 'ndarray' else type(value).__name__ + ' '}{tuple(shape)}"
    if hasattr(value, "_asdict") or hasattr(value, "__dataclass_fields__"):
        return type(value).__name__
    if isinstance(value, Mapping):
        return textwrap.shorten(f"{{{', '.join(map(str, value))}}}", _LONGEST)
    return f"{value:.4g}" if isinstance(value, float) else textwrap.shorten(repr(value), _LONGEST)
