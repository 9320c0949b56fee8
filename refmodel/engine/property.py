"""The property engine: Hypothesis tests derived from a machine's own declarations, nothing restated.

Annotations give the values (ranges with their edges, enums, flags, numbers near those that the state holds), `accepts`
gives the events, the registry gives the laws. `machine_tests` makes two tests of a machine: single steps from the whole
product of states and events, and walks from its initial states. A failure prints as a program of events.
"""

import unittest
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, TypeVar

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from msgspec.structs import replace

from refmodel.engine.laws import REDRAWN, Corpus, Laws, candidates, fields, initial_states, numbers
from refmodel.engine.run import Dispatcher
from refmodel.profile import REFERENCE
from refmodel.rule import Event, Machine, Params, State
from refmodel.types import bounds

T = TypeVar("T")


@cache
def below(n: int) -> st.SearchStrategy[int]:
    """An index below `n`; kept, because making a strategy costs far more than drawing from it."""
    return st.integers(0, n - 1)


def pick_one(draw: st.DrawFn, values: Sequence[T]) -> T:
    """Draws one of `values`, the first being the simplest."""
    return values[draw(below(len(values)))] if len(values) > 1 else values[0]


def field(draw: st.DrawFn, bare: Any, notes: tuple[Any, ...], now: Any, around: Mapping[str, int]) -> Any:
    """Draws a field: mostly a candidate, else anything in its range."""
    few = candidates(bare, notes, now, around) or [now]
    limits = bounds(notes)
    if bare is int and limits is not None and draw(below(4)) == 3:
        return limits[0] + draw(below(limits[1] - limits[0] + 1))
    return pick_one(draw, few)


@st.composite
def redrawn(draw: st.DrawFn, value: Any, around: Mapping[str, int], most: int = REDRAWN) -> Any:
    """`value` with at most `most` fields redrawn."""
    return redraw(draw, value, around, most)


def redraw(draw: st.DrawFn, value: Any, around: Mapping[str, int], most: int = REDRAWN) -> Any:
    """As `redrawn`, within a strategy."""
    known = fields(type(value))
    if not known:
        return value
    names = [pick_one(draw, tuple(known)) for _ in range(draw(below(most + 1)))]
    return replace(value, **{n: field(draw, *known[n], getattr(value, n), around) for n in names})


@st.composite
def params(draw: st.DrawFn, kind: type[Params]) -> Any:
    """Draws parameters: the defaults with a few fields redrawn within their ranges."""
    return redraw(draw, kind(), {})


@st.composite
def steps(draw: st.DrawFn, corpus: Corpus, laws: Laws) -> tuple[Any, Any]:
    """Draws a state with all invariants and an event: a pair that fires some rule, with fields of both redrawn."""
    s, e = pick_one(draw, corpus.fired[pick_one(draw, sorted(corpus.fired))])
    around = numbers(s, laws.params)
    other = redraw(draw, s, around)
    s = other if laws.holds_in(other) else s
    return s, redraw(draw, e, around)


# ---------------------------------------------------------------- tests


def ci(examples: int, steps: int = 20) -> settings:
    """Deterministic settings that print how to reproduce a failure."""
    return settings(
        derandomize=True,
        print_blob=True,
        database=None,
        deadline=None,
        max_examples=examples,
        stateful_step_count=steps,
        suppress_health_check=list(HealthCheck),
    )


def walker(corpus: Corpus, first: tuple[State, ...]) -> type[RuleBasedStateMachine]:
    """A Hypothesis state machine: one Hypothesis rule for each event type, walking from the initial states."""
    machine = corpus.laws.machine

    class Walk(RuleBasedStateMachine):
        laws: Laws
        state: State

        @initialize(p=params(machine.params), s=st.sampled_from(first))
        def begin(self, p: Params, s: State) -> None:
            self.laws = corpus.laws.under(p)
            self.state = s

    def move(kind: type[Event]) -> Callable[..., None]:
        def run(self: Walk, data: st.DataObject) -> None:
            around = numbers(self.state, self.laws.params)
            known = corpus.events.get(kind, [])
            base = known[data.draw(below(len(known)))] if known else corpus.fresh(kind, around)
            e = data.draw(redrawn(base, around), label=kind.__name__)
            self.state = self.laws.step(self.state, e) or self.state

        run.__name__ = kind.__name__
        return run

    kinds = dict.fromkeys(k for accepted in machine.accepts.values() for k in accepted)
    body: dict[str, Any] = {}
    for k in kinds:
        can = tuple(t for t, accepted in machine.accepts.items() if k in accepted)
        body[k.__name__] = precondition(_in_one_of(can))(rule(data=st.data())(move(k)))
    return type(f"Walk_{machine.name}", (Walk,), body)


def _in_one_of(kinds: tuple[type[State], ...]) -> Callable[[Any], bool]:
    return lambda walk: type(walk.state) in kinds


def machine_tests(
    machine: Machine,
    initial: Iterable[State] = (),
    *,
    kernel: str = REFERENCE,
    dispatcher: Dispatcher | None = None,
    examples: int = 100,
    walks: int = 25,
    length: int = 20,
    tries: int = 6000,
) -> type[unittest.TestCase]:
    """A TestCase of a machine: single steps over the product of states and events, and walks.

    Every step is checked for: exactly one rule enabled (or the event ruled out by an assumption), invariants and
    transition properties, declared ranges of states and effects, effects that name their maker, one outcome.
    """
    first = tuple(initial) or initial_states(machine)

    @cache
    def corpus() -> Corpus:
        return Corpus(Laws(machine, machine.params(), kernel, dispatcher), first, tries)

    class Tests(unittest.TestCase):
        def test_every_step_keeps_the_laws(self) -> None:
            @ci(examples)
            @given(st.data(), params(machine.params))
            def one_step(data: st.DataObject, p: Params) -> None:
                laws = corpus().laws.under(p)
                s, e = data.draw(steps(corpus(), laws), label="state and event")
                if laws.holds_in(s):
                    laws.step(s, e)

            if why := corpus().broken:
                raise why
            one_step()

        def test_walks_keep_the_laws(self) -> None:
            run_state_machine_as_test(walker(corpus(), first), settings=ci(walks, length))

    Tests.__name__ = Tests.__qualname__ = f"Test_{machine.name}"
    return Tests
