"""The one input gate of every estimator: `as_trials` in, `Trials.restore` out; recordings on dask go block by block.

The rest of these names are what the gate itself is made of, for other ways of going over a recording.
"""

from nwb_lrrnn.trials.blocks import LazyTrials, as_lazy_trials, joined, read_trials
from nwb_lrrnn.trials.ends import has_long_trials, is_mostly_padding
from nwb_lrrnn.trials.gate import Trials, as_trials, check_observed
from nwb_lrrnn.trials.kinds import is_list_of_trials, read_units
from nwb_lrrnn.trials.labels import DIMS, bin_size_of, entry_name, observed_flags, time_step, zeroed
from nwb_lrrnn.trials.lazy import is_lazy, refuse_unreadable
from nwb_lrrnn.trials.mapping import map_blocks, map_trials
from nwb_lrrnn.trials.packed import Packed, as_packed
from nwb_lrrnn.trials.summary import merged_moments
from nwb_lrrnn.trials.timed_kinds import as_frame, is_pynapple, like_pynapple, times_of

__all__ = [
    "DIMS",
    "LazyTrials",
    "Packed",
    "Trials",
    "as_frame",
    "as_lazy_trials",
    "as_packed",
    "as_trials",
    "bin_size_of",
    "check_observed",
    "entry_name",
    "has_long_trials",
    "is_lazy",
    "is_list_of_trials",
    "is_mostly_padding",
    "is_pynapple",
    "joined",
    "like_pynapple",
    "map_blocks",
    "map_trials",
    "merged_moments",
    "observed_flags",
    "read_trials",
    "read_units",
    "refuse_unreadable",
    "time_step",
    "times_of",
    "zeroed",
]
