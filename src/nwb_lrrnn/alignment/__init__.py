"""Fits of many recordings beside each other: how alike their dynamics are, and which kinds of them there are."""

from nwb_lrrnn.alignment.compare import compare_fits
from nwb_lrrnn.alignment.result import FitComparison

__all__ = ["FitComparison", "compare_fits"]
