"""What is said where a fit leaves the numbers: which entry of X is odd, in place of a text of linear algebra."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nwb_lrrnn.trials import Trials

if TYPE_CHECKING:
    from nwb_lrrnn.trials import LazyTrials

_ODD = 100.0  # times the typical size of what a unit does in a bin
_TEXTS = ("NaN", "nan", "inf", "not finite", "finite numbers", "positive definite", "positive-definite", "singular")


class NotFiniteError(ValueError):
    """A fit or a score left the numbers; the message names the odd entry of X."""


@contextmanager
def in_a_sentence(what: str, trials: Trials | LazyTrials) -> Iterator[None]:
    """Turn errors of numbers that are not finite, or of matrices that have no inverse, into one sentence about X."""
    try:
        yield
    except (ArithmeticError, ValueError, RuntimeError) as error:
        # numpy's LinAlgError is a ValueError, torch's a RuntimeError; scikit-learn's refusals of NaN are ValueErrors
        is_algebra = "LinAlgError" in type(error).__name__ or isinstance(error, FloatingPointError | OverflowError)
        is_of_numbers = any(text in str(error) for text in _TEXTS) and not _is_a_sentence(error)
        if not (is_algebra or is_of_numbers):
            raise
        raise NotFiniteError(f"X: {what} did not stay finite; {_suspect(trials)}") from error


def refuse_nan(what: str, values: NDArray, trials: Trials) -> None:
    """Raise the same sentence where a result is no number."""
    if np.isnan(values).any():
        raise NotFiniteError(f"X: {what} did not stay finite; {_suspect(trials)}")


def _is_a_sentence(error: Exception) -> bool:
    """Return whether an error is one of the package's own, but for those of a network that no one gave."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    module = "" if frame is None else frame.tb_frame.f_globals.get("__name__", "")
    return module.startswith("nwb_lrrnn.") and not module.startswith("nwb_lrrnn.dynamics.")


def _suspect(trials: Trials | LazyTrials) -> str:
    """Return what is odd about the data, and what to do."""
    block = trials if isinstance(trials, Trials) else trials.sample()
    typical = np.median(np.abs(block.values), axis=(0, 1))
    typical = np.where(typical > 0, typical, np.abs(block.values).mean(axis=(0, 1)))
    size = np.abs(block.values) / np.maximum(typical, 1e-300)
    at = np.unravel_index(int(size.argmax()), size.shape)
    if size[at] > _ODD:
        trial, time, unit = (int(k) for k in at)
        return (
            f"{block.values[at]:.6g} at {block.place(trial, time, unit)} is {size[at]:.3g} times what this unit "
            "typically shows; mark such bins in a boolean coordinate 'observed', or leave them out"
        )
    return (
        f"there are {block.n_units} units in {len(block.lengths)} trials of at most {int(block.lengths.max())} bins; "
        "lower rank, give more data, or leave out units that copy others"
    )
