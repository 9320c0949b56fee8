"""Hypotheses that would excuse an output: inputs that were late, dropped, or not seen."""

from conformance.oracle.end import Excuse, us
from conformance.oracle.position import Origin, find, further, newer
from conformance.oracle.receiver_input import Arriving
from conformance.oracle.receiver_rules import QUEUED
from conformance.oracle.sack import Range, unwrap
from refmodel.packet.segment import Segment
from refmodel.packet.transport import SYN
from refmodel.types import H32, M32


class Excusing(Arriving):
    """What may have happened to inputs."""

    __slots__ = ()

    def _lacks(self, s: Segment, what: str, blocks: bool = False) -> tuple[Excuse, ...]:
        """The capture may lack what an output answers, unless the recorder says that the tap missed nothing.

        Of SACK `blocks` also that is not held: where many segments were dropped behind the tap, which of them were is
        not always found.
        """
        if self.end.stack.whole and (self.loose or not blocks):
            return ()
        return (Excuse("unheard", s.number, f"{what}: the capture may lack what it answers", cost=6),)

    def _drops(self, s: Segment, above: int) -> tuple[Excuse, ...]:
        """Inputs with text that were taken for processed, and were late or dropped."""
        found = [(n, at) for n, at, _, stop in self.arrivals if stop > above and self._free(n, s)]
        there = [(n, at) for n, at, seq, stop in self.arrivals if seq <= above < stop and self._free(n, s)]
        if len(there) == 1:
            return self._excuses(s, there, "it ends where this begins", 0)
        return self._excuses(s, there or found, "what it brought is not acknowledged")

    def _free(self, n: int, s: Segment) -> bool:
        """Whether input `n` may be late or dropped at output `s`: one that was late before may still be."""
        why = self.end.decided.get(n)
        return why is None or (why.kind == "late" and why.until < s.number)

    def _first_copies(self, s: Segment) -> tuple[Excuse, ...]:
        """Of what came twice by the tap, and that no DSACK tells of, the first copy may not have come."""
        told = self.re.dsack
        if told is None or self.end.stack.lossy is False:
            return ()
        copies = [n for n, _, seq, stop in self.arrivals if seq < told[1] and stop > told[0]]
        if len(copies) < 2 or not self._free(copies[0], s):
            return ()
        return (Excuse("dropped", copies[0], f"frame {s.number} does not tell that it came twice", cost=1),)

    def _unheard(self, s: Segment) -> tuple[Excuse, ...]:
        """Inputs whose timestamps are later than the one that is echoed."""
        t = s.tsecr
        if t is None:
            return ()
        found = [(n, at) for n, at, tsval in self.stamps if newer(tsval, t) and self._free(n, s)]
        return self._excuses(s, found[:1], "its timestamp is not echoed")

    def _again_from_origin(self, s: Segment, seen: tuple[Range, ...]) -> tuple[Excuse, ...]:
        """The one hypothesis that comes first on the way to where the output stands, counted from the last output."""
        origin, stack = self.origin, self.end.stack
        if origin is None:
            return ()
        found = find(self, s, seen, stack.lossy is not False, origin)
        if found is None:
            return ()
        since = origin.since
        first = found.dropped[0] if found.dropped else found.count
        if first >= len(since):
            return ()
        p = since[first]
        if p.number in self.end.decided:
            return ()
        if first < found.count:
            why = f"frame {s.number} shows what came later, not this"
            lost = tuple(since[i].number for i in found.dropped if i < len(since))
            one: tuple[Excuse, ...] = (Excuse("dropped", p.number, why, cost=0),)
            return (Excuse("dropped", p.number, why, cost=0, also=lost[1:]), *one) if lost[1:] else one
        one = self._excuses(s, [(p.number, us(p))], f"frame {s.number} does not show it", 0)
        lost = self._denied(s, origin, found.count)
        if not one or one[0].kind != "dropped" or not lost:
            return one
        return (Excuse("dropped", p.number, f"frame {s.number} shows nothing since it came", cost=0, also=lost), *one)

    def _denied(self, s: Segment, origin: Origin, count: int) -> tuple[int, ...]:
        """Of the inputs behind input `count` since the last output those that the output denies, each by itself."""
        since = origin.since
        recent, una = origin.recent, None
        for p in since[:count]:
            if not p.flags & SYN:
                recent, una = self.newer_echo_at(p, unwrap(p.seq, origin.nxt), recent, una), further(una, p.ack_seq)
        made = us(s) - self._waited(s) - self.end.stack.jiffy
        return tuple(
            p.number
            for p in since[count + 1 :]
            if us(p) <= made
            and p.number not in self.end.decided
            and self.denies_echo(s, self.newer_echo_at(p, unwrap(p.seq, origin.nxt), recent, una))
        )

    def _excuses(self, s: Segment, found: list[tuple[int, int]], evidence: str, cost: int = 1) -> tuple[Excuse, ...]:
        stack = self.end.stack
        made = us(s) - self._waited(s)
        if made < us(s) - stack.jiffy:  # what its clock was measured by may have waited as long
            made = min(made, self._echoed_at(s))
        out = []
        for n, at in found[:3]:
            soon = at > made - stack.jiffy
            if soon:
                stack.late = min(max(stack.late, 2 * (us(s) - at)), QUEUED)
                out.append(Excuse("late", n, f"{evidence}, and frame {s.number} waited for the tap", s.number, cost))
            if stack.lossy is not False:
                out.append(Excuse("dropped", n, evidence, cost=cost + soon))
        return tuple(out)

    def _echoed_at(self, s: Segment) -> int:
        """When the input came whose timestamp a frame echoes, and before which it was not made; else its stamp."""
        return next((at for _, at, tsval in self.stamps if tsval == s.tsecr), us(s))

    def _waited(self, s: Segment) -> int:
        """How long (us) a frame waited between its making, which its timestamp tells, and the tap."""
        clock = self.end.ident.clock
        if s.tsval is None or clock.first is None:
            return 0
        at, tsval = clock.first
        ticks = (s.tsval - tsval) & M32
        return 0 if ticks >= H32 else max(us(s) - at - ticks * 1_000_000 // clock.rate, 0)
