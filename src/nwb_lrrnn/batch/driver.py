"""The driver of a batch: a few fits under way at any time, each tried again as often as it may help."""

from __future__ import annotations

import heapq
import itertools
import logging
import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nwb_lrrnn.batch.executors import Executor
from nwb_lrrnn.batch.failures import DETERMINISTIC, LOST, MEMORY, STOPPED, TIMEOUT, TRANSIENT, failure_of
from nwb_lrrnn.batch.folder import FitFolder
from nwb_lrrnn.batch.ledger import Ledger
from nwb_lrrnn.batch.plan import Fit
from nwb_lrrnn.batch.recordings import Identities
from nwb_lrrnn.batch.study import Study

logger = logging.getLogger(__name__)

MOST_ATTEMPTS = {TRANSIENT: 4, MEMORY: 2, DETERMINISTIC: 1, TIMEOUT: 1, STOPPED: 4, LOST: 4}
_MOST_INNOCENT = 25  # resubmissions of a fit whose worker was lost before it had begun
_BACK_OFF = 2.0  # seconds before the second attempt, four times as many before each further one
_MOST_BACK_OFF = 120.0
_LOOK = 0.5  # seconds
_LEAST_WINDOW = 4


@dataclass
class Attempts:
    """A fit that is under way, and what has happened to it."""

    fit: Fit
    task: dict[str, Any]
    failed: dict[str, int] = field(default_factory=dict)
    n_innocent: int = 0
    n_begun: int = 0  # as the folder knows them, when it was submitted


@dataclass(frozen=True)
class Outcome:
    """How a fit ended for this batch.

    Parameters
    ----------
    fit : Fit
        Which one.
    key : str
        Of its folder; "" where its recording could not even be found.
    state : {"done", "failed", "missing"}
        How; "missing" without an executor.
    found : mapping
        The numbers, or class, error and sentence.
    is_new : bool
        Whether it was fitted by this driver.
    """

    fit: Fit
    key: str
    state: str
    found: dict[str, Any]
    is_new: bool = True


class Driver:
    """Runs fits; iterating over it yields outcomes as they come.

    Parameters
    ----------
    fits : iterable of Fit
        Taken as there is room for them.
    study : Study
        What is done.
    out : Path
        The folder of the batch.
    executor : Executor or None
        Where; None fits nothing, and says what is there.
    ledger : Ledger
        Gets a line for whatever happens.
    retry_failed : bool
        Whether fits that an earlier driver has given up are tried again.
    """

    def __init__(
        self,
        fits: Iterable[Fit],
        study: Study,
        out: Path,
        executor: Executor | None,
        ledger: Ledger,
        *,
        retry_failed: bool = False,
        sleep: Callable[[float], None] = time.sleep,
    ):
        self._fits, self._study, self._out = iter(fits), study, out
        self._executor, self._ledger, self._retry_failed, self._sleep = executor, ledger, retry_failed, sleep
        self._running: dict[Future[dict[str, Any]], Attempts] = {}
        self._later: list[tuple[float, int, Attempts]] = []  # a heap by the time from which they may run
        self._again: deque[Attempts] = deque()
        self._alone: deque[Attempts] = deque()  # after all others, one at a time
        self._number = itertools.count()
        self._identities = Identities()

    def __iter__(self) -> Iterator[Outcome]:
        are_more = True
        while are_more or self._running or self._later or self._again or self._alone:
            room = self._window() - len(self._running)
            while room > 0 and (one := self._next_again()) is not None:
                self._submit(one)
                room -= 1
            while room > 0 and are_more:
                fit = next(self._fits, None)
                if fit is None:
                    are_more = False
                    break
                outcome = self._begin(fit)
                if outcome is not None:
                    yield outcome
                else:
                    room -= 1
            if not are_more and not (self._running or self._later or self._again) and self._alone:
                self._submit(self._alone.popleft())
            if self._running:
                done, _ = wait(self._running, timeout=_LOOK, return_when=FIRST_COMPLETED)
                for future in done:
                    outcome = self._ended(future)
                    if outcome is not None:
                        yield outcome
            elif self._later:
                self._sleep(min(_LOOK, max(0.0, self._later[0][0] - time.monotonic())))

    def stop(self) -> None:
        """Let what runs write its checkpoints and end."""
        if self._executor is not None:
            self._executor.stop()

    def _window(self) -> int:
        return max(0 if self._executor is None else self._executor.n_slots() + 1, _LEAST_WINDOW)

    def _next_again(self) -> Attempts | None:
        if self._later and self._later[0][0] <= time.monotonic():
            return heapq.heappop(self._later)[2]
        return self._again.popleft() if self._again else None

    def _begin(self, fit: Fit) -> Outcome | None:
        """Submit a fit, or return its outcome where it has one already."""
        try:
            digest, version_tag = self._identify(fit)
            task = fit.task(self._study, self._out, digest, version_tag)
        except Exception as error:  # noqa: BLE001 - whatever a file is, the others go on
            found = failure_of(error)
            self._ledger.note("failed", fit=fit.label, **found)
            return Outcome(fit, "", "failed", found)
        folder = FitFolder(task["runs"], task["key"])
        numbers = folder.metrics()
        if numbers is not None:
            self._ledger.note("found", fit=fit.label, key=task["key"])
            return Outcome(fit, task["key"], "done", numbers, is_new=False)
        failure = folder.failure()
        if failure is not None and failure.get("class") in (DETERMINISTIC, TIMEOUT) and not self._retry_failed:
            self._ledger.note("found failed", fit=fit.label, key=task["key"])
            return Outcome(fit, task["key"], "failed", failure, is_new=False)
        if self._executor is None:
            state, found = ("missing", {"sentence": "not fitted yet"}) if failure is None else ("failed", failure)
            return Outcome(fit, task["key"], state, found, is_new=False)
        self._submit(Attempts(fit, task))
        return None

    def _identify(self, fit: Fit) -> tuple[str, str]:
        """Return digest and version tag of a recording; a server that does not answer is asked again."""
        for attempt in range(MOST_ATTEMPTS[TRANSIENT] - 1):
            try:
                return self._identities.of(fit.recording)
            except Exception as error:  # noqa: BLE001 - sorted by class
                if failure_of(error)["class"] != TRANSIENT:
                    raise
                self._sleep(min(1.0, pause(attempt)))
        return self._identities.of(fit.recording)

    def _submit(self, one: Attempts) -> None:
        assert self._executor is not None
        one.n_begun = FitFolder(one.task["runs"], one.task["key"]).n_attempts()
        self._ledger.note("submitted", fit=one.fit.label, key=one.task["key"])
        self._running[self._executor.submit(one.task)] = one

    def _ended(self, future: Future[dict[str, Any]]) -> Outcome | None:
        """Return the outcome of a fit, or None where it is tried again."""
        one = self._running.pop(future)
        key = one.task["key"]
        folder = FitFolder(one.task["runs"], key)
        try:
            found = future.result()
        except BaseException as error:  # noqa: BLE001 - of the cluster: the worker was lost, or the task cancelled
            if isinstance(error, KeyboardInterrupt):
                raise
            if folder.is_done:
                found = {"state": "done", "numbers": folder.metrics()}
            else:
                found = self._lost(one, folder, error)
        if found["state"] == "done":
            numbers = found.get("numbers") or folder.metrics() or {}
            self._ledger.note("done", fit=one.fit.label, key=key, seconds=found.get("wall_seconds"))
            return Outcome(one.fit, key, "done", numbers)
        kind = found["class"]
        self._ledger.note("attempt failed", fit=one.fit.label, key=key, **_short(found))
        if kind == "innocent":
            self._again.append(one)
            return None
        one.failed[kind] = one.failed.get(kind, 0) + 1
        if one.failed[kind] < MOST_ATTEMPTS.get(kind, 1):
            self._put_back(one, kind)
            return None
        self._ledger.note("failed", fit=one.fit.label, key=key, **_short(found))
        return Outcome(one.fit, key, "failed", found)

    def _lost(self, one: Attempts, folder: FitFolder, error: BaseException) -> dict[str, Any]:
        """Return the failure of a fit whose worker was lost: its own only if it had begun."""
        has_begun = folder.n_attempts() > one.n_begun
        if not has_begun and one.n_innocent < _MOST_INNOCENT:
            one.n_innocent += 1
            return {"state": "failed", "class": "innocent", "error": type(error).__name__, "sentence": str(error)}
        return {
            "state": "failed",
            "class": LOST,
            "error": type(error).__name__,
            "sentence": "the worker of the fit was lost again and again while it ran, as by memory that ends",
        }

    def _put_back(self, one: Attempts, kind: str) -> None:
        """Let a fit be tried again: later, alone, or as soon as there is room."""
        if kind == MEMORY or (kind == LOST and one.failed[kind] > 1):
            self._alone.append(one)
        elif kind == TRANSIENT:
            until = time.monotonic() + pause(one.failed[kind] - 1)
            heapq.heappush(self._later, (until, next(self._number), one))
        else:
            self._again.append(one)


def pause(n_failed: int) -> float:
    """Return for how long to wait after so many failures: longer each time, and not all at the same moment."""
    return min(_MOST_BACK_OFF, _BACK_OFF * 4.0**n_failed) * random.uniform(0.7, 1.3)


def _short(found: dict[str, Any]) -> dict[str, Any]:
    return {name: found[name] for name in ("class", "error", "sentence", "wall_seconds") if name in found}
