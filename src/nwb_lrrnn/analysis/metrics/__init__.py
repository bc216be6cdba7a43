"""How well a model does what the data do: of what it generates, of units it was not shown, of the future."""

from nwb_lrrnn.analysis.metrics.activity import compare_activity, mean_rate_error
from nwb_lrrnn.analysis.metrics.divergence import state_space_divergence
from nwb_lrrnn.analysis.metrics.forecasts import forecast_scores
from nwb_lrrnn.analysis.metrics.generation import generation_scores, smooth_and_standardize
from nwb_lrrnn.analysis.metrics.held_out import bits_per_spike, co_smoothing, co_smoothing_r2
from nwb_lrrnn.analysis.metrics.spectra import phase_surrogate, spectral_distance

__all__ = [
    "bits_per_spike",
    "co_smoothing",
    "co_smoothing_r2",
    "compare_activity",
    "forecast_scores",
    "generation_scores",
    "mean_rate_error",
    "phase_surrogate",
    "smooth_and_standardize",
    "spectral_distance",
    "state_space_divergence",
]
