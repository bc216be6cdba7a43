"""Fused numba kernels and their hand-written adjoints."""

from nwb_lrrnn.models.kernels import compiling as compiling  # tells when the first of them is compiled
