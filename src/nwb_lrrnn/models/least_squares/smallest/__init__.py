"""The smallest network that moves as a field, samples, a network or a fitted model does.

problem     samples of a field and neurons, as arrays
dictionary  candidate neurons, greedy choices among them
projection  refinement of neurons, their outgoing weights eliminated        (levenberg: the minimiser)
growth      size after size, within a budget of weights
shooting    refinement by trajectories                                      (polishing: several starts)
source      what is to be reduced -> samples and trajectories
network     neurons in whitened latents -> `LowRankDynamics` in the user's
path        sizes, judged by what was held out
search      `smallest_network`
"""

from nwb_lrrnn.models.least_squares.smallest.search import SmallestNetwork, smallest_network

__all__ = ["SmallestNetwork", "smallest_network"]
