"""What an end has sent and was not acknowledged, as its retransmit queue holds it (the law: one `Sent` an skb).

Sequence numbers are unwrapped: they only grow, and do not wrap at 2**32. A range that the tap did not see, but which
must have been sent, stands in the queue as `unseen`.
"""

from bisect import bisect_right
from operator import attrgetter
from typing import Final

from refmodel.packet.segment import Segment

S: Final = 1  # TCPCB_SACKED_ACKED
R: Final = 2  # TCPCB_SACKED_RETRANS
L: Final = 4  # TCPCB_LOST
EVER: Final = 0x80  # TCPCB_EVER_RETRANS

_SEQ: Final = attrgetter("seq")


class Sent:
    """A range [seq, end) as it left last, at `time` us by the tap's clock and `tsval` by its own.

    Its payload as captured begins at `source.data[at]`, `mss` is what each of its `segs` segments holds at most, `fin`
    1 if its last number is the FIN's. `first` is when it left for the first time.
    """

    __slots__ = ("at", "end", "fin", "first", "mss", "sacked", "segs", "seq", "source", "time", "tsval", "unseen")

    def __init__(self, seq: int, end: int, time: int, mss: int, segs: int) -> None:
        self.seq, self.end, self.time, self.first, self.mss, self.segs = seq, end, time, time, mss, segs
        self.sacked = self.fin = self.at = self.tsval = 0
        self.source: Segment | None = None
        self.unseen = False

    def copy(self) -> "Sent":
        """A copy of its own."""
        new = Sent(self.seq, self.end, self.time, self.mss, self.segs)
        new.first, new.sacked, new.fin, new.at = self.first, self.sacked, self.fin, self.at
        new.tsval, new.source, new.unseen = self.tsval, self.source, self.unseen
        return new


def segments(length: int, mss: int) -> int:
    """How many segments `length` bytes make; source net/ipv4/tcp_output.c:tcp_set_skb_tso_segs."""
    return 1 if length <= mss else -(-length // mss)


class Board:
    """The queue in order, with the kernel's four counts of segments: `out`, `sacked`, `lost`, `retrans`."""

    __slots__ = ("lost", "out", "q", "retrans", "sacked")

    def __init__(self) -> None:
        self.q: list[Sent] = []
        self.out = self.sacked = self.lost = self.retrans = 0

    def copy(self) -> "Board":
        """A copy that shares no entry."""
        new = Board()
        new.q = [e.copy() for e in self.q]
        new.out, new.sacked, new.lost, new.retrans = self.out, self.sacked, self.lost, self.retrans
        return new

    def append(self, e: Sent) -> None:
        """New data behind all others."""
        self.q.append(e)
        self.out += e.segs

    def index(self, seq: int) -> int:
        """The entry that holds `seq`, or -1."""
        i = bisect_right(self.q, seq, key=_SEQ) - 1
        return i if i >= 0 and seq < self.q[i].end else -1

    def recount(self, e: Sent, segs: int) -> None:
        """The entry makes another number of segments; source net/ipv4/tcp_output.c:tcp_adjust_pcount."""
        d = segs - e.segs
        e.segs = segs
        self.out += d
        if e.sacked & S:
            self.sacked += d
        if e.sacked & R:
            self.retrans += d
        if e.sacked & L:
            self.lost += d

    def split(self, i: int, at: int) -> None:
        """Cuts entry `i` at sequence number `at`; source net/ipv4/tcp_output.c:tcp_fragment."""
        e = self.q[i]
        b = e.copy()
        b.seq = at
        b.at += at - e.seq
        self.recount(e, segments(at - e.seq, e.mss))
        e.end, e.fin = at, 0
        b.segs = 0
        self.q.insert(i + 1, b)
        self.recount(b, segments(b.end - b.fin - b.seq, b.mss))

    def forget(self, e: Sent) -> None:
        """The entry is acknowledged: it counts no more."""
        n, bits = e.segs, e.sacked
        self.out -= n
        if bits & S:
            self.sacked -= n
        if bits & R:
            self.retrans -= n
        if bits & L:
            self.lost -= n

    def drop(self, n: int) -> None:
        """Forgets the first `n` entries, which were all acknowledged."""
        del self.q[:n]
        if not self.q:
            self.out = self.sacked = self.lost = self.retrans = 0

    def trim(self, una: int) -> int:
        """Of a super-segment at the head the front is acknowledged: how many segments that is.

        Source net/ipv4/tcp_input.c:tcp_tso_acked.
        """
        e = self.q[0]
        before = e.segs
        e.at += una - e.seq
        e.seq = una
        self.recount(e, segments(e.end - e.fin - una, e.mss))
        return before - e.segs
