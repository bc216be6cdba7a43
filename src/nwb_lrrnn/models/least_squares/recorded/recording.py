"""`Recording`: trials of all neurons of a network, as currents."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


class Recording(NamedTuple):
    """Trials of currents with their inputs, and the condition of each."""

    currents: list[Array]  # (time, unit)
    inputs: list[Array] | None  # (time, input)
    conditions: NDArray  # (trial,)

    def take(self, rows: NDArray) -> Recording:
        """Return some of the trials."""
        inputs = None if self.inputs is None else [self.inputs[k] for k in rows]
        return Recording([self.currents[k] for k in rows], inputs, self.conditions[rows])
