"""A recording on dask that counts how often it is computed, and less memory than it needs."""

import threading

import dask.array as da
import numpy as np
import pytest

from nwb_lrrnn.trials import blocks


class Counted:
    """A recording whose blocks count how often they are computed, and how many are computed at once."""

    def __init__(self, values: np.ndarray, rows: int):
        self.counts = np.zeros(-(-len(values) // rows), dtype=int)
        self.values, self.rows, self.lock = values, rows, threading.Lock()
        along = tuple(min(rows, len(values) - a) for a in range(0, len(values), rows))
        self.array = da.map_blocks(
            self.block, dtype=values.dtype, chunks=(along, *((n,) for n in values.shape[1:])), meta=values[:0]
        )

    def block(self, block_info=None) -> np.ndarray:
        if block_info is None:
            return self.values[:0]
        k = block_info[None]["chunk-location"][0]
        with self.lock:
            self.counts[k] += 1
        return self.values[k * self.rows : (k + 1) * self.rows].copy()


def hold(monkeypatch: pytest.MonkeyPatch, values: np.ndarray, n_trials: int) -> None:
    """Let memory and a sample hold so many trials, a block four."""
    monkeypatch.setattr(blocks, "KEPT_BYTES", n_trials * values[0].nbytes)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 4 * values[0].nbytes)
    monkeypatch.setattr(blocks, "SAMPLE", 1)
