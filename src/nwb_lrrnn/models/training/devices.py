"""Which torch device a name means, how many threads torch takes there, and where the fused kernels stand in for it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from nwb_lrrnn.locks import ThreadLock

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

logger = logging.getLogger(__name__)

N_CHUNKS = 16  # gradients are added up within a chunk of windows, then over chunks, always in this order


def resolve(name: str) -> torch.device:
    """Return the device called `name`: "cpu", "cuda", "cuda:1", ..., or "auto" (CUDA where there is one)."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device: got {name!r}, wanted 'cpu', 'cuda', 'cuda:0', ... or 'auto'") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device: got {name!r}, but torch sees no CUDA device; use device='cpu' or 'auto'")
    if device.type == "cpu" and torch.cuda.is_available():
        logger.info("device='cpu' while a CUDA device idles; device='auto' would use it")
    return device


def use_kernels(tensor: Tensor) -> bool:
    """Return whether the fused kernels serve this tensor: whatever lies on the CPU (they compute in float64)."""
    return tensor.device.type == "cpu"


def arrays(tensors: Iterable[Tensor]) -> tuple[np.ndarray, ...]:
    """Return CPU tensors as contiguous float64 arrays, detached."""
    return tuple(t.detach().to(torch.float64).contiguous().numpy() for t in tensors)


@lru_cache(maxsize=1)
def _libraries(n_modules: int) -> ThreadpoolController:
    """Return what sets the threads of BLAS; the libraries are looked for (3 ms) only where modules have been added."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


_inside = ThreadLock()
_n_inside = 0
_before: tuple[int, Any] = (1, None)


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep torch and BLAS to one thread inside the block, and give the caller's number back after it.

    What they compute beside our kernels are batches of R x R matrices; their threads would only wait for each other,
    and on a busy machine slow a fit tenfold. The kernels bring threads of their own. Blocks of several threads may
    overlap: the first sets the numbers, the last gives BLAS its own back.
    """
    global _n_inside, _before
    with _inside:
        if _n_inside == 0:
            _before = (torch.get_num_threads(), _libraries(len(sys.modules)).limit(limits=1))
        _n_inside += 1
        torch.set_num_threads(1)
    try:
        yield
    finally:
        with _inside:
            _n_inside -= 1
            torch.set_num_threads(_before[0])  # torch keeps a number for every thread
            if _n_inside == 0:
                _before[1].restore_original_limits()
