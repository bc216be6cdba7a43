"""Low-rank recurrent networks for neural recordings, from an NWB file to its dynamics and back."""
