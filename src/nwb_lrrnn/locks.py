"""Locks between the threads of one process, which a forked child never finds held by a thread that it does not have."""

from __future__ import annotations

import functools
import os
import sys
import threading
import weakref


class ThreadLock:
    """A `threading.Lock` for `with` blocks; a forked child has it free."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        _all.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *exception: object) -> None:
        if self._lock.locked():  # not so where the thread that held it has forked, and this is the child
            self._lock.release()

    def free(self) -> None:
        """Forget who holds it."""
        self._lock = threading.Lock()


_all: weakref.WeakSet[ThreadLock] = weakref.WeakSet()


def _begin_anew() -> None:
    """Free every lock in a forked child, in which only the thread that forked goes on."""
    for lock in list(_all):
        lock.free()
    _free_those_of_dask()


def _free_those_of_dask() -> None:
    """Free the locks that dask takes whenever arrays are named or computed, which it forgets in a forked child.

    One is around all naming; the others are of `functools.cached_property`, which has locks until Python 3.11.
    """
    tokenize, expressions = (sys.modules.get(f"dask.{name}") for name in ("tokenize", "_expr"))
    if hasattr(tokenize, "tokenize_lock"):
        setattr(tokenize, "tokenize_lock", threading.RLock())  # noqa: B010 - not known to a type checker
    classes = [getattr(expressions, "Expr", None)]
    while classes:
        one = classes.pop()
        if isinstance(one, type):
            classes += one.__subclasses__()
            for value in vars(one).values():
                if isinstance(value, functools.cached_property) and hasattr(value, "lock"):
                    value.lock = threading.RLock()  # pyright: ignore[reportAttributeAccessIssue]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
