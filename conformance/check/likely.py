"""The narrow frontier, for the many segments that need no search.

Most segments of most captures are explained by the first thing that `Frontier` tries. Here one hypothesis is moved on
with plain variables, without a new value for each step and without noting why other explanations fail. The law: what is
found here is what the narrow frontier would have found first. Where that would take a second hypothesis the frontier
searches as it always does.
"""

from collections.abc import Iterable
from typing import Any, Final, Protocol

from conformance.check.frontier import REACH, Arrival, Frontier, Half, Hypothesis, Observation, Owed, Proposal, Trail
from conformance.check.verdict import FrameLabel
from refmodel.rule import AssumptionBroken, NotEnabled, NotModelled, Rule, State

DEEP: Final = 4096  # inputs that one output may have waited for: nothing branches here
FAULTS: Final = (NotModelled, AssumptionBroken, NotEnabled)


class LikelyHalf(Half, Protocol):
    """What a layer adds for the narrow frontier."""

    visible_types: frozenset[type]
    """The types of the effects that are `visible`."""

    def may_explain(self, state: State, seen: Observation) -> bool:
        """False only if no run from `state` can lead to `seen`, whatever arrived."""

    def likely_inputs(self, state: State, arrival: Arrival, answered: Observation) -> Iterable[Proposal]:
        """`useful_inputs` without those that a handshake in good order does without."""

    def deadline(self, state: State) -> int:
        """The earliest `latest` of `timers` (us)."""


class Likely(Frontier):
    """A frontier of one hypothesis that searches only where the first explanation fails."""

    half: LikelyHalf
    until = -1  # nothing happens by itself up to then (us); -1: not known

    def observe(self, seen: Observation) -> bool:
        """Explains an output; False if no hypothesis can."""
        if seen.time > self.until:
            self.advance(seen.time)
        alive = self.alive
        if len(alive) > 1:
            alive = self.alive = [h for h in alive if self.half.may_explain(h.state, seen)]
        if len(alive) == 1:
            found = self._explained(alive[0], seen)
            if found is not None:
                alive[0] = found
                self.until = -1
                if found.done > self.base + 2 * REACH:
                    self._forget()
                return True
        self.until = -1
        return super().observe(seen)

    def arrive(self, a: Arrival) -> None:
        """Takes an input that the machine will process within `late` us."""
        if a.time > self.until:
            self.advance(a.time)
        self.arrivals.append(a)
        if a.time + self.late < self.until:
            self.until = a.time + self.late

    def advance(self, now: int) -> None:
        """Lets time pass: inputs older than `late` are processed, due timers fire, what was owed must have shown."""
        if now <= self.until:
            return
        if len(self.alive) == 1:
            h = self.alive[0]
            moved = self._absorbed(h, now)
            if moved is not None:
                if moved is not h:
                    self.alive[0] = moved
                    if moved.done > self.base + 2 * REACH:
                        self._forget()
                return
        self.until = -1
        super().advance(now)

    def _explained(self, h: Hypothesis, seen: Observation) -> Hypothesis | None:
        """`h` with `seen` explained; None where that takes a search."""
        half, arrivals, base = self.half, self.arrivals, self.base
        if h.owed:
            first = h.owed[0]
            if not half.matches(first.effect, seen):
                return None
            label = FrameLabel(seen.number, "", first.rule, first.effect.by)
            state = half.accept(h.state, first.effect, seen)
            return Hypothesis(state, h.done, h.owed[1:], h.cost, Trail(label, "", h.trail))
        state, done, cost = h.state, h.done, h.cost
        for _ in range(DEEP):
            if half.may_send(state, seen):
                for p in half.proposals(state, seen):
                    new, r, shown = self._taken(state, p)
                    if shown and half.matches(shown[0], seen):
                        trail = Trail(None, p.note, h.trail) if p.note else h.trail
                        return self._sent(new, done, cost + p.cost, trail, r, shown, seen, p.note)
            if done - base >= len(arrivals):
                return None
            a = arrivals[done - base]
            silent: State | None = None
            for p in half.likely_inputs(state, a, seen):
                new, r, shown = self._taken(state, p)
                if shown and half.matches(shown[0], seen):
                    if p.note:
                        return None
                    return self._sent(
                        new, done + 1, cost + p.cost, h.trail, r, shown, seen, f"answers frame {a.number}"
                    )
                if r is not None and not shown:
                    if p.note or p.cost:
                        return None
                    if silent is None:
                        silent = new
                    elif silent != new:
                        return None
            if silent is None:
                return None
            state, done = silent, done + 1
        return None

    def _sent(
        self,
        state: State,
        done: int,
        cost: int,
        trail: Trail | None,
        r: Rule | None,
        shown: list[Any],
        seen: Observation,
        note: str,
    ) -> Hypothesis:
        """The hypothesis behind an output that `shown[0]` is; what else must show is owed."""
        by = r.id if r is not None else ""
        first = shown[0]
        due = seen.time + self.late
        owed = tuple(Owed(x, by, due) for x in shown[1:]) if len(shown) > 1 else ()
        label = FrameLabel(seen.number, "", by, first.by, note)
        return Hypothesis(self.half.accept(state, first, seen), done, owed, cost, Trail(label, "", trail))

    def _absorbed(self, h: Hypothesis, now: int) -> Hypothesis | None:
        """`h` with all inputs processed older than `late`; None where one shows or takes a search."""
        half, arrivals, base, late = self.half, self.arrivals, self.base, self.late
        state, done, cost, trail = h.state, h.done, h.cost, h.trail
        if h.owed and h.owed[0].due < now:
            return None
        while (until := half.deadline(state)) >= now:
            a = arrivals[done - base] if done - base < len(arrivals) else None
            if a is None or a.time + late >= now:
                if a is not None:
                    until = min(until, a.time + late)
                self.until = min(until, h.owed[0].due) if h.owed else until
                return h if done == h.done else Hypothesis(state, done, h.owed, cost, trail)
            p = half.inputs(state, a, None)[0]
            new, r, shown = self._taken(state, p)
            if r is None or shown:
                return None
            state, done, cost = new, done + 1, cost + p.cost
            if p.note:
                trail = Trail(None, p.note, trail)
        return None

    def _taken(self, state: State, p: Proposal) -> tuple[State, Rule | None, list[Any]]:
        """The state after a proposal's events, of which only the last may show; its rule, None if it can't be."""
        visible = self.half.visible_types
        shown: list[Any] = []
        r: Rule | None = None
        try:
            for event in p.events:
                if shown:
                    return state, None, []
                r, state, effects = self.apply(state, event, self.params)
                for x in effects:
                    if type(x) in visible:
                        shown.append(x)
        except FAULTS:
            return state, None, []
        return state, r, shown
