"""Descriptor rings: positions, distances and who owns a slot.

A ring is a circle of `count` slots. Positions run from 0 to count - 1 and move forward only. Five positions part the
transmit circle, four the receive circle, always in the same order, so that each slot has exactly one owner.
"""

from typing import Annotated, Final

from refmodel.rule import pure
from refmodel.types import Range

COUNT_MIN: Final = 64
COUNT_MAX: Final = 32768

Index = Annotated[int, Range(0, COUNT_MAX - 1)]
Slots = Annotated[int, Range(0, COUNT_MAX)]
Count = Annotated[int, Range(COUNT_MIN, COUNT_MAX)]


@pure
def dist(a: int, b: int, count: int) -> int:
    """How many slots lie from position `a` up to and without position `b`, in [0, count)."""
    return b - a if b >= a else b - a + count


@pure
def advance(a: int, n: int, count: int) -> int:
    """Position `a` moved forward by `n` <= count slots."""
    return a + n if a + n < count else a + n - count


@pure
def unused(next_to_clean: int, next_to_use: int, count: int) -> int:
    """Slots that may still be filled: one always stays empty, else a full ring would look like an empty one."""
    return count - 1 - dist(next_to_clean, next_to_use, count)
