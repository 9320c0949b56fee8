"""When a packet of the model and one of the kernel's are the same, and which time the kernel wrote into its own."""

from collections.abc import Sequence
from typing import Final

from refmodel.ip.const import IPPROTO_ICMP
from refmodel.packet.wire import ones_sum

MARGIN: Final = 4  # ticks that are kept off the edge of a limit


def alike(model: tuple[str, bytes, str], kernel: tuple[str, bytes], span: range = range(0)) -> bool:
    """A packet of the model and one of the kernel's are the same but for what is free.

    `span` are the milliseconds in which the kernel made it: a time in the model's may be a later one in the kernel's.
    """
    name, ours, by = model
    device, theirs = kernel
    if name != device or len(ours) != len(theirs):
        return False
    if ours == theirs:
        return True
    hlen = (theirs[0] & 15) * 4
    if ones_sum(theirs[:hlen]) != 0xFFFF:
        return False
    drawn = by == "icmp_push_reply" and not ours[6] & 0x40
    mine = bytearray(ours)
    mine[10:12] = theirs[10:12]
    if drawn:
        mine[4:6] = theirs[4:6]
    later = any(_times(mine, theirs, ms, span) for ms in span)
    if later and theirs[9] == IPPROTO_ICMP and ones_sum(theirs[hlen:]) == 0xFFFF:
        mine[hlen + 2 : hlen + 4] = theirs[hlen + 2 : hlen + 4]
    return (drawn or len(span) > 1) and bytes(mine) == theirs


def _times(mine: bytearray, theirs: bytes, ms: int, span: range) -> bool:
    """Takes over each of the kernel's times where the model wrote `ms`; whether there was one."""
    word, at, found = ms.to_bytes(4, "big"), 0, False
    while (at := mine.find(word, at)) >= 0:
        if int.from_bytes(theirs[at : at + 4], "big") in span and theirs[at : at + 4] != word:
            mine[at : at + 4] = theirs[at : at + 4]
            found = True
        at += 4
    return found


def clock_span(before: float, after: float) -> range:
    """The milliseconds of the day from `before` to `after` (s since the epoch)."""
    first, last = (int(t * 1000) % 86_400_000 for t in (before, after))
    return range(first, last + 1)


def clock(before: float, after: float, came: Sequence[tuple[str, bytes]]) -> int:
    """The millisecond of the day that the kernel wrote into what it sent; that of sending if it wrote none."""
    span = clock_span(before, after)
    for ms in span:
        if any(ms.to_bytes(4, "big") in data for _, data in came):
            return ms
    return span[0] if span else 0


def off_multiple(ticks: int, of: int) -> int:
    """How far the ticks are from a multiple."""
    return (ticks + of // 2) % of - of // 2
