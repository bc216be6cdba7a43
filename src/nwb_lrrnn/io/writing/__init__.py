"""From xarray to NWB: result files, results within a recording, and whole recordings."""
