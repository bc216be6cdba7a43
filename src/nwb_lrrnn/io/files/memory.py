"""How much memory is free, and the error for what would take more of it than anyone expects of a small file."""

from __future__ import annotations

import logging
import os
from pathlib import Path

logger = logging.getLogger(__name__)

_SHARE = 4  # at most one part of so many of what is free is taken without asking
_CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def check_memory(n_bytes: float, what: str, fix: str) -> None:
    """Raise a ValueError where `n_bytes` are more than a quarter of the free memory.

    `what` takes them, as in "bin_size: bins of 0.02 s over 3e+07 s make 1500000000 bins, whose times"; `fix` is what to
    do instead.
    """
    free = free_memory()
    if free is None or n_bytes <= free / _SHARE:
        return
    raise ValueError(
        f"{what} take {_amount(n_bytes)} of memory, of which {_amount(free)} are free, wanted at most a quarter of "
        f"that; {fix}"
    )


def tell_memory(n_bytes: float, what: str) -> None:
    """Log a warning where `n_bytes`, which `what` takes and has to, are more than a quarter of the free memory."""
    free = free_memory()
    if free is not None and n_bytes > free / _SHARE:
        logger.warning("%s take up to %s of memory, of which %s are free", what, _amount(n_bytes), _amount(free))


def free_memory() -> int | None:
    """Return the bytes that this process can still take, None where the system does not tell.

    The least of what the machine, the container and the limit of the process leave.
    """
    found = [amount for amount in (_of_machine(), _of_container(), _of_process()) if amount is not None]
    return max(0, min(found)) if found else None


def _amount(n_bytes: float) -> str:
    """Return a number of bytes in words."""
    return f"{n_bytes / 2**30:.3g} GiB" if n_bytes >= 2**29 else f"{n_bytes / 2**20:.3g} MiB"


def _of_machine() -> int | None:
    """Return what the machine has left, or where it does not tell, what it has."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError, IndexError):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def _of_container() -> int | None:
    """Return what the container has left, None where there is none or it has no limit."""
    for limit, used in _CGROUPS:
        try:
            return int(Path(limit).read_text()) - int(Path(used).read_text())
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return None


def _of_process() -> int | None:
    """Return what the limit on the address space of the process leaves, None where there is none."""
    try:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit == resource.RLIM_INFINITY:
            return None
        return limit - int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except (ImportError, AttributeError, OSError, ValueError):
        return None
