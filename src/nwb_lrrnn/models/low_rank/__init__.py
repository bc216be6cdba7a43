"""`LowRankRNN`: deterministic low-rank networks fitted to recordings by gradient through time."""

from nwb_lrrnn.models.low_rank.estimator import LowRankRNN

__all__ = ["LowRankRNN"]
