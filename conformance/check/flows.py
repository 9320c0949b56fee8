"""The TCP connections of a capture, from their first segment until nothing more can come of them.

The law: memory is bounded by the connections that are open, not by the frames, and no more than `MOST_OPEN` are
followed at once: beyond that those that were quiet longest are judged by what was seen of them. A connection both of
whose ends are closed or in TIME_WAIT is judged and let go once it was quiet for as long as TIME_WAIT lasts; what comes
after that to the same addresses and ports meets closed ends. Several processes may share a capture: each takes the
connections that are dealt to it.
"""

from collections.abc import Callable
from typing import Any, Final
from zlib import crc32

from msgspec.structs import replace

from conformance.check.path import Fall
from conformance.check.setup import Setup, at_tap
from conformance.check.tcp import Connection
from conformance.check.verdict import Outcome, Verdict
from conformance.frames import Frame
from conformance.oracle.connection import Connection as Oracle
from refmodel.packet import LINKTYPE_ETHERNET
from refmodel.packet.segment import Segment, segment
from refmodel.packet.transport import ACK, RST, SYN
from refmodel.tcp.state import TCP_TIMEWAIT_LEN

Key = tuple[bytes, int, bytes, int, int]  # the two ends in order, and the tap

QUIET: Final = TCP_TIMEWAIT_LEN + 5_000_000  # us: the timer wheel may be 2 s late with a minute
LOOK: Final = 4096  # segments between two looks for connections that are over
REMEMBERED: Final = 65_536  # connections that were let go, the latest
MOST_OPEN: Final = 65_536  # connections that are followed at once
NOTHING: Final[dict[str, Any]] = {}
LABELS_UP_TO: Final = 20_000  # frames: beyond it labels are kept only on request
DEALT: Final = 65_536  # connections that are dealt in turn to the processes that share a capture
FRAME: Final = 8  # what a frame costs its connection's process
NEIGHBOURS: Final = 1  # what each frame costs the process that follows the neighbours
IPV4_PLAIN: Final = b"\x08\x00\x45"  # h_proto, then version and length of an IPv4 header without options
TCP: Final = b"\x06"
OPENING: Final = SYN | ACK | RST


class Share:
    """The `part`th of `parts` processes that share a capture.

    The connections are dealt in the order of their first frames, each to the process that has the least to do so far;
    as every process sees every frame, all deal the same. The first process follows the neighbours too, which costs it
    `NEIGHBOURS` of `FRAME` for each frame. Behind `DEALT` connections a hash decides.
    """

    def __init__(self, part: int = 0, parts: int = 1) -> None:
        self.part, self.parts = part, parts
        self.dealt: dict[bytes, int] = {}
        self.load = [0] * parts

    def sees(self, f: Frame) -> bool:
        """Takes the next frame of the capture: whether its connection falls to this process, if it has one."""
        data = f.data
        if f.linktype == LINKTYPE_ETHERNET and data[12:15] == IPV4_PLAIN and data[23:24] == TCP:
            return self.deals(data[26:30], data[30:34], data[34:36], data[36:38])
        s = segment(f.number, f.time, data, f.linktype, f.orig_len)
        if s is None:
            return True
        return self.deals(s.saddr, s.daddr, s.source.to_bytes(2, "big"), s.dest.to_bytes(2, "big"))

    def deals(self, saddr: bytes, daddr: bytes, source: bytes, dest: bytes) -> bool:
        """Whether a connection falls to this process; the same in every process."""
        key = saddr + source + daddr + dest
        load = self.load
        load[0] += NEIGHBOURS
        owner = self.dealt.get(key)
        if owner is None:
            if len(self.dealt) >= 2 * DEALT:
                owner = (crc32(saddr + source) ^ crc32(daddr + dest)) % self.parts
            else:
                owner = load.index(min(load))
                self.dealt[key] = self.dealt[daddr + dest + saddr + source] = owner
        load[owner] += FRAME
        return owner == self.part


class Flows:
    """The connections that are followed. `labelled`: every frame's label is kept, however many there are.

    `make` makes a connection of its first segment; `linux` has the addresses whose SYN was Linux's; `gone` tells
    of each connection that was let go whether its later segments are ignored, as after a divergence. `alone`:
    no other process follows connections of the same capture.
    """

    def __init__(self, setup: Setup, labelled: bool, make: Callable[..., Any] = Connection, alone: bool = True) -> None:
        self.setup, self.labelled, self.make, self.alone = setup, labelled, make, alone
        self.met: dict[tuple[bytes, bytes], tuple[int, int]] = {}  # the ports of two addresses' first connection
        self.open: dict[Key, Any] = {}
        self.gone: dict[Key, bool] = {}
        self.judged: list[tuple[int, Verdict]] = []
        self.linux: set[bytes] = set()
        self.setups: dict[int, Setup] = {}
        self.labels = True
        self.segments = 0
        self.crowded_out = 0  # connections that were judged before their end, since too many were open

    def follow(self, s: Segment, tap: int = 0) -> None:
        """Takes the next segment of the capture, as `tap` saw it: each tap has its own view of a connection."""
        a, b = s.saddr, s.daddr
        if a < b or (a == b and s.source <= s.dest):
            key = (a, s.source, b, s.dest, tap)
        else:
            key = (b, s.dest, a, s.source, tap)
        c = self.open.get(key)
        if c is None:
            c = self._first(key, s)
            if c is None:
                return
        elif c.last + QUIET < s.time // 1000 and c.is_over(s.time // 1000):
            self._let_go(key, s.time // 1000)
            c = self._first(key, s)
            if c is None:
                return
        elif s.flags & OPENING == SYN and c.begins_anew(s):
            self._judge(c, c.last)
            c = self.open[key] = self.make(s, self._at(tap), c)
            if isinstance(c, Oracle):
                c.acquainted = True
        if not self.labelled:
            if self.labels and s.number > LABELS_UP_TO:
                self.labels = False
            c.labelled = self.labels
        c.feed(s)
        self.segments += 1
        if not self.segments % LOOK:
            self._look(s.time // 1000)

    def path_falls(self, told: Fall, now: int, tap: int = 0) -> None:
        """A message that a tap saw at `now` us tells that a path takes less."""
        (a, m), (b, n) = sorted((told.source, told.dest))
        c = self.open.get((a, m, b, n, tap))
        if isinstance(c, Oracle):
            c.path_falls(told.source, now, told.mtu)

    def _at(self, tap: int) -> Setup:
        """What is known at a tap."""
        found = self.setups.get(tap)
        if found is None:
            found = self.setups[tap] = at_tap(self.setup, tap)
        return found

    def _first(self, key: Key, s: Segment) -> Any:
        ignored = self.gone.pop(key, None)
        c = self.make(s, self._at(key[4]), known=ignored is not None)
        if ignored and not c.opens:
            self.gone[key] = True
            return None
        if isinstance(c, Oracle):
            c.acquainted = self._acquainted(key)
        self.open[key] = c
        return c

    def _acquainted(self, key: Key) -> bool:
        """Whether another connection of the same two addresses may have come before."""
        pair, ports = (key[0], key[2]), (key[1], key[3])
        first = self.met.get(pair)
        if first is None and len(self.met) < REMEMBERED:
            self.met[pair] = first = ports
        return not self.alone or first != ports

    def _look(self, now: int) -> None:
        """Lets go of what is over, and of what was quiet longest where too much is open."""
        for key in [key for key, c in self.open.items() if c.last + QUIET < now and c.is_over(now)]:
            self._let_go(key, now)
        if len(self.open) > MOST_OPEN:
            quiet = sorted(self.open, key=lambda key: int(self.open[key].last))
            for key in quiet[: len(quiet) - MOST_OPEN * 3 // 4]:
                self._let_go(key, now)
                self.gone[key] = True
                self.crowded_out += 1
        while len(self.gone) > REMEMBERED:
            del self.gone[next(iter(self.gone))]

    def _let_go(self, key: Key, now: int) -> None:
        c = self.open.pop(key)
        self._judge(c, now)
        self.gone[key] = c.ended is not None or not c.judged
        if isinstance(c, Oracle):
            c.release()

    def _judge(self, c: Any, end: int) -> None:
        v = c.verdict(end, self.labels)
        self.judged.append((c.first.number, v if self.labels else _short(v)))
        self.linux.update(c.known_linux())

    def finish(self, end: int, frames: int) -> list[tuple[int, Verdict]]:
        """The verdicts, each with its connection's first frame, when `frames` up to `end` us were all there was."""
        self.labels = self.labelled or frames <= LABELS_UP_TO
        while self.open:
            _, c = self.open.popitem()
            self._judge(c, end)
            if isinstance(c, Oracle):
                c.release()
        if not self.labels:
            self.judged = [(n, _short(v)) for n, v in self.judged]
        return sorted(self.judged, key=lambda x: x[0])


def _short(v: Verdict) -> Verdict:
    """What is kept of a verdict where labels are not: of one that conforms, its subject."""
    if v.outcome is Outcome.CONFORMS:
        return Verdict(v.layer, v.subject, v.outcome, counters=NOTHING, unmodelled=NOTHING)
    return replace(v, labels=(), events=(), counters={}) if v.labels or v.events or v.counters else v
