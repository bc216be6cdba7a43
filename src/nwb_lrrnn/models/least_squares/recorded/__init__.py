"""Recorded networks: where the units are the network, its connectivity of low rank by a regression in closed form."""

from nwb_lrrnn.models.least_squares.recorded.fit import fit_recorded
from nwb_lrrnn.models.least_squares.recorded.network import RecordedNetwork

__all__ = ["RecordedNetwork", "fit_recorded"]
