"""What is known about a fit as rows of section, key and value, and back."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nwb_lrrnn.io.files.secrets import texts_without_secrets
from nwb_lrrnn.io.writing.columns import as_column, as_table, read_column

LAYOUT = ("module", "layout", 1)  # first entry of every module: readers of later versions look here


def info_table(info: Sequence[tuple[str, str, Any]]) -> Any:
    """Return the table of section, key and value, values in JSON and addresses without what may be secret in them.

    Values are JSON scalars or lists of them; numpy scalars and arrays are taken too. TypeError for anything else,
    ValueError for an entry that is given twice.
    """
    rows = {}
    for section, key, value in info:
        if (section, key) in rows:
            raise ValueError(f"info: got {section}.{key} twice, wanted each key once in a section")
        rows[section, key] = _as_json(section, key, value)
    return as_table(
        "fit_info",
        "Model, parameters, scores and provenance of the fit",
        [
            as_column("section", "What the entry belongs to", [section for section, _ in rows]),
            as_column("key", "Name of the entry", [key for _, key in rows]),
            as_column("value", "Its value in JSON", list(rows.values())),
        ],
    )


def read_info(group: Any) -> dict[str, dict[str, Any]]:
    """Return the entries by section and key; tuples and arrays come back as lists."""
    info: dict[str, dict[str, Any]] = {}
    columns: Any = [read_column(group, column) for column in ("section", "key", "value")]
    for section, key, value in zip(*columns, strict=True):
        info.setdefault(section, {})[key] = json.loads(value)
    return info


def info_as_read(info: Sequence[tuple[str, str, Any]]) -> dict[str, dict[str, Any]]:
    """Return entries, and the layout of the module, as `read_info` gives them back."""
    entries: dict[str, dict[str, Any]] = {}
    for section, key, value in [LAYOUT, *info]:
        entries.setdefault(section, {})[key] = json.loads(_as_json(section, key, value))
    return entries


def _as_json(section: str, key: str, value: Any) -> str:
    plain = value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value
    entries = list(plain) if isinstance(plain, (list, tuple)) else [plain]
    if isinstance(plain, Mapping) or not all(_is_scalar(entry) for entry in entries):
        raise TypeError(
            f"info: got {section}.{key} = {value!r}, wanted a number, text, boolean, None or a list of these; "
            "give the entries of a dictionary rows of their own"
        )
    # A brace can only stand in a text here. Escaped, it is the same text and no longer looks like a dictionary.
    return json.dumps(_without_secrets(plain)).replace("{", "\\u007b")


def _without_secrets(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_without_secrets(entry) for entry in value]
    return texts_without_secrets(value) if isinstance(value, str) else value


def _is_scalar(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_is_scalar(entry) for entry in value)
    return value is None or isinstance(value, (str, int, float, bool))
