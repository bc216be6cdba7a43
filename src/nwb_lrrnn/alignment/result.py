"""`FitComparison`: a Dataset of distances and kinds that prints what they say."""

from __future__ import annotations

import textwrap
from html import escape

import xarray as xr

_WIDTH = 110


class FitComparison(xr.Dataset):
    """A Dataset whose text is a paragraph; what is taken from it (variables, selections) is shown as xarray does.

    `text` is the paragraph, and `n_clusters` how many kinds of dynamics there are.
    """

    __slots__ = ()

    @property
    def text(self) -> str:
        """What the numbers say."""
        return str(self.attrs.get("text", ""))

    @property
    def n_clusters(self) -> int:
        """Number of kinds, 1 where nothing shows that there are more."""
        return int(self.sizes["kind"])

    def __repr__(self) -> str:
        return "\n".join(textwrap.wrap(self.text, _WIDTH)) if self._is_whole else super().__repr__()

    def _repr_html_(self) -> str:
        more = super()._repr_html_()
        return f"<div><p>{escape(self.text)}</p>{more}</div>" if self._is_whole else more

    @property
    def _is_whole(self) -> bool:
        return "text" in self.attrs and {"distance", "cluster", "medoid"} <= set(map(str, self.data_vars))
