"""Proving one cell: its totality and disjointness, and each path of each rule against every obligation.

A failed obligation comes with a counterexample: the values of z3's model, run through the concrete rule. Where that
run doesn't do what the lifted reading says, the failure is the reading's ("reading"), not the rule's.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import z3
from msgspec import Struct, field
from msgspec.structs import asdict
from msgspec.structs import fields as struct_fields

from refmodel.engine import build
from refmodel.engine.cells import Asked, Cell, Reading, Setting, cells, place
from refmodel.engine.lift import LiftedRule, lift
from refmodel.engine.longer import Longer, Outcome
from refmodel.engine.paths import EFFORT, Explorer, Undecided, conjunction
from refmodel.engine.report import Counterexample, Failure, Falsified
from refmodel.engine.source import Edit
from refmodel.engine.space import Space, entered, space
from refmodel.engine.symbols import Symbols, concrete, in_model, range_terms
from refmodel.rule import Machine, NotEnabled, Property, State


class CellResult(Struct):
    """What one cell gave."""

    cell: str
    pairs: int = 0
    paths: int = 0
    queries: int = 0
    obligations: Counter[str] = field(default_factory=Counter)
    longest: dict[str, int] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    falsified: list[Falsified] = field(default_factory=list)
    dead: list[str] = field(default_factory=list)
    alive: list[str] = field(default_factory=list)
    excluded: str = ""


class Obligation(Struct):
    """One thing to show on one path. `given` is assumed beside the path."""

    kind: str
    id: str
    term: Any
    about: Asked | None = None
    given: Any = None

    @property
    def property(self) -> Property | None:
        """The property in question, if it is one."""
        return self.about.property if self.about else None


class Prover:
    """Proves one machine's cells under one reading."""

    def __init__(self, machine: Machine, edits: Iterable[Edit] = (), k: int = 1, effort: int = EFFORT) -> None:
        self.machine = machine
        self.edits = tuple(edits)
        self.reading = Reading(machine, lift(machine, self.edits))
        self.k = k
        self.effort = effort
        self.cells = cells(machine)
        self.longer = Longer(self.reading, self.cells, initial_states(machine), effort)
        self._asked: dict[tuple[Cell, str, str], Outcome] = {}

    def prove_cell(self, cell: Cell, only_rules: str = "") -> CellResult:
        """Everything about one cell; with `only_rules` the bodies of rules whose id contains it alone."""
        out = CellResult(cell.name)
        with entered(Space()) as here:
            setting = Setting(self.reading, cell)
            if setting.excluded:
                out.excluded = setting.excluded
                return out
            explorer = Explorer(here, setting.hypotheses, effort=self.effort)
            answer = explorer.ask()
            if answer != z3.sat:
                out.queries += explorer.queries
                self._empty(out, setting, answer)
                return out
            rules = self.reading.rules(cell)
            guards = [self._guard(r, setting) for r in rules]
            self._one_enabled(out, setting, explorer, rules, guards)
            for r in rules:
                if only_rules in r.rule.id:
                    self._rule(out, setting, explorer, r)
            out.queries += explorer.queries
        return out

    def _empty(self, out: CellResult, setting: Setting, answer: Any) -> None:
        """A cell without any state and event: excluded by assumptions, or else a failure."""
        name = setting.cell.name
        if answer == z3.unsat and setting.assumptions:
            state = Explorer(space(), setting.state_hypotheses, effort=self.effort)
            answer = state.ask()
            out.queries += state.queries
            if answer == z3.sat:
                out.excluded = f"{name} by {' and '.join(q.id for q, _ in setting.assumptions)}"
                return
        says = "the invariants of this state contradict each other" if answer == z3.unsat else "z3 gave no answer"
        out.failures.append(Failure("vacuous", name, name, says=says))

    def _guard(self, r: LiftedRule, setting: Setting) -> Any:
        explorer = Explorer(space(), [], feasible=False)
        found = [
            build.every(conjunction(path))
            for path, _ in explorer.paths(lambda: r.guard(setting.s, setting.e, setting.p))
        ]
        exists = self.reading.exists(r.rule, setting.kernel)
        return z3.simplify(build.every([exists, build.some(found)]))

    def _one_enabled(
        self, out: CellResult, setting: Setting, explorer: Explorer, rules: list[LiftedRule], guards: list[Any]
    ) -> None:
        """Totality and disjointness."""
        cell = setting.cell
        out.obligations["total"] += 1
        answer = explorer.ask(build.negated(build.some(guards)))
        if answer == z3.sat:
            example = self._witness(setting, explorer)
            says = "no rule is enabled"
            out.failures.append(Failure("total", cell.name, cell.name, says=says, counterexample=example))
        elif answer == z3.unknown:
            out.failures.append(Failure("unknown", "total", cell.name, says="z3 gave no answer"))
        if len(guards) < 2:
            return
        out.obligations["disjoint"] += 1
        answer = explorer.ask(build.negated(z3.AtMost(*guards, 1)))
        if answer == z3.sat:
            model = explorer.solver.model()
            both = [r.rule.id for r, g in zip(rules, guards, strict=True) if z3.is_true(model.eval(g, True))]
            example = self._witness(setting, explorer)
            says = "more than one rule is enabled"
            out.failures.append(Failure("disjoint", " and ".join(both), cell.name, says=says, counterexample=example))
        elif answer == z3.unknown:
            out.failures.append(Failure("unknown", "disjoint", cell.name, says="z3 gave no answer"))

    def _witness(self, setting: Setting, explorer: Explorer) -> Counterexample:
        """The state and event of a model, confirmed by running every guard on the plain values."""
        ev = in_model(explorer.solver.model())
        s, e, p = (concrete(x, ev) for x in (setting.s, setting.e, setting.p))
        enabled = 0
        for r in self.reading.rules(setting.cell):
            if setting.kernel is not None and not ev(self.reading.exists(r.rule, setting.kernel)):
                continue
            try:
                r.guard(s, e, p)
                enabled += 1
            except NotEnabled:
                continue
        return Counterexample(s, e, p, confirmed=enabled != 1)

    def _rule(self, out: CellResult, setting: Setting, explorer: Explorer, r: LiftedRule) -> None:
        """Every path of one rule in one cell."""
        out.pairs += 1
        label = f"{r.rule.id} at {setting.cell.name}"
        exists = self.reading.exists(r.rule, setting.kernel)
        paths = 0

        def reading() -> Any:
            explorer.assume_term(exists)
            return self.reading.step(r, setting.s, setting.e, setting.p)

        try:
            for _, (t, effects) in explorer.paths(reading):
                paths += 1
                self._path(out, setting, r, explorer, t, effects)
        except Undecided as why:
            out.failures.append(Failure("unknown", r.rule.id, setting.cell.name, r.rule.id, says=str(why)))
        out.paths += paths
        (out.alive if paths else out.dead).append(label)

    def _path(
        self, out: CellResult, setting: Setting, r: LiftedRule, explorer: Explorer, t: Any, effects: tuple[Any, ...]
    ) -> None:
        cell = setting.cell
        if type(t) not in self.machine.accepts:
            says = f"the rule gives a {type(t).__name__}, which the machine doesn't have"
            out.failures.append(Failure("type", type(t).__name__, cell.name, r.rule.id, says=says))
            return
        for o in self.obligations(cell, setting, t, effects):
            out.obligations[o.id] += 1
            term = z3.simplify(o.term)
            if build.is_true(term) or term.get_id() in setting.known:
                continue
            q = o.property
            answer = explorer.ask(build.negated(term), *([o.given] if o.given is not None else []))
            if answer == z3.unsat:
                continue
            if answer == z3.unknown:
                why = explorer.solver.reason_unknown()
                out.failures.append(Failure("unknown", o.id, cell.name, r.rule.id, says=f"z3 gave no answer: {why}"))
                continue
            example = self._example(setting, r, explorer, t, effects, o)
            if q is not None and q.falsified:
                if example.confirmed and o.id not in {x.id for x in out.falsified}:
                    out.falsified.append(Falsified(o.id, q.falsified, cell.name, r.rule.id, example))
                    continue
                if example.confirmed:
                    continue
            elif self.k > 1 and o.about is not None and example.confirmed:
                how = self._longer(out, cell, r, o.about)
                if how.k:
                    out.longest[o.id] = max(how.k, out.longest.get(o.id, 1))
                    continue
                example = how.counterexample or example
            out.failures.append(self._failure(o, cell, r, example))

    def _longer(self, out: CellResult, cell: Cell, r: LiftedRule, a: Asked) -> Outcome:
        """The answer of k-induction for one rule in one cell, asked once."""
        key = (cell, r.rule.id, a.property.id)
        if key not in self._asked:
            self._asked[key] = self.longer.proves(cell, r, a, self.k)
            out.queries += self._asked[key].queries
        return self._asked[key]

    @staticmethod
    def _failure(o: Obligation, cell: Cell, r: LiftedRule, example: Counterexample) -> Failure:
        says = o.property.says if o.property is not None else "the result leaves the declared range"
        if not example.confirmed:
            says = "the lifted reading and the concrete rule differ on this case"
            return Failure("reading", o.id, cell.name, r.rule.id, says=says, counterexample=example)
        return Failure(o.kind, o.id, cell.name, r.rule.id, says=says, counterexample=example)

    def obligations(self, cell: Cell, setting: Setting, t: Any, effects: tuple[Any, ...]) -> Iterator[Obligation]:
        """What a step to `t` with `effects` must show."""
        for name, term in range_terms(t, setting.s):
            yield Obligation("range", name, term)
        for x in effects:
            for name, term in range_terms(x):
                yield Obligation("range", name, term)
        at = getattr(t, t.AT) if t.AT else None
        for a in self.reading.invariants:
            if a.about(type(t), at):
                term = self.reading.value(a, {"s": t, "p": setting.p})
                given = None
                if a.property.falsified and a.about(cell.state, cell.at):
                    given = self.reading.value(a, {"s": setting.s, "p": setting.p})
                yield Obligation("invariant", a.property.id, term, a, given)
        env = {"s": setting.s, "e": setting.e, "t": t, "effects": effects, "p": setting.p}
        for a in self.reading.transitions:
            if a.about(cell.state, cell.at) and a.hears(cell.event) and a.ends(cell.state, type(t)):
                yield Obligation("transition", a.property.id, self.reading.value(a, env), a)

    def _example(
        self, setting: Setting, r: LiftedRule, explorer: Explorer, t: Any, effects: tuple[Any, ...], o: Obligation
    ) -> Counterexample:
        """The model as plain values, replayed through the concrete rule."""
        ev = in_model(explorer.solver.model())
        s, e, p, new, fx = (concrete(x, ev) for x in (setting.s, setting.e, setting.p, t, effects))
        rule_fn = r.body if self.reading.lifted.edited else r.rule.fn
        confirmed = False
        try:
            got, got_fx = rule_fn(s, e, p)
            confirmed = got == new and same_effects(got_fx, fx)
            if confirmed and o.about is not None:
                confirmed = not self._holds(o.about, s, e, new, fx, p)
        except NotEnabled:
            confirmed = False
        return Counterexample(s, e, p, new, fx, confirmed=confirmed)

    def _holds(self, a: Asked, s: Any, e: Any, t: Any, effects: tuple[Any, ...], p: Any) -> bool:
        env = {"s": t if a.property.kind == "invariant" else s, "e": e, "t": t, "effects": effects, "p": p}
        fn = self.reading.lifted.property_of(a.property) if self.reading.lifted.edited else a.property.fn
        return bool(fn(*[env[x] for x in a.roles]))

    def initial(self) -> tuple[list[Failure], int]:
        """Every invariant holds in the initial states, for all parameters; (failures, obligations)."""
        failures: list[Failure] = []
        n = 0
        for s in initial_states(self.machine):
            at = getattr(s, s.AT) if s.AT else None
            with entered(Space()) as here:
                symbols = Symbols()
                p = symbols.make(self.machine.params, "p")
                explorer = Explorer(here, symbols.hypotheses, effort=self.effort)
                for a in self.reading.invariants:
                    if a.property.falsified or not a.about(type(s), at):
                        continue
                    n += 1
                    answer = explorer.ask(build.negated(self.reading.value(a, {"s": s, "p": p})))
                    if answer != z3.unsat:
                        kind = "initial" if answer == z3.sat else "unknown"
                        says = f"false in the initial state: {a.property.says}"
                        failures.append(Failure(kind, a.property.id, place(type(s), at), says=says))
        if not initial_states(self.machine) and self.reading.invariants:
            says = "no initial state is given (Machine.initial) and no state type has defaults for all fields"
            failures.append(Failure("initial", self.machine.name, self.machine.name, says=says))
        return failures, n


def same_effects(a: Iterable[Any], b: Iterable[Any]) -> bool:
    """Whether two runs had the same effects, whoever is named as their maker."""
    return [(type(x), asdict(x) | {"by": ""}) for x in a] == [(type(x), asdict(x) | {"by": ""}) for x in b]


def initial_states(machine: Machine) -> tuple[State, ...]:
    """The machine's initial states: those it names, else the first state type that has defaults for all fields."""
    if machine.initial:
        return machine.initial
    for kind in machine.accepts:
        if not any(f.required for f in struct_fields(kind)):
            return (kind(),)
    return ()
