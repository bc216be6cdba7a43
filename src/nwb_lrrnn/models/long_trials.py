"""What `fit` sees of trials of which a few are very long."""

from __future__ import annotations

import logging

from nwb_lrrnn.trials import LazyTrials, Trials, blocks
from nwb_lrrnn.trials.ends import piece_size

logger = logging.getLogger(__name__)


def in_pieces(trials: Trials | LazyTrials) -> Trials | LazyTrials:
    """Return trials of which a few are very long with these cut into pieces, where they fit the memory; said once."""
    size = piece_size(trials.lengths)
    longest, n_long, n_trials = int(trials.lengths.max()), int((trials.lengths > size).sum()), len(trials.lengths)
    if isinstance(trials, LazyTrials):
        if trials.n_bytes > blocks.KEPT_BYTES:
            return trials
        trials = trials.load_pieces()
    else:
        trials = trials.in_pieces(size)
    logger.warning(
        "trials of more than %d bins (%d of %d, up to %d bins) are fitted in pieces, each with a beginning of its own, "
        "since all trials padded to the longest would be mostly padding",
        size, n_long, n_trials, longest,
    )  # fmt: skip
    return trials
