"""Blocks of a file kept in memory: each is fetched once, whoever asks for it, and neighbours in one request."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from itertools import groupby, takewhile
from typing import Protocol

from nwb_lrrnn.locks import ThreadLock

BLOCK = 512 * 2**10  # bytes
CAPACITY = 64 * 2**20  # bytes
# Where HDF5 wants two blocks close to each other it soon wants those between and around, for its metadata lie in
# clusters. Fetching them along halves the requests of opening a file of 160 MB (11 for 21), for 60 % more bytes.
NEAR = 8  # blocks
_BEFORE, _AFTER = 4, 3  # blocks that are fetched along


class Shelf(Protocol):
    """Where blocks of one file are kept longer than this process lives."""

    def get(self, number: int, size: int) -> bytes | None:
        """Return a block, or None where it is not there."""
        ...

    def put(self, number: int, data: bytes) -> None:
        """Keep a block."""
        ...


class BlockCache:
    """The blocks of one file, the least recently used of them dropped first; any thread may read.

    `read_many` takes (offset, size) pairs and returns their bytes; the shelf is asked before, and given what it
    returns.
    """

    def __init__(
        self, read_many: Callable[[Sequence[tuple[int, int]]], list[bytes]], size: int, shelf: Shelf | None = None
    ):
        self._read_many = read_many
        self._size = size
        self._shelf = shelf
        self._lock = ThreadLock()
        self._kept: OrderedDict[int, bytes] = OrderedDict()
        self._coming: dict[int, Future[bytes]] = {}

    def read(self, offset: int, size: int, *, keep: bool = True) -> bytes:
        """Return bytes of the file, fetching the blocks that are missing; the range lies in the file.

        `keep` says whether fetched blocks stay in memory. After an error of `read_many` nothing of its request is kept.
        """
        if size <= 0:
            return b""
        numbers = range(offset // BLOCK, (offset + size - 1) // BLOCK + 1)
        found = self._blocks(numbers, keep)
        begin = offset - numbers[0] * BLOCK
        if len(numbers) == 1:
            return found[numbers[0]][begin : begin + size]
        parts = [found[number] for number in numbers]
        parts[0] = parts[0][begin:]
        parts[-1] = parts[-1][: offset + size - numbers[-1] * BLOCK]
        return b"".join(parts)

    def held(self, offset: int, size: int) -> bytes | None:
        """Return bytes of the file if all of them are in memory, else None; nothing is fetched."""
        numbers = range(offset // BLOCK, (offset + size - 1) // BLOCK + 1)
        with self._lock:
            if not all(number in self._kept for number in numbers):
                return None
        return self.read(offset, size)

    def fill(self, data: bytes) -> None:
        """Keep the beginning of the file, fetched by other means: whole blocks, or up to the end of the file."""
        whole = [data[begin : begin + BLOCK] for begin in range(0, len(data), BLOCK)]
        for number, block in enumerate(whole):
            if len(block) == self._length(number):
                self._keep(number, block)
                if self._shelf is not None:
                    self._shelf.put(number, block)

    def _length(self, number: int) -> int:
        """Return the bytes of a block: the last one may be short."""
        return min(BLOCK, self._size - number * BLOCK)

    def _blocks(self, numbers: range, keep: bool) -> dict[int, bytes]:
        """Return blocks by number: kept ones, those that other threads are fetching, and the rest fetched now."""
        found: dict[int, bytes] = {}
        while missing := [number for number in numbers if number not in found]:
            others: dict[int, Future[bytes]] = {}
            mine: dict[int, Future[bytes]] = {}
            with self._lock:
                for number in missing:
                    if number in self._kept:
                        self._kept.move_to_end(number)
                        found[number] = self._kept[number]
                    elif number in self._coming:
                        others[number] = self._coming[number]
                    else:
                        mine[number] = self._coming[number] = Future()
                for number in self._around(mine) if keep else ():
                    mine[number] = self._coming[number] = Future()
            if mine:
                found |= self._fetch(dict(sorted(mine.items())), keep)
            for number, future in others.items():
                try:
                    found[number] = future.result()
                except CancelledError:
                    continue  # the other thread was interrupted: its blocks are missing again
        return found

    def _around(self, mine: dict[int, Future[bytes]]) -> list[int]:
        """Return the missing blocks next to those about to be fetched, where others near them were fetched before."""
        if not mine:
            return []
        first, last, end = min(mine), max(mine), -(-self._size // BLOCK)
        near = (*range(max(first - NEAR, 0), first), *range(last + 1, min(last + NEAR + 1, end)))
        if not any(number in self._kept for number in near):
            return []
        before, after = range(first - 1, max(first - 1 - _BEFORE, -1), -1), range(last + 1, min(last + 1 + _AFTER, end))
        return [*takewhile(self._is_new, before), *takewhile(self._is_new, after)]

    def _is_new(self, number: int) -> bool:
        """Return whether a block is neither in memory nor on its way."""
        return number not in self._kept and number not in self._coming

    def _fetch(self, mine: dict[int, Future[bytes]], keep: bool) -> dict[int, bytes]:
        """Fetch blocks that no other thread fetches, and hand them to those that wait for them."""
        try:
            found = self._shelved(mine)
            missing = [number for number in mine if number not in found]
            for block, number in zip(self._requested(missing), missing, strict=True):
                found[number] = block
                if self._shelf is not None:
                    self._shelf.put(number, block)
            for number, block in found.items():
                if keep:
                    self._keep(number, block)
                mine[number].set_result(block)
            return found
        except (OSError, ValueError) as error:
            for future in mine.values():
                future.set_exception(error)
            raise
        finally:
            with self._lock:
                for number, future in mine.items():
                    future.cancel()  # does nothing to a future that has its result
                    del self._coming[number]

    def _shelved(self, numbers: Sequence[int] | dict[int, Future[bytes]]) -> dict[int, bytes]:
        """Return those blocks that the shelf has."""
        if self._shelf is None:
            return {}
        blocks = {number: self._shelf.get(number, self._length(number)) for number in numbers}
        return {number: block for number, block in blocks.items() if block is not None}

    def _requested(self, numbers: Sequence[int]) -> list[bytes]:
        """Return blocks from the server: neighbours in one request, several requests side by side."""
        runs = [[number for _, number in run] for _, run in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])]
        wanted = [(run[0] * BLOCK, sum(self._length(number) for number in run)) for run in runs]
        fetched = self._read_many(wanted) if wanted else []
        return [
            data[place * BLOCK : place * BLOCK + self._length(number)]
            for run, data in zip(runs, fetched, strict=True)
            for place, number in enumerate(run)
        ]

    def _keep(self, number: int, block: bytes) -> None:
        """Put a block into memory and drop what was not used for longest."""
        with self._lock:
            self._kept[number] = block
            self._kept.move_to_end(number)
            while len(self._kept) * BLOCK > CAPACITY:
                self._kept.popitem(last=False)
