"""The IPv4 ids of one end: in which order its frames left, and how many segments the tap did not see.

The law: a connected socket numbers what it transmits, one step a segment on the wire, a super-frame as many as it is
cut into (include/net/ip.h:ip_select_ident_segs). What leaves without a full socket (SYN-ACKs, RSTs of segments that
found no socket, ACKs of TIME_WAIT) has the id 0. Ids that something rewrote do not count up; so they are believed only
after several exact steps.
"""

from collections import deque
from typing import Final

from refmodel.packet.segment import Segment

TRUST: Final = 4  # exact steps before ids are believed
REMEMBERED: Final = 64  # frames among which a duplicate is looked for
OVERTAKES: Final = 4_096  # ids: how far behind another a frame may be that was overtaken
NEARBY: Final = 2_048  # ids: a frame so near to its place may have been overtaken
AROUND: Final = 64  # ids: so far from the first and the last that were seen, others of the socket may be
HOLES: Final = 8
QUEUED: Final = 2_000_000  # us: a queue on the host itself may hold frames back (netem)
SWAPPED: Final = 300  # us: stamps of two CPUs, taken in another order than the frames left in
SEGMENT: Final = 488  # bytes: what a segment of a longer super-frame holds at least, by the least path MTU of 552


def _mark(s: Segment) -> tuple[int | None, int, int, int, int, int | None]:
    """What a frame and its duplicate have in common."""
    return s.ip_id, s.seq, s.ack_seq, s.len, s.flags, s.tsval


class Ids:
    """The ids so far. `gap`: of the frame that was seen last, how many segments left before it that the tap lacks."""

    __slots__ = (
        "exact", "gap", "high", "holes", "kind", "last", "low", "odd", "patience", "recent", "single", "size", "span",
        "strange", "sure", "time",
    )  # fmt: skip

    def __init__(self) -> None:
        self.last: int | None = None
        self.low = self.high = 1  # how many ids the last frame took, at least and at most
        self.exact = self.strange = 0
        self.single = self.size = 0  # bytes of the longest frame that was one segment, and of the last frame
        self.span = 0  # ids from the first to the last
        self.sure = False  # the stack is known to count them
        self.patience = QUEUED  # us: how much later a frame that was overtaken may come
        self.holes: list[tuple[int, int, int, int]] = []  # passed over: first, count, when, by which
        self.gap: int | None = None
        self.kind = ""  # of the frame seen last: "", "overtaken", "duplicate", "zero", "outlier" (the one before it)
        # A frame out of line: the id before it, how far behind that the next is at least and at most, its own step.
        self.odd: tuple[int, int, int, int] | None = None
        self.time = 0
        self.recent: deque[Segment] = deque(maxlen=REMEMBERED)

    def copy(self) -> "Ids":
        """A copy that shares nothing that changes."""
        new = Ids()
        new.last, new.low, new.high, new.exact, new.strange = self.last, self.low, self.high, self.exact, self.strange
        new.gap, new.kind, new.odd, new.time = self.gap, self.kind, self.odd, self.time
        new.recent = deque(self.recent, REMEMBERED)
        new.single, new.size = self.single, self.size
        new.span = self.span
        new.holes, new.sure, new.patience = list(self.holes), self.sure, self.patience
        return new

    @property
    def trusted(self) -> bool:
        """Whether the ids count this end's segments."""
        return self.sure or (self.exact >= TRUST and self.exact > 4 * self.strange)

    def see(self, s: Segment, mss: int) -> int:
        """Takes the next frame; `mss` is the most that one segment holds (0: not known). Its step, 0 if in line.

        A negative step says how far behind it is, a positive one how many segments are missing before it.
        """
        i = s.ip_id
        self.kind = ""
        self.gap = None
        if i is None:
            return 0
        last = self.last
        n = s.len
        if n <= SEGMENT or n <= self.single:
            low = high = 1
        else:
            low, high = -(-n // mss) if mss else 1, -(-n // SEGMENT)
        if i == 0 and (not n if last is None else (0 - last) & 0xFFFF > self.high):
            self.kind = "zero"
            return 0
        at = s.time // 1000
        if last is None:
            self.last, self.low, self.high, self.time, self.size = i, low, high, at, s.len
            return 0
        step = (i - last) & 0xFFFF
        if self.low <= step <= self.high:
            self.exact += 1
            self.span += step
            self.gap = 0
            if step == 1 and self.size > self.single:
                self.single = self.size
            self.odd = None
            self.recent.append(s)
            self.last, self.low, self.high, self.time, self.size = i, low, high, at, s.len
            return 0
        return self._strange(s, i, step, low, high, at)

    def _strange(self, s: Segment, i: int, step: int, low: int, high: int, at: int) -> int:
        last = self.last or 0
        behind = (-step) & 0xFFFF
        if _mark(s) in map(_mark, self.recent):
            self.kind = "duplicate"
            return -behind
        odd, self.odd = self.odd, (last, self.low + low, self.high + high, -behind if behind < 0x8000 else step)
        self.recent.append(s)
        strange = min(NEARBY, self.span + AROUND)
        if odd is not None and odd[1] <= (i - odd[0]) & 0xFFFF <= odd[2] and abs(odd[3]) > strange:
            # The frame before this one took its step of the count, but said otherwise.
            self.kind = "outlier"
            self.odd = None
        elif 0 < behind <= OVERTAKES:
            self.kind = "overtaken"
            self._fills(i, low, at)
            return -behind
        else:
            self.strange += step > OVERTAKES
        self.gap = step - self.high if step < 0x8000 else None
        if self.gap:
            self.holes.append(((last + self.high) & 0xFFFF, self.gap, at, s.number))
            if len(self.holes) > HOLES:
                del self.holes[0]
        self.last, self.low, self.high, self.time, self.size = i, low, high, at, s.len
        return self.gap or 0

    def _fills(self, i: int, n: int, at: int) -> None:
        """A frame that was overtaken takes its place; `gap` is 0 if that was free a moment ago, else None."""
        for k, (first, count, when, number) in enumerate(self.holes):
            into = (i - first) & 0xFFFF
            if into < count and at - when <= self.patience:
                self.gap = 0
                left = [(first, into), ((i + n) & 0xFFFF, count - into - n)]
                self.holes[k : k + 1] = [(f, c, when, number) for f, c in left if c > 0]
                return
