"""The model as mathematics, free of torch: `LowRankDynamics` and the nonlinearities of its neurons."""

from nwb_lrrnn.dynamics.likelihoods import LIKELIHOODS
from nwb_lrrnn.dynamics.network import LowRankDynamics
from nwb_lrrnn.dynamics.nonlinearity import HOMOGENEOUS, NONLINEARITIES, ODD

__all__ = ["HOMOGENEOUS", "LIKELIHOODS", "NONLINEARITIES", "ODD", "LowRankDynamics"]
