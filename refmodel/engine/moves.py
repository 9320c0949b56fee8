"""From which state to which each rule leads, found by random runs: what a diagram of a machine shows.

A run begins in an initial state and meets random events near the boundaries of their ranges and near the state's own
numbers. So every move shown is one that the machine makes; one that no run came upon is missing, since the diagrams are
for readers and the proofs do not use them.
"""

import random
from typing import Any

from msgspec import Struct

from refmodel.engine.cells import place
from refmodel.engine.run import Dispatcher
from refmodel.engine.symbols import Field, fields
from refmodel.rule import PROPERTIES, Machine, NotModelled, State
from refmodel.types import H32, M32

NUDGES = (0, 0, 0, 1, -1, 2, 8, 1000, -1000, H32)
KEPT = 40  # states of each place from which runs go on


class Move(Struct, frozen=True):
    """One rule's step by an event between two places ('Type.STATE')."""

    rule: str
    event: str
    source: str
    target: str


def moves(machine: Machine, steps: int = 8_000, seed: int = 1) -> list[Move]:
    """The moves of a machine's rules that `steps` random events showed, by rule; always the same ones."""
    rnd = random.Random(seed)
    apply = Dispatcher(machine.rules).apply
    assumptions = [q for q in PROPERTIES.values() if q.kind == "assumption"]
    states = machine.initial or (next(iter(machine.accepts))(),)
    pool: dict[str, list[State]] = {_place(s): [s] for s in states}
    found: dict[Move, None] = {}
    p = machine.params()
    for _ in range(steps):
        s = rnd.choice(pool[rnd.choice(list(pool))])
        events = machine.accepts[type(s)]
        if not events:
            continue
        e = _random(rnd.choice(events), rnd, s)
        if not all(_assumed(q, s, e, p) for q in assumptions):
            continue
        try:
            rule, new, _ = apply(s, e, p)
        except NotModelled:
            continue
        found[Move(rule.id, type(e).__name__, _place(s), _place(new))] = None
        kept = pool.setdefault(_place(new), [])
        if len(kept) < KEPT:
            kept.append(new)
        else:
            kept[rnd.randrange(KEPT)] = new
    order = {r.id: i for i, r in enumerate(machine.rules)}
    return sorted(found, key=lambda m: (order[m.rule], m.source, m.target, m.event))


def _place(s: State) -> str:
    return place(type(s), getattr(s, s.AT) if s.AT else None)


def _assumed(q: Any, s: State, e: Any, p: Any) -> bool:
    if q.events and not isinstance(e, q.events):
        return True
    if q.of is not None and not isinstance(s, q.of):
        return True
    args = (s, e, p) if q.of is not None else (e, p)
    return bool(q.fn(*args[: q.arity]))


def _random(cls: type, rnd: random.Random, near: State) -> Any:
    numbers = [v for v in (getattr(near, f) for f in near.__struct_fields__) if isinstance(v, int)]
    return cls(**{f.name: _field(f, rnd, numbers, near) for f in fields(cls)})


def _field(f: Field, rnd: random.Random, numbers: list[int], near: State) -> Any:
    if f.kind == "struct":
        return _random(f.type, rnd, near)
    if f.kind == "bool":
        return rnd.random() < 0.5
    if f.values:
        return f.type(rnd.choice(f.values))
    if numbers and rnd.random() < 0.6:
        value = rnd.choice(numbers) + rnd.choice(NUDGES)
        if (f.lo, f.hi) == (0, M32):
            return value & M32
    else:
        value = rnd.choice([f.lo, f.hi, rnd.randint(f.lo, f.hi), rnd.randint(0, 100)])
    return min(max(value, f.lo), f.hi)


__all__ = ["Move", "moves"]
