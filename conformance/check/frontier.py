"""Timed input-output conformance of one observed machine: after every prefix, what it sent is something the model may
send then, and what the model must send by a deadline was sent.

The machine's inputs are seen (`Arrival`s) but not when it processed them; its outputs are seen (`Observation`s) but not
the hidden events (calls, timers) behind them. Hidden events are proposed from the observed output by the layer's
`Half`, never enumerated blindly; a small frontier of hypotheses is carried along. An input counts as processed at the
latest `late` us after its stamp, unless it is one of `losable`: those whose loss after the tap the capture shows.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from msgspec import Struct
from msgspec.structs import replace

from conformance.check.verdict import FrameLabel, NearMiss
from refmodel.rule import AssumptionBroken, Effect, Event, NotEnabled, NotModelled, Params, Rule, State

Apply = Callable[[State, Event, Params], tuple[Rule, State, tuple[Any, ...]]]

WIDTH = 32
REACH = 64
WORK = 4096


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
    trail: Trail | None = None

    @property
    def key(self) -> tuple[Any, ...]:
        """What tells hypotheses apart for the future."""
        return self.state, self.done, tuple(o.effect for o in self.owed)


class Half(Protocol):
    """What a layer says about one of its machines to the frontier."""

    def inputs(self, state: State, arrival: Arrival, answered: Observation | None) -> Sequence[Proposal]:
        """The events that `arrival` may become, most likely first; `answered` is the output that it may have caused.

        Hidden events may stand before the arrival's own, which is the last.
        """

    def proposals(self, state: State, seen: Observation) -> Iterable[Proposal]:
        """Hidden events from which `seen` could follow."""

    def may_send(self, state: State, seen: Observation) -> bool:
        """False only if no proposal can lead from `state` to `seen`."""

    def useful_inputs(self, state: State, arrival: Arrival, answered: Observation) -> Iterable[Proposal]:
        """`inputs` without those that can neither lead to `answered` nor differ from a later one of them."""

    def matches(self, effect: Any, seen: Observation) -> bool:
        """Whether `differs` finds nothing."""

    def visible(self, effect: Any) -> bool:
        """Whether the tap shows this effect."""

    def differs(self, effect: Any, seen: Observation, state: State) -> str:
        """'' if the effect is what was seen, else the fields that differ."""

    def accept(self, state: State, effect: Any, seen: Observation) -> State:
        """The state, with what the observation tells of it."""

    def timers(self, state: State) -> Iterable[Timer]:
        """The timers that must fire, whoever watches."""


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
        self.losable: frozenset[int] = frozenset()
        self.tells = False

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
        if not self.tells and not self.half.matches(first.effect, seen):
            return None
        why = self.half.differs(first.effect, seen, h.state)
        if why:
            near = NearMiss(first.rule, why)
            self.dead.append(Dead(h.state, seen.time, why, (describe(first.effect),), (near,)))
            return None
        label = FrameLabel(seen.number, "", first.rule, first.effect.by, note)
        state = self.half.accept(h.state, first.effect, seen)
        return replace(h, state=state, owed=tuple(owed[1:]), trail=Trail(label, "", h.trail))

    # -- outputs

    def observe(self, seen: Observation) -> bool:
        """Explains an output; False if no hypothesis can."""
        self.advance(seen.time)
        if not self.alive:
            return False
        self.dead.clear()
        found = self._all(seen)
        if not found:
            self.tells = True
            found = self._all(seen)
            self.tells = False
        self._keep(found)
        return bool(self.alive)

    def _all(self, seen: Observation) -> list[Hypothesis]:
        """What explains an output. Unless the frontier `tells` why nothing else does, only what may is tried."""
        if self.wide and not self.tells:
            return self._together(seen)
        out: dict[Any, Hypothesis] = {}
        for h in self.alive:
            for n in self._explain(h, seen):
                _cheaper(out, n)
                if not self.wide:
                    break
        return list(out.values())

    def _together(self, seen: Observation) -> list[Hypothesis]:
        """What explains an output, by one sweep over the inputs: hypotheses that come to be alike go on as one."""
        out: dict[Any, Hypothesis] = {}
        levels: dict[int, dict[Any, Hypothesis]] = {}
        for h in self.alive:
            _cheaper(levels.setdefault(h.done, {}), h)
        for done in range(min(levels), max(levels) + REACH):
            level = levels.pop(done, {})
            silent = levels.setdefault(done + 1, {})
            for g in self._best(level.values()):
                for m in self._explain_now(g, seen, silent):
                    _cheaper(out, m)
            if not silent and len(levels) == 1:
                break
        return list(out.values())

    def _keep(self, found: Iterable[Hypothesis]) -> None:
        self.alive = self._best(found)
        self._forget()

    def _forget(self) -> None:
        """Drops arrivals that every hypothesis has processed, but the last few that a proof of loss may need."""
        if self.alive:
            low = min(h.done for h in self.alive) - REACH
            if low > self.base + REACH:
                del self.arrivals[: low - self.base]
                self.base = low

    def _explain(self, h: Hypothesis, seen: Observation) -> Iterable[Hypothesis]:
        """Every way in which `h` leads to `seen`, those that process the fewest inputs first."""
        level = [h]
        for _ in range(REACH):
            silent: dict[Any, Hypothesis] = {}
            for g in level:
                yield from self._explain_now(g, seen, silent)
            if not silent:
                return
            level = self._best(silent.values())

    def _explain_now(self, h: Hypothesis, seen: Observation, silent: dict[Any, Hypothesis]) -> Iterable[Hypothesis]:
        """Explains `seen` by what is owed, a hidden event or the next input; `silent` takes what shows nothing."""
        if h.owed:
            m = self._match(h, h.owed, seen, "")
            if m is not None:
                yield m
            return
        may = self.tells or self.half.may_send(h.state, seen)
        for p in self.half.proposals(h.state, seen) if may else ():
            r = self._steps(h, p, seen.time)
            m = self._match(r[0], r[1], seen, p.note) if r is not None else None
            if m is not None:
                yield m
        if h.done - self.base < len(self.arrivals):
            yield from self._process_for(h, seen, silent)

    def _best(self, found: Iterable[Hypothesis]) -> list[Hypothesis]:
        """The likeliest hypotheses, as many as the frontier is wide."""
        best = list(found)
        if len(best) > WIDTH:
            best.sort(key=lambda h: (h.cost, -h.done))
            del best[WIDTH:]
            self.bounded = True
        return best

    def _process_for(self, h: Hypothesis, seen: Observation, silent: dict[Any, Hypothesis]) -> Iterable[Hypothesis]:
        """Processes the next input as the cause of `seen`; those that show nothing are put into `silent`."""
        a = self.arrivals[h.done - self.base]
        inputs = self.half.inputs if self.tells else self.half.useful_inputs
        for p in inputs(h.state, a, seen):
            r = self._steps(h, p, seen.time)
            if r is None:
                continue
            n, shown = r
            n = replace(n, done=n.done + 1)
            if shown:
                m = self._match(n, shown, seen, f"answers frame {a.number}")
                if m is not None:
                    yield m
            else:
                _cheaper(silent, n)
        if a.number in self.losable:
            _cheaper(silent, self._lose(h, a))

    def _lose(self, h: Hypothesis, a: Arrival) -> Hypothesis:
        """`h` in which `a` never reached the machine."""
        trail = Trail(None, f"frame {a.number} was lost after the tap", h.trail)
        return replace(h, done=h.done + 1, cost=h.cost + 20, trail=trail)

    # -- inputs and time

    def arrive(self, a: Arrival) -> None:
        """Takes an input that the machine will process within `late` us."""
        self.advance(a.time)
        self.arrivals.append(a)

    def advance(self, now: int) -> None:
        """Lets time pass: inputs older than `late` are processed, due timers fire, what was owed must have shown."""
        if all(self._idle(h, now) for h in self.alive):
            return
        out: dict[Any, Hypothesis] = {}
        met = {h.key for h in self.alive}
        work = list(self.alive)
        while work:
            h = work.pop()
            if self._idle(h, now):
                _cheaper(out, h)
                continue
            for n in self._settle(h, now):
                if n.key not in met and len(met) < WORK:
                    met.add(n.key)
                    work.append(n)
        self.bounded = self.bounded or len(met) >= WORK
        self._keep(out.values())

    def _idle(self, h: Hypothesis, now: int) -> bool:
        k = h.done - self.base
        if k < len(self.arrivals) and self.arrivals[k].time + self.late < now:
            return False
        if h.owed and h.owed[0].due < now:
            return False
        return all(t.latest >= now for t in self.half.timers(h.state))

    def _settle(self, h: Hypothesis, now: int) -> Iterable[Hypothesis]:
        """What becomes of `h` by the first thing that must have happened before `now`; nothing if that would show."""
        if h.owed and h.owed[0].due < now:
            self._missing(h, h.owed[0], "")
            return
        k = h.done - self.base
        a = self.arrivals[k] if k < len(self.arrivals) else None
        due = [t for t in self.half.timers(h.state) if t.latest < now]
        if due and (a is None or min(t.latest for t in due) < a.time):
            fired = self._fire(h, min(due, key=lambda t: t.latest))
            if fired is not None:
                yield fired
            return
        if a is None or a.time + self.late >= now:
            return
        if a.number in self.losable:
            yield self._lose(h, a)
        for n in self._absorb(h, a):
            yield n
            if not self.wide:
                return

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
        """The hypotheses that stand at the end of the capture (us)."""
        self.advance(end)
        return self.alive


def _cheaper(found: dict[Any, Hypothesis], h: Hypothesis) -> None:
    """Keeps the cheaper of two hypotheses that are alike for the future."""
    old = found.get(h.key)
    if old is None or h.cost < old.cost:
        found[h.key] = h


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
