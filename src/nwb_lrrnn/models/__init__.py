"""Estimators: scikit-learn verbs on the outside, torch and numba inside."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nwb_lrrnn.models.dis import DisRNN
    from nwb_lrrnn.models.linear import LinearStateSpace
    from nwb_lrrnn.models.low_rank import LowRankRNN
    from nwb_lrrnn.models.smc import SMCLowRankRNN

__all__ = ["DisRNN", "LinearStateSpace", "LowRankRNN", "SMCLowRankRNN"]

_HOMES = {"DisRNN": "dis", "LinearStateSpace": "linear", "LowRankRNN": "low_rank", "SMCLowRankRNN": "smc"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
