"""Does a model beat the simple ones? Held-out log-likelihoods of a model and its baselines on the same trials.

`compare_baselines` makes the table, whose attrs hold the verdict on nonlinear dynamics. Its steps, each in a file:
`held_out_scores` (who is fitted to what and scored by whom), `tabulate` (scores to a table), `paired_difference` (its
intervals, over trials or over blocks of windows of one recording) and `judge_nonlinearity` (the verdict).
`select_rank` chooses the number of latents by the same scores.
"""

from nwb_lrrnn.compare.baselines import REFERENCE, baselines_of
from nwb_lrrnn.compare.comparison import Comparison, table_text
from nwb_lrrnn.compare.intervals import paired_difference
from nwb_lrrnn.compare.rank import RankChoice, select_rank
from nwb_lrrnn.compare.scores import held_out_scores
from nwb_lrrnn.compare.table import compare_baselines, tabulate
from nwb_lrrnn.compare.verdict import judge_nonlinearity

__all__ = [
    "REFERENCE",
    "Comparison",
    "RankChoice",
    "baselines_of",
    "compare_baselines",
    "held_out_scores",
    "judge_nonlinearity",
    "paired_difference",
    "select_rank",
    "table_text",
    "tabulate",
]
