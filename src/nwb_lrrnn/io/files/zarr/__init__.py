"""Zarr stores, read as if they were HDF5 files."""
