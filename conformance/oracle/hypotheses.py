"""What is tried where a frame was refused.

The law: where a frame is refused, the connection is followed again from a checkpoint under the cheapest excuse that
shows evidence, and so on up to a stated number of attempts. A frame that no excuse saves diverges; one that ran out of
attempts is inconclusive.
"""

import heapq
from collections import deque
from typing import Final

from conformance.check.verdict import Divergence, NearMiss
from conformance.oracle.end import End, Refusal
from conformance.oracle.evidence import SPAN, Evidence
from conformance.oracle.following import Decisions, Following, take_apart
from conformance.oracle.identity import damaged
from conformance.oracle.life import PAWS_CHALLENGES
from conformance.oracle.receiver_rules import release, tells_twice
from conformance.oracle.stacks import shows
from conformance.oracle.text import line
from conformance.oracle.vantage import PATH
from conformance.oracle.view import ANSWERS, BY_ITSELF, LACKS, NO_CLOCK, cut
from refmodel.packet.segment import Segment

ATTEMPTS: Final = 48  # for one frame
BUDGET: Final = 4_096  # for one connection
LATENESS: Final = ("ack-withheld", "handshake-ack-missing", "syn-timer")
UNSENT: Final = ("ip-id-gap", "sequence-gap")  # what frames that were lost before the tap leave behind
DSACK: Final = "net.ipv4.tcp_dsack"
UNTOLD: Final = ("sack-blocks", "ack-without-cause")  # what a DSACK that is missing breaks
BEFORE: Final = "6.1"  # the last that is modelled before PAWS_CHALLENGES
TAKEN: Final = 3  # damaged frames of which it is tried whether they were taken
LAG_MAX: Final = 4_000_000  # us: a path as long as that is none
SWAPS: Final = 4  # pairs of frames whose stamps may be in the wrong order


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


class Hypotheses(Following):
    """A connection that is followed again under hypotheses."""

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
        take_apart(self.ends)
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
        if self._loses(why, shown) or self._slows(why):
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
        if self._tells_none(first, s, shown, end):
            return
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

    def _tells_none(self, why: Refusal, s: Segment, shown: Evidence, end: int) -> bool:
        """Whether the connection goes on if the end that refuses tells no DSACKs: nobody says, and it told none.

        One that tells a DSACK after all is held to them again. Source: net/ipv4/tcp_input.c:tcp_dsack_set.
        """
        e = self.ends[self._refused(why, s)]
        stack = e.stack
        if stack.given:
            return False
        if stack.told.get(DSACK) == 0 and s.sack and tells_twice(s):
            self._turns(e, 1)
            failed = self._again(self.decided, end)
            if failed is not None:
                self._retry(*failed, shown, end)
            return True
        if why.constraint not in UNTOLD or DSACK in stack.told or not shown.tells_none(e.address, s.number):
            return False
        self._turns(e, 0)
        failed = self._again(self.decided, end)
        if failed is not None and failed[1].number <= s.number:
            self._turns(e, 1)
            del stack.told[DSACK]
            return False
        stack.evidence.append(f"{DSACK} = 0: frame {s.number} tells not what came twice, and no other does")
        if failed is not None:
            self._retry(*failed, shown, end)
        return True

    def _turns(self, e: End, on: int) -> None:
        """Takes for granted that an end tells DSACKs, or does not."""
        self._mark()
        e.stack.told[DSACK] = on
        for x in (*self.ends, *(x for _, ends in self.marks for x in ends)):
            if x.side == e.side:
                x.rx.loosens()

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

    def _loses(self, refused: Refusal, shown: Evidence) -> bool:
        """Whether the capture shows that frames are lost behind the tap where that was not taken for possible."""
        found = False
        self._mark()  # before what it is made of changes
        for e in self.ends:
            if e.stack.presumed and (why := shown.loses(e.address)):
                e.stack.lossy, e.stack.presumed, e.stack.exact, found = None, False, False, True
                e.stack.evidence.append(f"frames to it are lost behind the tap: {why}")
            if e.stack.close and (why := shown.far(e.address)):
                e.stack.near, e.stack.late = None, max(e.stack.late, PATH)
                e.stack.close, e.stack.exact, e.stack.ordered, found = False, False, False, True
                e.stack.evidence.append(f"the tap may be far from it: {why}")
            presumed = e.stack.exact and not e.stack.given and refused.constraint in UNSENT
            if presumed and (lacks := shown.unsent(e.address)):
                e.stack.exact, e.stack.ordered, found = False, e.stack.near is True, True
                e.stack.evidence.append(f"frames of it are lost before the tap: {lacks}")
            guessed = not e.stack.given and release(e.stack.kernel) >= PAWS_CHALLENGES
            if guessed and not self.setup.extra.get("told", True) and (why := shown.old_syn(e.address)):
                e.stack.kernel, found = BEFORE, True
                e.stack.evidence.append(f"a kernel before 6.12: {why}")
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
