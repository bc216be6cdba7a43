"""Dependence between groups of latents, against what chance and an imperfect separation explain.

`dependence` is the test. `surrogates` makes groups independent by re-indexing their bins, `filtered` has the statistic
for dependence through time, `kernels.dependence` that for dependence of any shape at one time.
"""

from nwb_lrrnn.models.dependence.scores import DependenceTest, dependence

__all__ = ["DependenceTest", "dependence"]
