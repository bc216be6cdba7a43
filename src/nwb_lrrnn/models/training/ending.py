"""`Ending`: what a fit that is over leaves on its estimator, and what it warns of."""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from sklearn.exceptions import ConvergenceWarning

if TYPE_CHECKING:
    from nwb_lrrnn.models.base import LatentModel


@dataclass(frozen=True)
class Ending:
    """How a fit came about, for the user."""

    history: xr.Dataset  # over epoch, of the restart kept
    restart_scores: np.ndarray  # (restart,)
    not_finite: tuple[str, ...]
    not_converged: str

    def tell(self, model: LatentModel) -> None:
        """Set the attributes of an estimator that say how its fit went, and warn of what went wrong."""
        model.history_, model.restart_scores_, model.n_iter_ = (
            self.history, self.restart_scores, self.history.sizes["epoch"],
        )  # fmt: skip
        said = list(self.not_finite)
        if self.not_converged:
            said.append(f"not converged after {model.n_iter_} epochs: {self.not_converged}")
        for text in said:
            warnings.warn(f"{type(model).__name__}: {text}", ConvergenceWarning, stacklevel=level_of_the_caller())


def level_of_the_caller() -> int:
    """Return the stack level, for a warning of the function that asks, of the first frame outside this package."""
    level, frame = 1, sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == __name__.partition(".")[0]:
        level, frame = level + 1, frame.f_back
    return level
