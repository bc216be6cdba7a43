"""Preprocessing of recordings before a model sees them: transformers fitted on training data, and three functions.

Every transformer takes any kind of X that the models take, gives back the same kind, keeps coordinates and attributes,
remembers itself in `attrs["preprocessing"]`, skips what is unobserved (NaN, or False in `observed`) and is lazy where X
is lazy: `transform` computes nothing, and a `fit` that needs statistics passes over the data once.
"""

from nwb_lrrnn.preprocessing.baseline import DeltaFOverF
from nwb_lrrnn.preprocessing.chopping import chop
from nwb_lrrnn.preprocessing.denoising import PCADenoise
from nwb_lrrnn.preprocessing.filtering import Filter
from nwb_lrrnn.preprocessing.resampling import Resample
from nwb_lrrnn.preprocessing.scaling import SoftNormalise, SquareRoot, ZScore
from nwb_lrrnn.preprocessing.selection import SelectUnits
from nwb_lrrnn.preprocessing.smoothing import Smooth
from nwb_lrrnn.preprocessing.splitting import split_trials
from nwb_lrrnn.preprocessing.time_scales import WindowChoice, choose_window

__all__ = [
    "DeltaFOverF",
    "Filter",
    "PCADenoise",
    "Resample",
    "SelectUnits",
    "Smooth",
    "SoftNormalise",
    "SquareRoot",
    "WindowChoice",
    "ZScore",
    "choose_window",
    "chop",
    "split_trials",
]
