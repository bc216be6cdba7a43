"""`SMCLowRankRNN`: low-rank networks with stochastic dynamics, by variational sequential Monte Carlo."""

from nwb_lrrnn.models.smc.estimator import SMCLowRankRNN

__all__ = ["SMCLowRankRNN"]
