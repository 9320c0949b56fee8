"""What every segment of one end must keep, whatever its state: TTL, DF, the timestamp clock.

A SYN's TSval may be older than its stamp by the time that its neighbour took to answer; a SYN cookie keeps options in
the lower six bits of its own (cookie_init_timestamp).
"""

from conformance.check.tcp_half import us
from refmodel.packet.segment import Segment
from refmodel.packet.transport import RST, SYN
from refmodel.types import M32

IPDEFTTL = 64  # net.ipv4.ip_default_ttl and net.ipv6 hop_limit
RESOLVING = 3_100  # ms that a SYN may wait for its neighbour behind its timestamp: three solicitations


class WireFacts:
    """The facts of one end so far. `late` us is how much later than its making a segment may be stamped."""

    def __init__(self, late: int, recorded: bool) -> None:
        self.late = late
        self.ttl = IPDEFTTL if recorded else 0
        self.ts: tuple[int, int] | None = None
        self.first = False
        self.last: tuple[int, int] | None = None

    def differs(self, s: Segment) -> str:
        """'' or what is wrong with the segment; learns from it otherwise."""
        if not self.ttl:
            self.ttl = s.ttl
        elif s.ttl != self.ttl:
            return f"TTL {s.ttl}, but {self.ttl} before"
        if not s.df:
            return "DF is not set: Linux sets it while path MTU discovery is on"
        if s.flags & (SYN | RST) == SYN | RST:
            return "SYN and RST in one segment"
        if s.tsval is not None:
            return self._clock(s, s.tsval)
        return ""

    def _clock(self, s: Segment, tsval: int) -> str:
        now = us(s)
        if self.ts is None:
            self.ts, self.first = (now, tsval), s.flags & SYN != 0
            return ""
        at, base = self.ts
        expected = (now - at) // 1000
        seen = (tsval - base) & M32
        error = ((seen - expected + 0x80000000) & M32) - 0x80000000
        drift = (now - at) // 10_000_000
        ahead = RESOLVING if self.first else self.late // 1000
        if not -self.late // 1000 - drift <= error <= ahead + drift:
            return f"TSval {tsval} is {error} ms off this host's timestamp clock"
        self.first = False
        if error > 0:
            self.ts = now, tsval
        return ""
