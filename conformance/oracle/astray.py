"""What a tap far from an end can say of it: frames are lost, duplicated and overtake each other behind the tap.

The law: an end far away acknowledges, echoes and reports only what was on its way to it, at the segments' borders.
Which of it had arrived when, only its own words tell; so they are believed as far as they are possible.
"""

from collections import deque
from collections.abc import Iterable
from typing import Final

from conformance.oracle.sack import Range
from refmodel.packet.segment import Segment
from refmodel.types import H32, M32

MOST: Final = 8_192  # segments that are remembered
RECENT: Final = 512
TCP_PAWS_WINDOW: Final = 1
LEAST_PIECE: Final = 488  # bytes: what a segment holds by the least path MTU of 552
LEAST_MSS: Final = 500  # bytes: what is longer may not yet be cut into the segments that arrive


class Astray:
    """The segments with text that were on their way and are not acknowledged, as unwrapped ranges.

    `inputs`: how many could still be answered by an acknowledgment without data. `top`: where the furthest ended.
    `stamps`: the timestamps that were on their way, in the order of the tap. `recent`: the last segments, as
    ranges with their timestamps and when the tap saw them. `middle`: there may have been others before the first.
    """

    __slots__ = ("inputs", "middle", "recent", "stamps", "top", "under_way")

    def __init__(self) -> None:
        self.under_way: deque[Range] = deque(maxlen=MOST)
        self.stamps: deque[int] = deque(maxlen=MOST)
        self.recent: deque[tuple[int, int, int | None, int]] = deque(maxlen=RECENT)
        self.inputs = 0
        self.top = -1
        self.middle = True

    def copy(self) -> "Astray":
        """A copy to go on from."""
        new = Astray()
        new.under_way, new.inputs, new.top = self.under_way.copy(), self.inputs, self.top
        new.middle = self.middle
        new.stamps, new.recent = self.stamps.copy(), self.recent.copy()
        return new

    def comes(self, seq: int, end: int, pieces: int, tsval: int | None, at: int) -> None:
        """The tap saw a segment at `at` us, which may come in `pieces`."""
        self.inputs += pieces
        self.stamped(tsval)
        self.recent.append((seq, end, tsval, at))
        if seq == end:
            return
        self.under_way.append((seq, end))
        self.top = max(self.top, end)

    def asked(self, ack: int, edge: int, echo: int | None, since: int) -> bool:
        """Takes a segment, seen since `since` us, that its end did not look into (`is_refused`); False without one."""
        for k, (seq, end, tsval, at) in enumerate(self.recent):
            if at >= since and is_refused(seq, end, tsval, ack, edge, echo):
                del self.recent[k]
                return True
        return False

    def forgets(self, tsval: int) -> bool:
        """Whether segments with a timestamp may be among those that are no longer remembered."""
        recent = self.recent
        if not recent or len(recent) < RECENT:
            return False
        oldest = recent[0][2]
        return oldest is None or not 0 < (tsval - oldest) & M32 < H32

    def stamped(self, tsval: int | None) -> None:
        """The tap saw a timestamp on its way."""
        if tsval is not None and (not self.stamps or self.stamps[-1] != tsval):
            self.stamps.append(tsval)

    def acknowledged(self, ack: int) -> None:
        """What lies below `ack` is through."""
        waiting = self.under_way
        while waiting and waiting[0][1] <= ack:
            waiting.popleft()

    def borders(self, at: int, pending: list[Range], mss: int) -> bool:
        """Whether a segment begins or ends at `at`, or one that is to be cut on its way holds it.

        `mss`: the longest that arrives in one piece, 0 if it isn't known.
        """
        return _borders(at, self.under_way, mss) or _borders(at, pending, mss)

    def holds(self, block: Range, ack: int, pending: list[Range], mss: int) -> bool:
        """Whether a SACK block is made of segments that were on their way; below `ack` it tells of what came twice."""
        low, high = block
        if high <= ack:
            return self.was_border(low, pending, mss) and self.was_border(high, pending, mss)
        return self.borders(high, pending, mss) and (low < ack or self.borders(low, pending, mss))

    def covers(self, start: int, end: int, pending: list[Range]) -> bool:
        """Whether the tap saw every number from `start` to `end` on its way, as far as it is remembered."""
        at = start
        for low, high in sorted((*self.under_way, *pending)):
            if low > at:
                break
            at = max(at, high)
        return at >= end or len(self.under_way) == self.under_way.maxlen

    def was_border(self, at: int, pending: list[Range], mss: int) -> bool:
        """`borders` of what may be acknowledged, as far as it is remembered."""
        recent = self.recent
        if not recent or (at < recent[0][0] and (self.middle or len(recent) == recent.maxlen)):
            return True
        return _borders(at, [(low, high) for low, high, _, _ in recent], mss) or _borders(at, pending, mss)


def _borders(at: int, ranges: Iterable[Range], mss: int) -> bool:
    longest = mss or LEAST_MSS
    return any(at in (low, high) or (high - low > longest and low < at < high and _cuts(at - low, longest))
               for low, high in ranges)  # fmt: skip


def _cuts(offset: int, longest: int) -> bool:
    """Whether pieces of one length, of LEAST_PIECE to `longest` bytes, end at an offset of a segment that is to be cut.

    Source: net/core/skbuff.c:skb_segment, net/ipv4/tcp_output.c:tcp_set_skb_tso_segs: only the last one is shorter.
    """
    return any(offset % k == 0 for k in range(-(-offset // longest), max(offset // LEAST_PIECE, 1) + 1))


def is_refused(seq: int, end: int, tsval: int | None, ack: int, edge: int, echo: int | None) -> bool:
    """Whether an end answers a segment without a word of its text: it is empty and old, or beyond the window `edge`.

    Or its timestamp is old where `echo` has come. Of text below `ack` a DSACK would tell.
    Source: net/ipv4/tcp_input.c:tcp_sequence, tcp_paws_discard, tcp_send_dupack.
    """
    if seq < ack:
        return seq == end
    late = echo is not None and tsval is not None and TCP_PAWS_WINDOW < (echo - tsval) & M32 < H32
    return late or end > edge


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
