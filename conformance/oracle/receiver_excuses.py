"""Hypotheses that would excuse an output: inputs that were late, dropped, or not seen."""

from conformance.oracle.end import Excuse, us
from conformance.oracle.position import find, newer
from conformance.oracle.receiver_input import Arriving
from conformance.oracle.receiver_rules import QUEUED
from conformance.oracle.sack import Range
from refmodel.packet.segment import Segment
from refmodel.types import H32, M32


class Excusing(Arriving):
    """What may have happened to inputs."""

    __slots__ = ()

    def _lacks(self, s: Segment, what: str, blocks: bool = False) -> tuple[Excuse, ...]:
        """The capture may lack what an output answers, unless the recorder says that the tap missed nothing.

        Of SACK `blocks` also that is not held: where many segments were dropped behind the tap, which of them were is
        not always found.
        """
        if self.end.stack.whole and not blocks:
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
            return (Excuse("dropped", p.number, f"frame {s.number} shows what came later, not this", cost=0),)
        return self._excuses(s, [(p.number, us(p))], f"frame {s.number} does not show it", 0)

    def _excuses(self, s: Segment, found: list[tuple[int, int]], evidence: str, cost: int = 1) -> tuple[Excuse, ...]:
        stack = self.end.stack
        made = us(s) - self._waited(s)
        out = []
        for n, at in found[:3]:
            if at > made - stack.jiffy:
                stack.late = min(max(stack.late, 2 * (us(s) - at)), QUEUED)
                out.append(Excuse("late", n, f"{evidence}, and frame {s.number} waited for the tap", s.number, cost))
            elif stack.lossy is not False:
                out.append(Excuse("dropped", n, evidence, cost=cost))
        return tuple(out)

    def _waited(self, s: Segment) -> int:
        """How long (us) a frame waited between its making, which its timestamp tells, and the tap."""
        clock = self.end.ident.clock
        if s.tsval is None or clock.first is None:
            return 0
        at, tsval = clock.first
        ticks = (s.tsval - tsval) & M32
        return 0 if ticks >= H32 else max(us(s) - at - ticks * 1_000_000 // clock.rate, 0)
