"""What `fit` sees of trials of which a few are very long: these in pieces, and where trials begin."""

from __future__ import annotations

import logging

import numpy as np

from nwb_lrrnn.trials import LazyTrials, Trials, blocks
from nwb_lrrnn.trials.ends import piece_size, pieces_of

logger = logging.getLogger(__name__)


_BEGINNING = 50  # bins: what follows hardly tells of the first


def in_pieces(trials: Trials | LazyTrials) -> tuple[Trials | LazyTrials, Trials | None]:
    """Return trials of which a few are very long with these cut into pieces, and the beginnings of all; said once.

    Where they do not fit the memory, the trials as they are and None.
    """
    size = piece_size(trials.lengths)
    longest, n_long, n_trials = int(trials.lengths.max()), int((trials.lengths > size).sum()), len(trials.lengths)
    if isinstance(trials, LazyTrials):
        if trials.n_bytes > blocks.KEPT_BYTES:
            return trials, None
        begins = _begins(trials, size)
        trials = trials.load_pieces()
    else:
        begins = _begins(trials, size)
        trials = trials.in_pieces(size)
    logger.warning(
        "trials of more than %d bins (%d of %d, up to %d bins) are fitted in pieces, since all trials "
        "padded to the longest would be mostly padding",
        size, n_long, n_trials, longest,
    )  # fmt: skip
    begin = trials.take(np.flatnonzero(begins))
    return trials, begin.ended(np.minimum(begin.lengths, _BEGINNING))


def _begins(trials: Trials | LazyTrials, size: int) -> np.ndarray:
    """Return which pieces (piece,), bool, begin a trial."""
    return np.array([a == 0 for _, a, _ in pieces_of(trials.lengths, size)])
