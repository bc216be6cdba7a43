"""Fused numba kernels and their hand-written adjoints."""
