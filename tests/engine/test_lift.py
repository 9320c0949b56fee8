"""What the prover reads of a rule's source, and what it refuses with file and line."""

import importlib
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from refmodel import rule
from refmodel.engine.prove import prove, prove_with
from refmodel.engine.sampled import differences
from refmodel.engine.space import Unprovable
from refmodel.rule import MACHINES
from tests.engine.books import kept

HEAD = """
from enum import IntEnum
from typing import Annotated, ClassVar, Optional

from msgspec.structs import replace

from refmodel.rule import (
    Effect, Event, Machine, Params, State, assume, invariant, machine, pure, require, rule, step, transition)
from refmodel.types import M32, Range, add, after, before, between, distance, near, u8, u16, u32
class Kind(IntEnum):
    A = 1
    B = 2
    C = 7
SHIFT = {Kind.A: 1, Kind.B: 2, Kind.C: 3}
class S(State, frozen=True):
    x: u16 = 0
    y: u32 = 0
    f: bool = False
    k: Kind = Kind.A
class E(Event, frozen=True):
    n: u8 = 0
    g: bool = False
    k: Kind = Kind.A
class P(Params, frozen=True):
    limit: Annotated[int, Range(0, 40)] = 3
class Note(Effect, frozen=True):
    n: int
"""
TAIL = """
machine(Machine("scrap", "Scrap", {S: (E,)}, P, (__name__,)))
"""
Write = Callable[..., rule.Machine]


@pytest.fixture
def scrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Makes a machine of a piece of source; the registry is as before afterwards."""
    monkeypatch.syspath_prepend(str(tmp_path))
    made: list[str] = []

    def write(body: str, **other: str) -> rule.Machine:
        for name, text in {**other, "scrap_rules": HEAD + textwrap.dedent(body) + TAIL}.items():
            (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
            sys.modules.pop(name, None)
            made.append(name)
        importlib.invalidate_caches()
        module: ModuleType = importlib.import_module("scrap_rules")
        assert module.__file__ == str(tmp_path / "scrap_rules.py")
        return MACHINES["scrap"]

    with kept():
        yield write
    for name in made:
        sys.modules.pop(name, None)


def one_rule(body: str) -> str:
    return '@rule("a.c:f")\ndef f(s: S, e: E, p: P):\n    """Does it."""\n' + textwrap.indent(
        textwrap.dedent(body), "    "
    )


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("for i in range(3):\n    pass\nreturn s, ()", "a loop"),
        ("while s.f:\n    pass\nreturn s, ()", "a loop"),
        ("g = lambda x: x\nreturn s, ()", "a lambda"),
        ("assert s.f\nreturn s, ()", "assert; use require"),
        ("try:\n    pass\nfinally:\n    pass\nreturn s, ()", "try;"),
        ("raise ValueError(s)", "raise; use require"),
        ("return (s if (z := s.f) else s), ()", ":=;"),
        ("match s.x:\n    case 1:\n        pass\nreturn s, ()", "match; use if"),
        ("return s if s.k is Kind.A else s, ()", "`is` compares objects"),
        ("return replace(s, f=~s.f), ()", "~ on a truth value"),
        ("return replace(s, x=print(s) or 1), ()", "a call of print"),
        ("return replace(s, x=s.x.bit_length()), ()", "a method call"),
        ("if s.f:\n    require(e.g, 'late')\nreturn s, ()", "require stands inside another statement"),
        ("if s.f:\n    s = replace(s, x=1)\nrequire(e.g, 'late')\nreturn s, ()", "stands before a require"),
        ("return s, tuple(Note(x + y) for x in (1, 2) for y in (3, 4))", "one `for name in tuple`"),
        ("def g():\n    return 1\nreturn s, ()", "doesn't read FunctionDef"),
    ],
)
def test_a_construct_that_is_not_read_is_refused_with_its_line(scrap: Write, body: str, complaint: str) -> None:
    with pytest.raises(Unprovable, match=r"scrap_rules\.py:\d+: ") as refused:
        prove(scrap(one_rule(body)))
    assert complaint in str(refused.value)


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("s.y * s.x", "a product of two variables is not linear"),
        ("s.y // s.x", "// by a variable"),
        ("s.y & 6", "constant mask"),
        ("s.x if s.x and s.y else 1", "write `!= 0`"),
        ("(1, 2, 3)[s.x]", "without an entry for every key"),
        ("Kind(s.x)", "is not a valid Kind"),
    ],
)
def test_arithmetic_that_is_not_linear_is_refused_with_its_line(scrap: Write, value: str, complaint: str) -> None:
    with pytest.raises(Unprovable, match=r"scrap_rules\.py:\d+: ") as refused:
        prove(scrap(one_rule(f"return replace(s, y={value}), ()")))
    assert complaint in str(refused.value)


@pytest.mark.parametrize(
    ("field", "complaint"),
    [
        ("q: tuple[int, ...] = ()", "a queue is represented by counters"),
        ("o: Optional[int] = None", "an absent value by a flag"),
        ("n: int = 0", "an int without a range"),
        ("t: str = ''", "is a str"),
    ],
)
def test_a_field_that_cannot_be_symbolic_is_refused_by_name(scrap: Write, field: str, complaint: str) -> None:
    body = f"class S(State, frozen=True):\n    {field}\n" + one_rule("return s, ()")
    with pytest.raises(Unprovable, match=r"S\.\w+ ") as refused:
        prove(scrap(body))
    assert complaint in str(refused.value)


def test_require_in_a_helper_is_refused(scrap: Write) -> None:
    helper = "def check(s: S) -> None:\n    require(s.f, 'it is set')\n"
    with pytest.raises(Unprovable, match="check, which is no rule"):
        prove(scrap(helper + one_rule("check(s)\nreturn s, ()")))


def test_only_what_rules_reach_is_read(scrap: Write) -> None:
    unread = "def unread(n):\n    for i in range(n):\n        yield i\n"
    assert prove(scrap(unread + one_rule("return s, ()"))).ok


READABLE = [
    "replace(s, x=min(s.x + e.n, 0xFFFF))",
    "replace(s, x=max(s.x - e.n, 0))",
    "replace(s, y=add(s.y, e.n) if after(s.y, s.x) or before(s.y, 5) and not s.f else s.y)",
    "replace(s, y=(s.y - s.x - e.n) & M32)",
    "replace(s, y=distance(s.x, s.y), f=between(s.y, s.x, add(s.x, e.n)))",
    "replace(s, x=(s.x * 3 + 5) % 1000, y=s.x // 7)",
    "replace(s, y=s.x << e.n % 4, x=s.x >> 3)",
    "replace(s, y=(s.x << p.limit % 16) & M32)",
    "replace(s, y=e.n * p.limit)",
    "replace(s, x=s.y & 0xFFF)",
    "replace(s, k=e.k if e.g else s.k)",
    "replace(s, x=SHIFT[e.k] + (10, 20, 30, 40)[e.n % 4])",
    "replace(s, f=e.k in (Kind.A, Kind.C) and e.n not in (1, 2, s.x))",
    "replace(s, f=1 < e.n <= s.x < 500)",
    "replace(s, f=s.f != e.g, x=s.f + e.g + 3)",
    "replace(s, f=s.f ^ e.g | (s.x == e.n) & s.f)",
    "replace(s, x=abs(s.x - e.n), y=int(e.g), f=bool(e.n))",
    "replace(s, f=(s.x, e.n) == (3, 4) or s == S(x=9))",
    "replace(s, f=any(s.x == v for v in (3, e.n, 5) if v != 5))",
    "replace(s, f=all(s.x > v for v in (3, e.n)), x=sum(v for v in (1, e.n, 3) if v < e.n))",
    "replace(s, x=sum((1, e.n, 2)), f=any((s.f, e.g)))",
    "(replace(s, f=True) if e.n > 3 else replace(s, f=False))",
    "pick(s, e)",
    "again(s, e)[0]",
]
HELPERS = '''
@pure
def size(s: S, e: E) -> int:
    if s.x > 100:
        return 1
    big = e.n > 10
    if big and s.f:
        return 2
    return 3 if big else s.y & 0xFF
def pick(s: S, e: E) -> S:
    if size(s, e) == 2:
        return replace(s, k=Kind.C)
    return replace(s, x=size(s, e))
@step("a.c:again")
def again(s: S, e: E):
    """Does it again."""
    if e.g:
        return replace(s, x=0), (Note(e.n),)
    return s, ()
'''


@pytest.mark.parametrize("value", READABLE)
def test_what_is_read_is_read_as_python_does(scrap: Write, value: str) -> None:
    body = HELPERS + one_rule(f"t = {value}\nreturn t, (Note(t.x),) if e.g else ()")
    m = scrap(body)
    a = differences(m, samples=120)
    assert a.differences == ()
    assert a.enabled > 100


def test_calls_go_to_lifted_functions_whatever_the_module_names_them_by(scrap: Write) -> None:
    other = """
        from refmodel.rule import pure
        LIMIT = 7
        @pure
        def small(n: int) -> bool:
            if n > 200:
                return False
            return n < LIMIT
        def both(a: int, b: int) -> bool:
            return small(a) and small(b)
    """
    body = "import scrap_other\nfrom scrap_other import small as tiny, LIMIT\n" + one_rule(
        "return replace(s, f=scrap_other.both(s.x, e.n) or tiny(s.y) and e.n < LIMIT), ()\n"
    )
    told = '@transition()\ndef told(s: S, e: E, t: S) -> bool:\n    """Small is less than seven."""\n' + (
        "    return t.f == (s.x < 7 and e.n < 7 or s.y < 7 and e.n < 7)\n"
    )
    m = scrap(body + told, scrap_other=other)
    assert differences(m).differences == ()
    r = prove(m)
    assert r.ok, r.text()
    assert r.paths == 1
    assert prove_with(m, [("scrap_other", "n < LIMIT", "n <= LIMIT")]).failed == {"scrap_rules.told"}
    assert prove_with(m, [("scrap_other", "LIMIT = 7", "LIMIT = 8")]).failed == {"scrap_rules.told"}


def test_a_symbolic_discriminator_is_split_into_paths(scrap: Write) -> None:
    body = """
    class S(State, frozen=True):
        AT: ClassVar[str] = "k"
        k: Kind = Kind.A
        n: u8 = 0
    @rule("a.c:f")
    def f(s: S, e: E, p: P):
        \"\"\"Goes where it is told.\"\"\"
        return replace(s, k=e.k, n=1 if e.k == Kind.B else 0), ()
    @invariant(at=Kind.B)
    def b_has_one(s: S) -> bool:
        \"\"\"In B there is one.\"\"\"
        return s.n == 1
    """
    r = prove(scrap(body))
    assert [f.kind for f in r.failures] == []
    assert r.paths == 9


def test_an_edit_must_find_its_text_and_leave_classes_alone(scrap: Write) -> None:
    m = scrap(one_rule("return s, ()"))
    with pytest.raises(Unprovable, match="finds no"):
        prove_with(m, [("scrap_rules", "no such text", "")])
    with pytest.raises(Unprovable, match="changes a class"):
        prove_with(m, [("scrap_rules", "x: u16 = 0", "x: u8 = 0")])


def test_contradicting_invariants_are_a_failure_not_a_proof(scrap: Write) -> None:
    pair = "\n".join(
        f'@invariant()\ndef {n}(s: S) -> bool:\n    """It is {n}."""\n    return s.x {op} 5'
        for n, op in (("hi", ">"), ("lo", "<"))
    )
    r = prove(scrap(one_rule("return s, ()") + "\n" + pair))
    assert "vacuous" in r.failed


def test_a_result_of_a_strange_type_is_a_failure(scrap: Write) -> None:
    r = prove(scrap("class T(State, frozen=True):\n    x: u16 = 0\n" + one_rule("return T(), ()")))
    assert r.failed == {"type"}
