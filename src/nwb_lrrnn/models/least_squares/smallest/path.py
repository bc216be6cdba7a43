"""The path of sizes: how each does on what was held out, and which is the smallest that is as good as the best."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nwb_lrrnn.models.least_squares.smallest.network import Whitening
from nwb_lrrnn.models.least_squares.smallest.problem import Fit, Samples
from nwb_lrrnn.models.least_squares.smallest.shooting import Runs, squared_errors
from nwb_lrrnn.models.least_squares.smallest.source import Source

Array = NDArray[np.floating]

_AS_GOOD = 0.02  # of the least error: sizes within it are as good
_PATIENCE = 3  # sizes that improve on nothing before the path ends
_TOLERANCES = {"field": 1e-12, "trajectory": 1e-3}


@dataclass(frozen=True)
class Held:
    """Samples and trajectories to fit by, and those that judge."""

    train: Samples
    test: Samples
    train_runs: Runs | None
    test_runs: Runs | None
    alpha: float
    judged_by: str  # "field" or "trajectory"

    @classmethod
    def split(
        cls, whitening: Whitening, source: Source, tau: float, fraction: float, alpha: float, objective: str, rng
    ) -> Held:
        """Return the split: by trajectories where the samples lie on some, else by samples."""
        samples, runs = whitening.samples(source, tau), whitening.runs(source)
        by_run = (source.groups >= 0).all()
        if runs is None or source.paths is None or not by_run:
            order = rng.permutation(len(samples))
            n_test = max(1, round(fraction * len(samples)))
            test, train = order[:n_test], order[n_test:]
            if len(train) < 4:
                raise ValueError(f"source: got {len(samples)} samples, wanted enough to hold some out, at least 6")
        if runs is None:
            return cls(samples.take(train), samples.take(test), None, None, alpha, "field")
        n_runs = len(runs.paths)
        order = rng.permutation(n_runs)
        n_test = min(n_runs - 1, max(1, round(fraction * n_runs)))
        out = np.isin(np.arange(n_runs), order[:n_test])
        if by_run:
            of_test = out[source.groups]
            train, test = np.flatnonzero(~of_test), np.flatnonzero(of_test)
        return cls(samples.take(train), samples.take(test), runs.take(~out), runs.take(out), alpha, objective)

    def null(self) -> Array:
        """Return squared errors (case,) of what knows nothing: the mean of dz/dt, or of the latents."""
        if self.judged_by == "field":
            rank = self.train.targets.shape[1]
            train, test = (part.targets - part.points[:, :rank] for part in (self.train, self.test))
            return ((test - train.mean(0)) ** 2).sum(1)
        return self._null_of_runs()

    def _null_of_runs(self) -> Array:
        if self.train_runs is None or self.test_runs is None:
            raise ValueError("objective: got 'trajectory' for a source that has none, wanted 'field'")
        mean = self.train_runs.paths[:, 1:].mean((0, 1))
        return ((self.test_runs.paths[:, 1:] - mean) ** 2).sum((1, 2))

    def errors(self, fit: Fit) -> Array:
        """Return squared errors (case,) of a network on what was held out."""
        if self.judged_by == "field" or self.test_runs is None:
            return fit.squared_errors(self.test)
        return squared_errors(fit, self.test_runs, self.alpha)

    def r2(self, fit: Fit) -> float | None:
        """Return R2 of held-out free runs, where there are runs; -inf of a network that escapes."""
        if self.test_runs is None:
            return None
        return float(
            1.0 - squared_errors(fit, self.test_runs, self.alpha).sum() / max(self._null_of_runs().sum(), 1e-300)
        )


class Path:
    """Networks of growing size."""

    def __init__(self, held: Held, max_weight: float, tolerance: float | None):
        self.held, self.max_weight = held, max_weight
        self.tolerance = _TOLERANCES[held.judged_by] if tolerance is None else tolerance
        self.fits: list[Fit] = []
        self.cases: list[Array] = []  # squared errors (case,)
        self.null = held.null()
        total = float(self.null.sum()) if held.judged_by == "trajectory" else len(held.test) * held.test.variance
        self.scale = max(total, 1e-300)

    def add(self, fit: Fit) -> None:
        """Add the network of the next size."""
        self.fits.append(fit)
        self.cases.append(self.held.errors(fit))

    @property
    def errors(self) -> Array:
        """Held-out errors (size,), relative to the variance of dz/dt or to runs that stay at the mean."""
        return np.array([cases.sum() / self.scale for cases in self.cases])

    def _allowed(self) -> NDArray[np.bool_]:
        within = np.array([fit.largest_weight <= self.max_weight for fit in self.fits])
        return within if within.any() else np.ones(len(self.fits), dtype=bool)

    def selected(self) -> int:
        """Return the row of the smallest network, within the budget, that is as good as the best.

        As good is what differs by no more than 2 %, than the standard error of the difference over held-out cases, or
        than the tolerance.
        """
        errors = np.where(self._allowed(), self.errors, np.inf)
        best = int(np.argmin(errors))
        for row in np.flatnonzero(np.isfinite(errors)):
            difference = self.cases[row] - self.cases[best]
            spread = difference.std() * np.sqrt(len(difference)) / self.scale
            if errors[row] <= max(self.tolerance, (1 + _AS_GOOD) * errors[best], errors[best] + spread):
                return int(row)
        return best

    def is_done(self) -> bool:
        """Return whether larger networks need not be tried."""
        errors = np.where(self._allowed(), self.errors, np.inf)
        if errors[-1] <= self.tolerance:
            return True
        before, last = errors[:-_PATIENCE], errors[-_PATIENCE:]
        return len(before) > 0 and bool(last.min() > (1 - _AS_GOOD) * before.min())

    def chosen(self) -> Fit:
        """Return the network selected."""
        return self.fits[self.selected()]

    def has_gain(self) -> bool:
        """Return whether the best network does better than what knows nothing, by two standard errors."""
        errors = np.where(self._allowed(), self.errors, np.inf)
        best = self.cases[int(np.argmin(errors))]
        gain = self.null - best
        with np.errstate(invalid="ignore"):
            return bool(gain.mean() > 2.0 * gain.std() / np.sqrt(len(gain)))

    def dataset(self, tau: float) -> xr.Dataset:
        """Return the path over `size`."""
        selected, test = self.selected(), self.held.test
        sizes = np.array([fit.size for fit in self.fits])
        variables = {
            "error": [float(fit.squared_errors(test).mean() / test.variance) for fit in self.fits],
            "training_error": [fit.error for fit in self.fits],
            "largest_weight": [fit.largest_weight for fit in self.fits],
            "ridge": [fit.ridge for fit in self.fits],
            "selected": np.arange(len(sizes)) == selected,
        }
        if self.held.test_runs is not None:
            variables["r2"] = [self.held.r2(fit) for fit in self.fits]
        size = int(sizes[selected])
        attrs = {
            "size": size,
            "has_gain": int(self.has_gain()),
            "still_falls": int(selected == len(sizes) - 1 and self.errors[-1] > self.tolerance),
            "objective": self.held.judged_by,
            "max_weight": self.max_weight,
            "tolerance": self.tolerance,
            "tau": tau,
        }
        return xr.Dataset({name: ("size", values) for name, values in variables.items()}, {"size": sizes}, attrs)
