"""Which components belong to one group: the partition with the least sum of scores of its parts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from itertools import combinations
from math import comb, factorial, prod

Part = tuple[int, ...]

_MOST_PARTS = 600  # to score one by one, about 0.3 ms each
_MOST_PARTITIONS = 500_000  # for recursion, which meets most of them only as parts of others


def best_partitions(n: int, sizes: Sequence[int], score: Callable[[Part], float], n_best: int) -> list[list[Part]]:
    """Return the `n_best` partitions of range(n) into parts of `sizes` with the least sums of `score`, best first.

    Exact while partitions are few; otherwise one partition, grown from scores of pairs and improved by swaps.

    Parameters
    ----------
    n : int
        Number of members.
    sizes : sequence of int
        Size of each part, of sum `n`; the parts come back in this order.
    score : callable
        Takes a part, a sorted tuple of members, and returns a number; called once per part.
    n_best : int
        How many partitions to return at most.

    Examples
    --------
    >>> best_partitions(4, (2, 2), lambda part: abs(part[0] - part[1]), 1)
    [[(0, 1), (2, 3)]]
    """
    score = cache(score)
    if max(sizes) == 1:
        return [[(i,) for i in range(n)]]
    n_parts = sum(comb(n, size) for size in set(sizes))
    n_partitions = factorial(n) // prod(factorial(k) for k in (*sizes, *Counter(sizes).values()))
    if n_parts <= _MOST_PARTS and n_partitions <= _MOST_PARTITIONS:
        return [_in_order(parts, sizes) for parts in _exact(n, sizes, score, n_best)]
    return [_in_order(_swapped(_grown(n, sizes, score), score), sizes)]


def _in_order(parts: Sequence[Part], sizes: Sequence[int]) -> list[Part]:
    """Return the parts in the order of `sizes`."""
    rest = sorted(parts)
    return [rest.pop(next(i for i, part in enumerate(rest) if len(part) == size)) for size in sizes]


def _exact(n: int, sizes: Sequence[int], score: Callable[[Part], float], n_best: int) -> list[list[Part]]:
    """Return the best partitions by recursion over the members left, the bits of an integer."""
    # parts by size and least member: the least member left picks its part, so no partition is met twice
    menu: dict[tuple[int, int], list[tuple[int, float, Part]]] = {}
    for size in set(sizes):
        for part in combinations(range(n), size):
            menu.setdefault((size, part[0]), []).append((sum(1 << i for i in part), score(part), part))

    @cache
    def best(left: int, sizes: tuple[int, ...]) -> list[tuple[float, tuple[Part, ...]]]:
        if not left:
            return [(0.0, ())]
        least = (left & -left).bit_length() - 1
        found = []
        for size in set(sizes):
            place = sizes.index(size)
            rest = sizes[:place] + sizes[place + 1 :]
            for bits, value, part in menu.get((size, least), ()):
                if not bits & ~left:
                    found += [(value + v, (part, *parts)) for v, parts in best(left & ~bits, rest)]
        found.sort()
        return found[:n_best]

    return [list(parts) for _, parts in best((1 << n) - 1, tuple(sorted(sizes)))]


def _grown(n: int, sizes: Sequence[int], score: Callable[[Part], float]) -> list[Part]:
    """Return a partition whose parts start from the closest pair left and take what is closest to them."""
    near = {}
    for i, j in combinations(range(n), 2):
        near[i, j] = near[j, i] = score((i,)) + score((j,)) - score((i, j))
    left, parts = set(range(n)), []
    for size in sorted(sizes, reverse=True):
        part = [min(left)] if size == 1 else list(max(combinations(sorted(left), 2), key=lambda pair: near[pair]))
        while len(part) < size:
            part.append(max(sorted(left - set(part)), key=lambda i: sum(near[i, j] for j in part)))
        left -= set(part)
        parts.append(tuple(sorted(part)))
    return parts


def _swapped(parts: list[Part], score: Callable[[Part], float], n_passes: int = 5) -> list[Part]:
    """Return the partition after swaps of two members, as long as one lowers the sum."""
    for _ in range(n_passes):
        before = list(parts)
        for a, b in combinations(range(len(parts)), 2):
            for i in parts[a]:
                for j in parts[b]:
                    if i not in parts[a] or j not in parts[b]:
                        continue  # swapped a moment ago
                    first = tuple(sorted({*parts[a], j} - {i}))
                    second = tuple(sorted({*parts[b], i} - {j}))
                    if score(first) + score(second) < score(parts[a]) + score(parts[b]) - 1e-12:
                        parts[a], parts[b] = first, second
        if parts == before:
            break
    return parts
