"""The run engine: exactly one enabled rule for a state and an event."""

from collections.abc import Callable, Iterable
from typing import Any

from msgspec.structs import force_setattr

from refmodel.profile import REFERENCE, version_number
from refmodel.rule import (
    PROPERTIES,
    RULES,
    AssumptionBroken,
    Event,
    Machine,
    NotEnabled,
    NotModelled,
    Params,
    Rule,
    SpecificationError,
    State,
    stamp,
)


class NearMiss(tuple[str, str]):
    """(rule id, the guard that failed)."""


class Dispatcher:
    """Looks rules up by (state type, event type, discriminator) and applies the one that is enabled.

    `check` makes it strict: every candidate is tried and two enabled rules raise SpecificationError, and the machine's
    assumptions are checked first (AssumptionBroken). Without it the first enabled rule is taken, which the disjointness
    proof permits; the one that applied last is tried first, since runs repeat themselves.
    """

    def __init__(self, rules: Iterable[Rule] | None = None, kernel: str = REFERENCE, check: bool = False) -> None:
        self.kernel = version_number(kernel)
        self.check = check
        self.table: dict[tuple[type, type, Any], tuple[Rule, ...]] = {}
        self.rules = tuple(r for r in (RULES.values() if rules is None else rules) if self._exists(r))
        self.assumptions = tuple(q for q in PROPERTIES.values() if q.kind == "assumption")

    def _exists(self, r: Rule) -> bool:
        return not (r.since and self.kernel < version_number(r.since)) and not (
            r.until and self.kernel >= version_number(r.until)
        )

    def candidates(self, state: State, event: Event) -> tuple[Rule, ...]:
        """The rules that may apply, by types and discriminator alone."""
        at = getattr(state, state.AT) if state.AT else None
        key = (type(state), type(event), at)
        found = self.table.get(key)
        if found is None:
            found = tuple(
                r for r in self.rules if r.state is type(state) and r.event is type(event) and (not r.at or at in r.at)
            )
            self.table[key] = found
        return found

    def apply(self, state: State, event: Event, params: Params) -> tuple[Rule, State, tuple[Any, ...]]:
        """The rule that fired, the new state and the effects; raises NotModelled with the near misses."""
        if self.check:
            return self._apply_strictly(state, event, params)
        key = (type(state), type(event), getattr(state, state.AT) if state.AT else None)
        found = self.table.get(key)
        if found is None:
            found = self.candidates(state, event)
        for r in found:
            try:
                new, effects = r.fn(state, event, params)
            except NotEnabled:
                continue
            if r is not found[0]:
                self.table[key] = (r, *(x for x in found if x is not r))
            for x in effects:
                if x.by == "":
                    force_setattr(x, "by", r.id)
            return r, new, effects
        raise NotModelled(self.explain(state, event, params))

    def _apply_strictly(self, state: State, event: Event, params: Params) -> tuple[Rule, State, tuple[Any, ...]]:
        for q in self.assumptions:
            if not q.events or isinstance(event, q.events):
                if q.of is not None and not isinstance(state, q.of):
                    continue
                args = (state, event, params) if q.of is not None else (event, params)
                if not q.fn(*args[: q.arity]):
                    raise AssumptionBroken(f"{q.id}: {q.says} (event {event})")
        done: list[tuple[Rule, State, tuple[Any, ...]]] = []
        for r in self.candidates(state, event):
            try:
                new, effects = r.fn(state, event, params)
            except NotEnabled:
                continue
            stamp(effects, r.id)
            done.append((r, new, effects))
        if len(done) > 1:
            raise SpecificationError(f"{' and '.join(d[0].id for d in done)} are both enabled in {state} by {event}")
        if not done:
            raise NotModelled(self.explain(state, event, params))
        return done[0]

    def near_misses(self, state: State, event: Event, params: Params) -> list[NearMiss]:
        """Every candidate whose guard failed, with the reason."""
        out: list[NearMiss] = []
        for r in self.candidates(state, event):
            try:
                r.fn(state, event, params)
            except NotEnabled as why:
                out.append(NearMiss((r.id, str(why))))
        return out

    def explain(self, state: State, event: Event, params: Params) -> str:
        """One line that says why nothing applies."""
        misses = "; ".join(f"{i}: not {w}" for i, w in self.near_misses(state, event, params))
        at = f" at {getattr(state, state.AT).name}" if state.AT else ""
        return f"no rule for {type(event).__name__} in {type(state).__name__}{at}" + (f" ({misses})" if misses else "")


def pick(machine: Machine, kernel: str = REFERENCE, check: bool = False) -> Dispatcher:
    """A dispatcher over one machine's rules."""
    return Dispatcher(machine.rules, kernel, check)


Apply = Callable[[State, Event, Params], tuple[Rule, State, tuple[Any, ...]]]
