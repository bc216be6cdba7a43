"""A recording in the hands of other libraries: xarray's trees, pynwb, pynapple."""
