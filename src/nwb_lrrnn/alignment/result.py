"""`FitComparison`: a Dataset of distances and kinds that prints what they say."""

from __future__ import annotations

from nwb_lrrnn.analysis.spoken import SpokenDataset


class FitComparison(SpokenDataset):
    """A Dataset whose text is a paragraph; what is taken from it (variables, selections) is shown as xarray does.

    `text` is the paragraph, and `n_clusters` how many kinds of dynamics there are.
    """

    __slots__ = ()
    _of_whole = frozenset({"distance", "cluster", "medoid"})

    @property
    def n_clusters(self) -> int:
        """Number of kinds, 1 where nothing shows that there are more."""
        return int(self.sizes["kind"])
