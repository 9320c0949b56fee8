"""Does the prover's reading of a rule equal the concrete rule? Compared on samples, for every rule of a machine.

The prover trusts its own reading of the source, which is code too. So each rule is run on random values near the
boundaries of their ranges and near each other, and on values from the solver in which it is enabled; the reading must
take exactly one path where the rule is enabled and none where it isn't, with the same new state and effects.
"""

import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import z3
from msgspec import Struct

from refmodel.engine import build
from refmodel.engine.cells import Cell, Reading, blamed, cells, may_apply
from refmodel.engine.lift import LiftedRule, lift
from refmodel.engine.linear import Cond, Num
from refmodel.engine.paths import Explorer, Path, conjunction
from refmodel.engine.prover import same_effects
from refmodel.engine.space import Space, entered
from refmodel.engine.symbols import Field, Symbols, Variable, concrete, fields, in_model
from refmodel.engine.terms import compiled
from refmodel.rule import Machine, NotEnabled, Rule
from refmodel.types import H32, M32

CELLS = 6  # a rule is compared in the first of so many cells in which it is ever enabled
NUDGES = (0, 0, 0, 1, -1, 2, 1000, -1000, H32, H32 - 1)


class Difference(Struct, frozen=True):
    """A sample on which the reading and the rule differ: what the rule gave and what was read."""

    rule: str
    state: Any
    event: Any
    params: Any
    ran: Any
    read: Any


class Agreement(Struct, frozen=True):
    """How many samples were compared, in how many the rule was enabled, which rules never were, and what differed."""

    samples: int
    enabled: int
    never_enabled: tuple[str, ...]
    differences: tuple[Difference, ...]


def differences(
    machine: Machine, *, samples: int = 40, seed: int = 1, rules: Callable[[Rule], bool] | None = None
) -> Agreement:
    """Compares reading and rule on about `samples` inputs for each rule and a cell of it, always the same ones."""
    reading = Reading(machine, lift(machine))
    every = cells(machine)
    rnd = random.Random(seed)
    count = enabled = 0
    never: list[str] = []
    found: list[Difference] = []
    for r in reading.lifted.rules:
        if rules is not None and not rules(r.rule):
            continue
        mine = [c for c in every if may_apply(r.rule, c)]
        hits = 0
        for cell in rnd.sample(mine, min(CELLS, len(mine))):
            if hits:
                break
            with entered(Space()) as here:
                for (s, e, p), read in _Sampled(here, reading, r, cell, rnd).run(samples):
                    ran = _ran(r.rule, s, e, p)
                    count += 1
                    hits += ran is not None
                    if not _agree(ran, read):
                        found.append(Difference(r.rule.id, s, e, p, ran, read))
        enabled += hits
        if not hits:
            never.append(r.rule.id)
    return Agreement(count, enabled, tuple(never), tuple(found))


def _ran(r: Rule, s: Any, e: Any, p: Any) -> tuple[Any, tuple[Any, ...]] | None:
    try:
        new, effects = r.fn(s, e, p)
    except NotEnabled:
        return None
    return new, tuple(effects)


def _agree(ran: Any, read: list[Any]) -> bool:
    if ran is None or len(read) != 1:
        return ran is None and not read
    new, effects = read[0]
    return bool(type(new) is type(ran[0]) and new == ran[0] and same_effects(effects, ran[1]))


class _Sampled:
    """One rule in one cell: its paths as compiled terms, and samples for it."""

    def __init__(self, here: Space, reading: Reading, r: LiftedRule, cell: Cell, rnd: random.Random) -> None:
        self.machine = reading.machine
        self.cell = cell
        self.rnd = rnd
        self.symbols = Symbols()
        self.fixed = {cell.state.AT: cell.at} if cell.at is not None else {}
        s = self.symbols.make(cell.state, "s", self.fixed)
        e = self.symbols.make(cell.event, "e", beside=s)
        p = self.symbols.make(self.machine.params, "p")
        self.given = (s, e, p)
        self.terms: list[Any] = []
        self.index: dict[int, int] = {}
        explorer = Explorer(here, self.symbols.hypotheses)
        with blamed(r.rule.id, reading.lifted.files):
            self.paths = [
                (self._condition(path), result) for path, result in explorer.paths(lambda: reading.step(r, s, e, p))
            ]
            guard = self._guard(here, r)
        for _, result in self.paths:
            self._collect(result)
        for x in self.given:
            self._collect(x)
        self.evaluate = compiled(self.terms, [v.term for v in self.symbols.variables])
        self.guard = guard
        self.here = here

    def _guard(self, here: Space, r: LiftedRule) -> Any:
        explorer = Explorer(here, [], feasible=False)
        found = [build.every(conjunction(path)) for path, _ in explorer.paths(lambda: r.guard(*self.given))]
        return build.some(found)

    def _condition(self, path: Path) -> Any:
        term = build.every(conjunction(path))
        self._add(term)
        return term

    def _add(self, term: Any) -> None:
        key = int(term.get_id())
        if key not in self.index:
            self.index[key] = len(self.terms)
            self.terms.append(term)

    def _collect(self, x: Any) -> None:
        if isinstance(x, (Num, Cond)):
            self._add(x.term)
        elif isinstance(x, Struct):
            for f in x.__struct_fields__:
                self._collect(getattr(x, f))
        elif isinstance(x, tuple):
            for y in x:
                self._collect(y)

    def run(self, samples: int) -> Iterator[tuple[tuple[Any, Any, Any], list[Any]]]:
        """(the plain s, e, p; the results of the paths that the reading takes) for each sample."""
        for s, e, p in [*self._random(samples), *self._enabled(max(2, samples // 15))]:
            values = self.evaluate(*[self._value(v, s, e, p) for v in self.symbols.variables])

            def ev(term: Any, values: tuple[Any, ...] = values) -> Any:
                return values[self.index[int(term.get_id())]]

            taken = [res for path, res in self.paths if ev(path)]
            yield (s, e, p), [concrete(res, ev) for res in taken]

    def _value(self, v: Variable, s: Any, e: Any, p: Any) -> Any:
        """The variable's value: the field's, or its distance from its base."""
        value = _at(v.path, s, e, p)
        return value if v.base is None else v.sign * (value - _at(v.base, s, e, p)) & M32

    def _enabled(self, n: int) -> Iterable[tuple[Any, Any, Any]]:
        """Values from the solver in which the guard holds, each different from those before."""
        solver = z3.Solver(ctx=self.here.ctx)
        solver.set("rlimit", 2_000_000)
        solver.add([*self.symbols.hypotheses, self.guard])
        for _ in range(n):
            if solver.check() != z3.sat:
                return
            model = solver.model()
            ev = in_model(model)
            s, e, p = (concrete(x, ev) for x in self.given)
            yield s, e, p
            v = self.rnd.choice(self.symbols.variables).term
            solver.add(v != model.eval(v, model_completion=True))

    def _random(self, n: int) -> Iterator[tuple[Any, Any, Any]]:
        for _ in range(n):
            near = [self.rnd.choice([0, 5, M32, H32, self.rnd.getrandbits(32)]) for _ in range(2)]
            yield (
                self._struct(self.cell.state, near, self.fixed),
                self._struct(self.cell.event, near, {}),
                self._struct(self.machine.params, near, {}),
            )

    def _struct(self, cls: type, near: list[int], fixed: dict[str, Any]) -> Any:
        return cls(**{f.name: fixed[f.name] if f.name in fixed else self._field(f, near) for f in fields(cls)})

    def _field(self, f: Field, near: list[int]) -> Any:
        rnd = self.rnd
        if f.kind == "struct":
            return self._struct(f.type, near, {})
        if f.kind == "bool":
            return rnd.random() < 0.5
        if f.values:
            return f.type(rnd.choice(f.values))
        if rnd.random() < 0.7:
            value = rnd.choice(near) + rnd.choice(NUDGES)
            if (f.lo, f.hi) == (0, M32):
                return value & M32
        else:
            value = rnd.choice([f.lo, f.hi, rnd.randint(f.lo, f.hi)])
        return min(max(value, f.lo), f.hi)


def _at(path: tuple[str, ...], s: Any, e: Any, p: Any) -> Any:
    x = {"s": s, "e": e, "p": p}[path[0]]
    for name in path[1:]:
        x = getattr(x, name)
    return x
