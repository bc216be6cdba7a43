"""The one input gate of every estimator: `as_trials` in, `Trials.restore` out."""

from nwb_lrrnn.trials.gate import Trials, as_trials

__all__ = ["Trials", "as_trials"]
