"""How many dimensions the activity of a recording has, and how long it remembers, without a fit.

reading     X as pieces of bounded size
units       which units and trials count: constant ones and copies do not
grains      stretches of the recording, and which of them are independent
products    second moments of every grain, and what lies between grains
pairs       means over pairs of independent grains: no bias by the length of the recording
chance      whether units share anything: signs of stretches are drawn
estimate    `dimension_of_recording`
"""

from nwb_lrrnn.analysis.dimension.effective_rank import effective_rank
from nwb_lrrnn.analysis.dimension.estimate import dimension_of_recording
from nwb_lrrnn.analysis.dimension.result import RecordedDimension

__all__ = ["RecordedDimension", "dimension_of_recording", "effective_rank"]
