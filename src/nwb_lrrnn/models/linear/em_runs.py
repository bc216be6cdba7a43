"""`EMRun`: a run of EM that can be stopped and taken up again, and `race`, which chooses between starts by running."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.models.linear.smoothing import Moments
from nwb_lrrnn.models.linear.system import LinearSystem

LAPS = 10  # iterations from each start before the better one goes on alone
_LEAD = 0.02  # of the advantage over constant rates: behind by more after half the laps, a start is given up

_MOST_LOST = 0.1  # of the advantage: EM never loses, and its approximations for counts little


class EMRun:
    """EM from one start, with its history.

    Parameters
    ----------
    system : LinearSystem
        Where it starts.
    expect : callable
        The E-step: Moments of a system, given the Moments of the iteration before (None at first).
    maximise : callable
        The M-step: the next system, from a system and its Moments.
    log_prior : callable
        Of a system, added to the likelihood.
    baseline : float
        Log-likelihood of constant rates; gains are relative to the advantage over it.
    n_bins : float
        Observed bins.
    """

    def __init__(
        self,
        system: LinearSystem,
        expect: Callable[[LinearSystem, Moments | None], Moments],
        maximise: Callable[[LinearSystem, Moments], LinearSystem],
        log_prior: Callable[[LinearSystem], float],
        baseline: float,
        n_bins: float,
    ):
        self.system = self._previous = system
        self.moments: Moments | None = None
        self._expect, self._maximise, self._log_prior = expect, maximise, log_prior
        self._baseline, self._n_bins = baseline, n_bins
        self.likelihoods: list[float] = []
        self.objectives: list[float] = []
        self.converged, self.gain = False, np.inf

    @property
    def advantage(self) -> float:
        """Log-likelihood over that of constant rates; at least 1e-3 nats per bin, where there is none."""
        return max(self.likelihoods[-1] - self._baseline, 1e-3 * self._n_bins)

    def run(self, max_iter: int, tol: float) -> None:
        """Go on until there are `max_iter` iterations in all (at least 1), or one gains less than `tol`."""
        while len(self.objectives) < max(max_iter, 1) and not self.converged:
            before = self.moments
            self.moments = self._expect(self.system, before)
            self.likelihoods.append(float(self.moments.log_likelihood.sum()))
            self.objectives.append(self.likelihoods[-1] + self._log_prior(self.system))
            if before is not None and self._has_failed():
                self.system, self.moments = self._previous, before
                del self.likelihoods[-1], self.objectives[-1]
                self.gain, self.converged = 0.0, True
                break
            if len(self.objectives) > 1:
                self.gain = (self.objectives[-1] - self.objectives[-2]) / self.advantage
                self.converged = abs(self.gain) < tol
                if self.converged:
                    break
            self._previous, self.system = self.system, self._maximise(self.system, self.moments)

    def _has_failed(self) -> bool:
        """Return whether the last iteration lost what none may: the search of an approximation has lost its way."""
        after, before = self.objectives[-1], self.objectives[-2]
        advantage = max(self.likelihoods[-2] - self._baseline, 1e-3 * self._n_bins)
        return not (np.isfinite(after) and after > before - _MOST_LOST * advantage)

    def history(self) -> NDArray[np.floating]:
        """Return log-likelihood and objective per bin, (iteration, 2)."""
        return np.column_stack([self.likelihoods, self.objectives]) / self._n_bins


def race(runs: Sequence[EMRun], max_iter: int, tol: float) -> EMRun:
    """Return the run that is highest after a few iterations, run to its end; the first of equal ones."""
    for laps in (LAPS // 2, LAPS):
        if len(runs) == 1:
            break
        for run in runs:
            run.run(min(laps, max_iter), tol)
        best = max(runs, key=lambda run: run.objectives[-1])
        least = best.objectives[-1] - (_LEAD * best.advantage if laps < LAPS else 0.0)
        runs = [run for run in runs if run is best or run.objectives[-1] > least]
    runs[0].run(max_iter, tol)
    return runs[0]
