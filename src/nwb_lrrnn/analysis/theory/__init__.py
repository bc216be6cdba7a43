"""How connectivity shapes activity: the theory of large random networks, and what it says of one given network.

sigmoids    covariance of rates of two Gaussian currents, of every odd sigmoid
mean_field  single neurons: variance, autocovariance, the transition to chaos
spectra     the same on a grid of frequencies
ensembles   what each kind of connectivity makes of the covariances across neurons
four_point  covariances across neurons: dimension and time-scales of the activity
"""
