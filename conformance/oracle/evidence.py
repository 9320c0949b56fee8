"""What a capture shows of loss: which hypotheses have evidence, and which the capture itself refutes.

The law: a frame that was lost leaves a trace. Data that did not arrive is sent again, or never acknowledged; an
acknowledgment that did not arrive lets its reader repeat what it acknowledged, or probe a window that it opened; what
the tap did not see leaves a step in the ids of its socket, or a hole in its sequence numbers that the peer has filled.
The traces are looked for in the frames around the one that was refused, a stated number of them behind it.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from conformance.oracle.end import Excuse
from conformance.oracle.receiver_rules import tells_twice
from refmodel.packet.segment import Segment
from refmodel.packet.transport import ACK, FIN, RST, SYN
from refmodel.types import M32, after, before

AHEAD: Final = 96  # frames looked at behind a refused one
SPAN: Final = 3_000_000_000  # ns; the same in time
STEPS: Final = 2  # exact steps of ids without a strange one before they speak
WIDE: Final = 2_048  # ids: a greater step is not a count of segments
ONE: Final = 1_500  # bytes: up to here a segment is one packet
LEAST: Final = 500  # bytes of each piece of a super-frame, at least
SWAPPED: Final = 200_000  # ns: stamps of two processors may stand in another order than the frames were taken in
FAR: Final = 1 << 24  # bytes: no capture lacks more at a time
BACK: Final = 1_000_000_000  # ns: no stamps of two processors are so far apart
DRIFT: Final = 50  # ms by which clocks may differ, and a frame may wait
ANSWER: Final = 1_000_000  # ns: who answers later may be far
INITIAL: Final = (64, 128, 255)  # TTLs that stacks start from
NEARBY: Final = 64  # ids: how far back a frame is that was overtaken
AGAIN: Final = 500_000  # ns: a copy that comes sooner was doubled by the network, not sent again

Who = tuple[bytes, int]


class Evidence:
    """The frames of a connection around a refused one, in the capture's order. `final`: no more will come."""

    def __init__(self, frames: Sequence[Segment], final: bool) -> None:
        self.frames, self.final = frames, final

    # -- whether anything was lost on the way to an end

    def loses(self, to: Who) -> str:
        """What shows that frames to the end `to` were lost behind the tap; '' if nothing does."""
        met: dict[tuple[int, int, int, int], Segment] = {}
        acks: list[Segment] = []
        data: list[Segment] = []
        top: int | None = None
        reset: Segment | None = None
        for x in self.frames:
            if (x.daddr, x.dest) == to:
                if x.flags & RST:
                    reset = x
                key = (x.seq, x.flags & (SYN | RST | FIN), 0 if x.seg_len else x.ack_seq, 1 if x.seg_len else 0)
                first = met.setdefault(key, x)
                if first is not x and x.seg_len and x.time - first.time >= AGAIN:
                    return f"frame {x.number} repeats frame {first.number}"
                if x.flags & ACK:
                    acks.append(x)
                if x.len:
                    data.append(x)
                continue
            if reset is not None and x.seg_len and not x.flags & RST and x.time - reset.time >= AGAIN:
                return f"frame {x.number} was sent long behind the RST of frame {reset.number}"
            if top is not None and x.seg_len and before(x.seq, top):
                for a in acks:
                    if after(a.ack_seq, x.seq) and x.time > a.time:
                        return f"frame {x.number} repeats what frame {a.number} acknowledged"
            if top is not None and not x.seg_len and x.seq == (top - 1) & M32 and not x.flags & RST:
                for a in acks:
                    if a.window and a.ack_seq == top and a.time < x.time:
                        return f"frame {x.number} probes behind frame {a.number}"
            if x.sack and x.flags & ACK:
                highest = max(x.sack, key=lambda b: (b[1] - x.ack_seq) & M32)[1]
                for d in data:
                    around = not before(d.seq, x.ack_seq) and before(d.end_seq, highest)
                    if around and not any(
                        not before(d.seq, low) and not after(d.end_seq, high) for low, high in x.sack
                    ):
                        return f"frame {x.number} selectively acknowledges around frame {d.number}"
            if top is None or after(x.end_seq, top):
                top = x.end_seq
        return ""

    # -- whether the tap did not see all that passed it

    def unseen(self, sides: tuple[Who, Who]) -> str:
        """What shows that the capture lacks frames that reached their end; '' if nothing does.

        Sequence numbers that the peer acknowledged and their sender went on behind, though no frame brought them; or a
        connection that goes on without the SYN-ACK of its handshake.
        """
        for who, other in (sides, sides[::-1]):
            own = [s for s in self.frames if (s.saddr, s.source) == who and not s.flags & RST]
            acks = [s for s in self.frames if (s.saddr, s.source) == other and s.flags & (ACK | RST) == ACK]
            if why := self._unanswered(own, acks) or self._older_syn(own, acks) or self._never_seen(own, acks):
                return why
        return ""

    def _unanswered(self, own: Sequence[Segment], others: Sequence[Segment]) -> str:
        if not own or own[0].flags & (SYN | ACK) != SYN:
            return ""
        first = next((s for s in own if not s.flags & SYN), None)
        if first is None or first.seq != own[0].end_seq or any(x.flags & SYN for x in others):
            return ""
        if any(x.number < first.number or before(x.ack_seq, first.seq) for x in others) or not others:
            return ""
        return f"frame {first.number} goes on from a SYN-ACK that is not there"

    def _older_syn(self, own: Sequence[Segment], others: Sequence[Segment]) -> str:
        """A SYN-ACK that echoes the time of an attempt before the first one: a time-out earlier."""
        syn = next((s for s in own if s.flags & (SYN | ACK) == SYN), None)
        if syn is None or syn.tsval is None:
            return ""
        for x in others:
            if x.flags & SYN and x.ack_seq == syn.end_seq and x.tsecr and 900 <= (syn.tsval - x.tsecr) & M32 <= 1_200:
                return f"frame {x.number} answers a SYN before that of frame {syn.number}"
        return ""

    def _never_seen(self, own: Sequence[Segment], acks: Sequence[Segment]) -> str:
        last: Segment | None = None
        top = 0
        for k, s in enumerate(own):
            if last is not None and not s.flags & SYN and after(s.seq, top):
                overlaps = any(
                    (before(y.seq, s.seq) and after(y.end_seq, top))
                    or (after(y.seq, s.seq) and before(y.seq, s.end_seq))
                    for y in own[k + 1 :]
                )
                hole = (s.seq - top) & M32
                if hole > FAR or any(before(y.seq, s.seq) for y in own[k + 1 :]):
                    continue  # out of line with those behind it: no loss does that
                numbered = bool(last.ip_id and s.ip_id)
                follows = (
                    0 < _step(last, s) <= _packets(last) if numbered else hole == 1 and not _byte(last, top, own[k:])
                )
                reached = any(not before(a.ack_seq, s.end_seq) for a in acks if a.time > last.time) or any(
                    a.ack_seq == s.seq for a in acks if a.time < s.time
                )
                asked = any(a.ack_seq != s.seq and not before(a.ack_seq, top) and before(a.ack_seq, s.seq) for a in acks
                            if a.time > s.time)  # fmt: skip
                if reached and not (overlaps or follows or asked):
                    return f"nothing brought the {hole} bytes before frame {s.number}, and they arrived"
            if last is None or after(s.end_seq, top):
                top = s.end_seq
            last = s
        return ""

    # -- whether the capture's clock is one

    def clock(self, sides: tuple[Who, Who]) -> str:
        """What shows that the capture's stamps are no clock's: edited, converted, replayed, set; '' if nothing does.

        They go back, or the timestamps of both ends say that another time has passed, and the same. Both ends count ms.
        """
        for p, n in pairwise(self.frames):
            if p.time - n.time > BACK:
                return f"frame {n.number} is stamped {(p.time - n.time) // 1_000_000} ms before frame {p.number}"
        off = []
        for who in sides:
            shifts = [
                s.time // 1_000_000 - s.tsval
                for s in self.frames
                if (s.saddr, s.source) == who and s.tsval is not None and not s.flags & RST
            ]
            if len(shifts) < 2:
                return ""
            some = min(len(shifts) // 2, 3)
            off.append(sorted(shifts[-some:])[some // 2] - sorted(shifts[:some])[some // 2])
        passed = (self.frames[-1].time - self.frames[0].time) // 1_000_000
        a, b = sorted(off, key=abs)
        if a * b > 0 and abs(a) > max(DRIFT, passed // 50) and abs(b) - abs(a) <= max(DRIFT, abs(b) // 4):
            return f"the timestamps of both ends say {passed - a} ms passed, the capture's stamps {passed} ms"
        return ""

    # -- whether an end is far

    def far(self, who: Who) -> str:
        """What shows that a path to the tap delays, loses or reorders frames of `who`; "" if nothing does."""
        own = [s for s in self.frames if (s.saddr, s.source) == who]
        routed = next((s for s in own if s.ttl not in INITIAL), None)
        if routed is not None:
            return f"its frame {routed.number} has TTL {routed.ttl}, so a router lies between"
        asked: Segment | None = None
        for s in self.frames:
            if (s.saddr, s.source) != who:
                asked = s if s.flags & SYN else None
            elif asked is not None:
                if s.time - asked.time > ANSWER:
                    return f"its frame {s.number} answers frame {asked.number} after {(s.time - asked.time) // 1000} us"
                asked = None
        return self._ids_stray(own) or self._strays(own) or self._out_of_place(own)

    def unsent(self, who: Who) -> str:
        """What shows that frames of `who` were lost before the tap; "" if nothing does.

        Ids that are left out between frames that are in line with those around them; or a hole that the peer has too,
        as its SACK says.
        """
        own = [s for s in self.frames if (s.saddr, s.source) == who and not s.flags & RST]
        numbered = [s for s in own if s.ip_id]
        brought = {s.ip_id for s in numbered}
        for k, (p, n) in enumerate(pairwise(numbered)):
            most = _packets(p)
            if k and not 1 <= _step(numbered[k - 1], p) <= _packets(numbered[k - 1]):
                continue  # the frame before the gap may be out of line itself
            if not most < _step(p, n) < WIDE or ((p.ip_id or 0) + most) & 0xFFFF in brought:
                continue
            if k + 2 == len(numbered) or 1 <= _step(n, numbered[k + 2]) <= _packets(n):
                return f"the count of ids leaves some out before its frame {n.number}"
        top: int | None = None
        for s in own:
            if top is not None and s.len and after(s.seq, top):
                for a in self.frames:
                    lacks = a.number > s.number and (a.daddr, a.dest) == who and not after(a.ack_seq, top)
                    if lacks and any(low == s.seq and not before(high, s.end_seq) for low, high in a.sack or ()):
                        return f"frame {a.number} lacks what its frame {s.number} goes on from"
            if top is None or after(s.end_seq, top):
                top = s.end_seq
        return ""

    def _out_of_place(self, own: Sequence[Segment]) -> str:
        """Without ids: data that come first behind what follows them. One frame may be out of its place by itself."""
        first: list[Segment] = []
        leading: set[int] = set()
        filling: set[int] = set()
        for s in own:
            if not s.len or s.ip_id or s.flags & (RST | SYN):
                continue
            ahead = [y for y in first if after(y.seq, s.seq)]
            if ahead and not any(before(y.seq, s.end_seq) and after(y.end_seq, s.seq) for y in first):
                filling.add(s.number)
                leading.update(y.number for y in ahead)
                if len(filling) > 1 and len(leading) > 1:
                    return f"its frame {s.number} and another come behind what follows them"
            first = [*first[1 - NEARBY :], s]
        return ""

    def _ids_stray(self, own: Sequence[Segment]) -> str:
        """Ids that count, and a frame that was overtaken, or segments that are missing."""
        numbered = [s for s in own if s.ip_id]
        exact = 0
        stray = ""
        for k, (p, n) in enumerate(pairwise(numbered)):
            step = _step(p, n)
            if 1 <= step <= _packets(p):
                exact += 1
            elif stray:
                continue
            elif k + 2 < len(numbered) and 1 <= _step(p, numbered[k + 2]) <= _packets(p) + _packets(n):
                if 1 <= _step(numbered[k + 2], n) <= _packets(numbered[k + 2]):
                    stray = f"its frame {n.number} left behind frame {numbered[k + 2].number}, the ids tell"
                # Else it is out of line with both its neighbours: no loss does that.
            elif k and not 1 <= _step(numbered[k - 1], p) <= _packets(numbered[k - 1]):
                continue  # the way back from it
            elif step > 0x8000:
                stray = f"its frame {n.number} left before frame {p.number}, the ids tell"
            else:
                stray = f"segments before its frame {n.number} are missing, the ids tell"
        return stray if exact else ""

    def _strays(self, own: Sequence[Segment]) -> str:
        """Without ids: a hole that a later frame fills, an acknowledgment or a clock that goes back."""
        last: Segment | None = None
        for s in own:
            if s.ip_id or s.flags & (RST | SYN):
                continue
            if last is not None and s.time - last.time < SPAN:
                if s.flags & ACK and last.flags & ACK and before(s.ack_seq, last.ack_seq):
                    return f"its frame {s.number} acknowledges less than frame {last.number}"
                if s.tsval is not None and last.tsval is not None and before(s.tsval, last.tsval):
                    return f"its frame {s.number} is older than frame {last.number} by its timestamp"
            last = s
        return ""

    def lag(self, who: Who) -> int:
        """The longest time (us) from data of the peer to the acknowledgment of `who` that ends with it."""
        came: dict[int, int] = {}
        longest = 0
        for s in self.frames:
            if (s.saddr, s.source) != who:
                if s.seg_len:
                    came.setdefault(s.end_seq, s.time)
            elif s.flags & ACK and (at := came.pop(s.ack_seq, None)) is not None:
                longest = max(longest, s.time - at)
        return longest // 1000

    # -- what an end does not tell

    def tells_none(self, who: Who, number: int) -> bool:
        """Whether no frame of `who` tells by a DSACK what came twice, and something did before frame `number`."""
        if any(s.sack and tells_twice(s) for s in self.frames if (s.saddr, s.source) == who):
            return False
        top: int | None = None
        for s in self.frames:
            if s.number >= number:
                break
            if (s.daddr, s.dest) == who and s.seg_len and not s.flags & SYN:
                if top is not None and before(s.seq, top):
                    return True
                top = s.end_seq
        return False

    def old_syn(self, who: Who) -> str:
        """What shows a kernel before 6.12: a DSACK of the peer's SYN; a later one challenges a SYN that is old.

        Source: net/ipv4/tcp_input.c:tcp_validate_incoming.
        """
        syns: set[int] = set()
        for s in self.frames:
            if (s.saddr, s.source) != who:
                if s.flags & SYN and not s.len:
                    syns.add(s.seq)
            elif s.sack and s.sack[0][0] in syns and s.sack[0][1] == (s.sack[0][0] + 1) & M32:
                return f"frame {s.number} tells a DSACK of a SYN"
        return ""

    # -- single hypotheses

    def waited(self, s: Segment, end: Who, late: int) -> tuple[Excuse, ...]:
        """An input that came before the last output but was processed behind it: `s` is the first to echo it.

        Of what begins behind the last acknowledgment no timestamp is taken, so this tells. `late`: us that an input may
        wait. Source net/ipv4/tcp_input.c:tcp_replace_ts_recent.
        """
        if not s.tsecr:
            return ()
        earlier = [y for y in self.frames if y.number < s.number]
        left = next((y for y in reversed(earlier) if (y.saddr, y.source) == end), None)
        came = next((x for x in earlier if (x.daddr, x.dest) == end and x.tsval == s.tsecr), None)
        if left is None or came is None or came.number > left.number or left.time - came.time > late * 1_000:
            return ()
        return (Excuse("late", came.number, f"frame {s.number} is the first to echo its timestamp", left.number),)

    def credible(self, x: Excuse, end: Who) -> bool:
        """Whether the capture does not refute hypothesis `x` of the end `end`."""
        if x.kind == "dropped":
            return all(self._dropped(n, end) for n in x.frames)
        if x.kind == "unseen":
            return self._missing(x.frame, end)
        if x.kind == "unheard":
            return self._unheard(x.frame, end)
        return True

    def _frame(self, number: int) -> tuple[int, Segment] | None:
        for k, s in enumerate(self.frames):
            if s.number == number:
                return k, s
        return None

    def _dropped(self, number: int, end: Who) -> bool:
        """Data, SYN and FIN that were dropped come again, or are never acknowledged.

        Of an ACK nothing need tell, nor of what had been acknowledged before.
        """
        found = self._frame(number)
        if found is None or not found[1].seg_len:
            return True
        k, x = found
        for y in self.frames[:k]:
            if (y.saddr, y.source) == end and y.flags & (ACK | RST) == ACK and not before(y.ack_seq, x.end_seq):
                return True
        for y in self.frames[k + 1 :]:
            if (y.saddr, y.source) == (x.saddr, x.source):
                if y.seg_len and before(y.seq, x.end_seq) and after(y.end_seq, x.seq):
                    return True
            elif y.flags & ACK and not y.flags & RST and not before(y.ack_seq, x.end_seq):
                return False
        return True

    def _ids(self, who: Who, at: int) -> int | None:
        """How many segments of `who` the tap lacks before the frame at index `at`, or the next; None: ids don't say."""
        own = [s for s in self.frames if (s.saddr, s.source) == who and s.ip_id and s.flags & (SYN | ACK) != SYN | ACK]
        exact = strange = 0
        gap: int | None = None
        limit = self.frames[at].number
        for p, n in pairwise(own):
            step, most = _step(p, n), _packets(p)
            if p.number < limit <= n.number:
                if step >= WIDE:
                    return None
                gap = max(step - most, 0)
            elif 1 <= step <= most:
                exact += 1
            else:
                strange += 1
        return None if exact < STEPS or strange > exact // 4 else gap

    def _missing(self, number: int, end: Who) -> bool:
        """Something that `end` sent before frame `number` was not seen."""
        found = self._frame(number)
        if found is None:
            return True
        k, x = found
        gap = self._ids(end, k)
        if gap is not None:
            return gap > 0
        top: int | None = None
        for y in self.frames[:k]:
            if (y.saddr, y.source) == end and not y.flags & RST and (top is None or after(y.end_seq, top)):
                top = y.end_seq
        if top is None or not after(x.seq, top):
            return self._lost_before_tap(end)
        reach = x.end_seq
        for y in self.frames[k + 1 :]:
            if (y.saddr, y.source) == end:
                if y.seg_len and y.seq == top and not after(y.end_seq, reach):
                    return True  # sent again; what goes further was not sent before
                if after(y.end_seq, reach):
                    reach = y.end_seq
            elif y.flags & ACK and (y.ack_seq == x.seq or (y.ack_seq == top and y.sack)):
                return True
        return any((y.saddr, y.source) != end and not before(y.ack_seq, x.end_seq) for y in self.frames[k + 1 :]) and (
            self._lost_before_tap(end)
        )

    def _lost_before_tap(self, end: Who) -> bool:
        """Whether other frames show that frames of `end` do not reach the tap: holes that no later frame fills."""
        top: int | None = None
        own = [y for y in self.frames if (y.saddr, y.source) == end and not y.flags & RST]
        for k, y in enumerate(own):
            if top is not None and after(y.seq, top):
                fills = any(not after(z.seq, top) and after(z.end_seq, top) for z in own[k + 1 :])
                if not fills:
                    return True
            if top is None or after(y.end_seq, top):
                top = y.end_seq
        return False

    def _unheard(self, number: int, end: Who) -> bool:
        """Something that `end` answers in frame `number` came to it, but was not seen: its peer's frames tell."""
        found = self._frame(number)
        if found is None:
            return True
        k, x = found
        peers = [y for y in self.frames if (y.daddr, y.dest) == end and not y.flags & RST]
        earlier = [y for y in peers if y.number < x.number]
        later = [y for y in peers if y.number > x.number]
        if peers:
            gap = self._ids((peers[0].saddr, peers[0].source), k)
            if gap is not None:
                return gap > 0
        top: int | None = None
        for y in earlier:
            if top is None or after(y.end_seq, top):
                top = y.end_seq
        if top is not None and x.flags & ACK and after(x.ack_seq, top):
            came = [y for y in later if y.seg_len and before(y.seq, x.ack_seq) and after(y.end_seq, top)]
            if came:
                return came[0].time - x.time <= SWAPPED
            return any(not before(y.seq, x.ack_seq) for y in later)
        return bool(peers) and self._lost_before_tap((peers[0].saddr, peers[0].source))


def _byte(last: Segment, top: int, behind: Sequence[Segment]) -> bool:
    """Whether the number behind `last`, at `top`, is a byte's that was lost: no FIN's, cleared, nor one cut off it.

    Behind a FIN nothing is sent, and of a segment without data nothing can be cut off.
    """
    return not last.len and last.end_seq == top and any(s.len or s.flags & FIN for s in behind)


def _step(p: Segment, n: Segment) -> int:
    return ((n.ip_id or 0) - (p.ip_id or 0)) & 0xFFFF


def _packets(s: Segment) -> int:
    """How many packets a frame is on the wire, at most."""
    return 1 if s.len <= ONE else -(-s.len // LEAST)
