"""A connection followed from both sides: frames in, labels and a verdict out.

The law: a frame is explained by the hypotheses decided so far; where one is refused, the connection is followed again
from a checkpoint under the cheapest excuse that shows evidence, and so on up to a stated number of attempts. A frame
that no excuse saves diverges; one that ran out of attempts is inconclusive.
"""

import heapq
from collections import deque
from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import Final

from conformance.check.setup import Setup
from conformance.check.verdict import Divergence, FrameLabel, NearMiss, Outcome, Verdict
from conformance.oracle import fast
from conformance.oracle.end import UNKNOWN, End, Excuse, Interval, Label, Refusal, Stack, us
from conformance.oracle.evidence import AHEAD, SPAN, Evidence
from conformance.oracle.identity import damaged
from conformance.oracle.parts import equip, infer
from conformance.oracle.stacks import shows
from conformance.oracle.text import address, line
from conformance.oracle.vantage import PATH
from conformance.oracle.view import ANSWERS, BY_ITSELF, LACKS, NO_CLOCK, View, cut, each_twice, in_order
from refmodel.packet.segment import Segment
from refmodel.packet.transport import ACK, FIN, RST, SYN
from refmodel.tcp.state import St

FAST = True  # usual frames go the short way; a test holds that nothing depends on it
CHECKPOINT: Final = 256  # frames
ATTEMPTS: Final = 48  # for one frame
BUDGET: Final = 4_096  # for one connection
PRELUDE: Final = 8  # frames that are looked at before the first is explained
REMEMBERED: Final = 256  # decisions
AROUND: Final = 3
FALLS: Final = 8  # messages of a smaller path MTU that are remembered
CLOSED: Final = (St.CLOSE, St.TIME_WAIT, St.LISTEN)
LATENESS: Final = ("ack-withheld", "handshake-ack-missing", "syn-timer")
TAKEN: Final = 3  # damaged frames of which it is tried whether they were taken
DAMAGED: Final = Label("damaged", "its checksum is wrong: nobody sent it so, and nobody takes it")

LAG_MAX: Final = 4_000_000  # us: a path as long as that is none
UNJUDGED: Final = Label("", "not judged")
COPY: Final = Label("copy", "the tap saw it before: it was sent once")
CUT: Final = Label("", "its options were cut off by the capture: not judged")
SWAPS: Final = 4  # pairs of frames whose stamps may be in the wrong order

# Counters that the labels give exactly where the tap is on the counting host and nothing is lost before it.
EXACT: Final = frozenset({
    "Tcp.OutSegs", "Tcp.RetransSegs", "TcpExt.TCPOrigDataSent", "Tcp.ActiveOpens", "Tcp.PassiveOpens", "Tcp.OutRsts",
    "TcpExt.TCPSynRetrans", "TcpExt.TCPTimeouts", "TcpExt.TCPLossProbes", "TcpExt.TCPFastRetrans",
    "TcpExt.TCPSlowStartRetrans", "TcpExt.TCPSackRecovery", "TcpExt.TCPLostRetransmit", "TcpExt.TCPDSACKOldSent",
    "TcpExt.TCPDSACKRecv", "TcpExt.DelayedACKs", "TcpExt.TCPChallengeACK", "TcpExt.TCPWinProbe",
    "TcpExt.TCPKeepAlive", "TcpExt.TCPToZeroWindowAdv",
})  # fmt: skip
# Of these a segment that the tap saw is one that the kernel counted, whatever it did not see.
SURE: Final = frozenset({"Tcp.OutSegs", "Tcp.ActiveOpens"})


def _named(raw: bytes, port: int) -> str:
    """`text.address`, whose way through `ipaddress` is long."""
    return f"{raw[0]}.{raw[1]}.{raw[2]}.{raw[3]}:{port}" if len(raw) == 4 else address(raw, port)


def _take_apart(ends: tuple[End, End]) -> None:
    """Ends that nobody asks any more refer to each other: they would wait for Python's look for garbage."""
    for e in ends:
        del e.peer, e.rx, e.tx, e.life, e.ident


Decisions = tuple[tuple[int, Excuse], ...]


def _meaning(decided: Decisions) -> frozenset[tuple[int, int, str, int]]:
    """What is taken for true of which frames: bursts and single hypotheses may say the same.

    Inputs are processed in order: of those that waited for the same frame the first says it of all.
    """
    late: dict[tuple[int, int], int] = {}
    means: set[tuple[int, int, str, int]] = set()
    for side, x in decided:
        for n in x.frames:
            if x.kind == "late":
                late[side, x.until] = min(n, late.get((side, x.until), n))
            else:
                means.add((side, n, x.kind, x.until))
    return frozenset(means | {(side, n, "late", until) for (side, until), n in late.items()})


@lru_cache(1_024)
def _order(names: frozenset[str]) -> tuple[str, ...]:
    """The counters that a verdict names, in order."""
    return tuple(sorted(EXACT | names))


@lru_cache(4_096)
def _interval(low: int, high: int) -> Interval:
    """One value for all intervals that are alike: a capture may have very many connections."""
    return low, high


class Connection:
    """One connection. `before` is the connection whose four-tuple it takes; `known`: that one was over, and let go."""

    def __init__(self, first: Segment, setup: Setup, before: "Connection | None" = None, known: bool = False) -> None:
        self.first, self.setup, self.known, self.before = first, setup, known, before
        self.sides = ((first.saddr, first.source), (first.daddr, first.dest))
        self.labelled = True
        self.acquainted = before is not None  # there were connections of both addresses before
        self.calm = False  # a usual frame can be followed at once
        self.frames = 0
        self.last = us(first)
        self.kept: deque[Segment] = deque(maxlen=2 * AROUND + 1)
        self.prelude: list[Segment] | None = []
        self.fell: tuple[
            tuple[tuple[bytes, int], int, int], ...
        ] = ()  # what was told of paths before the prelude ended
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
            _take_apart(ends)
        self.marks = [(len(self.labels), self._copies())]

    def release(self) -> None:
        """Nothing more is asked of the connection: its ends refer to each other no longer."""
        if self.prelude is None:
            for ends in (self.ends, *(ends for _, ends in self.marks)):
                _take_apart(ends)
            self.marks = []

    # -- hypotheses

    def _was_damaged(self) -> bool:
        """Whether the connection goes on without frames that were damaged on the way to the tap.

        Some hosts take what is damaged: a device or a tunnel says that the checksum was right.
        """
        found = []
        for s in self.records:
            if s.number > self.intact:
                e = self.ends[self._side(s)]
                if e.stack.near is not True and s.len <= (e.ident.mss or 1460) and damaged(s):
                    found.append(s.number)
        last = self.intact = self.records[-1].number
        before = dict(self.damaged)
        tries = [dict.fromkeys(found, False), {n: False for n in found if n == last}]
        tries += [{n: True} for n in list(before)[: -TAKEN - 1 : -1] if n >= self.records[0].number and not before[n]]
        for tried in tries:
            if tried:
                self.damaged = {**before, **tried}
                if self._again(self.decided) is None:
                    return True
        self.damaged = before
        if any(tries):
            self._again(self.decided)
        return False

    def _was_doubled(self) -> bool:
        """Whether the connection goes on if what the tap saw twice was sent once, or was not."""
        start = self.records[0].number
        there = {s.number for s in self.records}
        copies = [n for n in self.view.copies if n >= start and n in there]
        if not copies:
            return False
        before = dict(self.doubled)
        now = {n: before.get(n, not self.once) for n in copies}
        tries = [
            dict.fromkeys(copies, self.once),
            {copies[-1]: not now[copies[-1]]},
        ]
        for k, tried in enumerate(tries):
            if tried and {**now, **tried} != now:
                self.doubled = {**before, **now, **tried}
                if self._again(self.decided) is None:
                    if k == 0:
                        self.once = not self.once
                    return True
        self.doubled = before
        self._again(self.decided)
        return False

    def _were_swapped(self, s: Segment, end: int) -> bool:
        """Whether the connection goes on if stamps of two processors are out of order around the last frame."""
        records, queue = self.records, self.queue
        side = self._side(s)
        for k, y in enumerate(queue):
            if y.time - s.time > self.view.most:
                break
            if self._side(y) != side:
                self.records = [*records[:-1], y.changed(time=s.time), s]
                if self._again(self.decided, end) is None:
                    self.queue = deque(x for j, x in enumerate(queue) if j != k)
                    return True
        tries = 0 if self.view.skewed else SWAPS
        for k in range(len(records) - 1, 0, -1):
            x, y = records[k - 1], records[k]
            if s.time - x.time > SPAN or tries >= SWAPS:
                break
            if self._side(x) != self._side(y) and y.time - x.time <= self.view.most:
                tries += 1
                self.records = [*records[: k - 1], y.changed(time=x.time), x, *records[k + 1 :]]
                if self._again(self.decided, end) is None:
                    return True
        self.records = records
        self._again(self.decided)
        return False

    def _again(self, decided: Decisions, end: int = 0) -> tuple[Refusal, Segment] | None:
        """Follows the frames from the checkpoint under `decided`, up to `end` us; what was refused, at which frame."""
        mark, ends = self._mark()
        del self.labels[mark:]
        _take_apart(self.ends)
        self.ends = ends
        self.marks[0] = (mark, self._copies())
        for e in self.ends:
            e.decided = {n: x for side, x in decided if side == e.side for n in x.frames}
        for s in self.records:
            try:
                self._take(s)
            except Refusal as why:
                return why, s
        if not end:
            return None
        try:
            self._settle(end)
        except Refusal as why:
            return why, self.records[-1]
        return None

    def _settle(self, end: int) -> None:
        """Lets both ends go on to `end` us; raises Refusal for what should have shown by then."""
        for e in self.ends:
            if not e.given_up:
                try:
                    e.settle(end)
                    while e.pending:  # what came last is processed behind the last frame
                        e.process()
                    e.ident.finish()
                except Refusal:
                    if e.stack.linux:
                        raise

    def _retry(self, why: Refusal, s: Segment, shown: Evidence, end: int = 0) -> None:
        """Looks for the cheapest hypotheses under which the connection goes on; diverges if there are none."""
        first, at = why, s
        if self._loses(shown) or self._slows(why):
            failed = self._again(self.decided, end)
            if failed is None:
                return
            why, at = failed
        if self.view.skewed and self._were_swapped(s, end):
            return
        todo: list[tuple[int, int, Decisions]] = []
        tried = {_meaning(self.decided)}
        order = 0

        def propose(decided: Decisions, refused: Refusal, side: int, frame: Segment) -> None:
            nonlocal order
            excuses = refused.excuses
            if refused.constraint == "echo-is-ts-recent":
                e = self.ends[side]
                excuses = (*excuses, *shown.waited(frame, e.address, e.stack.late))
            for x in excuses:
                # An input that was late at one frame may have been late at the next one too.
                rest = tuple((k, y) for k, y in decided if not (k == side and y.frame == x.frame and y.until < x.until))
                new = (*rest, (side, x))
                means = _meaning(new)
                if means in tried or any(k == side and n in x.frames for k, y in rest for n in y.frames):
                    continue
                if not shown.credible(x, self.sides[side]):
                    continue
                tried.add(means)
                order += 1
                heapq.heappush(todo, (sum(y.cost for _, y in new[len(self.settled) :]), order, new))

        propose(self.decided, why, self._refused(why, at), at)
        if len(self.decided) > len(self.settled):
            tried.add(_meaning(self.settled))
            order += 1
            heapq.heappush(todo, (0, order, self.settled))
        for _ in range(ATTEMPTS):
            if not todo or self.attempts >= BUDGET:
                break
            self.attempts += 1
            _, _, decided = heapq.heappop(todo)
            failed = self._again(decided, end)
            if failed is None:
                self.decided = decided
                return
            why, at = failed
            propose(decided, why, self._refused(why, at), at)
        if not self._is_shown(first, s):
            self._free(first, s, shown, end)
            return
        if todo:
            self.unknown = f"more hypotheses than are tried before {line(s, self.first.time)}: {first}"
            self.judged = []
            return
        if not self.view.skewed and first.constraint in ANSWERS and self._were_swapped(s, end):
            return
        if untold := self._not_told(first, s, shown):
            self.unknown = f"{untold}; nothing is said of {line(s, self.first.time)}: {first}"
            self.judged = []
            return
        self._again(self.decided)
        self._diverge(first, s)

    def _is_shown(self, why: Refusal, s: Segment) -> bool:
        """Whether the end that refuses frame `s` is shown to be a Linux that is modelled."""
        e = self.ends[self._refused(why, s)]
        if e.stack.sure or not e.stack.linux or e.given_up:
            return True
        own = [x for x in (*self.records, *self.queue) if (x.saddr, x.source) == e.address]
        return shows(own, e.ident.mss)

    def _free(self, why: Refusal, s: Segment, shown: Evidence, end: int) -> None:
        """Nothing shows an end to be a Linux that is modelled, and this frame shows that it is none."""
        self._mark()
        e = self.ends[self._refused(why, s)]
        e.stack.linux = False
        e.stack.why_not = f"nothing shows a kernel that is modelled, and none sends frame {s.number} so: {why}"
        self.judged = [x.name for x in self.ends if x.stack.linux] or ["neither"]
        failed = self._again(self.decided, end)
        if failed is not None:
            self._retry(*failed, shown, end)

    def _not_told(self, why: Refusal, s: Segment, shown: Evidence) -> str:
        """What the capture does not show that might explain a refused frame; '' if nothing is known to be missing."""
        if why.constraint in BY_ITSELF or (self.setup.hosts and not cut(self.first)):
            return ""
        if not (self.opens or self.known) and s.time - self.first.time < SPAN:
            return "the connection began before what the capture tells of it"
        if not self.setup.hosts and all(e.stack.linux for e in self.ends) and (off := shown.clock(self.sides)):
            return f"{NO_CLOCK}: {off}"
        lacks = shown.unseen(self.sides)
        return f"{LACKS}: {lacks}" if lacks else ""

    def _loses(self, shown: Evidence) -> bool:
        """Whether the capture shows that frames are lost behind the tap where that was not taken for possible."""
        found = False
        self._mark()  # before what it is made of changes
        for e in self.ends:
            if e.stack.presumed and (why := shown.loses(e.address)):
                e.stack.lossy, e.stack.presumed, e.stack.exact, found = None, False, False, True
                e.stack.evidence.append(f"frames to it are lost behind the tap: {why}")
            if e.stack.close and (why := shown.far(e.address)):
                e.stack.near, e.stack.late = None, max(e.stack.late, PATH)
                e.stack.close, e.stack.exact, found = False, False, True
                e.stack.evidence.append(f"the tap may be far from it: {why}")
            if e.stack.near is not True and not e.stack.given:
                lag = min(2 * shown.lag(e.address), LAG_MAX)
                if lag > e.stack.late:
                    e.stack.late, found = lag, True
        if found:
            for e in (*self.ends, *(e for _, ends in self.marks for e in ends)):
                e.rx.loosens()
        return found

    def _slows(self, why: Refusal) -> bool:
        """Lets ends that are presumed near be as late as far ones, where it isn't lateness that was refused."""
        found = False
        for e in self.ends:
            if why.constraint not in LATENESS and e.stack.close and e.stack.late < PATH:
                e.stack.late, found = PATH, True
        return found

    def _refused(self, why: Refusal, s: Segment) -> int:
        """The side whose end refused: the sender, unless the receiver had something overdue."""
        return why.side if why.side is not None else self._side(s)

    def _side(self, s: Segment) -> int:
        return 0 if (s.saddr, s.source) == self.sides[0] else 1

    def _diverge(self, why: Refusal, s: Segment) -> None:
        e = self.ends[self._refused(why, s)]
        self.ended = Divergence(
            frame=s.number,
            time=s.time / 1e9,
            host=e.name,
            what=f"{why.what}: {'missing by ' if why.side is not None else ''}{line(s, self.first.time)}",
            allowed=why.allowed,
            near=tuple(NearMiss(rule, reason) for rule, reason in why.near),
            state=(e.words(),),
            around=tuple(line(x, self.first.time) for x in self.kept),
            constraint=why.constraint,
        )

    # -- the end

    def known_linux(self) -> list[bytes]:
        """The addresses of the ends whose handshake is Linux's."""
        if self.prelude is not None:
            return []
        return [
            e.address[0]
            for e in self.ends
            if e.stack.linux and e.stack.sure and any(x.startswith("Linux:") for x in e.stack.evidence)
        ]

    def is_over(self, now: int) -> bool:
        """Both ends are closed or in TIME_WAIT at `now` us, or nothing more will be said."""
        if self.prelude is not None:
            return any(s.flags & (RST | FIN) for s in self.prelude)
        self._flush()
        self._pump(True)
        if self.ended is not None or self.unknown:
            return True
        try:
            self._settle(now)
        except Refusal:
            return False
        return all(e.given_up or e.state in CLOSED for e in self.ends)

    def begins_anew(self, s: Segment) -> bool:
        """A SYN with another number, between ends that are through with this connection, starts a new one."""
        if s.flags & (SYN | ACK | RST) != SYN or not self.frames:
            return False
        if self.prelude is not None:
            same = [x for x in self.prelude if x.flags & SYN and x.saddr == s.saddr and x.source == s.source]
            if any(x.seq == s.seq for x in same):
                return False
            if not any(x.flags & (RST | FIN) for x in self.prelude) and not same:
                return False
            self._start()
        self._flush()
        self._pump(True)
        if self.ended is not None or self.unknown:
            return True
        if cut(s):
            return self.view.is_new(s)
        k = self._side(s)
        for e in self.ends:
            if not e.given_up:
                try:
                    e.settle(us(s), s.number)
                except Refusal:
                    return False
        return bool(self.ends[k].life.begins_anew(s))

    def verdict(self, end: int, keep: bool = True) -> Verdict:
        """The judgement when the capture has shown everything up to `end` us."""
        self._flush()
        if self.prelude is not None:
            self._start()
        self._pump(True)
        if self.ended is None and not self.unknown and self.records:
            try:
                self._settle(end)
            except Refusal as why:
                self._retry(why, self.records[-1], Evidence(self.records, True), end)
        inferred = (*self.setup.inferred, *self._inferred())
        if self.ended is not None:
            return Verdict(
                "tcp", self.subject, Outcome.DIVERGES, self.ended.what, divergence=self.ended, inferred=inferred
            )
        outcome, reason = Outcome.CONFORMS, ""
        if not self.unknown and cut(self.first) and all(label is CUT for _, _, label, _ in self.labels):
            self.unknown = CUT.note
        if self.unknown:
            outcome, reason = Outcome.INCONCLUSIVE, self.unknown
        elif not any(e.stack.linux for e in self.ends):
            outcome, reason = Outcome.NOT_MODELLED, "; ".join(self._strangers())
        return Verdict(
            "tcp",
            self.subject,
            outcome,
            reason,
            labels=self._labels() if keep else (),
            inferred=inferred,
            events=self._events() if keep else (),
            counters=self._counters() if keep else {},
        )

    def _labels(self) -> tuple[FrameLabel, ...]:
        names = [e.name for e in self.ends]
        linux = [e.stack.linux for e in self.ends]
        return tuple(
            FrameLabel(n, names[k], label.by, label.by, label.note, state.name)
            if linux[k]
            else FrameLabel(n, names[k], "", "", UNJUDGED.note, state.name)
            for n, k, label, state in self.labels
        )

    def _counters(self) -> dict[str, dict[str, Interval]]:
        """The counters of each host; on a loopback both ends are of one.

        Where segments may have left beside the tap the labels give the least; what a missing segment may change in the
        labels of others is not known at all.
        """
        hosts: dict[str, dict[str, Interval]] = {}
        for e in self.ends:
            if e.stack.linux and self._counts(e):
                whole = e.stack.near is True and e.stack.exact and not self.ended and not self.unknown
                low, high = e.counts.low, e.counts.high
                before = hosts.get(e.name)
                found: dict[str, Interval] = {}
                for name in _order(frozenset(low).union(before or ())):
                    least = low.get(name, 0) if whole or name in SURE else 0
                    most = high.get(name, 0) if whole else UNKNOWN
                    if before is not None and name in before:
                        least, most = least + before[name][0], min(most + before[name][1], UNKNOWN)
                    found[name] = _interval(least, most)
                hosts[e.name] = found
        return hosts

    def _counts(self, e: End) -> bool:
        """Whether this tap is the one that counts for the host of `e`, which does not only forward."""
        counted = self.setup.extra.get("counted")
        host = e.stack.host
        forwards = host is not None and host.mib.get("Ip.ForwDatagrams", 0) > 0 and not host.mib.get("Tcp.OutSegs", 0)
        return not forwards and (counted is None or e.name in counted)

    def _strangers(self) -> list[str]:
        """What is said of ends that are not Linux."""
        found = [f"{e.name} is not Linux: {e.stack.why_not}" for e in self.ends if not e.stack.linux]
        return found + [f"{e.name} {e.given_up}" for e in self.ends if e.given_up]

    def _inferred(self) -> list[str]:
        return [*self._strangers(), *(f"{e.name}: {x}" for e in self.ends for x in e.stack.evidence)]

    def _events(self) -> tuple[str, ...]:
        names = [e.name for e in self.ends]
        decided = [f"{names[k]}: frame {x.frame} {x.kind}: {x.evidence}" for k, x in self.decided]
        return tuple(decided + [f"{e.name}: {n}" for e in self.ends for n in e.notes])
