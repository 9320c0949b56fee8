"""One honest stream of what a tap saw of a connection.

The law: a tap is no witness of more than it saw. It may see a frame at two devices of one host, and then writes it
twice; two processors may stamp a question behind its answer; it may have kept too little of a SYN to tell its options.
What a tap did is told from the frames alone: a copy has the bytes of its original within `TWICE` (`ROUTED` behind a
router), an answer that came first is followed by its question within `SWAPPED`.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from refmodel.packet.segment import Segment
from refmodel.packet.transport import ACK, FIN, RST, SYN
from refmodel.types import H32, M32

TWICE: Final = 200_000  # ns between two sights of one frame, at two devices
ROUTED: Final = 10_000_000  # ns: the same where a router lies between, as the TTL tells
SWAPPED: Final = 60_000  # ns: stamps of two processors may be so far out of order
SKEWED: Final = 200_000  # ns: the same where some were seen to be
REMEMBERED: Final = 256  # frames among which a copy is looked for
LACKS: Final = "the capture lacks frames"
NO_CLOCK: Final = "the capture's stamps are no clock's"
NOT_USUAL: Final = SYN | RST

# What a frame alone shows, whatever the tap did not see.
BY_ITSELF: Final = frozenset({
    "flags-combination", "reserved-bits", "urgent-pointer", "ack-number-without-ack", "syn-options", "options-layout",
    "retransmission-content",
})  # fmt: skip
# What an answer breaks that was stamped before its question.
ANSWERS: Final = frozenset({"echo-is-ts-recent", "ack-without-cause", "reset-without-cause"})

Key = tuple[int, int, int | None, int, int]


class View:
    """What the tap saw so far. `copies`: the frames that repeat another byte for byte, with that frame's number.

    `skewed`: an answer was stamped before its question.
    """

    __slots__ = ("_held", "_other", "_recent", "_tops", "_who", "copies", "skewed")

    def __init__(self) -> None:
        self.copies: dict[int, int] = {}
        self.skewed = False
        self._recent: dict[Key, Segment] = {}
        self._who: tuple[bytes, int] | None = None  # who sent the first frame
        self._other = 1  # the other end's place in `_tops`: 0 where an end talks to itself
        self._tops: list[int | None] = [None, None]  # what each end has sent so far
        self._held: list[Segment] = []  # an answer whose question may come yet, and what came behind it

    def passes(self, s: Segment) -> bool:
        """`takes` of a frame that alone can be followed, as usual; False: not decided, and nothing changed."""
        flags = s.flags
        who = self._who
        if self._held or flags & NOT_USUAL or not flags & ACK or who is None:
            return False
        other = self._other
        k = 0 if s.source == who[1] and s.saddr == who[0] else other
        tops = self._tops
        top, heard = tops[k], tops[other - k]
        if top is None or heard is None:
            return False
        d = s.ack_seq - heard
        if d and (0 < d < H32 or d < -H32):
            return False
        if s.sack and self.skewed:
            return False
        recent = self._recent
        key = (s.seq, s.ack_seq, s.ip_id, s.source, flags)
        if key in recent:
            return False
        if len(recent) >= REMEMBERED:
            recent.clear()
        recent[key] = s
        end = s.seq + s.len + (flags & FIN)
        if end != top:
            end &= M32
            d = end - top
            if 0 < d < H32 or d < -H32:
                tops[k] = end
        return True

    def takes(self, s: Segment) -> Sequence[Segment]:
        """The frames that can be followed now that the tap has seen `s`, in their order."""
        if self._who is None:
            self._who = (s.saddr, s.source)
            self._other = int(self._who != (s.daddr, s.dest))
        key = (s.seq, s.ack_seq, s.ip_id, s.source, s.flags)
        recent = self._recent
        p = recent.get(key)
        if p is not None and s.number != p.number and same(p, s) and s.time - p.time <= most(p, s):
            self.copies[s.number] = self.copies.get(p.number, p.number)
            if len(self.copies) > REMEMBERED:
                del self.copies[next(iter(self.copies))]
        elif len(recent) >= REMEMBERED:
            recent.clear()
        recent[key] = s
        if not self._held:
            if s.flags & ACK and self._answers_more(s):
                self._held.append(s)
                return ()
            self._sends(s)
            return (s,)
        first = self._held[0]
        if s.time - first.time > self.most:
            return [*self.rest(), *self.takes(s)]
        self._held.append(s)
        if s.saddr == first.daddr and s.source == first.dest and not s.flags & RST:
            self._sends(s)
            if not self._answers_more(first):
                self.skewed = True
                self._held.pop()
                return [s.changed(time=first.time), *self.rest()]
        return ()

    @property
    def most(self) -> int:
        """How far (ns) stamps of two processors may be out of order."""
        return SKEWED if self.skewed else SWAPPED

    def rest(self) -> list[Segment]:
        """The frames that still wait for what they answer; it didn't come."""
        held, self._held = self._held, []
        for s in held:
            self._sends(s)
        return held

    def _place(self, s: Segment) -> int:
        """Which of the two ends sent a frame."""
        return 0 if (s.saddr, s.source) == self._who else self._other

    def _sends(self, s: Segment) -> None:
        if s.flags & RST:
            return
        k = self._place(s)
        end = s.end_seq
        top = self._tops[k]
        if top is None or 0 < (end - top) & M32 < H32:
            self._tops[k] = end

    def is_new(self, s: Segment) -> bool:
        """Whether a SYN lies behind all that its sender has sent: no copy or repetition of the connection's own."""
        top = self._tops[self._place(s)]
        return top is not None and 0 < (s.end_seq - top) & M32 < H32

    def _answers_more(self, s: Segment) -> bool:
        """Whether a segment acknowledges what the tap has not seen yet; selectively too where stamps are skewed."""
        k = self._place(s)
        top = self._tops[self._other - k]
        if top is None:  # its SYN-ACK may come yet
            return not s.flags & (SYN | RST) and self._tops[k] is not None and not s.seg_len
        if 0 < (s.ack_seq - top) & M32 < H32:
            return True
        return self.skewed and bool(s.sack) and any(0 < (end - top) & M32 < H32 for _, end in s.sack)


def same(p: Segment, s: Segment) -> bool:
    """Whether two frames are one datagram seen twice: what a router or a device does to it on the way aside.

    Two devices of one host may write the sights in either order.
    """
    return (
        p.saddr == s.saddr
        and p.ip_id == s.ip_id
        and p.len == s.len
        and abs(p.ttl - s.ttl) <= 1
        and p.data[p.l4 : p.payload_at + p.len] == s.data[s.l4 : s.payload_at + s.len]  # Ethernet may pad one of them
    )


def most(p: Segment, s: Segment) -> int:
    """How long (ns) behind another sight a frame may be seen again."""
    return TWICE if p.ttl == s.ttl else ROUTED


def each_twice(early: Sequence[Segment], copies: Iterable[int]) -> bool:
    """Whether the tap sees each frame of a connection as often, and more than once: its first frames tell.

    The last of them may have their copies behind them.
    """
    times: list[list[Segment]] = []
    by_number: dict[int, list[Segment]] = {}
    known = set(copies)
    for s in early:
        group = next((g for g in reversed(times) if same(g[0], s)), None) if s.number in known else None
        if group is None:
            group = []
            times.append(group)
        group.append(s)
        by_number[s.number] = group
    if not times or not known:
        return False
    end = early[-1].time
    whole = [g for g in times if end - g[0].time > TWICE or len(g) >= len(times[0])]
    late = [g for g in times if g not in whole]
    return len(times[0]) > 1 and all(len(g) == len(times[0]) for g in whole) and len(late) < max(len(whole), 2)


def in_order(early: Sequence[Segment]) -> list[Segment]:
    """The first frames with a SYN before the SYN-ACK that answers it, where two processors stamped them."""
    for k, s in enumerate(early):
        if s.flags & (SYN | ACK | RST) == SYN:
            for j in range(k):
                x = early[j]
                if (
                    x.flags & (SYN | ACK) == SYN | ACK
                    and (x.daddr, x.dest) == (s.saddr, s.source)
                    and x.ack_seq == s.end_seq
                    and s.time - x.time <= SWAPPED
                ):
                    return [*early[:j], s.changed(time=x.time), *early[j:k], *early[k + 1 :]]
            break
    return list(early)


def cut(s: Segment) -> bool:
    """Whether too little of a SYN was kept to know its options: of the connection then nothing is agreed on."""
    return s.truncated and s.flags & SYN != 0
