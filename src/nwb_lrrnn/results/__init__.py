"""A fitted model and what it found to an NWB file, and back to tables or to the model."""

from nwb_lrrnn.results.store import load_model, read_results, write_results

__all__ = ["load_model", "read_results", "write_results"]
