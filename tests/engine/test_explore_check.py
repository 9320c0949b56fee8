"""The property language: what it understands, and how it refuses the rest."""

from typing import Any

import pytest

from refmodel.engine.explore_check import PropertyError, predicate
from tests.engine.toy import Ph, Receiver, Sender, transfer

SYSTEM = transfer()
STATES = {"a": Sender(Ph.WAITING, 1, 1), "b": Receiver(2, 0)}


def finished(a: Sender, b: Receiver) -> bool:
    """The sender is done."""
    return a.ph == Ph.DONE and b.got > 0


def elsewhere(c: Any) -> bool:
    return bool(c)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a.ph == WAITING", True),
        ("a.ph in (READY, Ph.DONE)", False),
        ("a.ph not in (READY, DONE) and not b.bit", True),
        ("1 <= a.sent < b.got", True),
        ("b.got == a.sent + 1", True),
        ("(a.sent * 2 - b.got) % 3 == 0", True),
        ("-a.sent == -1 or False", True),
        ("a.type == 'Sender'", True),
        ("b.got == 2 if a.bit else b.got == 0", True),
    ],
)
def test_expressions_mean_what_they_say(text: str, value: bool) -> None:
    assert predicate(text, SYSTEM).holds(STATES) is value


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a.ph ==", "is not an expression"),
        ("c.ph == DONE", "no component is called c; there are a, b"),
        ("a.state == DONE", "no state of a has the field state; there are type, bit, ph, sent"),
        ("a.ph == GONE", "neither a component nor an enum member"),
        ("a == b", "a component, not a value"),
        ("a.ph == Ph.GONE", "Ph has READY, WAITING, DONE"),
        ("len(a.ph) == 1", "Call is not part of the property language"),
        ("[x for x in a.ph]", "ListComp is not part"),
        ("a.ph is DONE", "Is is not part"),
        ("a.sent ** 9 > 1", "BinOp is not part"),
        ("(lambda: 1)()", "Call is not part"),
        ("'x'.join == 1", "only fields of components"),
        ("no.such.module:fn", "No module named"),
        ("tests.engine.test_explore_check:nothing", "has no attribute"),
        ("tests.engine.test_explore_check:elsewhere", "parameter 'c' is no component of transfer"),
    ],
)
def test_what_is_not_understood_is_refused(text: str, why: str) -> None:
    with pytest.raises(PropertyError, match=why.replace("(", r"\(")):
        predicate(text, SYSTEM)


def test_a_field_that_the_object_lacks_is_an_error_when_asked() -> None:
    with pytest.raises(PropertyError, match=r"ask a\.type"):
        predicate("a.ph.real == 1", SYSTEM).holds(STATES)


def test_a_function_is_given_the_states_that_its_parameters_name() -> None:
    p = predicate("tests.engine.test_explore_check:finished", SYSTEM)
    assert not p.holds(STATES)
    assert p.text == "The sender is done."


def test_only_the_fields_read_decide() -> None:
    assert predicate("a.sent < b.got and a.ph == DONE", SYSTEM).reads == {"a": (("ph",), ("sent",)), "b": (("got",),)}
