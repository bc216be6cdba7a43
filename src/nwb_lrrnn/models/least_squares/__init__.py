"""Networks by least squares: a low-rank network is a neural ODE with one hidden layer, and its training a regression.

features   latents (and inputs) -> rates of neurons drawn at random
ridge      rates and where the latents should go -> weights
penalty    how strongly weights are held down, from the noise of the rates or from the data
field      samples of a field -> `FittedField` -> `LowRankDynamics`
"""

from nwb_lrrnn.models.least_squares.estimator import LeastSquaresRNN

__all__ = ["LeastSquaresRNN"]
