"""Cells: a machine's rules split by state type, discriminator value and event type, and the question each one asks.

The hypotheses of a cell are the ranges of state, event and parameters, the invariants of that state, and the
assumptions on the environment. An invariant that is plainly False excludes its state, and assumptions may exclude an
event from a state: the report lists them. A state whose invariants contradict each other otherwise is a failure.
"""

import traceback
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from enum import IntEnum
from types import UnionType
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin, get_type_hints

import z3
from msgspec.structs import replace

from refmodel.engine import build
from refmodel.engine.lift import Lifted, LiftedRule
from refmodel.engine.linear import Num, is_symbolic, number, of_atom, truth
from refmodel.engine.paths import Explorer, term_of
from refmodel.engine.space import Unprovable, space
from refmodel.engine.symbols import VERSIONS, Symbols, fields
from refmodel.profile import version_number
from refmodel.rule import Event, Machine, NotEnabled, Property, Rule, SpecificationError, State

READ_ERRORS = (TypeError, AttributeError, ValueError, LookupError)


class Cell(NamedTuple):
    """One (state type, discriminator value, event type)."""

    state: type[State]
    at: IntEnum | None
    event: type[Event]

    @property
    def name(self) -> str:
        """'Type.STATE+Event'."""
        return f"{place(self.state, self.at)}+{self.event.__name__}"


def place(state: type[State], at: IntEnum | None) -> str:
    """'Type.STATE', or 'Type' without a discriminator."""
    return state.__name__ + (f".{at.name}" if at is not None else "")


def discriminators(state: type[State]) -> tuple[IntEnum | None, ...]:
    """The values of the discriminating field, or (None,)."""
    if not state.AT:
        return (None,)
    f = next((f for f in fields(state) if f.name == state.AT), None)
    if f is None or f.kind != "enum":
        raise SpecificationError(f"{state.__name__}.AT names {state.AT!r}, which is no IntEnum field")
    return tuple(f.type(v) for v in f.values)


def cells(machine: Machine) -> tuple[Cell, ...]:
    """All cells of a machine, in the order of its `accepts`."""
    return tuple(Cell(s, at, e) for s, events in machine.accepts.items() for at in discriminators(s) for e in events)


def may_apply(r: Rule, cell: Cell) -> bool:
    """Whether a rule's types and states are those of a cell."""
    return r.state is cell.state and r.event is cell.event and (not r.at or cell.at in r.at)


def types_of(hint: Any) -> tuple[type, ...]:
    """The classes that an annotation names."""
    if get_origin(hint) is Annotated:
        return types_of(get_args(hint)[0])
    if get_origin(hint) in (Union, UnionType):
        return tuple(t for h in get_args(hint) for t in types_of(h))
    return (hint,) if isinstance(hint, type) else ()


class Asked(NamedTuple):
    """A property with what its signature says: its roles in order, and the types of each."""

    property: Property
    roles: tuple[str, ...]
    types: dict[str, tuple[type, ...]]

    def about(self, state: type, at: IntEnum | None) -> bool:
        """Whether it speaks of that state."""
        return _fits(state, self.types.get("s", ())) and (not self.property.at or at in self.property.at)

    def hears(self, event: type) -> bool:
        """Whether it speaks of that event."""
        heard = self.property.events if self.property.kind == "transition" else ()
        return (not heard or issubclass(event, heard)) and _fits(event, self.types.get("e", ()))

    def ends(self, state: type, new: type) -> bool:
        """Whether a transition property is asked of a step from one type to another."""
        if "t" not in self.roles:
            return True
        return _fits(new, self.types["t"]) if self.types["t"] else new is state


def _fits(cls: type, wanted: tuple[type, ...]) -> bool:
    return not wanted or issubclass(cls, wanted)


def asked(q: Property) -> Asked:
    """Reads a property's signature; raises SpecificationError if it has a parameter of no known role."""
    hints = get_type_hints(q.fn)
    names = q.fn.__code__.co_varnames[: q.fn.__code__.co_argcount]
    order = {"invariant": ("s", "p"), "transition": ("s", "e", "t", "effects", "p")}.get(q.kind, ())
    roles: list[str] = []
    types: dict[str, tuple[type, ...]] = {}
    for i, n in enumerate(names):
        named = types_of(hints.get(n))
        if order:
            if i >= len(order):
                raise SpecificationError(f"{q.id} takes more than ({', '.join(order)})")
            role = order[i]
        else:
            role = "s" if _fits_all(named, State) else "e" if _fits_all(named, Event) else "p"
        roles.append(role)
        types[role] = named
    return Asked(q, tuple(roles), types)


def _fits_all(named: tuple[type, ...], base: type) -> bool:
    return bool(named) and all(issubclass(t, base) for t in named)


@contextmanager
def blamed(what: str, files: Collection[str]) -> Iterator[None]:
    """Turns an error within lifted source, which stands in `files`, into Unprovable with the place of the source."""
    try:
        yield
    except (Unprovable, *READ_ERRORS) as why:
        if isinstance(why, Unprovable) and ".py:" in str(why):
            raise
        where = [f for f in traceback.extract_tb(why.__traceback__) if f.filename in files]
        at = f"{where[-1].filename}:{where[-1].lineno}: " if where else ""
        raise Unprovable(f"{at}{what}: {why}") from why


class Setting:
    """The symbolic (s, e, p) of one cell with all hypotheses, in the current space."""

    def __init__(self, reading: "Reading", cell: Cell) -> None:
        self.cell = cell
        self.symbols = Symbols()
        fixed = {cell.state.AT: cell.at} if cell.at is not None else {}
        self.s = self.symbols.make(cell.state, "s", fixed)
        self.e = self.symbols.make(cell.event, "e", beside=self.s)
        self.p = self.symbols.make(reading.machine.params, "p")
        self.excluded = ""
        self.kernel = reading.kernel(self.p, self.symbols)
        self.hypotheses: list[Any] = [z3.simplify(h) for h in self.symbols.hypotheses]
        self.assumptions = list(reading.assumption_terms(cell, self.s, self.e, self.p))
        for q, t in reading.invariant_terms(cell.state, cell.at, self.s, self.p):
            if build.is_false(t):
                self.excluded = f"{cell.name} by {q.id}"
            self.hypotheses.append(t)
        self.state_hypotheses = list(self.hypotheses)
        self.hypotheses += [t for _, t in self.assumptions]
        self.known = {t.get_id() for t in self.hypotheses}


class Reading:
    """A machine as the prover reads it: lifted rules and properties, cell by cell."""

    def __init__(self, machine: Machine, lifted: Lifted) -> None:
        self.machine = machine
        self.lifted = lifted
        self.invariants = [asked(q) for q in machine.properties("invariant")]
        self.transitions = [asked(q) for q in machine.properties("transition")]
        self.assumptions = [asked(q) for q in machine.properties("assumption")]
        self.versioned = any(r.rule.since or r.rule.until for r in lifted.rules)

    def rules(self, cell: Cell) -> list[LiftedRule]:
        """The rules that may apply in a cell."""
        return [r for r in self.lifted.rules if may_apply(r.rule, cell)]

    def value(self, a: Asked, env: dict[str, Any]) -> Any:
        """A property as one z3 term."""
        with blamed(a.property.id, self.lifted.files):
            return term_of(self.lifted.property_of(a.property), *[env[r] for r in a.roles])

    def invariant_terms(self, state: type[State], at: IntEnum | None, s: Any, p: Any) -> Iterator[tuple[Property, Any]]:
        """The invariants that may be assumed of a state: those that aren't known to be false."""
        for a in self.invariants:
            if not a.property.falsified and a.about(state, at):
                yield a.property, self.value(a, {"s": s, "p": p})

    def assumption_terms(self, cell: Cell, s: Any, e: Any, p: Any) -> Iterator[tuple[Property, Any]]:
        """The assumptions on the environment that speak of the cell."""
        for a in self.assumptions:
            if a.about(cell.state, cell.at) and a.hears(cell.event):
                yield a.property, self.value(a, {"s": s, "e": e, "p": p})

    def kernel(self, p: Any, symbols: Symbols) -> Num | None:
        """The kernel version under proof, if any rule depends on it."""
        given = getattr(p, "kernel", None)
        if given is not None or not self.versioned:
            return None if given is None else number(given)
        x = build.integer_variable("kernel")
        symbols.hypotheses.append(build.among(x, VERSIONS))
        return Num(of_atom(x, VERSIONS[0], VERSIONS[-1]))

    def exists(self, r: Rule, kernel: Num | None) -> Any:
        """The versions in which a rule exists, as a z3 term."""
        terms = []
        if kernel is not None and r.since:
            terms.append(truth(kernel >= version_number(r.since)))
        if kernel is not None and r.until:
            terms.append(truth(kernel < version_number(r.until)))
        return z3.simplify(build.every(terms))

    def step(self, r: LiftedRule, s: Any, e: Any, p: Any) -> tuple[Any, tuple[Any, ...]]:
        """(new state, effects) of a rule's body, the new discriminator made plain by forking where it is symbolic."""
        with blamed(r.rule.id, self.lifted.files):
            new, effects = r.body(s, e, p)
            return self.placed(new), tuple(effects)

    def placed(self, new: Any) -> Any:
        """The state with a plain discriminator; forks over its possible values."""
        field = getattr(type(new), "AT", "")
        value = getattr(new, field) if field else None
        if value is None:
            return new
        for at in discriminators(type(new)):
            if (is_symbolic(value) and bool(value == at)) or (not is_symbolic(value) and value == at):
                return replace(new, **{field: at})
        explorer = space().decider
        if isinstance(explorer, Explorer) and not explorer.feasible:
            raise NotEnabled("a path that syntax allows and ranges don't")
        raise Unprovable(f"{type(new).__name__}.{field} becomes {value}, which is no member of its enum")
