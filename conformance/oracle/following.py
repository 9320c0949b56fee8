"""A connection's frames, each explained by its sender's half and heard by its receiver's."""

from collections import deque
from collections.abc import Sequence
from functools import cached_property
from typing import Final

from conformance.check.setup import Setup
from conformance.check.verdict import Divergence
from conformance.oracle import fast
from conformance.oracle.end import End, Excuse, Label, Refusal, Stack, us
from conformance.oracle.evidence import AHEAD, SPAN, Evidence
from conformance.oracle.parts import equip, infer
from conformance.oracle.text import address
from conformance.oracle.view import View, cut, each_twice, in_order
from refmodel.packet.segment import Segment
from refmodel.packet.transport import ACK, FIN, RST, SYN
from refmodel.tcp.state import St

FAST = True  # usual frames go the short way; a test holds that nothing depends on it
CHECKPOINT: Final = 256  # frames
PRELUDE: Final = 8  # frames that are looked at before the first is explained
REMEMBERED: Final = 256  # decisions
AROUND: Final = 3
FALLS: Final = 8  # messages of a smaller path MTU that are remembered
DAMAGED: Final = Label("damaged", "its checksum is wrong: nobody sent it so, and nobody takes it")
UNJUDGED: Final = Label("", "not judged")
COPY: Final = Label("copy", "the tap saw it before: it was sent once")
CUT: Final = Label("", "its options were cut off by the capture: not judged")


def _named(raw: bytes, port: int) -> str:
    """`text.address`, whose way through `ipaddress` is long."""
    return f"{raw[0]}.{raw[1]}.{raw[2]}.{raw[3]}:{port}" if len(raw) == 4 else address(raw, port)


def take_apart(ends: tuple[End, End]) -> None:
    """Ends that nobody asks any more refer to each other: they would wait for Python's look for garbage."""
    for e in ends:
        del e.peer, e.rx, e.tx, e.life, e.ident


Decisions = tuple[tuple[int, Excuse], ...]


class Following:
    """One connection. `before` is the connection whose four-tuple it takes; `known`: that one was over, and let go."""

    def __init__(self, first: Segment, setup: Setup, before: "Following | None" = None, known: bool = False) -> None:
        self.first, self.setup, self.known, self.before = first, setup, known, before
        self.sides = ((first.saddr, first.source), (first.daddr, first.dest))
        self.labelled = True
        self.acquainted = before is not None  # there were connections of both addresses before
        self.calm = False  # a usual frame can be followed at once
        self.frames = 0
        self.last = us(first)
        self.kept: deque[Segment] = deque(maxlen=2 * AROUND + 1)
        self.prelude: list[Segment] | None = []
        # What was told of paths before the prelude ended.
        self.fell: tuple[tuple[tuple[bytes, int], int, int], ...] = ()
        self.ends: tuple[End, End]
        self.address, self.port = self.sides[0]
        self.ended: Divergence | None = None
        self.unknown = ""
        self.judged: list[str] = ["both"]
        self.labels: list[tuple[int, int, Label, St]] = []
        self.records: list[Segment] = []
        self.queue: deque[Segment] = deque()
        self.refused: Refusal | None = None
        self.marks: list[tuple[int, tuple[End, End]]] = []
        self.settled: Decisions = ()
        self.decided: Decisions = ()
        self.attempts = 0
        self.intact = 0  # the last frame whose checksum was looked at
        self.damaged: dict[int, bool] = {}  # frames with a wrong checksum, and whether they were taken all the same
        self.view = View()
        self.once = False  # what the tap saw twice was sent once; else the network doubled it
        self.doubled: dict[int, bool] = {}  # copies, and whether they came to the receiver on their own

    # -- set-up

    @cached_property
    def names(self) -> tuple[str, str]:
        """Both ends' addresses and ports as text, from the first frame's sender."""
        a, b = (_named(*who) for who in self.sides)
        return a, b

    @property
    def subject(self) -> str:
        """What the verdict is on."""
        return " > ".join(self.names)

    @property
    def opens(self) -> bool:
        """Whether its first segment is a SYN."""
        return self.first.flags & (SYN | ACK | RST | FIN) == SYN and not cut(self.first)

    def _start(self) -> None:
        """Makes the ends, knowing what the first frames tell."""
        early = in_order(self.prelude or [])
        self.prelude = None
        if early and early[0].number != self.first.number and early[0].flags & (SYN | ACK) == SYN:
            self.first = early[0]
            self.sides = ((self.first.saddr, self.first.source), (self.first.daddr, self.first.dest))
        copies = self.view.copies
        self.once = each_twice(early, copies)
        shown = [s for s in early if s.number not in copies] if self.once else early
        stacks: Sequence[Stack] = infer(
            shown, self.sides, self.setup, self.before.ends if self.before is not None and self._reused() else None
        )
        started = not self.setup.hosts or self.setup.extra.get("taps", {}).get("start") == "middle"
        for stack in stacks:
            stack.cached = (self.acquainted or started) and not stack.told.get("net.ipv4.tcp_no_metrics_save", 0)
        self.address, self.port = self.sides[0]
        self.ends = ends = self._fresh(stacks)
        for who, now, mtu in self.fell:
            self.path_falls(who, now, mtu)
        if self._reused():
            assert self.before is not None
            for new in ends:
                new.life.follows(self.before.end_of(new.address))
            self.marks = [(0, self._copies())]
            self.before.release()
        self.before = None
        self.judged = [e.name for e in ends if e.stack.linux] or ["neither"]
        for s in early:
            self._follow(s)

    def _fresh(self, stacks: Sequence[Stack]) -> tuple[End, End]:
        """Both ends as they are before their first frame."""
        ends = []
        for k, who in enumerate(self.sides):
            host = self.setup.host_of(who[0])
            ends.append(End(host.name if host is not None else self.names[k], k, who, stacks[k]))
        a, b = ends
        a.peer, b.peer = b, a
        for e in ends:
            equip(e, self.setup, self.opens, self.known)
        return a, b

    def path_falls(self, who: tuple[bytes, int], now: int, mtu: int) -> None:
        """The end `who` was told at `now` us that its path takes packets of `mtu` bytes at most."""
        if self.prelude is not None:
            self.fell = (*self.fell, (who, now, mtu))
            return
        e = self.end_of(who)
        if e is not None:
            e.stack.falls = (*e.stack.falls, (now, mtu))[-FALLS:]

    def _mark(self) -> tuple[int, tuple[End, End]]:
        """Where the frames are followed again from; the first is made only when it is asked for."""
        if not self.marks:
            self.marks = [(0, self._fresh([e.stack for e in self.ends]))]
        return self.marks[0]

    def _reused(self) -> bool:
        return self.before is not None and self.before.prelude is None

    def end_of(self, who: tuple[bytes, int]) -> End | None:
        """The end at an address and port."""
        return next((e for e in self.ends if e.address == who), None)

    def _copies(self) -> tuple[End, End]:
        a, b = (e.copy() for e in self.ends)
        a.peer, b.peer = b, a
        return a, b

    # -- following

    def feed(self, s: Segment) -> None:
        """Takes the next segment."""
        self.frames += 1
        now = s.time // 1000
        if now > self.last:
            self.last = now
        if not self.calm:
            for x in self.view.takes(s):
                self._enter(x)
            self.calm = self._is_calm()
        elif self.view.passes(s):
            self.kept.append(s)
            self.records.append(s)
            a, b = self.ends
            try:
                if s.source == self.port and s.saddr == self.address:
                    label = fast.follow(a, b, s, now)
                    if self.labelled:
                        self.labels.append((s.number, 0, label, a.state))
                else:
                    label = fast.follow(b, a, s, now)
                    if self.labelled:
                        self.labels.append((s.number, 1, label, b.state))
            except Refusal as why:
                self._refuses(why)
                self.calm = self._is_calm()
            if len(self.records) >= 2 * CHECKPOINT and self.refused is None:
                self._checkpoint()
        else:
            for x in self.view.takes(s):
                self._enter(x)
            self.calm = self._is_calm()

    def _is_calm(self) -> bool:
        """Whether a usual frame can be followed at once, between two ends that are both judged."""
        return (
            FAST
            and self.prelude is None
            and self.refused is None
            and self.ended is None
            and not self.unknown
            and not self.queue
            and not cut(self.first)
            and all(e.stack.linux and not e.given_up and not e.probing for e in self.ends)
        )

    def _enter(self, s: Segment) -> None:
        """Takes the next segment in the order in which they were sent."""
        self.kept.append(s)
        if self.prelude is not None:
            self.prelude.append(s)
            if len(self.prelude) - len(self.view.copies) >= PRELUDE:
                self._start()
        else:
            self._follow(s)

    def _flush(self) -> None:
        """Takes the frames that wait for what they answer."""
        for x in self.view.rest():
            self._enter(x)

    def _follow(self, s: Segment) -> None:
        if self.ended is not None or self.unknown:
            return
        if self.refused is None and not self.queue:
            self._next(s)
        else:
            self.queue.append(s)
        if self.refused is not None or self.queue:
            self._pump(False)

    def _next(self, s: Segment) -> None:
        """Explains the next frame, or puts it off until the frames behind it show what excuses it."""
        self.records.append(s)
        try:
            self._take(s)
        except Refusal as why:
            self._refuses(why)
        if len(self.records) >= 2 * CHECKPOINT and self.refused is None:
            self._checkpoint()

    def _refuses(self, why: Refusal) -> None:
        """The last frame was refused; it is put off unless the tap alone excuses it."""
        if not self._was_damaged() and not self._was_doubled():
            self.refused = why

    def _pump(self, final: bool) -> None:
        """Goes on with the frames that wait; `final`: no more will come."""
        while self.ended is None and not self.unknown:
            if self.refused is not None:
                s = self.records[-1]
                enough = len(self.queue) >= AHEAD or (self.queue and self.queue[-1].time - s.time > SPAN)
                if not (final or enough):
                    return
                why, self.refused = self.refused, None
                self._retry(why, s, Evidence([*self.records, *self.queue], final))
            elif self.queue:
                self._next(self.queue.popleft())
            else:
                return

    def _take(self, s: Segment) -> None:
        a, b = self.ends
        sender, receiver = (a, b) if s.source == a.address[1] and s.saddr == a.address[0] else (b, a)
        if s.number in self.damaged:
            if self.damaged[s.number]:
                sender.life.believed(s)
            if self.damaged[s.number] and not receiver.given_up:
                receiver.settle(us(s), s.number)
                receiver.hears(s)
            self.labels.append((s.number, sender.side, DAMAGED, sender.state))
            return
        if s.truncated and s.flags & SYN:
            self.labels.append((s.number, sender.side, CUT, sender.state))
            return
        if s.number in self.view.copies and not self.doubled.get(s.number, not self.once):
            self.labels.append((s.number, sender.side, COPY, sender.state))
            return
        if sender.given_up:
            label = UNJUDGED
        elif sender.stack.linux:
            label = fast.sends(sender, s, s.time // 1000) if FAST else sender.sends(s)
            if s.len and sender.probing and label.by == "tcp_write_xmit":
                label = sender.grown(s, label)
        else:
            label = self._foreign(sender, s)
        if not receiver.given_up:
            if FAST:
                fast.settle(receiver, s.time // 1000, s.number)
            else:
                receiver.settle(us(s), s.number)
            receiver.hears(s)
        if self.labelled or cut(self.first):
            self.labels.append((s.number, sender.side, label, sender.state))

    def _foreign(self, e: End, s: Segment) -> Label:
        """A foreign stack is held to what binds every TCP; what breaks that is said, and not followed any more."""
        try:
            return e.sends(s)
        except Refusal as why:
            e.given_up = f"keeps not what binds every TCP at frame {s.number}: {why.what}"
            return UNJUDGED

    def _checkpoint(self) -> None:
        """Forgets the older half of the frames that can be followed again."""
        self.settled = self.decided = self.decided[-REMEMBERED:]
        if not self.labelled:
            self.labels.clear()
        self.records.clear()
        for _, ends in self.marks:
            take_apart(ends)
        self.marks = [(len(self.labels), self._copies())]

    def release(self) -> None:
        """Nothing more is asked of the connection: its ends refer to each other no longer."""
        if self.prelude is None:
            for ends in (self.ends, *(ends for _, ends in self.marks)):
                take_apart(ends)
            self.marks = []

    # -- what hypotheses decide; see `Hypotheses`

    def _was_damaged(self) -> bool:
        """Whether the connection goes on without damaged frames."""
        raise NotImplementedError

    def _was_doubled(self) -> bool:
        """Whether the connection goes on if what the tap saw twice was sent once, or was not."""
        raise NotImplementedError

    def _retry(self, why: Refusal, s: Segment, shown: Evidence, end: int = 0) -> None:
        """Looks for the cheapest hypotheses under which the connection goes on."""
        raise NotImplementedError
