"""Copies and sums of arrays by loops, for what `x[:] = y` and `x[k] += y` say elsewhere.

numba compiles the text of the error for unequal shapes, strings and all, into every kernel that assigns one array to a
part of another: up to half of what it takes to compile it.
"""

from numba import njit


@njit(cache=True, nogil=True, error_model="numpy")
def copy(source, out):
    """Fill the first entries of out with source (n,)."""
    for i in range(source.shape[0]):
        out[i] = source[i]


@njit(cache=True, nogil=True, error_model="numpy")
def copy_rows(source, out):
    """Fill the first rows of out with source (n, m)."""
    for i in range(source.shape[0]):
        for j in range(source.shape[1]):
            out[i, j] = source[i, j]


@njit(cache=True, nogil=True, error_model="numpy")
def add(source, out):
    """Add source (n,) to the first entries of out."""
    for i in range(source.shape[0]):
        out[i] += source[i]


@njit(cache=True, nogil=True, error_model="numpy")
def add_rows(source, out):
    """Add source (n, m) to the first rows of out."""
    for i in range(source.shape[0]):
        for j in range(source.shape[1]):
            out[i, j] += source[i, j]
