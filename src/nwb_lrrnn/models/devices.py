"""Which torch device a name means."""

from __future__ import annotations

import logging

import torch

logger = logging.getLogger("nwb_lrrnn")


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
