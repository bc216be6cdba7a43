"""`LazyTrials`: a recording backed by dask, read block by block with the next block on its way, never all at once."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.locks import ThreadLock
from nwb_lrrnn.trials.ends import alike, ends_by_label, has_long_trials, is_mostly_padding, piece_size
from nwb_lrrnn.trials.gate import Trials, as_trials, check_observed
from nwb_lrrnn.trials.lazy import (
    chunk_edges,
    computed,
    has_trial_ids,
    is_lazy,
    labelled,
    lengths_of,
    numbered,
    refuse_unreadable,
    rows_of,
    stand_in,
)
from nwb_lrrnn.trials.summary import Summary, pooled

Rows = NDArray[np.int64]

KEPT_BYTES = 256 * 2**20  # of float64: a recording up to this size is held in memory
SAMPLE = 4  # a sample of a larger one is this many times smaller: fits take a multiple of what they see
BLOCK_BYTES = 32 * 2**20  # of the float64 numbers of one block, also where dask computes small chunks for it
_LARGEST = 4  # blocks: a chunk up to this size is computed whole, a larger one in parts, for each of them anew


class LazyTrials:
    """Trials that are read when they are asked for.

    A block is one or several chunks of dask along trials; a trial is the smallest piece. While one block is worked
    on, a thread reads the next.

    Attributes
    ----------
    lengths, bin_size, bin_size_is_known, unit_ids, input_ids : as in `Trials`
    n_units, n_inputs : int
    """

    def __init__(self, reader: _TrialReader, rows: Rows, form: Trials, kept: NDArray[np.bool_] | None = None):
        self._reader, self._rows, self._form = reader, rows, form
        self.lengths = reader.lengths[rows]
        self.bin_size, self.bin_size_is_known = form.bin_size, form.bin_size_is_known
        self._kept = np.ones(len(form.unit_ids), dtype=bool) if kept is None else kept
        self.unit_ids, self.input_ids = form.unit_ids[self._kept], form.input_ids
        self.n_units, self.n_inputs = len(self.unit_ids), 0 if form.input_ids is None else len(form.input_ids)

    @property
    def n_bytes(self) -> int:
        """Size of all trials as float64, padded; where that is mostly padding, without it."""
        if not self.has_long_trials:
            return int(len(self.lengths) * self._bytes_of_trial)
        return int(self.lengths.sum() * (self.n_units + self.n_inputs) * 8)

    @property
    def has_long_trials(self) -> bool:
        """Whether the trials, padded to the longest, would be mostly padding."""
        return is_mostly_padding(self.lengths)

    @property
    def _bytes_of_trial(self) -> int:
        return int(max(1, self.lengths.max(initial=1) * (self.n_units + self.n_inputs) * 8))

    @cached_property
    def summary(self) -> Summary:
        """What one pass over all trials tells; bad values anywhere are found here."""
        parts = ((rows, block.summary) for rows, block in self.blocks())
        whole = pooled(parts, len(self.lengths))
        check_observed(whole.n_observed)
        return whole

    def select(self, trials) -> LazyTrials:
        """Return some of the trials, still unread."""
        return LazyTrials(self._reader, self._rows[np.asarray(trials, dtype=np.int64)], self._form, self._kept)

    def of_units(self, kept: NDArray[np.bool_]) -> LazyTrials:
        """Return the trials with some of the units (unit,), bool, still unread; with all of them, these trials."""
        if kept.all():
            return self
        among = self._kept.copy()
        among[among] = kept
        found = LazyTrials(self._reader, self._rows, self._form, among)
        if "summary" in vars(self):  # one pass is enough
            vars(found)["summary"] = self.summary.of_units(kept)
        return found

    def take(self, trials) -> Trials:
        """Return some of the trials, in the order given, in memory (the result cannot `restore`)."""
        found = list(self.select(trials).blocks())
        whole = joined([block for _, block in found])
        return whole.take(np.argsort(np.concatenate([rows for rows, _ in found])))

    def load_pieces(self) -> Trials:
        """Return all trials in memory, long ones in pieces: as long as may be without being mostly padding."""
        size = piece_size(self.lengths)
        parts = {int(k): block.take([at]) for rows, block in self.blocks() for at, k in enumerate(rows)}
        return joined([parts[k].in_pieces(size) for k in sorted(parts)])

    def load(self) -> Trials:
        """Return all trials in memory."""
        return self.take(np.arange(len(self.lengths)))

    def sample_rows(self, share: int = 1) -> Rows:
        """Return which trials `sample` takes."""
        seen = np.flatnonzero(self.summary.n_bins)  # a trial of which nothing is observed shows nothing
        n = min(len(seen), max(1, KEPT_BYTES // (SAMPLE * share * self._bytes_of_trial)))
        return seen[np.linspace(0, len(seen) - 1, n).round().astype(np.int64)]

    def sample(self, share: int = 1) -> Trials:
        """Return trials evenly spread over the recording, in memory: one in `share` of what a sample may hold."""
        return self.take(self.sample_rows(share))

    def blocks(self, rng: np.random.Generator | None = None) -> Iterator[tuple[Rows, Trials]]:
        """Yield blocks and which trials they hold; in an order drawn from `rng`, where one is given."""
        groups = [self._positions(k) for k in range(len(self._reader.groups))]
        order = [k for k, positions in enumerate(groups) if len(positions)]
        if rng is not None:
            order = [order[k] for k in rng.permutation(len(order))]
        columns = self.n_units + self.n_inputs
        with ThreadPoolExecutor(1, thread_name_prefix="nwb_lrrnn_read") as ahead:
            coming = ahead.submit(self._reader.read, order[0]) if order else None
            for k, group in enumerate(order):
                raw = coming.result()  # type: ignore[union-attr]
                coming = ahead.submit(self._reader.read, order[k + 1]) if k + 1 < len(order) else None
                positions = groups[group]
                longest = int(max(1, self.lengths[positions].max() * columns * 8))
                size = max(1, BLOCK_BYTES // longest)
                for begin in range(0, len(positions), size):
                    part = positions[begin : begin + size]
                    yield part, self._reader.trials(raw, group, self._rows[part], self._form).of_units(self._kept)
                del raw

    def _positions(self, group: int) -> Rows:
        """Return which of these trials are read in a group."""
        rows = self._reader.groups[group]
        if rows[-1] - rows[0] + 1 == len(rows):
            return np.flatnonzero((self._rows >= rows[0]) & (self._rows <= rows[-1]))
        return np.flatnonzero(np.isin(self._rows, rows))


class _TrialReader:
    """What reads: groups of trials that dask computes together, the first of them kept while memory allows."""

    def __init__(self, X: Any, inputs: Any, bin_size: float | None, allow_nan: bool, forecasts: bool):
        self.X, self.inputs, self.bin_size, self.allow_nan = X, inputs, bin_size, allow_nan
        stored = lengths_of(X)
        self.lengths = ends_by_label(X, stored, forecasts)
        is_cut = not np.array_equal(self.lengths, stored) or is_mostly_padding(stored)
        self.groups = _groups_alike(self.lengths, X) if is_cut else _groups(X, stored)
        self._kept: dict[int, tuple[Any, Any]] = {}
        self._kept_bytes = 0
        self._lock = ThreadLock()

    def read(self, group: int) -> tuple[Any, Any]:
        """Return a group of trials and their inputs, computed."""
        if group in self._kept:
            return self._kept[group]
        rows = self.groups[group]
        longest = int(self.lengths[rows].max(initial=1))  # what follows in all of them is padding
        inputs = None if self.inputs is None else computed(rows_of(self.inputs, rows, longest))
        raw = computed(rows_of(self.X, rows, longest)), inputs
        size = sum(part.nbytes for whole in raw if whole is not None for part in _as_list(whole))
        with self._lock:
            if self._kept_bytes + size <= KEPT_BYTES:
                self._kept[group], self._kept_bytes = raw, self._kept_bytes + size
        return raw

    def trials(self, raw: tuple[Any, Any], group: int, rows: Rows, form: Trials) -> Trials:
        """Return some trials of a group that was read, checked like any other."""
        at = np.searchsorted(self.groups[group], rows)
        X, inputs = (None if whole is None else rows_of(whole, at) for whole in raw)
        block = as_trials(X, inputs=inputs, bin_size=self.bin_size, allow_nan=self.allow_nan, is_part=True)
        if not np.array_equal(block.unit_ids, form.unit_ids):
            at = next(k for k, (a, b) in enumerate(zip(block.unit_ids, form.unit_ids, strict=False)) if a != b)
            raise ValueError(
                f"X: unit {at} of {block.place(0, 0, at)} is another than in the first trial, {form.unit_ids[at]!r}; "
                "wanted the same units, in order, in all trials"
            )
        if block.bin_size_is_known and abs(block.bin_size - form.bin_size) > 1e-3 * form.bin_size:
            raise ValueError(
                f"X: got bins of {block.bin_size:.6g} s and of {form.bin_size:.6g} s; bin all trials alike"
            )
        return block.ended(self.lengths[rows])


def as_lazy_trials(
    X: Any,
    *,
    inputs: Any = None,
    bin_size: float | None = None,
    allow_nan: bool = False,
    forecasts: bool = True,
    **fitting: Any,
) -> LazyTrials:
    """Return a recording backed by dask as `LazyTrials`: its form is checked now, its values when they are read.

    Parameters, `estimator` and `reset` among them, and errors are those of `as_trials`.
    """
    refuse_unreadable(X)
    whole, drive = numbered(labelled(X, "unit")), None
    lengths = lengths_of(whole)
    if inputs is not None:
        drive = labelled(inputs, "input")
        if len(lengths_of(drive)) != len(lengths):
            raise ValueError(f"inputs: got {len(lengths_of(drive))} trials, wanted {len(lengths)}, the trials of X")
        if not isinstance(drive, list) and not has_trial_ids(X):  # the numbers of X are ours
            drive = drive.drop_vars("trial", errors="ignore")
    form = as_trials(
        stand_in(whole),
        inputs=None if drive is None else stand_in(drive),
        bin_size=bin_size,
        allow_nan=allow_nan,
        **fitting,
    )
    return LazyTrials(_TrialReader(whole, drive, bin_size, allow_nan, forecasts), np.arange(len(lengths)), form)


def read_trials(X: Any, **options: Any) -> Trials | LazyTrials:
    """Return X as `Trials`, or unread where it is on dask, or would be mostly padding; options are of `as_trials`."""
    is_unread = is_lazy(X) or has_long_trials(X, options.get("forecasts", True))
    read = as_lazy_trials if is_unread else as_trials
    return read(X, **options)


def _groups(X: Any, lengths: NDArray[np.int64]) -> list[Rows]:
    """Return which trials are computed together: small chunks up to the size of a block, one chunk, or a part of it."""
    first = X[0] if isinstance(X, list) else X
    row = int(max(1, lengths.max(initial=1) * first.shape[-1]))  # numbers
    most = max(1, BLOCK_BYTES // (row * first.dtype.itemsize))
    begin, groups = 0, []
    for edge in _merged(chunk_edges(X), max(1, BLOCK_BYTES // (row * 8))):
        size = most if edge - begin > _LARGEST * most else edge - begin
        groups += [np.arange(a, min(a + size, edge)) for a in range(begin, edge, size)]
        begin = edge
    return groups


def _groups_alike(lengths: NDArray[np.int64], X: Any) -> list[Rows]:
    """Return which trials are computed together where most of X is padding: trials of like length, up to a block."""
    columns = (X[0] if isinstance(X, list) else X).shape[-1]
    groups: list[Rows] = []
    for rows in alike(lengths):
        size = max(1, BLOCK_BYTES // int(max(1, lengths[rows].max() * columns * 8)))
        groups += np.split(rows, range(size, len(rows), size))
    return groups


def _merged(edges: NDArray, most: int) -> list[int]:
    """Return the ends of runs of chunks that hold at most `most` trials, or of one longer chunk."""
    kept, begin = [], 0
    for edge, following in zip(edges, [*edges[1:], None], strict=True):
        if following is None or following - begin > most:
            kept.append(int(edge))
            begin = edge
    return kept


def _as_list(whole: Any) -> list:
    return whole if isinstance(whole, list) else [whole]


def joined(parts: list[Trials]) -> Trials:
    """Return the trials of several parts as one, in order (the result cannot `restore`)."""
    n = max(part.values.shape[1] for part in parts)

    def padded(array: NDArray) -> NDArray:
        return array if array.shape[1] == n else np.pad(array, ((0, 0), (0, n - array.shape[1]), (0, 0)))

    values = np.concatenate([padded(part.values) for part in parts])
    lengths = np.concatenate([part.lengths for part in parts])
    inputs = None
    if parts[0].inputs is not None:
        inputs = np.concatenate([padded(part.inputs) for part in parts if part.inputs is not None])
    observed = None
    if any(part.observed is not None for part in parts) or (lengths != n).any():
        observed = np.concatenate([padded(part.seen) for part in parts])
        observed = None if observed.all() else observed
    first = parts[0]
    known = next((part for part in parts if part.bin_size_is_known), first)
    return Trials(
        values,
        observed,
        lengths,
        known.bin_size,
        known.bin_size_is_known,
        first.unit_ids,
        inputs,
        first.input_ids,
        None,
    )
