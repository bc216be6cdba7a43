"""A local file that acts as a remote one, for tests of what is fetched."""

import threading
import time
from contextlib import contextmanager

from nwb_lrrnn.io.files.source import Source, resolve


class Remote(Source):
    """A local file that acts as a remote one, and notes what is asked of it; each request takes `delay` s."""

    def __init__(self, path, delay=0.0):
        local = resolve(path)
        super().__init__(f"https://host.org{local.uri}", local.size, local.version_tag)
        noted = {"fetched": [], "opened": 0, "now": 0, "most": 0, "lock": threading.Lock()}
        noted |= {"local": local, "delay": delay}
        self.__dict__.update(noted)

    @contextmanager
    def open(self):
        self.__dict__["opened"] += 1
        with self.local.open() as file:
            yield file

    def fetch(self, offset, size):
        with self.lock:
            self.fetched.append((offset, size))
            self.__dict__["now"] += 1
            self.__dict__["most"] = max(self.most, self.now)
        time.sleep(self.delay)
        with self.lock:
            self.__dict__["now"] -= 1
        return self.local.fetch(offset, size)

    @property
    def n_bytes(self):
        return sum(size for _, size in self.fetched)
