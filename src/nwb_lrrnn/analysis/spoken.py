"""`SpokenDataset`: a Dataset of numbers that prints what they say."""

from __future__ import annotations

import textwrap
from html import escape
from typing import ClassVar

import xarray as xr

_WIDTH = 110


class SpokenDataset(xr.Dataset):
    """A Dataset whose text is a paragraph; what is taken from it (variables, selections) is shown as xarray does."""

    __slots__ = ()
    _of_whole: ClassVar[frozenset[str]] = frozenset()  # variables without which the text is not about this

    @property
    def text(self) -> str:
        """What the numbers say."""
        return str(self.attrs.get("text", ""))

    def __repr__(self) -> str:
        return "\n".join(textwrap.wrap(self.text, _WIDTH)) if self._is_whole else super().__repr__()

    def _repr_html_(self) -> str:
        more = super()._repr_html_()
        return f"<div><p>{escape(self.text)}</p>{more}</div>" if self._is_whole else more

    @property
    def _is_whole(self) -> bool:
        return "text" in self.attrs and self._of_whole <= set(map(str, self.data_vars))
