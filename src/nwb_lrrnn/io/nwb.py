"""The door to NWB files: `open_nwb` and the `Recording` it returns."""

from .recording import Recording, open_nwb

__all__ = ["Recording", "open_nwb"]
