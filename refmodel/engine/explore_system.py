"""What a search explores: components with their environments, and the wires between them.

A *System* is a set of named components. Each has a start state, a budget of environment events and a generator that
proposes the events which its own surroundings (an application, a timer) may cause now. What one component sends another
travels over wires that may lose, duplicate and reorder, each of which can be switched off. The search takes one move at
a time: an event of one component, or one message delivered or lost. Time is the system's affair: its generators put the
`now` they mean into the events, and `canonical` forgets what must not tell states apart.
"""

import hashlib
import inspect
import sys
from collections.abc import Callable, Hashable, Iterable
from functools import cache
from typing import Any, get_type_hints

from msgspec import Struct
from msgspec.structs import replace

from refmodel.engine.run import Dispatcher, pick
from refmodel.profile import REFERENCE
from refmodel.rule import (
    AssumptionBroken,
    Event,
    Machine,
    NotModelled,
    Params,
    Property,
    SpecificationError,
    State,
)

Budget = tuple[int, ...]
Moves = Callable[[Any, Budget], Iterable[tuple[Event, Budget]]]
Message = Hashable


class Problem(Struct, frozen=True):
    """Something wrong with one step or one state: `kind` is as in a Finding."""

    kind: str
    id: str
    says: str


class Taken(Struct, frozen=True):
    """The outcome of one event. `state` is None if there is none; `skipped` if an assumption rules the event out."""

    rule: str
    says: str
    state: Any
    effects: tuple[Any, ...]
    problems: tuple[Problem, ...] = ()
    skipped: bool = False


class Component(Struct, frozen=True, kw_only=True):
    """One named state machine and its environment; `machine_component` makes it from a registered machine.

    `moves(state, budget)` yields (event, new budget); `apply(state, event)` is the machine; `judge(state)` names what
    is wrong with a state. `states` are the state types (a property's names are checked against them). `asking` makes
    the same component with more of the registry's properties to check; None if it has no machine to ask them of.
    """

    name: str
    start: Any
    apply: Callable[[Any, Event], Taken]
    moves: Moves
    budget: Budget = ()
    judge: Callable[[Any], tuple[Problem, ...]]
    states: tuple[type[State], ...]
    sources: tuple[str, ...] = ()
    about: str = ""
    asking: "Callable[[tuple[Property, ...]], Component] | None" = None


def carry_nothing(effect: Any) -> Message | None:
    """Carries no effect at all."""
    return None


def deliver_as_event(state: Any, message: Any) -> Iterable[Event]:
    """The message is the event."""
    return (message,)


class Wire(Struct, frozen=True, kw_only=True):
    """A one-way wire from component `source` to component `target`.

    `carry` turns an effect into a hashable message, or None if it does not travel here; `deliver(state, message)` gives
    the events, one of which happens when it arrives (several: the environment chooses). A wire that reorders is a bag,
    else a queue. A message sent into a full wire is lost if the wire loses; if it does not, the sending step cannot be
    taken (the result counts those as cut by the bound).
    """

    source: str
    target: str
    carry: Callable[[Any], Message | None]
    deliver: Callable[[Any, Any], Iterable[Event]] = deliver_as_event
    capacity: int = 3
    loss: bool = False
    duplicate: bool = False
    reorder: bool = False

    @property
    def name(self) -> str:
        """'a->b'."""
        return f"{self.source}->{self.target}"

    @property
    def about(self) -> str:
        """The wire's bound in words."""
        faults = [
            n for n, on in (("loses", self.loss), ("duplicates", self.duplicate), ("reorders", self.reorder)) if on
        ]
        return f"{self.name}: at most {self.capacity} messages, {', '.join(faults) or 'faultless'}"


class System(Struct, frozen=True, kw_only=True):
    """Components and wires under one name.

    `sources` are modules whose text belongs to the search's fingerprint; `about` says what bounds its
    environment beside budgets and wires.
    """

    name: str
    components: tuple[Component, ...]
    wires: tuple[Wire, ...] = ()
    sources: tuple[str, ...] = ()
    about: str = ""

    def component(self, name: str) -> Component:
        """The component of that name; raises KeyError."""
        return {c.name: c for c in self.components}[name]

    def asking(self, more: tuple[Property, ...]) -> "System":
        """The same system with `more` of the registry's properties to check, where a component has their states."""
        return replace(self, components=tuple(c.asking(more) if c.asking else c for c in self.components))

    @property
    def bound(self) -> str:
        """The bound that the description itself sets: budgets and wires."""
        budgets = [f"{c.name}'s budget {c.budget}" for c in self.components if c.budget]
        told = budgets + [w.about for w in self.wires] + ([self.about] if self.about else [])
        return "; ".join(told) or "no budgets, no wires"

    def fingerprint(self) -> str:
        """A digest of the rules' source, start states, budgets and wires: a checkpoint fits only its own."""
        names = {m for c in self.components for m in c.sources} | set(self.sources)
        names |= {f"refmodel.engine.{m}" for m in ("run", "explore_system", "explore_sites")}
        digest = hashlib.sha256(repr((self.name, self.about)).encode())
        for n in sorted(names):
            digest.update(n.encode() + b"\0" + inspect.getsource(sys.modules[n]).encode())
        for c in self.components:
            digest.update(repr((c.name, c.start, c.budget, c.about)).encode())
        for w in self.wires:
            digest.update(w.about.encode())
        return digest.hexdigest()


def no_moves(state: Any, budget: Budget) -> Iterable[tuple[Event, Budget]]:
    """An environment that does nothing."""
    return ()


def same(state: Any) -> Any:
    """Every detail of a state counts."""
    return state


def machine_component(
    name: str,
    machine: Machine,
    start: State,
    params: Params,
    *,
    moves: Moves = no_moves,
    budget: Budget = (),
    canonical: Callable[[Any], Any] = same,
    kernel: str = REFERENCE,
    dispatcher: Dispatcher | None = None,
    extra: tuple[Property, ...] = (),
) -> Component:
    """A component that runs `machine` under a strict dispatcher and checks every property of the machine that is meant
    to hold, and those in `extra` (a property that Linux does not have is checked only if given here)."""
    run = (dispatcher or pick(machine, kernel, check=True)).apply

    def asking(more: tuple[Property, ...]) -> Component:
        return machine_component(
            name,
            machine,
            start,
            params,
            moves=moves,
            budget=budget,
            canonical=canonical,
            kernel=kernel,
            dispatcher=dispatcher,
            extra=extra + more,
        )

    wanted = tuple(q for k in ("invariant", "transition") for q in machine.properties(k) if not q.falsified)
    invariants = tuple(q for q in wanted + extra if q.kind == "invariant")
    steps = tuple((q, _next_type(q.fn, q.of)) for q in wanted + extra if q.kind == "transition")

    def judge(s: Any) -> tuple[Problem, ...]:
        return tuple(
            Problem("invariant", q.id, q.says) for q in invariants if _asked(q, s) and not q.fn(*(s, params)[: q.arity])
        )

    def apply(s: Any, e: Event) -> Taken:
        try:
            r, t, effects = run(s, e, params)
        except AssumptionBroken:
            return Taken("", "", None, (), skipped=True)
        except NotModelled as why:
            return Taken("", "", None, (), (Problem("not modelled", "totality", str(why)),))
        except SpecificationError as why:
            return Taken("", "", None, (), (Problem("overlap", "disjointness", str(why)),))
        wrong = tuple(
            Problem("transition", q.id, q.says)
            for q, kind in steps
            if _asked(q, s)
            and isinstance(t, kind)
            and (not q.events or isinstance(e, q.events))
            and not q.fn(*(s, e, t, effects, params)[: q.arity])
        )
        return Taken(r.id, r.says, canonical(t), tuple(effects), wrong)

    return Component(
        name=name,
        start=start,
        apply=apply,
        moves=moves,
        budget=budget,
        judge=judge,
        states=tuple(machine.accepts),
        sources=tuple(machine.modules),
        about=f"{machine.name} {kernel} {params} {[q.id for q in extra]}",
        asking=asking,
    )


def _asked(q: Property, s: Any) -> bool:
    if q.of is not None and type(s) is not q.of:
        return False
    return not q.at or getattr(s, s.AT, None) in q.at


@cache
def _next_type(fn: Callable[..., Any], of: type[State] | None) -> Any:
    """What the state after the step must be for the property to be asked: its third annotation, else its first."""
    names = list(inspect.signature(fn).parameters)
    hints = get_type_hints(fn)
    third = hints.get(names[2]) if len(names) > 2 else None
    return third if third is not None and third is not Any else (of or State)
