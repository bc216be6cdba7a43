"""The one input gate of every estimator: `as_trials` in, `Trials.restore` out; recordings on dask go block by block."""

from nwb_lrrnn.trials.blocks import LazyTrials, as_lazy_trials
from nwb_lrrnn.trials.gate import Trials, as_trials, check_observed
from nwb_lrrnn.trials.lazy import is_lazy
from nwb_lrrnn.trials.mapping import map_trials

__all__ = ["LazyTrials", "Trials", "as_lazy_trials", "as_trials", "check_observed", "is_lazy", "map_trials"]
