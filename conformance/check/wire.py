"""What every segment of one end must keep, whatever its state: TTL, DF, the timestamp clock.

A SYN's TSval may be older than its stamp by the time that its neighbour took to answer; a SYN cookie keeps options in
the lower six bits of its own (cookie_init_timestamp).
"""

from conformance.check.tcp_half import us
from refmodel.packet.segment import Segment
from refmodel.packet.transport import ACK, PSH, RST, SYN
from refmodel.types import M32, after

IPDEFTTL = 64  # net.ipv4.ip_default_ttl and net.ipv6 hop_limit
TIMESTAMPS = 12  # bytes of every segment that its timestamp takes
RESOLVING = 3_100  # ms that a SYN may wait for its neighbour behind its timestamp: three solicitations


class WireFacts:
    """The facts of one end so far. `late` us is how much later than its making a segment may be stamped."""

    def __init__(self, late: int, recorded: bool) -> None:
        self.late = late
        self.recorded = recorded
        self.ttl = IPDEFTTL if recorded else 0
        self.ip_id = 0
        self.steps = 1
        self.offered = -1
        self.scale: int | None = None
        self.mss = 0
        self.ts: tuple[int, int] | None = None
        self.first = False
        self.last: tuple[int, int] | None = None
        self.stamped = False
        self.end = -1

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
        if not s.flags & (SYN | RST | ACK):
            return "no ACK: Linux leaves it out of a SYN and of an RST alone"
        if s.flags & PSH and not s.len:
            return "PSH on a segment without data"
        why = self._ident(s)
        return why if why or s.tsval is None else self._clock(s, s.tsval)

    def agreed(self, s: Segment, other: "WireFacts | None") -> str:
        """Between ends that both opened: timestamps on every segment if both offered them, no ACK of what was not sent.

        Holds in every state of a socket that took part in the handshake; an RST may come from one that did not.
        """
        if s.flags & RST:
            return ""
        if s.flags & SYN:
            self.stamped, self.end = s.tsval is not None, s.end_seq
            return ""
        if self.end < 0:
            return ""
        if after(s.end_seq, self.end):
            self.end = s.end_seq
        if other is None or other.end < 0:
            return ""
        if s.tsval is None and self.stamped and other.stamped:
            return "no timestamp, though both SYNs had one"
        if s.flags & ACK and after(s.ack_seq, other.end):
            return f"ack {s.ack_seq}, but the peer has sent no more than up to {other.end}"
        return ""

    def window(self, s: Segment, other: "WireFacts | None", news: bool, largest: int) -> str:
        """Until data arrives (`news`) the window stays what the SYN offered, rounded up to the scale.

        `largest` is the window scale that the default buffers give; source tcp_output.c:tcp_select_initial_window.
        """
        if s.flags & SYN:
            if self.recorded and (s.wscale or 0) > largest:
                return f"window scale {s.wscale}, but the default buffers give at most {largest}"
            self.offered, self.scale = s.window, s.wscale
            return ""
        if news or self.offered < 0 or s.flags & RST or other is None or other.offered < 0:
            return ""
        shift = (self.scale or 0) if other.scale is not None else 0
        if s.window << shift >= self.offered + (1 << shift):
            return f"window {s.window << shift} above the {self.offered} of the SYN, though no data came"
        return ""

    def _ident(self, s: Segment) -> str:
        """A socket counts its IPv4 ids, one step a segment on the wire; ids are 0 where no full socket sends.

        Source include/net/ip.h:ip_select_ident_segs. Without a recording a gap may be loss, so it is not judged.
        """
        if s.flags & SYN and s.mss:
            self.mss = s.mss - (TIMESTAMPS if s.tsval is not None else 0)
        if not s.ip_id or not self.recorded:
            return ""
        last, self.ip_id = self.ip_id, s.ip_id
        steps = self.steps
        self.steps = max(-(-s.len // self.mss), 1) if self.mss else 1
        if last and s.ip_id != (last + steps) & 0xFFFF:
            return f"IPv4 id {s.ip_id}, but this socket's next is {(last + steps) & 0xFFFF}"
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
