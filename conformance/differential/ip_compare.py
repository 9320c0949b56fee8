"""When a packet of the model and one of the kernel's are the same, and which time the kernel wrote into its own."""

from collections.abc import Sequence
from typing import Final

from refmodel.packet.wire import ones_sum

MARGIN: Final = 4  # ticks that are kept off the edge of a limit


def alike(model: tuple[str, bytes, str], kernel: tuple[str, bytes]) -> bool:
    """A packet of the model and one of the kernel's are the same but for what is free."""
    name, ours, by = model
    device, theirs = kernel
    if name != device or len(ours) != len(theirs):
        return False
    if ours == theirs:
        return True
    hlen = (theirs[0] & 15) * 4
    if by != "icmp_push_reply" or ours[6] & 0x40 or ones_sum(theirs[:hlen]) != 0xFFFF:
        return False
    return ours[:4] + ours[6:10] + ours[12:] == theirs[:4] + theirs[6:10] + theirs[12:]


def clock(before: float, after: float, came: Sequence[tuple[str, bytes]]) -> int:
    """The millisecond of the day that the kernel wrote into what it sent; that of sending if it wrote none."""
    first, last = (int(t * 1000) % 86_400_000 for t in (before, after))
    for ms in range(first, last + 1):
        if any(ms.to_bytes(4, "big") in data for _, data in came):
            return ms
    return first


def off_multiple(ticks: int, of: int) -> int:
    """How far the ticks are from a multiple."""
    return (ticks + of // 2) % of - of // 2
