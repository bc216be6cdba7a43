"""Estimators by the words that name them in a command or a study, and what may be said of their parameters."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable
from typing import TYPE_CHECKING

from nwb_lrrnn import models

if TYPE_CHECKING:
    from nwb_lrrnn.models.base import LatentModel

WORDS = {entry.word: name for name, entry in models.ESTIMATORS.items() if entry.word}


def estimator_class(word: str) -> type[LatentModel]:
    """Return the estimator that a word such as lowrank names, or its own name; ValueError where none is called so."""
    names = {name.lower(): name for name in WORDS.values()}
    name = WORDS.get(word) or names.get(str(word).lower())
    if name is None:
        words = list(WORDS)
        raise ValueError(
            f"model: got {word!r}, wanted {', '.join(words[:-1])} or {words[-1]}{closest(str(word), words)}"
        )
    return getattr(models, name)


def parameters_of(cls: type) -> list[str]:
    """Return the names of the constructor's parameters."""
    return [key for key in inspect.signature(cls).parameters if key != "self"]


def closest(name: str, names: Iterable[str]) -> str:
    """Return the end of a sentence that asks whether the closest of some names was meant; nothing where none is."""
    close = difflib.get_close_matches(name, list(names), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
