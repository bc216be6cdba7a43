"""Dependence between groups of latents, against what chance and an imperfect separation explain.

`dependence` is the test. `surrogates` makes groups independent by re-indexing their bins, `filtered` has the statistic
for dependence through time, `partial_correlation` that for dependence of any shape at one time.
"""

from nwb_lrrnn.analysis.independence.scores import DependenceTest, dependence

__all__ = ["DependenceTest", "dependence"]
