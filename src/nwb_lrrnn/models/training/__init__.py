"""The one training loop, and what it stands on: splits, checkpoints, devices, threads, and how a fit ends."""
