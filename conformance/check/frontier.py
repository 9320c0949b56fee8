"""Timed input-output conformance of one observed machine: after every prefix, what it sent is something the model may
send then, and what the model must send by a deadline was sent.

The machine's inputs are seen (`Arrival`s) but not when it processed them; its outputs are seen (`Observation`s) but not
the hidden events (calls, timers) behind them. Hidden events are proposed from the observed output by the layer's
`Half`, never enumerated blindly; a small frontier of hypotheses is carried along. An input counts as processed at the
latest `late` us after its stamp. Every hypothesis that an input was lost after the tap must be proved by a later event
or it does not count.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from msgspec import Struct
from msgspec.structs import replace

from conformance.check.verdict import FrameLabel, NearMiss
from refmodel.rule import AssumptionBroken, Effect, Event, NotEnabled, NotModelled, Params, Rule, State

Apply = Callable[[State, Event, Params], tuple[Rule, State, tuple[Any, ...]]]

WIDTH = 64
REACH = 64
UNPROVEN = 4


class Observation(Struct, frozen=True):
    """An output of the machine: frame `number` (0: not a frame) at `time` us; `what` is the layer's own view."""

    number: int
    time: int
    what: Any


class Arrival(Struct, frozen=True):
    """An input that the tap saw on its way to the observed machine."""

    number: int
    time: int
    what: Any


class Proposal(Struct, frozen=True):
    """Hidden events that would make the machine send the observation, and what a user should read about them."""

    events: tuple[Event, ...]
    note: str = ""
    cost: int = 1


class Timer(Struct, frozen=True):
    """A timer that is armed: it fires not before `earliest` and not after `latest` (us)."""

    event: Event
    earliest: int
    latest: int


class Owed(Struct, frozen=True):
    """An effect that must show on the wire by `due` (us)."""

    effect: Effect
    rule: str
    due: int


class Trail(Struct, frozen=True):
    """The labels so far, newest first, as a linked list that hypotheses share."""

    label: FrameLabel | None
    event: str
    before: "Trail | None"


class Hypothesis(Struct, frozen=True):
    """One way in which everything observed so far can have come about."""

    state: State
    done: int = 0
    owed: tuple[Owed, ...] = ()
    cost: int = 0
    unproven: tuple[int, ...] = ()
    trail: Trail | None = None

    @property
    def key(self) -> tuple[Any, ...]:
        """What tells hypotheses apart for the future."""
        return self.state, self.done, tuple(o.effect for o in self.owed), self.unproven


class Half(Protocol):
    """What a layer says about one of its machines to the frontier."""

    def inputs(self, state: State, arrival: Arrival, answered: Observation | None) -> Sequence[Proposal]:
        """The events that `arrival` may become, most likely first; `answered` is the output that it may have caused.

        Hidden events may stand before the arrival's own, which is the last.
        """

    def proposals(self, state: State, seen: Observation) -> Iterable[Proposal]:
        """Hidden events from which `seen` could follow."""

    def visible(self, effect: Any) -> bool:
        """Whether the tap shows this effect."""

    def differs(self, effect: Any, seen: Observation, state: State) -> str:
        """'' if the effect is what was seen, else the fields that differ."""

    def accept(self, state: State, effect: Any, seen: Observation) -> State:
        """The state, with what the observation tells of it."""

    def timers(self, state: State) -> Iterable[Timer]:
        """The timers that must fire, whoever watches."""

    def lost(self, state: State, arrival: Arrival) -> bool:
        """Whether `arrival` may have been lost after the tap, if a later event proves it."""

    def proves_loss(self, lost: Arrival, other: Arrival) -> bool:
        """Whether the peer sent `other` because `lost` was not answered, or `lost` because `other` was not."""

    def betrays_loss(self, lost: Arrival, seen: Observation) -> bool:
        """Whether the machine would not have sent `seen` had it processed `lost`."""


class Dead(Struct, frozen=True):
    """Why a hypothesis ended, with the state in which it did."""

    state: State
    time: int
    why: str
    allowed: tuple[str, ...] = ()
    near: tuple[NearMiss, ...] = ()


class Frontier:
    """The hypotheses about one machine. `wide` keeps all of them; otherwise the first explanation is taken."""

    def __init__(
        self, half: Half, apply: Apply, params: Params, starts: Sequence[State], late: int, wide: bool
    ) -> None:
        self.half, self.apply, self.params, self.late, self.wide = half, apply, params, late, wide
        self.alive = [Hypothesis(state=s) for s in starts]
        self.arrivals: list[Arrival] = []
        self.base = 0
        self.dead: list[Dead] = []
        self.bounded = False

    # -- one event on a hypothesis

    def _step(self, h: Hypothesis, event: Event, now: int) -> tuple[Hypothesis, tuple[Owed, ...]] | None:
        """Applies one event; the visible effects come back beside the new hypothesis."""
        try:
            r, new, effects = self.apply(h.state, event, self.params)
        except (NotModelled, AssumptionBroken, NotEnabled) as why:
            self.dead.append(Dead(h.state, now, str(why)))
            return None
        shown = tuple(Owed(x, r.id, now + self.late) for x in effects if self.half.visible(x))
        return replace(h, state=new), shown

    def _steps(self, h: Hypothesis, p: Proposal, now: int) -> tuple[Hypothesis, tuple[Owed, ...]] | None:
        """Applies a proposal's events, of which only the last may show."""
        shown: tuple[Owed, ...] = ()
        for event in p.events:
            if shown:
                return None
            r = self._step(h, event, now)
            if r is None:
                return None
            h, shown = r
        if p.note:
            h = replace(h, trail=Trail(None, p.note, h.trail))
        return replace(h, cost=h.cost + p.cost), shown

    def _match(self, h: Hypothesis, owed: Sequence[Owed], seen: Observation, note: str) -> Hypothesis | None:
        """`h` with `seen` explained by the first of `owed`, the rest still owed."""
        if not owed:
            return None
        first = owed[0]
        why = self.half.differs(first.effect, seen, h.state)
        if why:
            near = NearMiss(first.rule, why)
            self.dead.append(Dead(h.state, seen.time, why, (describe(first.effect),), (near,)))
            return None
        label = FrameLabel(seen.number, "", first.rule, first.effect.by, note)
        state = self.half.accept(h.state, first.effect, seen)
        left = h.unproven
        if left:
            left = tuple(n for n in left if not any(self._betrayed(n, a, seen) for a in self.arrivals))
        return replace(h, state=state, owed=tuple(owed[1:]), unproven=left, trail=Trail(label, "", h.trail))

    def _betrayed(self, number: int, a: Arrival, seen: Observation) -> bool:
        return a.number == number and self.half.betrays_loss(a, seen)

    # -- outputs

    def observe(self, seen: Observation) -> bool:
        """Explains an output; False if no hypothesis can."""
        self.advance(seen.time)
        if not self.alive:
            return False
        self.dead.clear()
        out: dict[Any, Hypothesis] = {}
        for h in self.alive:
            for n in self._explain(h, seen, 0):
                old = out.get(n.key)
                if old is None or n.cost < old.cost:
                    out[n.key] = n
                if not self.wide:
                    break
        self._keep(out.values())
        return bool(self.alive)

    def _keep(self, found: Iterable[Hypothesis]) -> None:
        alive = list(found)
        if len(alive) > WIDTH:
            alive.sort(key=lambda h: (h.cost, -h.done))
            del alive[WIDTH:]
            self.bounded = True
        self.alive = alive
        self._forget()

    def _forget(self) -> None:
        """Drops arrivals that every hypothesis has processed, but the last few that a proof of loss may need."""
        if self.alive:
            low = min(h.done for h in self.alive) - REACH
            if low > self.base + REACH:
                del self.arrivals[: low - self.base]
                self.base = low

    def _explain(self, h: Hypothesis, seen: Observation, depth: int) -> Iterable[Hypothesis]:
        if h.owed:
            m = self._match(h, h.owed, seen, "")
            if m is not None:
                yield m
            return
        for p in self.half.proposals(h.state, seen):
            r = self._steps(h, p, seen.time)
            m = self._match(r[0], r[1], seen, p.note) if r is not None else None
            if m is not None:
                yield m
        if h.done - self.base < len(self.arrivals) and depth < REACH:
            yield from self._process_for(h, seen, depth)

    def _process_for(self, h: Hypothesis, seen: Observation, depth: int) -> Iterable[Hypothesis]:
        """Processes the next input, as the cause of `seen` or before it."""
        a = self.arrivals[h.done - self.base]
        silent: list[Hypothesis] = []
        for p in self.half.inputs(h.state, a, seen):
            r = self._steps(h, p, seen.time)
            if r is None:
                continue
            n, shown = r
            n = replace(n, done=n.done + 1)
            if not shown:
                silent.append(n)
                continue
            m = self._match(n, shown, seen, f"answers frame {a.number}")
            if m is not None:
                yield m
        for n in silent:
            yield from self._explain(n, seen, depth + 1)
        if self.wide and self.half.lost(h.state, a):
            yield from self._explain(self._lose(h, a), seen, depth + 1)

    def _lose(self, h: Hypothesis, a: Arrival) -> Hypothesis:
        """`h` in which `a` never reached the machine, to be proved by what arrived before or arrives later."""
        proved = any(x.number != a.number and self.half.proves_loss(a, x) for x in self.arrivals)
        unproven = h.unproven if proved else (*h.unproven, a.number)
        trail = Trail(None, f"frame {a.number} was lost after the tap", h.trail)
        return replace(h, done=h.done + 1, cost=h.cost + 20, unproven=unproven, trail=trail)

    # -- inputs and time

    def arrive(self, a: Arrival) -> None:
        """Takes an input that the machine will process within `late` us."""
        self.advance(a.time)
        self.arrivals.append(a)
        if any(h.unproven for h in self.alive):
            self.alive = [self._prove(h, a) for h in self.alive]

    def _prove(self, h: Hypothesis, later: Arrival) -> Hypothesis:
        left = tuple(
            n for n in h.unproven if not any(x.number == n and self.half.proves_loss(x, later) for x in self.arrivals)
        )
        return h if left == h.unproven else replace(h, unproven=left)

    def advance(self, now: int) -> None:
        """Lets time pass: inputs older than `late` are processed, due timers fire, what was owed must have shown."""
        if all(self._idle(h, now) for h in self.alive):
            return
        out: dict[Any, Hypothesis] = {}
        for h in self.alive:
            for n in self._settle(h, now):
                out.setdefault(n.key, n)
        self._keep(out.values())

    def _idle(self, h: Hypothesis, now: int) -> bool:
        k = h.done - self.base
        if k < len(self.arrivals) and self.arrivals[k].time + self.late < now:
            return False
        if h.owed and h.owed[0].due < now:
            return False
        return all(t.latest >= now for t in self.half.timers(h.state))

    def _settle(self, h: Hypothesis, now: int) -> Iterable[Hypothesis]:
        while True:
            if h.owed and h.owed[0].due < now:
                self._missing(h, h.owed[0], "")
                return
            k = h.done - self.base
            a = self.arrivals[k] if k < len(self.arrivals) else None
            due = [t for t in self.half.timers(h.state) if t.latest < now]
            if due and (a is None or min(t.latest for t in due) < a.time):
                fired = self._fire(h, min(due, key=lambda t: t.latest))
                if fired is None:
                    return
                h = fired
                continue
            if a is None or a.time + self.late >= now:
                yield h
                return
            if self.wide and len(h.unproven) < UNPROVEN and self.half.lost(h.state, a):
                yield from self._settle(self._lose(h, a), now)
            nexts = list(self._absorb(h, a))
            if not nexts:
                return
            if self.wide:
                for n in nexts[1:]:
                    yield from self._settle(n, now)
            h = nexts[0]

    def _missing(self, h: Hypothesis, owed: Owed, why: str) -> None:
        text = f"{why}{describe(owed.effect)} was due and is missing"
        self.dead.append(Dead(h.state, owed.due, text, (describe(owed.effect),), (NearMiss(owed.rule, text),)))

    def _fire(self, h: Hypothesis, t: Timer) -> Hypothesis | None:
        """A timer that nobody saw fire: None if the tap should have shown what it does."""
        r = self._step(h, t.event, t.latest)
        if r is None:
            return None
        n, shown = r
        if shown:
            self._missing(h, shown[0], f"{type(t.event).__name__}: ")
            return None
        if n.state == h.state:
            self.dead.append(Dead(h.state, t.latest, f"{type(t.event).__name__} does not disarm its timer"))
            return None
        return n

    def _absorb(self, h: Hypothesis, a: Arrival) -> Iterable[Hypothesis]:
        """Processes an input that nothing on the wire answered."""
        for p in self.half.inputs(h.state, a, None):
            r = self._steps(h, p, a.time)
            if r is None:
                continue
            n, shown = r
            if shown:
                self._missing(h, shown[0], f"the answer to frame {a.number}: ")
            else:
                yield replace(n, done=n.done + 1)

    def finish(self, end: int) -> list[Hypothesis]:
        """The hypotheses that stand at the end of the capture (us) with nothing left unproven."""
        self.advance(end)
        return [h for h in self.alive if not h.unproven]


def describe(effect: Any) -> str:
    """An effect as a reader wants it: its kind and the fields that are set."""
    fields = ", ".join(
        f"{f}={getattr(effect, f)}"
        for f in effect.__struct_fields__
        if f != "by" and getattr(effect, f) not in (0, False, (), None, "")
    )
    return f"{type(effect).__name__}({fields}) by {effect.by}"


def labels(trail: Trail | None, host: str) -> tuple[tuple[FrameLabel, ...], tuple[str, ...]]:
    """The labels and hidden events of a trail, oldest first."""
    found: list[FrameLabel] = []
    events: list[str] = []
    while trail is not None:
        if trail.label is not None:
            found.append(replace(trail.label, host=host))
        if trail.event:
            events.append(trail.event)
        trail = trail.before
    return tuple(reversed(found)), tuple(reversed(events))
