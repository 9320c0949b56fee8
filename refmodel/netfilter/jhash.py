"""Bob Jenkins' hash of 32-bit words as the kernel has it; source include/linux/jhash.h."""

from collections.abc import Sequence
from typing import Final

JHASH_INITVAL: Final = 0xDEADBEEF
M32: Final = 0xFFFFFFFF


def rol32(word: int, shift: int) -> int:
    """Rotates 32 bits to the left."""
    return (word << shift | word >> 32 - shift) & M32


def _mix(a: int, b: int, c: int) -> tuple[int, int, int]:
    for shifts in ((4, 6, 8), (16, 19, 4)):
        a = (a - c & M32) ^ rol32(c, shifts[0])
        c = c + b & M32
        b = (b - a & M32) ^ rol32(a, shifts[1])
        a = a + c & M32
        c = (c - b & M32) ^ rol32(b, shifts[2])
        b = b + a & M32
    return a, b, c


def _final(a: int, b: int, c: int) -> int:
    c = (c ^ b) - rol32(b, 14) & M32
    a = (a ^ c) - rol32(c, 11) & M32
    b = (b ^ a) - rol32(a, 25) & M32
    c = (c ^ b) - rol32(b, 16) & M32
    a = (a ^ c) - rol32(c, 4) & M32
    b = (b ^ a) - rol32(a, 14) & M32
    return (c ^ b) - rol32(b, 24) & M32


def jhash2(words: Sequence[int], initval: int) -> int:
    """The hash of 32-bit words; source include/linux/jhash.h:jhash2."""
    a = b = c = JHASH_INITVAL + (len(words) << 2) + initval & M32
    at = 0
    while len(words) - at > 3:
        a, b, c = _mix(a + words[at] & M32, b + words[at + 1] & M32, c + words[at + 2] & M32)
        at += 3
    rest = [*words[at:], 0, 0, 0][:3]
    if at == len(words):
        return c
    return _final(a + rest[0] & M32, b + rest[1] & M32, c + rest[2] & M32)
