"""What the command prints: text that no terminal acts upon, whatever a file has put into it."""

import json
import math
from typing import Any

import click

from nwb_lrrnn.showing import printable


def say(text: object = "", *, err: bool = False) -> None:
    """Print a text and the end of its line, on stderr if asked for."""
    click.echo(printable(str(text), lines=True), err=err)


def json_line(value: dict[str, Any]) -> str:
    """Return a value as one line of JSON; what is no number is null, and arrays are lists."""

    def plain(item: Any) -> Any:
        if isinstance(item, dict):
            return {str(key): plain(one) for key, one in item.items()}
        if isinstance(item, (list, tuple)):
            return [plain(one) for one in item]
        if hasattr(item, "tolist"):  # of numpy
            return plain(item.tolist())
        if isinstance(item, float) and not math.isfinite(item):
            return None
        return item if item is None or isinstance(item, (bool, int, float, str)) else str(item)

    return json.dumps(plain(value))
