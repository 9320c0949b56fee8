"""The property engine derives its tests from a machine and catches a machine that breaks its own laws."""

import unittest
from collections.abc import Iterator
from enum import IntEnum
from typing import Annotated, Any, ClassVar

import pytest

from refmodel.engine.laws import Corpus, LawBroken, Laws, candidates, fields, initial_states, misfit
from refmodel.engine.property import machine_tests
from refmodel.engine.run import Dispatcher
from refmodel.rule import (
    PROPERTIES,
    RULES,
    Effect,
    Event,
    Machine,
    Params,
    State,
    assume,
    invariant,
    require,
    rule,
    transition,
)
from refmodel.types import M32, Range, add, near


class Lamp(IntEnum):
    OFF = 0
    ON = 1


class Shop(State, frozen=True):
    AT: ClassVar[str] = "lamp"
    lamp: Lamp = Lamp.OFF
    stock: Annotated[int, Range(0, 10)] = 0
    next: Annotated[int, Range(0, M32)] = 0


class Limits(Params, frozen=True):
    most: Annotated[int, Range(1, 10)] = 10


class Switch(Event, frozen=True):
    pass


class Deliver(Event, frozen=True):
    n: Annotated[int, Range(0, 10)]
    seq: Annotated[int, Range(0, M32), near("next")] = 0


class Took(Effect, frozen=True):
    n: Annotated[int, Range(0, 10)]


def switch(s: Shop, e: Switch, p: Limits) -> tuple[Shop, tuple[Any, ...]]:
    """The lamp changes."""
    return Shop(Lamp.OFF if s.lamp == Lamp.ON else Lamp.ON, s.stock, s.next), ()


def taken(s: Shop, e: Deliver, p: Limits) -> tuple[Shop, tuple[Any, ...]]:
    """A delivery that fits is taken."""
    require(s.stock + e.n <= p.most, "it fits")
    return Shop(s.lamp, s.stock + e.n, add(s.next, 1)), (Took(n=e.n),)


def sent_back(s: Shop, e: Deliver, p: Limits) -> tuple[Shop, tuple[Any, ...]]:
    """A delivery that does not fit is sent back."""
    require(s.stock + e.n > p.most, "it does not fit")
    return s, ()


def taken_too_much(s: Shop, e: Deliver, p: Limits) -> tuple[Shop, tuple[Any, ...]]:
    """Everything is taken."""
    return Shop(s.lamp, s.stock + e.n, add(s.next, 1)), (Took(n=e.n),)


def within(s: Shop, p: Limits) -> bool:
    """The stock is within the limit."""
    return s.stock <= p.most


def forward(s: Shop, e: Deliver, t: Shop) -> bool:
    """A delivery never makes the stock smaller."""
    return t.stock >= s.stock


def expected(s: Shop, e: Deliver) -> bool:
    """Deliveries come in order."""
    return e.seq == s.next


SHOP = Machine(name="shop", title="A shop", accepts={Shop: (Switch, Deliver)}, params=Limits, modules=(__name__,))


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    rules, properties = set(RULES), set(PROPERTIES)
    rule("shop/lamp.c:switch")(switch)
    rule("shop/stock.c:take")(taken)
    rule("shop/stock.c:take")(sent_back)
    invariant()(within)
    transition(Deliver)(forward)
    assume(expected)
    yield
    for registry, before in ((RULES, rules), (PROPERTIES, properties)):
        for name in set(registry) - before:
            del registry[name]


def without(*names: str, extra: Any = None) -> Dispatcher:
    rules = [r for r in SHOP.rules if r.fn.__name__ not in names]
    if extra is not None:
        rule("shop/stock.c:take")(extra)
        rules.append(RULES[f"{extra.__module__}.{extra.__name__}"])
    return Dispatcher(rules, check=True)


STEPS, WALKS = "test_every_step_keeps_the_laws", "test_walks_keep_the_laws"


def run(*names: str, **given: Any) -> unittest.TestResult:
    result = unittest.TestResult()
    kind = machine_tests(SHOP, examples=100, walks=5, length=8, tries=500, **given)
    unittest.TestSuite([kind(n) for n in names]).run(result)
    return result


def told(result: unittest.TestResult) -> str:
    return "".join(text for _, text in result.failures + result.errors)


def test_a_lawful_machine_passes() -> None:
    result = run(STEPS, WALKS)
    assert result.wasSuccessful(), told(result)


def test_a_missing_rule_is_found() -> None:
    assert "not modelled" in told(run(STEPS, dispatcher=without("sent_back")))


def test_overlapping_rules_are_found() -> None:
    assert "overlap" in told(run(STEPS, dispatcher=without("sent_back", extra=taken_too_much)))


def test_a_broken_invariant_is_named_with_the_step_that_breaks_it() -> None:
    text = told(run(STEPS, dispatcher=without("sent_back", "taken", extra=taken_too_much)))
    assert "test_property.within: The stock is within the limit." in text or "is not in 0 .. 10" in text
    assert "by   Deliver(" in text


def test_a_range_that_is_left_is_a_broken_law() -> None:
    laws = Laws(SHOP, Limits(), dispatcher=without("sent_back", "taken", extra=taken_too_much))
    with pytest.raises(LawBroken, match=r"Shop.stock = 12 is not in 0 .. 10"):
        laws.step(Shop(stock=6), Deliver(6))


def test_an_event_that_an_assumption_rules_out_is_no_step() -> None:
    assert Laws(SHOP, Limits()).step(Shop(), Deliver(1, seq=5)) is None


def test_a_corpus_holds_lawful_states_that_fire_every_rule() -> None:
    laws = Laws(SHOP, Limits())
    corpus = Corpus(laws, initial_states(SHOP), 500)
    assert set(corpus.fired) == {r.id for r in SHOP.rules}
    assert all(laws.holds_in(s) for pairs in corpus.fired.values() for s, _ in pairs)
    assert Corpus(laws, initial_states(SHOP), 500).fired == corpus.fired


def test_candidates_are_edges_neighbours_and_wraps() -> None:
    kind, notes = fields(Deliver)["seq"]
    few = candidates(kind, notes, 0, {"next": 0})
    assert {0, 1, 2, M32, M32 - 1, 1 << 31} <= set(few)
    assert candidates(Lamp, (), Lamp.OFF, {}) == [Lamp.OFF, Lamp.ON]
    assert candidates(bool, (), True, {}) == [True, False]
    assert all(0 <= v <= 10 for v in candidates(*fields(Shop)["stock"], 0, {"x": 99}))


def test_misfits_are_told_by_field() -> None:
    assert misfit(Shop()) is None
    assert misfit(Shop(stock=11)) == "Shop.stock = 11 is not in 0 .. 10"
    assert misfit(Shop(lamp=7)) == "Shop.lamp = 7 is no Lamp"  # type: ignore[arg-type]
