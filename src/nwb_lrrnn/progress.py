"""How far a fit or a simulation is: one bar in a terminal or a notebook, elsewhere lines in the log."""

from __future__ import annotations

import logging
import sys
import time
import warnings
from typing import Any

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """The epochs of one fit, whatever stages they fall into, or other units of work, used as a context.

    The bar fills once: it ends full where the fit ends, be that long before `most`. It stays in a notebook, where it
    says how long the fit took.
    """

    def __init__(self, most: int, label: str, unit: str = "epoch"):
        self.most, self.label, self.unit = most, label, unit
        self.done = 0
        self._said = time.monotonic()
        self._bar: Any = None

    def __enter__(self) -> Progress:
        bar = _bar_for_this_place()
        if bar is not None:
            self._bar = bar(total=self.most, desc=self.label, unit=self.unit, leave=_is_notebook())
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        if self._bar is None:
            if kind is None:
                self._say("ended after {} " + self.unit + "s")
            return
        if kind is None:
            self._bar.total = max(self.done, 1)
            self._bar.update(self._bar.total - self._bar.n)
            self._bar.refresh()
        self._bar.close()

    def advance(self, n_epochs: int, what: str = "", value: float | None = None) -> None:
        """Count epochs that are done; say what is being trained, and its value in nats per bin."""
        self.done += n_epochs
        told = "" if value is None else f"{value:.4f} nats/bin"
        if self._bar is not None:
            self._bar.set_description(self.label + what, refresh=False)
            self._bar.set_postfix_str(told, refresh=False)
            self._bar.update(n_epochs)
        elif time.monotonic() - self._said >= SECONDS_BETWEEN_LINES:
            self._say(self.unit + " {} of at most " + str(self.most), what, told)

    def _say(self, text: str, what: str = "", told: str = "") -> None:
        line = f"{self.label}{what}: {text.format(self.done)}{', ' if told else ''}{told}"
        logger.info("%s %s", time.strftime("%H:%M:%S"), line)
        self._said = time.monotonic()


def tell_once(text: str) -> None:
    """Say a sentence where somebody looks on, else at INFO in the log."""
    bar = _bar_for_this_place()
    if bar is None:
        logger.info(text)
    else:
        bar.write(text, file=sys.stderr)


def _bar_for_this_place() -> Any:
    """Return the class of bars that can be seen here, None where none can."""
    if not _is_notebook() and not getattr(sys.stderr, "isatty", bool)():
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a notebook without ipywidgets gets a bar of text, which will do
        from tqdm.auto import tqdm
    return tqdm


def _is_notebook() -> bool:
    """Whether a kernel of Jupyter runs this, whose output is no terminal and is seen all the same."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None
