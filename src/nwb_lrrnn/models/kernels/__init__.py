"""Fused numba kernels and their hand-written adjoints."""

import numba

from nwb_lrrnn.caches import find_numba_cache

find_numba_cache(numba)
