"""What a tap far from an end can say of it: frames are lost, duplicated and overtake each other behind the tap.

The law: an end far away acknowledges, echoes and reports only what was on its way to it, at the segments' borders.
Which of it had arrived when, only its own words tell; so they are believed as far as they are possible.
"""

from collections import deque
from typing import Final

from conformance.oracle.sack import Range
from refmodel.packet.segment import Segment

MOST: Final = 8_192  # segments that are remembered
LEAST_MSS: Final = 500  # bytes: what is longer may not yet be cut into the segments that arrive


class Astray:
    """The segments with text that were on their way and are not acknowledged, as unwrapped ranges.

    `inputs`: how many could still be answered by an acknowledgment without data. `top`: where the furthest ended.
    """

    __slots__ = ("inputs", "top", "under_way")

    def __init__(self) -> None:
        self.under_way: deque[Range] = deque(maxlen=MOST)
        self.inputs = 0
        self.top = -1

    def copy(self) -> "Astray":
        """A copy to go on from."""
        new = Astray()
        new.under_way, new.inputs, new.top = self.under_way.copy(), self.inputs, self.top
        return new

    def comes(self, seq: int, end: int, pieces: int) -> None:
        """The tap saw a segment, which may come in `pieces`."""
        self.inputs += pieces
        if seq == end:
            return
        self.under_way.append((seq, end))
        self.top = max(self.top, end)

    def acknowledged(self, ack: int) -> None:
        """What lies below `ack` is through."""
        waiting = self.under_way
        while waiting and waiting[0][1] <= ack:
            waiting.popleft()

    def borders(self, at: int, pending: list[Range], mss: int) -> bool:
        """Whether a segment begins or ends at `at`, or one that is to be cut on its way holds it.

        `mss`: the longest that arrives in one piece, 0 if it isn't known.
        """
        longest = mss or LEAST_MSS
        for ranges in (self.under_way, pending):
            for low, high in ranges:
                if at in (low, high) or (high - low > longest and low < at < high):
                    return True
        return False

    def holds(self, block: Range, ack: int, pending: list[Range], mss: int) -> bool:
        """Whether a SACK block is made of segments that were on their way; below `ack` it tells of what came twice."""
        low, high = block
        if high <= ack:
            return True
        return self.borders(high, pending, mss) and (low < ack or self.borders(low, pending, mss))


def behind(s: Segment, last: Segment | None) -> bool:
    """Whether `s` may have left before `last`, by its IPv4 id or else by its timestamp."""
    if last is None:
        return False
    if s.ip_id and last.ip_id:
        return 0 <= (last.ip_id - s.ip_id) & 0xFFFF < 0x4000
    if s.tsval is not None and last.tsval is not None:
        return (last.tsval - s.tsval) & 0xFFFFFFFF < 0x80000000
    return True


def overtaken(s: Segment, last: Segment) -> bool:
    """Whether `s` left before `last`, and not with it."""
    if not behind(s, last):
        return False
    if s.ip_id and last.ip_id:
        return s.ip_id != last.ip_id
    return s.tsval != last.tsval or (last.seq - s.seq) & 0xFFFFFFFF in range(1, 0x80000000)
