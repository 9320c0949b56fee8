"""Symbolic numbers are Python's integers: every operation, at every bound, on plain and on wrapped operands."""

import operator
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refmodel.engine import build, merging
from refmodel.engine.linear import Cond, Linear, Num, of_atom, truth
from refmodel.engine.space import Space, Unprovable, entered
from refmodel.engine.terms import compiled
from refmodel.types import H32, M32

EDGES = (0, 1, 2, 3, 7, 63, 64, H32 - 1, H32, H32 + 1, M32 - 1, M32)
u32 = st.one_of(st.sampled_from(EDGES), st.integers(0, M32))
small = st.integers(0, 15)
BINARY: tuple[Callable[[Any, Any], Any], ...] = (
    operator.add,
    operator.sub,
    operator.lt,
    operator.le,
    operator.gt,
    operator.ge,
    operator.eq,
    operator.ne,
    merging.least,
    merging.greatest,
    lambda a, b: (a - b) & M32,
    lambda a, b: ((a - b) & M32) >= H32,
    lambda a, b: ((a + b) & M32) == b,
    lambda a, b: ((a - 3) & M32) == ((b + 5) & M32),
    lambda a, b: ((a + b) & M32) + ((a - b) & M32) - a,
    lambda a, b: merging.choose(a < b, lambda: (a + 1) & M32, lambda: (b - 1) & M32) - b,
    lambda a, b: (a - a) == 5,
    lambda a, b: (a - a + 5) != 5,
    lambda a, b: merging.magnitude(a - b),
    lambda a, b: (a < b) + (a == b) * 2 - (b > 5),
)
BY_CONSTANT: tuple[Callable[[Any, int], Any], ...] = (
    lambda a, k: a * k,
    lambda a, k: a % (k + 1),
    lambda a, k: a // (k + 1),
    lambda a, k: a << k,
    lambda a, k: a >> k,
    lambda a, k: a & ((1 << k) - 1),
    lambda a, k: k - a,
    lambda a, k: 1000 // (k + 1) - a * -k,
)
BOUNDED: tuple[Callable[[Any, Any], Any], ...] = (
    merging.least,
    merging.greatest,
    operator.sub,
    lambda p, q: (p * 3 - q) & M32,
    lambda p, q: q // 7 - p,
)


def value(result: Any, variables: list[Any], given_values: list[int]) -> Any:
    if isinstance(result, (Num, Cond)):
        return compiled([result.term], variables)(*given_values)[0]
    return result


@settings(max_examples=25)
@given(a=u32, b=u32, base=u32)
@pytest.mark.parametrize("f", BINARY)
def test_an_operation_of_two_numbers_is_pythons(f: Callable[[Any, Any], Any], a: int, b: int, base: int) -> None:
    with entered(Space()):
        x, y, z = (build.integer_variable(n) for n in "xyz")
        plain = of_atom(x, 0, M32)
        other = of_atom(y, 0, M32)
        start = of_atom(z, 0, M32)
        forms = [
            (Num(plain), Num(other), a, b),
            (Num(start.plus(plain), True), Num(start.plus(other), True), (base + a) & M32, (base + b) & M32),
            (Num(start.plus(plain, -1), True), Num(start), (base - a) & M32, base),
            (Num(plain), b, a, b),
            (Num(Linear({}, a)), Num(Linear({}, b)), a, b),
        ]
        for p, q, pv, qv in forms:
            assert value(f(p, q), [x, y, z], [a, b, base]) == f(pv, qv)


@settings(max_examples=25)
@given(a=u32, k=small)
@pytest.mark.parametrize("f", BY_CONSTANT)
def test_an_operation_by_a_small_number_is_pythons(f: Callable[[Any, Any], Any], a: int, k: int) -> None:
    with entered(Space()):
        x, y = build.integer_variable("x"), build.integer_variable("y")
        n = Num(of_atom(x, 0, M32))
        assert value(f(n, k), [x, y], [a, k]) == f(a, k)
        assert value(f(Num(of_atom(x, 0, M32)) + 0, k), [x, y], [a, k]) == f(a, k)


@settings(max_examples=25)
@given(a=u32, k=small)
@pytest.mark.parametrize("f", [operator.mul, operator.lshift, operator.rshift])
def test_a_variable_of_few_values_is_split_into_cases(f: Callable[[Any, Any], Any], a: int, k: int) -> None:
    with entered(Space()):
        x, y = build.integer_variable("x"), build.integer_variable("y")
        n, few = Num(of_atom(x, 0, M32)), Num(of_atom(y, 0, 15))
        assert value(f(n, few), [x, y], [a, k]) == f(a, k)


@given(a=u32, b=st.integers(0, 200))
def test_bounds_hold_the_value(a: int, b: int) -> None:
    with entered(Space()):
        x, y = build.integer_variable("x"), build.integer_variable("y")
        n, m = Num(of_atom(x, 0, M32)), Num(of_atom(y, 0, 200))
        for f in (
            merging.least,
            merging.greatest,
            operator.sub,
            lambda p, q: (p * 3 - q) & M32,
            lambda p, q: q // 7 - p,
        ):
            r = f(n, m)
            lo, hi = r.bounds()
            assert lo <= value(r, [x, y], [a, b]) <= hi


def test_truth_values_are_not_bits() -> None:
    with entered(Space()):
        c = Cond(build.boolean_variable("c"))
        assert isinstance(c & True, Cond)
        with pytest.raises(Unprovable, match="flags are bool fields"):
            c | 4
        with pytest.raises(Unprovable, match="constant mask"):
            Num(of_atom(build.integer_variable("x"), 0, 9)) & 6


def test_a_symbolic_number_is_never_silently_plain() -> None:
    with entered(Space()):
        n = Num(of_atom(build.integer_variable("x"), 0, 9))
        with pytest.raises(Unprovable, match="plain truth value outside a rule"):
            bool(n)
        with pytest.raises(Unprovable, match="plain int"):
            range(n)
        with pytest.raises(TypeError):
            hash(n)
        assert truth(n == 12).eq(build.boolean(False))
