"""Fused numba kernels and their hand-written adjoints."""

import numba

from nwb_lrrnn.caches import find_numba_cache
from nwb_lrrnn.models.kernels import compiling as compiling  # tells when the first of them is compiled

find_numba_cache(numba)
