"""What one tap saw of a segment, beside what another tap on its way saw of it.

The law: who forwards a segment changes neither its numbers nor its window nor its options; it may join segments that
follow each other, or cut them (net/core/gro.c, net/ipv4/tcp_offload.c), drop them or double them. So what comes to the
second tap came past the first, if that missed nothing. The tap on the sender's host comes first, that on the receiver's
last; of others the first segment tells that both saw. SYNs are left out, which a filter may change, and resets, which
it may send itself.
"""

from collections import deque
from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from conformance.check.setup import Setup
from conformance.check.verdict import Divergence, Outcome, Verdict
from conformance.oracle.constraint import Constraint
from conformance.oracle.identity import damaged
from conformance.oracle.text import address, line
from refmodel.packet.segment import Segment
from refmodel.packet.transport import ACK, CWR, ECE, FIN, PSH, RST, SYN
from refmodel.types import H32, M32

CONSTRAINTS: Final = (
    Constraint(
        "changed-on-the-way",
        "What passes a second tap passed the first, with the same numbers, window and options.",
        ("net/ipv4/ip_forward.c:ip_forward", "RFC 1812 5.2.1"),
    ),
)

SPAN: Final = 10_000_000_000  # ns that a segment may be on its way from one tap to the other
SKEW: Final = 50_000_000  # ns: the first tap's stamp may come so much later in the file
MOST: Final = 65_536  # segments of one direction between the two taps
JOINED: Final = FIN | PSH | CWR | ECE  # flags that joining and cutting moves

Way = tuple[bytes, int, bytes, int]
Mark = tuple[int, int, int, bytes]


def _mark(s: Segment) -> Mark:
    """What all pieces of a segment have in common; of one without text its sequence number and its id too."""
    options = s.data[s.l4 + 20 : s.payload_at]
    if s.len:
        return s.flags & ~JOINED, s.ack_seq, s.window, options
    return s.flags, s.ack_seq, s.window, options + s.seq.to_bytes(4, "big") + (s.ip_id or 0).to_bytes(2, "big")


class Path:
    """One direction of a connection between two taps: `first` is the tap that it passes first, -1 until that is told.

    `seen`: the ranges that passed each tap, by what all pieces have in common; `late`: what the first tap may show yet.
    """

    __slots__ = ("first", "late", "order", "seen", "since", "start")

    def __init__(self) -> None:
        self.first = -1
        self.seen: dict[int, dict[Mark, list[tuple[int, int]]]] = {}
        self.order: deque[tuple[int, int, Mark]] = deque()  # when, tap, mark
        self.late: deque[Segment] = deque()
        self.since = -(1 << 62)  # when the last was seen that is forgotten
        self.start: int | None = None  # the first timestamp that the first tap saw

    def shows(self, tap: int, s: Segment) -> bool:
        """Whether a tap saw the segment, or one that it is a piece of or begins with."""
        for low, high in self.seen.get(tap, {}).get(_mark(s), ()):
            if (s.seq - low) & M32 < max((high - low) & M32, 1):
                return True
        return False

    def keeps(self, tap: int, s: Segment) -> None:
        """Remembers what a tap saw, for as long as it may be on its way."""
        mark = _mark(s)
        self.seen.setdefault(tap, {}).setdefault(mark, []).append((s.seq, s.end_seq))
        self.order.append((s.time, tap, mark))
        while self.order and (s.time - self.order[0][0] > SPAN or len(self.order) > MOST):
            self.since, old, what = self.order.popleft()
            ranges = self.seen[old][what]
            del ranges[0]
            if not ranges:
                del self.seen[old][what]


class Passing:
    """All connections between two taps of a recording that missed nothing."""

    def __init__(self, setup: Setup) -> None:
        taps = setup.extra.get("taps", {})
        self.whole = taps.get("start") == "whole"
        self.setup, self.hosts = setup, tuple(taps.get("hosts", ()))
        self.paths: dict[Way, Path] = {}
        self.strays: dict[Way, Segment] = {}

    @staticmethod
    def applies(setup: Setup) -> bool:
        """Whether a sidecar counts what two taps missed, and that was nothing."""
        taps = setup.extra.get("taps", {})
        return len(taps.get("hosts", ())) == 2 and taps.get("dropped") == 0

    def frame(self, s: Segment, tap: int) -> None:
        """Takes the next frame of the capture."""
        if s.flags & (SYN | RST) or not s.flags & ACK or s.truncated:
            return
        way = s.saddr, s.source, s.daddr, s.dest
        path = self.paths.get(way)
        if path is None:
            path = self.paths[way] = Path()
        if path.first < 0:
            for other in path.seen:
                if other != tap and path.shows(other, s):
                    path.keeps(tap, s)
                    self._orders(path, other, tap, s)
                    break
            else:
                path.keeps(tap, s)
                if path.start is None:
                    path.start = s.tsval
            return
        if tap == path.first:
            path.keeps(tap, s)
        elif not path.shows(path.first, s):
            path.late.append(s)
        while path.late and s.time - path.late[0].time > SKEW:
            self._misses(way, path, path.late.popleft())

    def _orders(self, path: Path, a: int, b: int, s: Segment) -> None:
        """Both taps saw a segment, `a` before `b` by their stamps: which of them comes first."""
        on = [self.hosts[k] if k < len(self.hosts) else "" for k in (a, b)]
        sender, receiver = self.setup.host_of(s.saddr), self.setup.host_of(s.daddr)
        swapped = (sender is not None and on[1] == sender.name != on[0]) or (
            receiver is not None and on[0] == receiver.name != on[1]
        )
        path.first = b if swapped else a
        path.seen = {path.first: path.seen[path.first]}
        path.order = deque(x for x in path.order if x[1] == path.first)

    def _misses(self, way: Way, path: Path, s: Segment) -> None:
        if way in self.strays or path.shows(path.first, s) or damaged(s) or path.since > s.time - SPAN:
            return
        if not self.whole and (s.tsval is None or path.start is None or not 0 < (s.tsval - path.start) & M32 < H32):
            return  # it may have passed the first tap before the recording began
        self.strays[way] = s

    def judged(self, verdicts: Sequence[tuple[int, Verdict]]) -> list[tuple[int, Verdict]]:
        """The verdicts, each with its connection's first frame, with what was changed on its way."""
        for way, path in self.paths.items():
            while path.late:
                self._misses(way, path, path.late.popleft())
        found = list(verdicts)
        for way, s in self.strays.items():
            names = {address(*way[:2]), address(*way[2:])}
            mine = [
                k for k, (n, v) in enumerate(found)
                if n <= s.number and v.layer == "tcp" and set(v.subject.split(" > ")) == names
                and v.outcome in (Outcome.CONFORMS, Outcome.NOT_MODELLED)
            ]  # fmt: skip
            if mine:
                n, v = found[mine[-1]]
                found[mine[-1]] = (n, _changed(v, s))
        return found


def _changed(v: Verdict, s: Segment) -> Verdict:
    what = f"the tap that it passed before did not see it so: {line(s, s.time)}"
    d = Divergence(s.number, s.time / 1e9, address(s.saddr, s.source), what, constraint="changed-on-the-way")
    return replace(v, outcome=Outcome.DIVERGES, reason=what, divergence=d)


__all__ = ["CONSTRAINTS", "Passing"]
