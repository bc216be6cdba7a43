"""Networks whose latents fall into independent groups (DisRNN, arXiv 2511.13899)."""

from nwb_lrrnn.models.dis.estimator import DisRNN

__all__ = ["DisRNN"]
