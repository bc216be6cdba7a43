"""Constructor parameters: the names that they take, as types, and checks, made in `fit`, that say how to mend it."""

from __future__ import annotations

import difflib
import numbers
from collections.abc import Sequence
from typing import Any, Literal, overload

import numpy as np

# Whoever checks types finds a wrong name before it runs. The tuples of valid names are made of these.
Nonlinearity = Literal["tanh", "erf", "relu", "clipped_relu", "softplus", "identity"]
LikelihoodName = Literal["gaussian", "poisson", "negative_binomial", "bernoulli"]
Link = Literal["identity", "softplus", "exp", "logit"]
Readout = Literal["latents", "currents", "rates"]
Posterior = Literal["smoothed", "filtered", "delayed"]
Dtype = Literal["float64", "float32"]
Device = Literal["auto", "cpu", "cuda", "cuda:0", "cuda:1", "cuda:2", "cuda:3", "cuda:4", "cuda:5", "cuda:6", "cuda:7"]


@overload
def whole_number(argument: str, got: object, minimum: int = 1, *, most: int | None = None, hint: str = "") -> int: ...
@overload
def whole_number(argument: str, got: object, minimum: int = 1, *, optional: Literal[True]) -> int | None: ...
def whole_number(
    argument: str, got: object, minimum: int = 1, *, most: int | None = None, hint: str = "", optional: bool = False
) -> Any:
    """Return `got` as an int from `minimum` to `most` (or None where optional); `hint` says what else would do."""
    if optional and got is None:
        return None
    if isinstance(got, numbers.Integral) and not isinstance(got, (bool, np.bool_)) and int(got) >= minimum:
        if most is None or int(got) <= most:
            return int(got)
        raise ValueError(f"{argument}: got {got}, wanted at most {most}{hint}")
    also = " or None" if optional else ""
    raise ValueError(f"{argument}: got {got!r}, wanted a whole number >= {minimum}{also}, e.g. {argument}={minimum}")


@overload
def positive(argument: str, got: object, *, zero: bool = False, hint: str = "") -> float: ...
@overload
def positive(argument: str, got: object, *, zero: bool = False, optional: Literal[True]) -> float | None: ...
def positive(argument: str, got: object, *, zero: bool = False, hint: str = "", optional: bool = False) -> Any:
    """Return `got` as a finite float > 0 (>= 0 with `zero`; None where optional); `hint` says what else would do."""
    if optional and got is None:
        return None
    if isinstance(got, numbers.Real) and not isinstance(got, (bool, np.bool_)):
        value = float(got)
        if np.isfinite(value) and (value > 0 or (zero and value == 0)):
            return value
    also = " or None" if optional else ""
    raise ValueError(f"{argument}: got {got!r}, wanted a finite number {'>=' if zero else '>'} 0{also}{hint}")


def fraction(argument: str, got: object) -> float:
    """Return `got` as a float in [0, 1)."""
    if isinstance(got, numbers.Real) and not isinstance(got, (bool, np.bool_)) and 0 <= float(got) < 1:
        return float(got)
    raise ValueError(f"{argument}: got {got!r}, wanted a fraction in [0, 1), e.g. {argument}=0.2")


def flag(argument: str, got: object) -> bool:
    """Return `got`, which must be True or False."""
    if isinstance(got, (bool, np.bool_)):
        return bool(got)
    raise ValueError(f"{argument}: got {got!r}, wanted True or False")


def choose(argument: str, got: object, valid: tuple[str, ...]) -> str:
    """Return `got` when it is one of `valid`; else raise a ValueError that lists them and the closest match."""
    if isinstance(got, str) and got in valid:
        return got
    raise ValueError(f"{argument}: got {got!r}, wanted one of {', '.join(map(repr, valid))}{closest(str(got), valid)}")


def closest(name: str, names: Sequence[str]) -> str:
    """Return a hint, to append to a message, at the name that was probably meant; "" where none is near.

    >>> closest("lrnn", ["lrrnn", "behavior"])
    "; did you mean 'lrrnn'?"
    """
    close = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
