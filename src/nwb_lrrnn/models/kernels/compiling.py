"""Compiling takes a minute, once on a machine: whoever waits for it is told why."""

from numba.core import event

from nwb_lrrnn.progress import tell_once


class _FirstOfOurs(event.Listener):
    """Tells, once, that a function of this package is compiled because no cache holds it."""

    has_told = False

    def on_start(self, event):
        dispatcher = (event.data or {}).get("dispatcher")
        module = getattr(getattr(dispatcher, "py_func", None), "__module__", None) or ""
        if module.startswith("nwb_lrrnn.") and not self.has_told:
            self.has_told = True
            tell_once("nwb_lrrnn: compiling what this fit needs; this takes a minute, the first time on a machine only")

    def on_end(self, event):
        pass


LISTENER = _FirstOfOurs()
event.register("numba:compile", LISTENER)
