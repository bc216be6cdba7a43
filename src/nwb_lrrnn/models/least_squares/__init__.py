"""Networks by least squares: a low-rank network is a neural ODE with one hidden layer, and its training a regression.

features   latents (and inputs) -> rates of neurons drawn at random
ridge      rates and where the latents should go -> weights
penalty    how strongly weights are held down, from the noise of the rates or from the data
field      samples of a field -> `FittedField` -> `LowRankDynamics`
filtering  trials -> posterior of the latents of a network: extended Kalman filter and smoother
samples    that posterior -> samples of the field that moves the latents
laws       and readout, noise of the units, law of the first bin
rounds     smoothing and regression in turn, as far as held-out trials gain
estimator  `LeastSquaresRNN`, the verbs
smallest, infinite, equivalents   fewest neurons that move alike, infinitely many, and networks that the data leave open
drift_diffusion  a stochastic differential equation -> the network whose latents obey it
"""

from nwb_lrrnn.models.least_squares.estimator import LeastSquaresRNN

__all__ = ["LeastSquaresRNN"]
