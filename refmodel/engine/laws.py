"""What a machine's declarations say of its values and its steps: candidates for every field, and the laws to keep.

The property engine draws from the first and checks the second; both come from annotations and the registry alone.
"""

from collections.abc import Mapping
from enum import IntEnum
from functools import cache
from random import Random
from typing import Annotated, Any, Final, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from refmodel.engine.explore_system import Component, Taken, machine_component
from refmodel.engine.run import Dispatcher, pick
from refmodel.engine.runs import brief
from refmodel.profile import REFERENCE
from refmodel.rule import Event, Machine, Params, State
from refmodel.types import Near, bounds

REDRAWN: Final = 4


class LawBroken(AssertionError):
    """A step broke a law of its machine; the text says which, and by what step."""


# ---------------------------------------------------------------- values


@cache
def _fields(kind: Any) -> dict[str, tuple[Any, tuple[Any, ...]]]:
    out: dict[str, tuple[Any, tuple[Any, ...]]] = {}
    for name, hint in get_type_hints(kind, include_extras=True).items():
        if name in kind.__struct_fields__:
            bare, *notes = get_args(hint) if get_origin(hint) is Annotated else (hint,)
            out[name] = (bare, tuple(notes))
    return out


def fields(kind: type[Struct]) -> dict[str, tuple[Any, tuple[Any, ...]]]:
    """Each field of a struct type with its bare type and its annotations."""
    return _fields(kind)


def misfit(value: Struct) -> str | None:
    """What in a struct lies outside its annotation, or None."""
    for name, (bare, notes) in fields(type(value)).items():
        v = getattr(value, name)
        limits = bounds(notes)
        if limits is not None and bare is int and not limits[0] <= v <= limits[1]:
            return f"{type(value).__name__}.{name} = {v} is not in {limits[0]} .. {limits[1]}"
        if isinstance(bare, type) and issubclass(bare, IntEnum) and not isinstance(v, bare):
            return f"{type(value).__name__}.{name} = {v!r} is no {bare.__name__}"
        if bare is bool and not isinstance(v, bool):
            return f"{type(value).__name__}.{name} = {v!r} is no bool"
        if isinstance(v, Struct) and (inner := misfit(v)):
            return inner
    return None


def numbers(*values: Struct) -> dict[str, int]:
    """The integer fields of some structs by name; an earlier struct's field hides a later one's."""
    return {n: v for s in reversed(values) for n in s.__struct_fields__ if type(v := getattr(s, n)) is int}


def required(kind: type[Struct]) -> list[str]:
    """The fields without a default."""
    return [f.name for f in msgspec.structs.fields(kind) if f.required]


def candidates(bare: Any, notes: tuple[Any, ...], default: Any, around: Mapping[str, int]) -> list[Any]:
    """Values worth trying for a field, the plainest first: its default, the edges, and near what is `around`."""
    if bare is bool:
        return [default, not default] if isinstance(default, bool) else [False, True]
    if isinstance(bare, type) and issubclass(bare, IntEnum):
        return list(dict.fromkeys([*([default] if isinstance(default, bare) else []), *bare]))
    limits = bounds(notes)
    if bare is not int or limits is None:
        return [] if default is None else [default]
    lo, hi = limits
    wraps = (lo, hi) == (0, 0xFFFFFFFF)
    close = next((around[b] for n in notes if isinstance(n, Near) for b in n.bases if b in around), None)
    sign = next((n.sign for n in notes if isinstance(n, Near)), 1)
    out = [default] if isinstance(default, int) else []
    if close is not None:
        steps = (0, 1, -1, 2, -2, 1000, -1000, 65535, 1 << 30, 1 << 31)
        out += [(close + sign * d) & 0xFFFFFFFF for d in steps]
    out += [lo, hi, 0, 1, lo + 1, hi - 1]
    for v in around.values():
        out += [v, v + 1, v - 1]
    if wraps:
        out = [v & 0xFFFFFFFF for v in out]
    return list(dict.fromkeys(v for v in out if lo <= v <= hi))


def default_of(kind: type[Struct], name: str) -> Any:
    """The default of a field, or None."""
    i = kind.__struct_fields__.index(name) - (len(kind.__struct_fields__) - len(kind.__struct_defaults__))
    return kind.__struct_defaults__[i] if i >= 0 else None


# ---------------------------------------------------------------- laws


class Laws:
    """What every step of a machine must keep, asked one step at a time."""

    def __init__(
        self, machine: Machine, p: Params, kernel: str = REFERENCE, dispatcher: Dispatcher | None = None
    ) -> None:
        self.machine = machine
        self.params = p
        self.kernel = kernel
        self.dispatcher = dispatcher or pick(machine, kernel, check=True)
        start: Any = initial_states(machine)[0]
        self.component: Component = machine_component(
            machine.name, machine, start, p, kernel=kernel, dispatcher=self.dispatcher
        )

    def under(self, p: Params) -> "Laws":
        """The same laws under other parameters."""
        return Laws(self.machine, p, self.kernel, self.dispatcher)

    def holds_in(self, s: State) -> bool:
        """The state is within its ranges and has every invariant."""
        return misfit(s) is None and not self.component.judge(s)

    def step(self, s: State, e: Event) -> State | None:
        """Takes one step; None if an assumption rules the event out. Raises LawBroken."""
        t = self.component.apply(s, e)
        if t.skipped:
            return None
        for p in t.problems:
            raise self.broken(f"{p.kind}: {p.id}: {p.says}", s, e)
        again = self.component.apply(s, e)
        if (again.state, again.effects) != (t.state, t.effects):
            raise self.broken(f"{t.rule}: the same step gave two outcomes", s, e)
        for x in t.effects:
            if not x.by:
                raise self.broken(f"{t.rule}: {brief(x)} does not say who made it", s, e)
        for value in (t.state, *t.effects):
            if why := misfit(value):
                raise self.broken(f"{t.rule}: {why}", s, e)
        for p in self.component.judge(t.state):
            raise self.broken(f"{t.rule} breaks {p.id}: {p.says}", s, e, t.state)
        new: State = t.state
        return new

    def broken(self, why: str, s: State, e: Event, t: State | None = None) -> LawBroken:
        """The failure, told with its step."""
        after = f"\n  to   {brief(t)}" if t is not None else ""
        return LawBroken(f"{why}\n  from {brief(s)}\n  by   {brief(e)}{after}\n  with {brief(self.params)}")


def initial_states(machine: Machine) -> tuple[State, ...]:
    """The machine's initial states: those it names, else its first type with defaults."""
    return machine.initial or (next(iter(machine.accepts))(),)


# ---------------------------------------------------------------- a corpus


class Corpus:
    """Lawful states and events that fire each rule, bred from the initial states with a fixed seed.

    A random walk seldom gets far: most events change nothing. So states and events that fired a rule seldom seen are
    kept, and new ones are made from them by redrawing a few fields. `fired` maps a rule's id (what is wrong, where no
    single rule is enabled) to (state, event) pairs; `broken` is the first law that a bred step broke.
    """

    KEPT = 6

    def __init__(self, laws: Laws, initial: tuple[State, ...], tries: int = 4000) -> None:
        self.laws = laws
        self.random = Random(0)
        self.fired: dict[str, list[tuple[Any, Any]]] = {}
        self.states: dict[tuple[Any, ...], list[Any]] = {}
        self.events: dict[type[Event], list[Any]] = {}
        self.broken: LawBroken | None = None
        for s in initial + tuple(k() for k in laws.machine.accepts if not required(k)):
            self._keep(s)
        for _ in range(tries):
            self._try()

    def _keep(self, s: Any) -> None:
        """Keeps a lawful state beside others of its type and discriminator: each such group is drawn from alike."""
        group = (type(s), getattr(s, s.AT) if s.AT else None)
        if self.laws.machine.accepts.get(type(s)) and self.laws.holds_in(s):
            self.states.setdefault(group, []).append(s)

    def _try(self) -> None:
        r = self.random
        s = r.choice(self.states[r.choice(list(self.states))])
        if r.random() < 0.4:
            other = self.redrawn(s, numbers(s, self.laws.params), r.randint(1, REDRAWN))
            s = other if self.laws.holds_in(other) else s
        kind = r.choice(self.laws.machine.accepts[type(s)])
        around = numbers(s, self.laws.params)
        e = r.choice(self.events[kind]) if kind in self.events else self.fresh(kind, around)
        e = self.redrawn(e, around, r.randint(0, REDRAWN))
        t: Taken = self.laws.component.apply(s, e)
        if t.skipped:
            return
        if self.broken is None:
            try:
                self.laws.step(s, e)
            except LawBroken as why:
                self.broken = why
        pairs = self.fired.setdefault(t.rule or t.problems[0].kind, [])
        if len(pairs) < self.KEPT:
            pairs.append((s, e))
            self.events.setdefault(kind, []).append(e)
            self._keep(s)
            if t.state is not None:
                self._keep(t.state)

    def redrawn(self, value: Any, around: Mapping[str, int], n: int) -> Any:
        """`value` with up to `n` fields redrawn from their candidates; its discriminator is chosen more often."""
        known = fields(type(value))
        at = getattr(value, "AT", "")
        chosen = self.random.sample(list(known), min(n, len(known)))
        if at and self.random.random() < 0.2:
            chosen.append(at)
        return replace(
            value, **{x: self.random.choice(_few(type(value), x, around) or [getattr(value, x)]) for x in chosen}
        )

    def fresh(self, kind: type[Struct], around: Mapping[str, int]) -> Any:
        """A struct of defaults; fields without one are chosen."""
        return kind(**{x: self.random.choice(_few(kind, x, around)) for x in required(kind)})


def _few(kind: type[Struct], name: str, around: Mapping[str, int]) -> list[Any]:
    return candidates(*fields(kind)[name], default_of(kind, name), around)
