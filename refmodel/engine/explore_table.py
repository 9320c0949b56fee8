"""Open-addressing tables of 64-bit keys in numpy: a set of states costs 13 to 27 bytes a state, not Python's 60 to 100.

Both tables answer whole arrays at once. Keys are below 2**63; the all-ones word marks a free slot.
"""

from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

FREE: Final = np.uint64(0xFFFFFFFFFFFFFFFF)
MULTIPLIER: Final = np.uint64(0x9E3779B97F4A7C15)
FULLEST: Final = 0.6
MISSING: Final = -1
N = TypeVar("N", np.uint64, np.int64)


def _home(keys: Words, bits: int) -> Ints:
    h: Words = keys * MULTIPLIER
    h ^= h >> np.uint64(29)
    h *= MULTIPLIER
    return (h >> np.uint64(64 - bits)).astype(np.int64)


def distinct(values: NDArray[N]) -> NDArray[N]:
    """Each value once, in ascending order; sorting is several times faster here than numpy.unique's hashing."""
    values = np.sort(values)
    keep = np.ones(len(values), np.bool_)
    np.not_equal(values[1:], values[:-1], out=keep[1:])
    return values[keep]


class KeySet:
    """A set of keys."""

    def __init__(self, bits: int = 16) -> None:
        self.bits = bits
        self.size = 0
        self.slots: Words = np.full(1 << bits, FREE, np.uint64)

    def missing(self, keys: Words) -> Words:
        """The keys that are not in the set, each once, in ascending order."""
        slots, last = self.slots, len(self.slots) - 1
        pos = _home(keys, self.bits)
        absent: list[Words] = []
        while len(keys):
            there = slots[pos]
            free = there == FREE
            absent.append(keys[free])
            go = ~free & (there != keys)
            keys, pos = keys[go], (pos[go] + 1) & last
        return distinct(np.concatenate(absent)) if absent else keys

    def add(self, keys: Words) -> None:
        """Adds distinct keys that are not in the set yet."""
        self.size += len(keys)
        if self.size > FULLEST * len(self.slots):
            self._grow()
        self._place(keys)

    def _grow(self) -> None:
        old = self.slots
        while self.size > FULLEST * (1 << self.bits):
            self.bits += 1
        self.slots = np.full(1 << self.bits, FREE, np.uint64)
        for i in range(0, len(old), 1 << 20):
            part = old[i : i + (1 << 20)]
            self._place(part[part != FREE])

    def _place(self, keys: Words) -> None:
        slots, last = self.slots, len(self.slots) - 1
        pos = _home(keys, self.bits)
        while len(keys):
            free = slots[pos] == FREE
            slots[pos[free]] = keys[free]
            lost = slots[pos] != keys
            keys, pos = keys[lost], (pos[lost] + 1) & last


class KeyMap:
    """A map from keys to non-negative integers. `find` may run in one thread while another adds under a lock."""

    def __init__(self, bits: int = 12) -> None:
        self.size = 0
        self._tables = self._empty(bits)

    @staticmethod
    def _empty(bits: int) -> tuple[Words, Ints, int]:
        return np.full(1 << bits, FREE, np.uint64), np.full(1 << bits, MISSING, np.int64), bits

    def find(self, keys: Words) -> Ints:
        """The value of each key, or MISSING."""
        slots, values, bits = self._tables
        found = np.full(len(keys), MISSING, np.int64)
        which = np.arange(len(keys))
        pos = _home(keys, bits)
        while len(which):
            there = slots[pos]
            hit = there == keys
            found[which[hit]] = values[pos[hit]]
            go = ~hit & (there != FREE)
            which, keys, pos = which[go], keys[go], (pos[go] + 1) & (len(slots) - 1)
        return found

    def add(self, keys: Words, given: Ints) -> None:
        """Adds distinct keys that are not in the map yet."""
        self.size += len(keys)
        slots, values, bits = self._tables
        if self.size > FULLEST * len(slots):
            while self.size > FULLEST * (1 << bits):
                bits += 1
            bigger = self._empty(bits)
            used = slots != FREE
            self._place(bigger, slots[used], values[used])
            self._place(bigger, keys, given)
            self._tables = bigger
        else:
            self._place(self._tables, keys, given)

    @staticmethod
    def _place(tables: tuple[Words, Ints, int], keys: Words, given: Ints) -> None:
        slots, values, bits = tables
        pos = _home(keys, bits)
        while len(keys):
            free = slots[pos] == FREE
            slots[pos[free]] = keys[free]
            won = slots[pos] == keys
            values[pos[won]] = given[won]
            keys, given, pos = keys[~won], given[~won], (pos[~won] + 1) & (len(slots) - 1)


class Column:
    """A growing array of integers; `view` is what has been filled."""

    def __init__(self, size: int = 1024, fill: int = 0) -> None:
        self.fill = fill
        self.used = 0
        self.data: Ints = np.full(size, fill, np.int64)

    def extend(self, values: list[int]) -> None:
        """Appends values."""
        self.reserve(self.used + len(values))
        self.data[self.used : self.used + len(values)] = values
        self.used += len(values)

    def reserve(self, size: int) -> None:
        """Makes room for `size` entries, unset ones holding `fill`."""
        if size > len(self.data):
            bigger = np.full(max(size, 2 * len(self.data)), self.fill, np.int64)
            bigger[: len(self.data)] = self.data
            self.data = bigger
