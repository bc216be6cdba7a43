"""Estimators: scikit-learn verbs on the outside, torch and numba inside.

`ESTIMATORS` is the one table of those of recordings: the package root, result files, the command and the tests read it.
`FIELD_MODELS` are fitted to samples of a field instead; result files know both.
"""

from typing import Any, NamedTuple


class Entry(NamedTuple):
    """Where an estimator lives, and what the command calls it and says of it."""

    home: str  # module within this package
    word: str | None  # of `nwb-lrrnn fit --model`; None: a baseline, which neither the command nor the root offers
    hint: str = ""


ESTIMATORS = {
    "LowRankRNN": Entry("low_rank", "lowrank", "deterministic"),
    "SMCLowRankRNN": Entry("smc", "smc", "stochastic"),
    "DisRNN": Entry("dis", "dis", "groups"),
    "LeastSquaresRNN": Entry("least_squares", "leastsquares", "regression"),
    "LinearStateSpace": Entry("linear", "linear"),
    "FactorAnalysis": Entry("linear", None),
}
FIELD_MODELS = {"InfiniteRNN": Entry("least_squares.infinite", None)}
STORED = ESTIMATORS | FIELD_MODELS


def __getattr__(name: str) -> Any:
    if name not in STORED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{STORED[name].home}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *STORED})
