"""The transition of a network fitted to pairs of successive latents, in numpy.

The right vectors, the drive and Sigma_z have their optimum in closed form given the neurons; the neurons (m, b, h, B
and alpha) climb what is left, the log determinant of the residuals (variable projection, Golub & Pereyra 1973), along
slopes written by hand: most calls are small, and numpy's cost of a call is a fraction of torch's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from nwb_lrrnn.dynamics.nonlinearity import phi, slope

Array = NDArray[np.floating]
Arrays = dict[str, Array]

NEURONS = ("left_vectors", "bias", "input_weights", "log_thresholds", "logit_alpha")  # what may climb


class Solved(NamedTuple):
    """The optimum given the neurons, and what it was made of; rates and targets are about their means."""

    right: Array  # n / N (N, R)
    drive: Array  # s (R,)
    covariance: Array  # of the residuals (R, R)
    residual: Array  # (pair, R)
    currents: Array  # x (pair, N)
    rates: Array  # (pair, N)
    left_over: Array  # of the targets by the right vectors at which the ridge holds (pair, R)
    gram: Array  # of the rates, with the ridge (N, N)
    alpha: float


@dataclass(frozen=True)
class Transition:
    """Pairs of latents, and how the right vectors are held; parameters come by their names in `NEURONS`."""

    nonlinearity: str
    alpha: float | None  # None: fitted
    now: Array  # z_t (pair, R)
    then: Array  # z_{t+1} (pair, R)
    inputs: Array  # v_t (pair, I)
    centre: Array  # n / N (N, R) at which the ridge holds
    ridge: float  # relative to the mean square of the rates

    def climb(self, parts: Arrays, free: list[str], n_steps: int) -> Arrays:
        """Return the parameters after steps of L-BFGS in the free ones."""
        from scipy.optimize import minimize

        ends = np.cumsum([parts[name].size for name in free])

        def unpack(flat: Array) -> Arrays:
            pieces = np.split(flat, ends[:-1])
            return parts | {name: p.reshape(parts[name].shape) for name, p in zip(free, pieces, strict=True)}

        def loss(flat: Array) -> tuple[float, Array]:
            at = unpack(flat)
            solved = self.solve(at)
            slopes = self.slopes(at, solved)
            return 0.5 * float(np.linalg.slogdet(solved.covariance)[1]), np.concatenate(
                [np.ravel(slopes[name]) for name in free]
            )

        start = np.concatenate([np.ravel(parts[name]) for name in free])
        found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": n_steps})
        return unpack(found.x) if np.isfinite(found.fun) else parts

    def solve(self, parts: Arrays) -> Solved:
        """Return n, s and Sigma_z at their optimum given the neurons."""
        n = len(self.now)
        x = self.now @ parts["left_vectors"] + parts["bias"]
        if self.inputs.shape[1]:
            x = x + self.inputs @ parts["input_weights"]
        rates = phi(self.nonlinearity, x, _thresholds(parts))
        alpha = float(expit(parts["logit_alpha"])) if self.alpha is None else self.alpha
        target = (self.then - (1.0 - alpha) * self.now) / alpha
        mean_rate, mean_target = rates.mean(axis=0), target.mean(axis=0)
        rates, target = rates - mean_rate, target - mean_target
        gram = rates.T @ rates / n
        gram.flat[:: len(gram) + 1] += self.ridge * np.trace(gram) / len(gram)
        left_over = target - rates @ self.centre
        right = self.centre + np.linalg.solve(gram, rates.T @ left_over / n)
        residual = alpha * (target - rates @ right)
        drive = mean_target - mean_rate @ right
        return Solved(right, drive, residual.T @ residual / n, residual, x, rates, left_over, gram, alpha)

    def slopes(self, parts: Arrays, solved: Solved) -> Arrays:
        """Return the slope of ln det(covariance) / 2 in every parameter of the neurons.

        `of_...` is the slope in what follows the word; that in the right vectors goes on through their optimum.
        """
        n, alpha, rates, residual = len(self.now), solved.alpha, solved.rates, solved.residual
        of_residual = residual @ np.linalg.inv(solved.covariance) / n
        of_target = alpha * of_residual
        of_cross = np.linalg.solve(solved.gram, -alpha * (rates.T @ of_residual))
        of_gram = -of_cross @ (solved.right - self.centre).T
        of_gram = of_gram + of_gram.T
        of_gram.flat[:: len(of_gram) + 1] += self.ridge * np.trace(of_gram) / len(of_gram)
        of_left_over = rates @ of_cross / n
        of_rates = (rates @ of_gram + solved.left_over @ of_cross.T) / n
        of_rates -= of_target @ solved.right.T + of_left_over @ self.centre.T
        of_target = of_target + of_left_over
        of_rates, of_target = of_rates - of_rates.mean(axis=0), of_target - of_target.mean(axis=0)
        thresholds = _thresholds(parts)
        of_currents = of_rates * slope(self.nonlinearity, solved.currents, thresholds)
        of_alpha = (of_residual * residual).sum() / alpha - (of_target * (self.then - self.now)).sum() / alpha**2
        found = {
            "left_vectors": self.now.T @ of_currents,
            "bias": of_currents.sum(axis=0),
            "input_weights": self.inputs.T @ of_currents,
            "logit_alpha": np.asarray(of_alpha * alpha * (1.0 - alpha)),
        }
        if thresholds is not None:
            lifted = solved.currents + thresholds > 0
            found["log_thresholds"] = (of_rates * lifted).sum(axis=0) * thresholds
        return found


def _thresholds(parts: Arrays) -> Array | None:
    return np.exp(parts["log_thresholds"]) if "log_thresholds" in parts else None
