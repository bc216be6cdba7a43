"""Are there latents, and are groups of them real? Verdicts on bins that the fit never saw, and what else is asked.

`judge_groups` gives the verdict on a model's groups, `select_groups` searches for their number and sizes,
`group_stability` says whether they come back, and `compare_disentanglement` sets them beside other ways to choose
latents.
"""

from nwb_lrrnn.groups.disentanglement import compare_disentanglement
from nwb_lrrnn.groups.search import GroupSearch, select_groups
from nwb_lrrnn.groups.stability import group_stability
from nwb_lrrnn.groups.verdict import GroupVerdict, judge_groups

__all__ = [
    "GroupSearch",
    "GroupVerdict",
    "compare_disentanglement",
    "group_stability",
    "judge_groups",
    "select_groups",
]
