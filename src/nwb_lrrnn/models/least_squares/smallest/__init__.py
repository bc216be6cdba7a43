"""The smallest network that moves as a field, samples, a network or a fitted model does.

problem     samples of a field and neurons, as arrays
dictionary  candidate neurons, greedy choices among them
projection  refinement of neurons, their outgoing weights eliminated        (levenberg: the minimiser)
growth      size after size, within a budget of weights
shooting    refinement by trajectories
source      what is to be reduced -> samples and trajectories
network     neurons in whitened latents -> `LowRankDynamics` in the user's
search      `smallest_network`
"""
