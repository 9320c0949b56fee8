"""The vocabulary of the specification: rules, steps, guards, invariants and the registry they live in.

A rule is a pure function ``(state, event, params) -> (state, effects)``. It chooses nothing, reads no clock and does no
I/O; whatever Linux takes from outside is a field of the event. Four engines read the registry: run, explore, prove,
property. How to write rules so that all four can use them:

1. ``at=`` names the states of the discriminating field in which the rule may apply; bodies never test it again.
2. Every ``require`` stands at the top, before the first ``if`` or change.
3. A cascade of checks is one ``@pure`` classifier in the kernel's order that returns an enum; rules guard on it.
4. Logic is and/or/not/?:/in/min/max. Sequence numbers move only through ``refmodel.types``.
5. A changed field is ``field=x if c else s.field``; an ``if`` statement stands only where effects or types differ.
6. Effects are a tuple of fixed shape on each path.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from enum import IntEnum
from functools import wraps
from typing import Any, ClassVar, TypeVar, get_type_hints

from msgspec import Struct
from msgspec.structs import force_setattr

F = TypeVar("F", bound=Callable[..., Any])


class NotEnabled(Exception):
    """A guard failed. Its text is the reason that a user reads as a near miss."""


class NotModelled(Exception):
    """No rule is meant for this (state, event) yet. Never a silent pass."""


class AssumptionBroken(Exception):
    """An event breaks a named assumption on the environment, so the specification says nothing about it."""


class SpecificationError(Exception):
    """The registry itself is wrong: overlapping rules, an unknown state type, a duplicate id."""


def require(condition: bool, why: str) -> None:
    """Guards a rule: unless `condition` holds the rule is not enabled, because of `why`."""
    if not condition:
        raise NotEnabled(why)


class State(Struct, frozen=True):
    """Base of all machine states. `AT` names the discriminating field ('' if the type has none)."""

    AT: ClassVar[str] = ""


class Event(Struct, frozen=True):
    """Base of all events: everything that comes from outside, the time among it."""


class Params(Struct, frozen=True):
    """Base of all parameters: sysctls, kernel version, HZ, device settings."""


class Effect(Struct, frozen=True, kw_only=True):
    """Base of all effects. `by` is the id of the rule or step that made it, set when the effect leaves its maker."""

    by: str = ""


class Mib(Effect, frozen=True):
    """The kernel adds `n` to the MIB counter `name`, as in /proc/net/netstat or snmp: TcpExtTCPTimeouts."""

    name: str
    n: int = 1


class Rule(Struct, frozen=True):
    """One registered rule and what a reader and the engines need to know of it."""

    id: str
    fn: Callable[..., Any]
    state: type[State]
    event: type[Event]
    params: type[Params]
    at: tuple[IntEnum, ...]
    kernel: tuple[str, ...]
    rfc: tuple[str, ...]
    since: str
    until: str
    deviates: str
    says: str


class Step(Struct, frozen=True):
    """A cited sub-step of rules: same form, own label."""

    id: str
    fn: Callable[..., Any]
    kernel: tuple[str, ...]
    rfc: tuple[str, ...]
    says: str


class Property(Struct, frozen=True):
    """An invariant of one state, or a property of one transition.

    `of` is the state type. `events` limits a transition property to those event types (empty: all). `falsified` says
    why Linux does not have the property: then the prover must find a counterexample, and fails if it finds none.
    """

    id: str
    fn: Callable[..., Any]
    kind: str  # "invariant", "transition" or "assumption"
    of: type[State] | None
    events: tuple[type[Event], ...]
    at: tuple[IntEnum, ...]
    says: str
    falsified: str = ""
    arity: int = 1


class Machine(Struct, frozen=True):
    """A layer's state machine: which events each state type answers, and its parameters.

    `accepts` maps each state type to the event types that it must answer in every state: totality is proved over them.
    `modules` are the modules whose source holds rules, steps and helpers, in dependency order. `initial` are the states
    that a machine may start in: the base of every induction (empty: the first accepted type with defaults for all).
    """

    name: str
    title: str
    accepts: Mapping[type[State], tuple[type[Event], ...]]
    params: type[Params]
    modules: tuple[str, ...]
    initial: tuple[State, ...] = ()

    @property
    def rules(self) -> tuple[Rule, ...]:
        """This machine's rules in the order in which they were registered."""
        return tuple(r for r in RULES.values() if r.state in self.accepts)

    def properties(self, kind: str) -> tuple[Property, ...]:
        """This machine's properties of one kind."""
        return tuple(
            q
            for q in PROPERTIES.values()
            if q.kind == kind and (q.of in self.accepts if q.of is not None else q.fn.__module__ in self.modules)
        )


RULES: dict[str, Rule] = {}
STEPS: dict[str, Step] = {}
PROPERTIES: dict[str, Property] = {}
MACHINES: dict[str, Machine] = {}


def machine(m: Machine) -> Machine:
    """Registers a machine under its name."""
    if m.name in MACHINES:
        raise SpecificationError(f"two machines are called {m.name}")
    MACHINES[m.name] = m
    return m


def _id(fn: Callable[..., Any]) -> str:
    return fn.__module__.removeprefix("refmodel.") + "." + fn.__name__


def _says(fn: Callable[..., Any]) -> str:
    doc = inspect.getdoc(fn)
    if not doc:
        raise SpecificationError(f"{_id(fn)} has no sentence: a rule is a text for readers")
    return doc.split("\n\n")[0].replace("\n", " ")


def _cites(cites: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    kernel = tuple(c for c in cites if ":" in c and not c.startswith(("RFC", "IEEE")))
    return kernel, tuple(c for c in cites if c.startswith(("RFC", "IEEE")))


def stamp(effects: Iterable[Any], by: str) -> None:
    """Marks effects that have no maker yet. Effects are fresh values, so this happens in place."""
    for x in effects:
        if x.by == "":
            force_setattr(x, "by", by)


def rule(
    *cites: str,
    at: IntEnum | Iterable[IntEnum] = (),
    since: str = "",
    until: str = "",
    deviates: str = "",
) -> Callable[[F], F]:
    """Registers a rule.

    `cites` are 'file:function' of the reference kernel and 'RFC n section'; a kernel citation is obligatory. `since` is
    the first and `until` the first-not kernel version in which the rule exists. `deviates` says in one sentence where
    Linux differs from the RFC.
    """

    def register(fn: F) -> F:
        hints = get_type_hints(fn)
        names = list(inspect.signature(fn).parameters)
        kernel, rfc = _cites(cites)
        if not kernel:
            raise SpecificationError(f"{_id(fn)} cites no kernel function")
        r = Rule(
            id=_id(fn),
            fn=fn,
            state=hints[names[0]],
            event=hints[names[1]],
            params=hints[names[2]],
            at=(at,) if isinstance(at, IntEnum) else tuple(at),
            kernel=kernel,
            rfc=rfc,
            since=since,
            until=until,
            deviates=deviates,
            says=_says(fn),
        )
        if r.id in RULES:
            raise SpecificationError(f"two rules are called {r.id}")
        RULES[r.id] = r
        return fn

    return register


def step(*cites: str) -> Callable[[F], F]:
    """Registers a cited step whose result is (state, effects); its effects carry its id."""

    def register(fn: F) -> F:
        kernel, rfc = _cites(cites)
        ident = _id(fn)
        STEPS[ident] = Step(id=ident, fn=fn, kernel=kernel, rfc=rfc, says=_says(fn))

        @wraps(fn)
        def run(*args: Any, **kw: Any) -> Any:
            out = fn(*args, **kw) if kw else fn(*args)
            for x in out[1]:
                if x.by == "":
                    force_setattr(x, "by", ident)
            return out

        run.step_id = ident  # type: ignore[attr-defined]
        return run  # type: ignore[return-value]

    return register


def cited(*cites: str) -> Callable[[F], F]:
    """Registers a function of a whole layer under its citation, and leaves it as it is.

    Such a function works on the layer's own objects, so it is neither proved nor searched; readers, labels and coverage
    find it among the steps.
    """

    def register(fn: F) -> F:
        kernel, rfc = _cites(cites)
        ident = _id(fn)
        if not kernel:
            raise SpecificationError(f"{ident} cites no kernel function")
        STEPS[ident] = Step(id=ident, fn=fn, kernel=kernel, rfc=rfc, says=_says(fn))
        return fn

    return register


def pure(fn: F) -> F:
    """Marks a helper without effects whose result the prover merges into one term."""
    fn.is_pure = True  # type: ignore[attr-defined]
    return fn


def _property(fn: F, kind: str, at: Any, events: tuple[type[Event], ...], falsified: str) -> F:
    hints = get_type_hints(fn)
    names = list(inspect.signature(fn).parameters)
    first = hints[names[0]]
    q = Property(
        id=_id(fn),
        fn=fn,
        kind=kind,
        of=first if isinstance(first, type) and issubclass(first, State) else None,
        events=events,
        at=(at,) if isinstance(at, IntEnum) else tuple(at),
        says=_says(fn),
        falsified=falsified,
        arity=len(names),
    )
    if q.id in PROPERTIES:
        raise SpecificationError(f"two properties are called {q.id}")
    PROPERTIES[q.id] = q
    return pure(fn)


def invariant(at: IntEnum | Iterable[IntEnum] = (), falsified: str = "") -> Callable[[F], F]:
    """Registers ``f(s)`` or ``f(s, p)``: true of every reachable state whose discriminator is in `at` (empty: all)."""
    return lambda fn: _property(fn, "invariant", at, (), falsified)


def transition(*events: type[Event], at: IntEnum | Iterable[IntEnum] = (), falsified: str = "") -> Callable[[F], F]:
    """Registers ``f(s, e, t, effects, p)`` (a prefix of these): true of every step from s to t by an event in `events`.

    It is asked only where s and t are of the type that the first parameter names, or t of a type in its annotation.
    """
    return lambda fn: _property(fn, "transition", at, events, falsified)


def assume(fn: F) -> F:
    """Registers ``f(s, e, p)`` (a prefix, or without s): a named assumption on the environment, checked by run too."""
    hints = get_type_hints(fn)
    named = [hints[n] for n in inspect.signature(fn).parameters]
    events = tuple(h for h in named if isinstance(h, type) and issubclass(h, Event))
    return _property(fn, "assumption", (), events, "")
