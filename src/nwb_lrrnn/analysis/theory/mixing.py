"""Anderson's mixing: a fixed point x = F(x) from the last few x and F(x), where plain repetition creeps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


class AndersonMixing:
    """Remembers `depth` rounds; the next x is where the weighted residuals F(x) - x cancel best."""

    def __init__(self, depth: int = 6, step: float = 0.7):
        self.depth, self.step = depth, step
        self._points: list[Array] = []
        self._residuals: list[Array] = []

    def next(self, point: Array, image: Array, weights: Array | None = None) -> Array:
        """Return the next x, from x, F(x) and how much each entry counts."""
        residual = image - point
        self._points = [*self._points[-self.depth :], point]
        self._residuals = [*self._residuals[-self.depth :], residual]
        if len(self._points) == 1:
            return point + self.step * residual
        scale = np.ones_like(point) if weights is None else weights
        moves = np.stack([residual - past for past in self._residuals[:-1]], axis=1)  # (n, k)
        steps = np.stack([point - past for past in self._points[:-1]], axis=1)
        rows = scale[:, None] * moves
        held = 1e-8 * np.trace(rows.T @ rows) * np.eye(rows.shape[1])
        back = np.linalg.solve(rows.T @ rows + held, rows.T @ (scale * residual))
        return point + self.step * residual - (steps + self.step * moves) @ back
