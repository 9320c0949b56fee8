"""How far an end had got with its inputs when it sent what it sent.

The law: an output shows where its end stood: rcv_nxt, the timestamp to echo, the blocks behind holes. Inputs are
processed in order; so of the positions that fit the furthest is taken that the end had the time to reach, and an input
before one that the output proves processed, but which the output denies, was dropped.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from conformance.oracle.end import us
from conformance.oracle.recovery import OPEN
from conformance.oracle.sack import BEHIND_HOLE, IN_ORDER, Range, Reassembly, unwrap
from refmodel.packet.segment import Segment
from refmodel.packet.transport import FIN, RST, SYN
from refmodel.types import H32, M32

if TYPE_CHECKING:
    from conformance.oracle.receiver_state import ReceiverState

EXACT: Final = 3
UNSURE: Final = 2  # a DSACK that not every Linux sends is missing
UNTOLD: Final = 1  # a DSACK is missing: the first copy never arrived
WRONG: Final = 0
FAR_BACK: Final = 1 << 30
RETRIES: Final = 8  # inputs behind holes that are found to have been dropped


def room(s: Segment) -> tuple[int, bool]:
    """How many SACK blocks the options leave room for, and whether other options than timestamps and SACK stand there.

    Source: net/ipv4/tcp_output.c:tcp_established_options.
    """
    used = 12 if s.tsval is not None else 0
    n = len(s.sack)
    size = s.payload_at - s.l4 - 20
    return (40 - used - 4) // 8, size > used + (4 + 8 * n if n else 0)


def blocks_fit(r: Reassembly, seen: Sequence[Range], most: int, crowded: bool, held: bool = False) -> int:
    """How well the SACK blocks `seen` are those of `r`: EXACT, UNSURE, UNTOLD or WRONG.

    `held`: an acknowledgment may have been held back before the last segment came.
    """
    blocks = r.blocks
    n = len(seen)
    if r.dsack is not None:
        if n and seen[0] in (r.dsack, r.joined) and _starts(blocks, seen[1:], most - 1, crowded):
            return EXACT
        if _starts(blocks, seen, most, crowded):
            return UNTOLD if r.sure else UNSURE
    elif _starts(blocks, seen, most, crowded):
        return EXACT
    if r.told_at_fin is not None and _starts(r.told_at_fin, seen, most, crowded):
        return EXACT
    return EXACT if held and is_midway(r, seen, most, crowded) else WRONG


def is_midway(r: Reassembly, seen: Sequence[Range], most: int, crowded: bool) -> bool:
    """Whether the SACK blocks `seen` are those that an acknowledgment told as the last segment's block was made."""
    if r.midway is None:
        return False
    if r.dsack is not None:
        return bool(seen) and seen[0] == r.dsack and _starts(r.midway, seen[1:], most - 1, crowded)
    return _starts(r.midway, seen, most, crowded)


def _starts(blocks: Sequence[Range], seen: Sequence[Range], most: int, crowded: bool) -> bool:
    n = len(seen)
    if n != min(len(blocks), most) and not (crowded and n < len(blocks)):
        return False
    return all(blocks[i] == seen[i] for i in range(n))


class Origin:
    """Where an end stood at its last output, and what it was taken to have processed since."""

    __slots__ = ("nxt", "re", "recent", "since")

    def __init__(self, re: Reassembly, recent: int | None) -> None:
        self.nxt, self.recent = re.nxt, recent
        plain = not (re.ranges or re.blocks or re.dsack is not None)
        self.re = Reassembly(re.nxt, re.sack, re.tells) if plain else re.copy()
        self.since: list[Segment] = []

    def copy(self) -> "Origin":
        """A copy to go on from; what it started from stays as it was."""
        new = Origin(self.re, self.recent)
        new.nxt, new.re, new.recent, new.since = self.nxt, self.re, self.recent, list(self.since)
        return new

    def reassembly(self) -> Reassembly:
        """The sequence space then."""
        return self.re


class Found:
    """A position: `count` inputs are through, of which those in `dropped` (by place) never arrived.

    `unsaid`: what is echoed there is later than what the inputs explain, so that more had left than was seen.
    """

    __slots__ = ("beyond", "causeless", "count", "dropped", "grade", "unsaid")

    def __init__(
        self, count: int, dropped: tuple[int, ...], grade: int, beyond: bool, causeless: bool, unsaid: bool
    ) -> None:
        self.count, self.dropped, self.grade = count, dropped, grade
        self.beyond, self.causeless, self.unsaid = beyond, causeless, unsaid

    def better(self, other: "Found | None") -> bool:
        """Whether it explains the output more readily."""
        if other is None:
            return True
        mine = (self.causeless, len(self.dropped), self.unsaid, -self.grade, self.beyond)
        theirs = (other.causeless, len(other.dropped), other.unsaid, -other.grade, other.beyond)
        if mine != theirs:
            return mine < theirs
        return self.count > other.count if not self.beyond else self.count < other.count


def find(
    rx: "ReceiverState", s: Segment, seen: tuple[Range, ...], lossy: bool, start: "Origin | None" = None
) -> Found | None:
    """The position at which `s` fits, None if there is none. `seen` are its SACK blocks, unwrapped.

    `start`: where the end stood at its last output, to count from there instead of from what was processed since.
    """
    forced: set[int] = set()
    strict = False
    while True:
        found, culprit = _walk(rx, s, seen, lossy, start, forced, strict)
        if found is not None or not lossy:
            return found
        if not strict and len(seen) >= room(s)[0]:
            strict = True  # a block that found no room may have been dropped instead
        elif culprit < 0 or len(forced) >= RETRIES:
            return None
        else:
            forced.add(culprit)


def _walk(
    rx: "ReceiverState",
    s: Segment,
    seen: tuple[Range, ...],
    lossy: bool,
    start: "Origin | None",
    forced: set[int],
    strict: bool,
) -> tuple[Found | None, int]:
    """The best position if the inputs at the places `forced` were dropped; else the next that seems to have been.

    Without SACK an input behind a hole shows when the hole is filled: what `s` doesn't acknowledge wasn't there.
    """
    end = rx.end
    ack = unwrap(s.ack_seq, rx.re.nxt)
    limit = us(s) - end.stack.base
    most, crowded = room(s)
    pure = not s.len and not s.flags & (FIN | SYN | RST)
    r = rx.re
    recent = rx.ts_recent
    una: int | None = end.tx.snd_una
    pending: Sequence[Segment] = end.pending
    if start is not None:
        r, recent, una = start.reassembly(), start.recent, None
        pending = (*start.since, *end.pending)
    duplicates = rx.credits + len(end.life.dues)
    clear = not (crowded or rx.fuzzy or s.truncated)
    dropped: list[int] = []
    waiting: dict[int, int] = {}  # where inputs behind holes begin: their places
    culprit = -1
    best: Found | None = None
    i = 0
    while True:
        if r.nxt == ack and (rx.echoes(s, recent) or _half_way(rx, s, pending, i, r.nxt, recent)):
            grade = EXACT if rx.fuzzy or s.truncated else blocks_fit(r, seen, most, crowded, duplicates > 1)
            if grade == UNTOLD and not rx.misses_dsack(r):
                grade = WRONG
            if grade:
                causeless = pure and not duplicates and r.nxt <= rx.wup and not rx.opens_window(s, ack)
                unsaid = rx.ts_ok is True and s.tsecr is not None and recent is not None and newer(s.tsecr, recent)
                beyond = i > 0 and us(pending[i - 1]) > limit
                here = Found(i, tuple(dropped), grade, beyond, causeless, unsaid)
                if here.better(best):
                    best = here
        if i == len(pending) or end.held(pending[i], s.number):
            return best, culprit
        p = pending[i]
        i += 1
        if i - 1 in forced:
            dropped.append(i - 1)
            continue
        if p.flags & (SYN | RST):
            if p.flags & RST:
                return best, culprit
            duplicates += 1
            continue
        seq = unwrap(p.seq, r.nxt)
        stop = seq + p.len + (p.flags & FIN)
        if seq < stop <= r.nxt and p.ack_seq == end.life.fin_end and end.life.peer_fin is not None:
            duplicates += 1  # it meets TIME_WAIT, which tells no DSACK
            continue
        why = rx.acceptable(p, r.nxt, recent)
        if why:
            duplicates += 1
            if stop != seq and seq < r.nxt and r.sack and r.tells:
                r = r.copy()
                r.refused(seq, min(stop, r.nxt))
            continue
        later = rx.newer_echo_at(p, seq, recent, una)
        if rx.denies_echo(s, later):
            if not lossy:
                return best, culprit
            dropped.append(i - 1)
            continue
        una = further(una, p.ack_seq)
        if stop == seq:
            recent = later
            continue
        before = r
        r = r.copy()
        kind = r.take(seq, stop, p.flags & FIN != 0, rx.room_left(r.nxt), p.len == 0)
        hidden = kind == BEHIND_HOLE and stop > ack and r.sack and (strict or len(seen) < most) and clear
        if r.nxt > ack or (hidden and not any(low <= seq and stop <= high for low, high in seen)):
            if stop <= ack < r.nxt and culprit < 0:
                culprit = waiting.get(ack, -1)
            r = before
            if not (lossy or rx.may_discard(p, seq, s)):
                return best, culprit
            dropped.append(i - 1)
            continue
        recent = later
        if kind == BEHIND_HOLE:
            waiting.setdefault(seq, i - 1)
        if kind != IN_ORDER:
            duplicates += 1


def further(una: int | None, ack: int) -> int:
    """snd_una behind an acknowledgment."""
    return ack if una is None or newer(ack, una) else una


def shortfall(rx: "ReceiverState", s: Segment) -> str:
    """What of `s` fits no position: its "ack", its "echo" where the ack fits, or its "sack" where both do."""
    ack = unwrap(s.ack_seq, rx.re.nxt)
    r, recent = rx.re.copy(), rx.ts_recent
    worst = "ack"
    for p in (None, *rx.end.pending):
        if p is not None:
            if p.flags & (SYN | RST) or rx.acceptable(p, r.nxt, recent):
                continue
            seq = unwrap(p.seq, r.nxt)
            recent = rx.newer_echo(p, seq, recent)
            r.take(seq, seq + p.len + (p.flags & FIN), p.flags & FIN != 0, rx.room_left(r.nxt), p.len == 0)
        if r.nxt == ack:
            if rx.echoes(s, recent):
                return "sack"
            worst = "echo"
    return worst


def _half_way(
    rx: "ReceiverState", s: Segment, pending: Sequence[Segment], i: int, nxt: int, recent: int | None
) -> bool:
    """Whether the acknowledgment in the next input sent `s`: its timestamp was taken, its text not yet.

    New data it sends only in recovery. Source: net/ipv4/tcp_input.c:tcp_rcv_established, where tcp_ack comes before
    tcp_data_queue, and tcp_data_snd_check behind it; tcp_xmit_recovery.
    """
    if not s.len or i == len(pending) or (s.seq == rx.end.tx.snd_nxt and rx.end.tx.f.ca == OPEN):
        return False
    p = pending[i]
    if not p.seg_len or p.flags & (SYN | RST):
        return False
    return rx.echoes(s, rx.newer_echo(p, unwrap(p.seq, nxt), recent))


def newer(a: int, b: int) -> bool:
    """Timestamp `a` is later than `b`."""
    return a != b and (a - b) & M32 < H32
