"""A capture laid out for mutation: its segments, who sent them, and what had been said before each of them.

Everything here is read off the frames alone, in the order of the file; no rule of the specification is asked.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from conformance.check.setup import Setup, at_tap, tap_of
from conformance.frames import Frame
from conformance.mutate_edit import OPT_TIMESTAMP, Edit
from refmodel.packet.segment import Segment, segment
from refmodel.packet.transport import ACK, RST, SYN
from refmodel.types import H32, M32

Way = tuple[bytes, int, bytes, int, int]  # from, to, and the tap that saw it
MS: Final = 1_000_000  # ns
LEAVING: Final = ("output", "egress", "qdisc")  # where a recorder drops or delays what leaves a host


class Fact(Struct):
    """What stood when the segment at index `k` of the trace was captured.

    `nxt` is the highest sequence number that its sender had sent, `una` the highest that the peer had acknowledged,
    `edge` the highest right edge that the peer had offered; None before there was one. `again`: all of its text had
    been sent before. `acks`: how many bytes it acknowledges that had not been. `before` and `behind` are the indices of
    the connection's frames next to it, `mine_before`, `mine_behind`, `theirs_before`, `theirs_behind` those of one
    sender; -1: none.
    """

    k: int
    s: Segment
    way: Way
    nxt: int | None = None
    una: int | None = None
    edge: int | None = None
    again: bool = False
    before: int = -1
    behind: int = -1
    mine_before: int = -1
    mine_behind: int = -1
    theirs_before: int = -1
    theirs_behind: int = -1
    acks: int = 0

    @property
    def back(self) -> Way:
        """The other direction."""
        return back_of(self.way)

    @property
    def pure_ack(self) -> bool:
        """An acknowledgment and nothing else."""
        return not self.s.len and self.s.flags & 0x17 == ACK


def back_of(way: Way) -> Way:
    """The other direction of a connection, as the same tap saw it."""
    return way[2], way[3], way[0], way[1], way[4]


def ahead(a: int, b: int | None) -> int:
    """How far sequence number `a` is ahead of `b` (negative: behind); 0 if there is no `b`."""
    if b is None:
        return 0
    d = (a - b) & M32
    return d if d < H32 else d - (1 << 32)


class Trace:
    """A capture's frames with the facts of its TCP segments; `mine` are the indices of hosts that are held to Linux.

    Where several taps saw a connection, each saw one of its own: facts know nothing of what other taps saw.
    """

    def __init__(self, frames: Sequence[Frame], setup: Setup) -> None:
        self.frames = tuple(frames)
        self.setup = setup
        self.facts: dict[int, Fact] = {}
        self.ways: dict[Way, list[int]] = {}
        self.syns: dict[Way, Segment] = {}
        self.near: dict[int, frozenset[bytes]] = {}  # by tap: the addresses of the host that it was on
        self.linux = frozenset(a for h in setup.hosts if h.linux for a in h.addresses)
        self._read()
        self.mine = [k for k, f in self.facts.items() if self.is_held(f.s.saddr)]

    def _read(self) -> None:
        nxt: dict[Way, int] = {}
        acked: dict[Way, int] = {}  # by the direction of the acknowledgment
        edge: dict[Way, int] = {}
        last: dict[Way, int] = {}
        for k, f in enumerate(self.frames):
            s = segment(f.number, f.time, f.data, f.linktype, f.orig_len)
            if s is None or s.truncated:
                continue
            tap = tap_of(f.interface, f.linktype, f.data)
            way = s.saddr, s.source, s.daddr, s.dest, tap
            back = back_of(way)
            if tap not in self.near:
                seen = at_tap(self.setup, tap)  # a router's addresses stand for hosts behind it, too
                name = "" if seen.extra.get("vantage", {}).get("kind") == "wire" else seen.near
                self.near[tap] = frozenset(a for h in self.setup.hosts if h.name == name for a in h.addresses)
            if s.flags & (SYN | ACK) == SYN and way in self.syns and self.syns[way].seq != s.seq:
                for d in (nxt, acked, edge, last):
                    d.pop(way, None)
                    d.pop(back, None)
                self.syns.pop(back, None)
            if s.flags & SYN:
                self.syns[way] = s
            fact = Fact(k, s, way, nxt.get(way), acked.get(back), edge.get(back))
            fact.again = bool(s.seg_len) and fact.nxt is not None and ahead(s.end_seq, fact.nxt) <= 0
            fact.acks = ahead(s.ack_seq, acked.get(way)) if s.flags & ACK else 0
            fact.mine_before, fact.theirs_before = last.get(way, -1), last.get(back, -1)
            fact.before = max(fact.mine_before, fact.theirs_before)
            if fact.before >= 0:
                self.facts[fact.before].behind = k
            for j in (fact.mine_before, *self.ways.get(back, [])[-64:]):
                if j < 0:
                    continue
                other = self.facts[j]
                if other.way == way and other.mine_behind < 0:
                    other.mine_behind = k
                elif other.way == back and other.theirs_behind < 0:
                    other.theirs_behind = k
            self.facts[k] = fact
            self.ways.setdefault(way, []).append(k)
            last[way] = k
            if s.seg_len and (way not in nxt or ahead(s.end_seq, nxt[way]) > 0):
                nxt[way] = s.end_seq
            if s.flags & ACK and not s.flags & RST:
                if way not in acked or ahead(s.ack_seq, acked[way]) > 0:
                    acked[way] = s.ack_seq
                right = (s.ack_seq + (s.window << (0 if s.flags & SYN else self.scale(way)))) & M32
                if way not in edge or ahead(right, edge[way]) > 0:
                    edge[way] = right

    def scale(self, way: Way) -> int:
        """How far the windows of one direction are shifted: both SYNs must have said so."""
        mine, theirs = self.syns.get(way), self.syns.get(back_of(way))
        if mine is None or theirs is None or mine.wscale is None or theirs.wscale is None:
            return 0
        return min(mine.wscale, 14)

    def is_held(self, address: bytes) -> bool:
        """The host is held to Linux: frames of others prove nothing."""
        return not self.setup.hosts or address in self.linux

    def is_near(self, fact: Fact) -> bool:
        """The tap was on the host that sent it."""
        return fact.s.saddr in self.near[fact.way[4]]

    def is_far(self, fact: Fact) -> bool:
        """The tap was on the other host."""
        return fact.s.daddr in self.near[fact.way[4]]

    def leaves_whole(self, fact: Fact, ways: Sequence[str] = LEAVING) -> bool:
        """The tap was on the host that sent it, and the recorder knows of nothing there that loses or delays frames.

        Or of nothing in some `ways`: "qdisc" may change their order, the others only drop.
        """
        host = self.setup.host_of(fact.s.saddr)
        drops = self.setup.extra.get("drops") or {}
        ways = () if host is None else tuple(f"{host.name}.{w}" for w in ways)
        return self.is_near(fact) and not any(n.startswith(ways) for n in drops)

    def follows(self, fact: Fact) -> bool:
        """The ids say that nothing left between the frame before it of the same sender and it."""
        if fact.mine_before < 0:
            return False
        before = self.facts[fact.mine_before]
        if not before.s.ip_id or not fact.s.ip_id:
            return False
        return (fact.s.ip_id - before.s.ip_id) & 0xFFFF == self.packets(before)

    def in_order(self, fact: Fact) -> bool:
        """Its ids, or else its timestamps, say that it left its sender behind the one before it."""
        if fact.mine_before < 0:
            return True
        a, b = self.facts[fact.mine_before].s, fact.s
        if a.ip_id and b.ip_id:
            return 0 < (b.ip_id - a.ip_id) & 0xFFFF < 0x8000
        return a.tsval is None or b.tsval is None or ahead(b.tsval, a.tsval) >= 0

    def packets(self, fact: Fact) -> int:
        """How many segments, each with an id of its own, a frame is on the wire: a super-frame is cut by the MSS."""
        s = fact.s
        mine, theirs = self.syns.get(fact.way), self.syns.get(fact.back)
        mss = min(x.mss or 536 for x in (mine, theirs) if x is not None) if mine or theirs else 0
        unit = mss - (12 if s.tsval is not None else 0)
        return -(-s.len // unit) if s.len and unit > 0 else 1

    def both_sack(self, way: Way) -> bool:
        """Both SYNs permitted SACK."""
        mine, theirs = self.syns.get(way), self.syns.get(back_of(way))
        return bool(mine and theirs and mine.sack_perm and theirs.sack_perm)

    def later(self, fact: Fact, mine: bool) -> Iterable[Fact]:
        """The frames of the same connection behind it, of its sender or of the peer, up to the next SYN."""
        for k in self.ways.get(fact.way if mine else fact.back, ()):
            if k > fact.k:
                f = self.facts[k]
                if f.s.flags & SYN and not fact.s.flags & SYN:
                    return
                yield f

    def earlier(self, fact: Fact, mine: bool) -> list[Fact]:
        """The frames of the same addresses and ports before it, of its sender or of the peer."""
        return [self.facts[k] for k in self.ways.get(fact.way if mine else fact.back, ()) if k < fact.k]

    def empty_under_way(self, fact: Fact, ns: int) -> bool:
        """Whether an empty segment below what the frame acknowledges passed its tap in the time before.

        One that comes late is answered by an acknowledgment that says nothing new (tcp_validate_incoming).
        """
        since = fact.s.time - ns
        return any(
            not x.s.seg_len and x.s.time > since and ahead(x.s.seq, fact.s.ack_seq) < 0
            for x in self.earlier(fact, False)
        )

    # Changed copies

    def edit(self, k: int) -> Edit:
        """The edit of the segment at index `k`."""
        return Edit(self.frames[k], self.facts[k].s)


def numbered(frames: Iterable[Frame]) -> tuple[Frame, ...]:
    """Frames numbered from 1 as they stand."""
    return tuple(replace(f, number=n) for n, f in enumerate(frames, 1))


def edited(f: Frame, what: Callable[[Edit], None]) -> Frame:
    """A frame with its TCP segment changed; raises ValueError if it has none."""
    s = segment(f.number, f.time, f.data, f.linktype, f.orig_len)
    if s is None:
        raise ValueError(f"frame {f.number} is no TCP segment")
    e = Edit(f, s)
    what(e)
    return e.frame()


def with_ids(t: Trace, frames: list[Frame], way: Way, behind: int, by: int) -> None:
    """Moves the IPv4 ids of a socket's frames behind index `behind` (of the trace) on by `by`, in `frames`."""
    for k in t.ways.get(way, ()):
        if k > behind and t.facts[k].s.ip_id:
            frames[k] = edited(frames[k], lambda e: e.ip_id(by))


def restamped(t: Trace, frames: list[Frame], by: dict[int, int]) -> None:
    """Moves the TSvals of frames (index: ms) in `frames`, and every later echo of a value that only they had."""
    new: dict[tuple[Way, int], int] = {}
    for k, ms in by.items():
        fact = t.facts.get(k)
        if fact is not None and fact.s.tsval is not None and ms:
            new[fact.way, fact.s.tsval] = ms
    for way in {w for w, _ in new}:
        for k in t.ways[way]:
            tsval = t.facts[k].s.tsval
            if k not in by and tsval is not None:
                new.pop((way, tsval), None)
    first = min(by, default=0)
    for k, fact in t.facts.items():
        if k < first:
            continue
        s = fact.s
        ms = by.get(k, 0) if s.tsval is not None else 0
        echo = new.get((fact.back, s.tsecr), 0) if s.tsecr is not None and s.flags & ACK else 0
        if ms or echo:
            frames[k] = edited(frames[k], lambda e, ms=ms, echo=echo: stamp(e, ms, echo))  # type: ignore[misc]


def stamp(e: Edit, value: int, echo: int) -> None:
    """Adds to TSval and TSecr."""
    at = e.option(OPT_TIMESTAMP)
    if at >= 0:
        for offset, by in ((2, value), (6, echo)):
            old = int.from_bytes(e.data[at + offset : at + offset + 4], "big")
            e.data[at + offset : at + offset + 4] = ((old + by) & M32).to_bytes(4, "big")


def postponed(t: Trace, k: int, ns: int) -> list[Frame]:
    """All frames from index `k` on later by `ns` (whole ms), with the timestamps that their hosts would then write."""
    frames = [*t.frames[:k], *(replace(f, time=f.time + ns) for f in t.frames[k:])]
    restamped(t, frames, {j: ns // MS for j in t.facts if j >= k})
    return frames


__all__ = [
    "MS", "Fact", "Trace", "Way", "ahead", "back_of", "edited", "numbered", "postponed", "restamped", "stamp",
    "with_ids",
]  # fmt: skip
