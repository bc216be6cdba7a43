"""Slices of HDF5 datasets read by byte ranges of their chunks, side by side and beside HDF5's lock."""
