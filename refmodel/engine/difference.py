"""The difference search: two variants of a system in lockstep on the same events, until an outsider could tell.

Both variants get every event; while what they show (messages, results of calls, whatever `observe` lets through) is the
same, both wires carry the same. The shortest run to a step that shows something else tells the variants apart, say
kernel 6.1 from 6.18, or a machine from an edited one.
"""

from collections.abc import Callable, Iterable
from typing import Any

from msgspec.structs import replace

from refmodel.engine.explore_system import Budget, Component, Problem, System, Taken
from refmodel.engine.runs import brief
from refmodel.rule import Event, Mib, State


class Both(State, frozen=True):
    """The states of one component in the two variants."""

    left: Any
    right: Any


class NotAlike(ValueError):
    """The two systems differ in more than their machines, so they cannot run in lockstep."""


Observe = Callable[[Any], Any]


def visible(effect: Any) -> Any:
    """What an outsider sees of an effect: all but which rule made it; counters and timers are inside."""
    if isinstance(effect, Mib):
        return None
    return replace(effect, by="")


def difference(
    left: System, right: System, observe: Observe = visible, names: tuple[str, str] = ("left", "right")
) -> System:
    """The lockstep system: exploring it finds "difference" where the variants can be told apart; raises NotAlike.

    An event that only one variant's environment can cause (a timer that only one of them has running) is a difference
    too. Invariants and transition properties of the variants are not asked again.
    """
    shape = [[(c.name, c.budget) for c in s.components] for s in (left, right)]
    if shape[0] != shape[1] or [w.about for w in left.wires] != [w.about for w in right.wires]:
        raise NotAlike(f"{left.name} and {right.name} differ in components, budgets or wires")
    pairs = zip(left.components, right.components, strict=True)
    return System(
        name=f"{left.name}: {names[0]} against {names[1]}",
        components=tuple(_lockstep(a, b, observe, names) for a, b in pairs),
        wires=tuple(replace(w, deliver=_deliver(w.deliver)) for w in left.wires),
        sources=(*left.sources, *right.sources, __name__),
        about=left.about,
    )


def _deliver(deliver: Callable[[Any, Any], Iterable[Event]]) -> Callable[[Any, Any], Iterable[Event]]:
    return lambda s, message: deliver(s.left, message)


def _lockstep(a: Component, b: Component, observe: Observe, names: tuple[str, str]) -> Component:
    def moves(s: Both, budget: Budget) -> Iterable[tuple[Event, Budget]]:
        offered = dict.fromkeys(a.moves(s.left, budget))
        offered |= dict.fromkeys(b.moves(s.right, budget))
        return offered

    def offers(s: Both, e: Event) -> tuple[bool, bool]:
        left = any(e == x for x, _ in a.moves(s.left, a.budget))
        return left, any(e == x for x, _ in b.moves(s.right, b.budget))

    def apply(s: Both, e: Event) -> Taken:
        x, y = a.apply(s.left, e), b.apply(s.right, e)
        if x.skipped or y.skipped or (x.state is None and y.state is None):
            return replace(x, problems=(), state=None)
        if x.state is None or y.state is None:
            only, none = (names[1], names[0]) if x.state is None else names
            say = f"only {only} can take {brief(e)}; {none} has no rule for it"
            return Taken(x.rule or y.rule, x.says or y.says, None, (), (Problem("difference", "rules", say),))
        shown = [tuple(o for f in t.effects if (o := observe(f)) is not None) for t in (x, y)]
        wrong: tuple[Problem, ...] = ()
        if shown[0] != shown[1]:
            told = [f"{n} ({t.rule}) {_list(o)}" for n, t, o in zip(names, (x, y), shown, strict=True)]
            wrong = (Problem("difference", "effects", f"on {brief(e)}, {' but '.join(told)}"),)
        elif offers(s, e) in ((True, False), (False, True)):
            only = names[0] if offers(s, e)[0] else names[1]
            wrong = (Problem("difference", "environment", f"only {only} can meet {brief(e)} here"),)
        rule = x.rule if x.rule == y.rule else f"{x.rule} / {y.rule}"
        return Taken(rule, x.says, Both(x.state, y.state), x.effects, wrong)

    return Component(
        name=a.name,
        start=Both(a.start, b.start),
        apply=apply,
        moves=moves,
        budget=a.budget,
        judge=lambda s: (),
        states=(Both, *dict.fromkeys((*a.states, *b.states))),
        sources=(*a.sources, *b.sources),
        about=f"{a.about} against {b.about}",
    )


def _list(shown: tuple[Any, ...]) -> str:
    return "shows " + (", ".join(brief(o) for o in shown) or "nothing")
