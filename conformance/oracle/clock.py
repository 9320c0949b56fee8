"""The timestamp clock of one end.

The law: every segment of a socket carries the time of its transmission, in ms since 4.13 and in jiffies before, plus an
offset that stays. A later transmission never carries less (RFC 7323 5.4); an end never runs ahead of the time that
passed, but for what waited in a queue on the way to the tap.
"""

from typing import Final

from refmodel.packet.segment import Segment

WAITS: Final = 4_000  # ms: how long a frame may wait between its making and a tap on its host: three solicitations
NETWORK: Final = 60_000  # ms: the same on the way to a tap elsewhere
REORDERED: Final = 3_000  # ms by which a network lets frames overtake each other
SWAPPED: Final = 300  # us between frames whose stamps two CPUs took
MICROSECONDS: Final = 1_000_000


class Clock:
    """The clock so far. `rate` in ticks a second: an upper bound until `sure`."""

    __slots__ = ("at", "first", "loose", "rate", "sure", "top", "ts")

    def __init__(self) -> None:
        self.first: tuple[int, int] | None = None  # us, ts: where the clock was least behind the tap
        self.at = 0
        self.ts = 0  # the highest TSval
        self.top = 0  # when it was seen
        self.loose = False  # the highest TSval is of a time-wait socket, whose frames have no place among the ids
        self.rate = 1_000
        self.sure = False

    def copy(self) -> "Clock":
        """A copy."""
        new = Clock()
        new.first, new.at, new.ts, new.top = self.first, self.at, self.ts, self.top
        new.rate, new.sure, new.loose = self.rate, self.sure, self.loose
        return new

    def back(self, s: Segment) -> int:
        """By how many ticks the TSval is below one that was sent before; 0 if it is not."""
        behind = (self.ts - (s.tsval or 0)) & 0xFFFFFFFF
        return behind if self.first is not None and 0 < behind < 0x80000000 else 0

    def takes(self, s: Segment, near: bool) -> int:
        """Learns from a frame that is not behind; how many ms it is ahead of what can be, 0 if it is not."""
        tsval = s.tsval or 0
        now = s.time // 1000
        if self.first is None:
            self.first = now, tsval
            self.ts, self.top, self.at = tsval, now, now
            return 0
        t0, ts0 = self.first
        if now < self.at - MICROSECONDS:  # the capture's own clock was set back
            self.first = now, tsval
            self.ts, self.top, self.at, self.sure = tsval, now, now, False
            return 0
        passed = now - t0
        seen = (tsval - ts0) & 0xFFFFFFFF
        if seen >= 0x80000000:
            seen = 0
        self.ts, self.top, self.at = tsval, now, now
        ahead = seen * 1_000 // self.rate - passed // 1_000
        if ahead > 0:
            if ahead > (WAITS if near else NETWORK) + passed // 1_000_000:
                if not self.sure and self.rate == 1_000 and passed * 9 // 10 <= seen <= passed * 11 // 10 + 50_000:
                    self.rate = MICROSECONDS  # a route with the feature tcp_usec_ts, since 6.7
                    return 0
                return ahead
            self.first = now, tsval
        elif passed > 500_000 and seen * 1_000 // self.rate * 10 > passed // 1_000 * 9:
            self.sure = True
        return 0
