"""A pandas query over a table of trials or units, as a boolean for every row: the one place that says what is one."""

from __future__ import annotations

import ast
import difflib
import io
import re
import tokenize
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

# what pandas raises, kind by kind, for the text of a user's query: a wider catch would hide errors of our own
_QUERY_ERRORS = (NameError, SyntaxError, TypeError, ValueError, KeyError, AttributeError, NotImplementedError)
_SPELLED = {"&": "and", "|": "or"}  # as pandas reads them: they bind as loosely as the words
_MOST_SHOWN = 30


def fulfilled(query: str, table: pd.DataFrame, told: str, noun: str, more: tuple[str, ...] = ()) -> NDArray[np.bool_]:
    """Return which rows of a table (row,) fulfil a query; a missing value fulfils nothing.

    A column of 0 and 1 (with missing values or not) is a condition where the query takes it for one: alone, or joined
    by and, or, not. Anything else that is no condition is refused; `told` begins the message, `noun` is a row in words,
    `more` are columns that could be asked for.

    >>> import pandas as pd
    >>> fulfilled("not correct or lap > 2", pd.DataFrame({"correct": [1, 0, 1], "lap": [1, 2, 3]}), "trials", "trial")
    array([False,  True,  True])
    """
    import pandas as pd

    conditions = {
        name: _condition(pd.Series(table[name]), name, told, noun) for name in _words(query)[1] if name in table.columns
    }
    try:
        keep: Any = table.assign(**conditions).eval(query, engine="python", target=None)
    except _QUERY_ERRORS as error:
        columns = sorted({*map(str, table.columns), *more})
        shown = ", ".join(columns[:_MOST_SHOWN])
        shown += f" and {len(columns) - _MOST_SHOWN} more" if len(columns) > _MOST_SHOWN else ""
        raise ValueError(
            f"{told} fails ({error}), wanted a pandas query over the columns {shown}{_closest(query, columns)}"
        ) from error
    is_condition = isinstance(keep, pd.Series) and pd.api.types.infer_dtype(keep, skipna=True) == "boolean"
    if not is_condition or not keep.index.equals(table.index):
        got = f"values of type {keep.dtype}" if isinstance(keep, pd.Series) else repr(keep)
        raise ValueError(
            f'{told} gives {got}, wanted a condition, one boolean per {noun}, e.g. "quality == \'good\'" or "x > 0"'
        )
    return keep.astype("boolean").to_numpy(dtype=bool, na_value=False)


def names_in(query: str) -> set[str]:
    """Return the names that a query asks for; of one that cannot be parsed, every word."""
    return _words(query)[0] or set(re.findall(r"[A-Za-z_]\w*", query))


def _condition(column: pd.Series, name: str, told: str, noun: str) -> pd.Series:
    """Return a column that a query takes for a condition as booleans, some of them missing; refuse any other."""
    known = column.dropna()
    if known.isin([0, 1]).all():
        return column.astype(bool if len(known) == len(column) else "boolean")
    shown = known.unique()[:3].tolist()
    raise ValueError(
        f"{told} gives values of type {column.dtype} where it names {name!r} alone, such as "
        f'{", ".join(map(repr, shown))}, wanted a condition, one boolean per {noun}, e.g. "{name} == {shown[0]!r}"'
    )


def _words(query: str) -> tuple[set[str], set[str]]:
    """Return the names in a query, and those of them that it takes for conditions; none where it cannot be parsed."""
    quoted: list[str] = []

    def stand_in(match: re.Match[str]) -> str:
        quoted.append(match[1])
        return f" _quoted_{len(quoted) - 1} "

    text = re.sub(r"`([^`]*)`", stand_in, query)
    try:
        found = tokenize.generate_tokens(io.StringIO(text).readline)
        tokens = [(tokenize.NAME, _SPELLED[word]) if word in _SPELLED else (kind, word) for kind, word, *_ in found]
        tree = ast.parse(tokenize.untokenize(tokens).strip(), mode="eval")
    except (tokenize.TokenError, SyntaxError, ValueError):
        return set(), set()
    original = {f"_quoted_{k}": name for k, name in enumerate(quoted)}
    operands: list[ast.AST] = [tree.body]
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.BoolOp):
            operands += node.values
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.Invert):
            operands.append(node.operand)
        elif isinstance(node, ast.Name):
            names.add(original.get(node.id, node.id))
    return names, {original.get(node.id, node.id) for node in operands if isinstance(node, ast.Name)}


def _closest(query: str, columns: list[str]) -> str:
    """Return a hint at the column that a word of a query probably meant; "" where none is near."""
    for word in re.findall(r"[A-Za-z_]\w*", query):
        if word not in columns and (close := difflib.get_close_matches(word, columns, n=1)):
            return f"; did you mean {close[0]!r}?"
    return ""
