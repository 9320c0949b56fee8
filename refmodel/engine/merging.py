"""What the lifted source calls in place of and, or, not, ?:, in, ==, min, max, any, all, sum and friends.

Each takes plain values as Python would, and merges symbolic ones into one term instead of forking. With plain values
alone they are exactly Python, so a lifted rule also runs on concrete states.
"""

import builtins
from collections.abc import Callable, Iterable, Sequence
from enum import IntEnum
from functools import wraps
from typing import Any, Final

import z3
from msgspec import Struct

from refmodel.engine import build
from refmodel.engine.linear import (
    Cond,
    is_symbolic,
    larger,
    merge,
    number,
    smaller,
    truth,
)
from refmodel.engine.paths import Explorer, merged
from refmodel.engine.space import CannotMerge, Unprovable, space
from refmodel.rule import NotEnabled

Thunk = Callable[[], Any]
Item = tuple[Any, Thunk]  # (condition under which the item is there, its value)


def _logical(x: Any) -> Any:
    if isinstance(x, (Cond, bool)):
        return x
    raise Unprovable(f"and/or/not join truth values; for a {type(x).__name__} write `!= 0` or `is not None`")


def all_of(*thunks: Thunk) -> Any:
    """`and`: left to right, stopping at a plain falsehood."""
    terms: list[Any] = []
    last: Any = True
    for f in thunks:
        last = f()
        if not terms and not is_symbolic(last):
            if not last:
                return last
            continue
        if _logical(last) is False:
            return False
        if isinstance(last, Cond):
            terms.append(last.term)
    if not terms:
        return last
    return Cond(build.every(terms))


def any_of(*thunks: Thunk) -> Any:
    """`or`: left to right, stopping at a plain truth."""
    terms: list[Any] = []
    last: Any = False
    for f in thunks:
        last = f()
        if not terms and not is_symbolic(last):
            if last:
                return last
            continue
        if _logical(last) is True:
            return True
        if isinstance(last, Cond):
            terms.append(last.term)
    if not terms:
        return last
    return Cond(build.some(terms))


def negation(x: Any) -> Any:
    """`not`."""
    return Cond(build.negated(truth(x))) if is_symbolic(x) else not x


def choose(condition: Any, yes: Thunk, no: Thunk) -> Any:
    """`yes if condition else no`: one term where both have a common shape, a fork where they don't."""
    if not is_symbolic(condition):
        return yes() if condition else no()
    t = z3.simplify(truth(condition))
    if build.is_true(t):
        return yes()
    if build.is_false(t):
        return no()
    a, b = yes(), no()
    try:
        return merge(t, a, b)
    except CannotMerge:
        return a if space().decide(t) else b


def equal(a: Any, b: Any) -> Any:
    """`==`, field by field on structs and item by item on tuples."""
    if isinstance(a, Struct) and isinstance(b, Struct):
        if type(a) is not type(b):
            return False
        return all_of(*[lambda f=f: equal(getattr(a, f), getattr(b, f)) for f in a.__struct_fields__])
    if isinstance(a, tuple) and isinstance(b, tuple):
        if len(a) != len(b):
            return False
        return all_of(*[lambda x=x, y=y: equal(x, y) for x, y in zip(a, b, strict=True)])
    return a == b


def member(x: Any, xs: Any) -> Any:
    """`x in xs`."""
    if not is_symbolic(x) and not (isinstance(xs, (tuple, list)) and any(_holds_symbols(y) for y in xs)):
        return x in xs
    return any_of(*[lambda y=y: equal(x, y) for y in xs])


def _holds_symbols(x: Any) -> bool:
    if isinstance(x, Struct):
        return any(_holds_symbols(getattr(x, f)) for f in x.__struct_fields__)
    if isinstance(x, (tuple, list)):
        return any(_holds_symbols(y) for y in x)
    return is_symbolic(x)


def lookup(table: Any, key: Any) -> Any:
    """`table[key]`: a symbolic key reads a dict over all members of an enum, or a tuple."""
    if not is_symbolic(key):
        return table[key]
    cases = table if isinstance(table, dict) else dict(enumerate(table))
    if not cases:
        raise Unprovable("an empty table was indexed by a symbolic key")
    lo, hi = number(key).bounds()
    enum = type(next(iter(cases)))
    whole = issubclass(enum, IntEnum) and set(enum) == set(cases)
    if not whole and not set(range(lo, hi + 1)) <= {int(k) for k in cases}:
        raise Unprovable(f"a table without an entry for every key in {lo} to {hi} was indexed by a symbolic key")
    *rest, (_, out) = cases.items()
    for k, v in rest:
        out = merge(truth(number(key) == int(k)), v, out)
    return out


def least(*xs: Any) -> Any:
    """`min` of two or more values or of one tuple."""
    return _fold(xs, smaller, builtins.min)


def greatest(*xs: Any) -> Any:
    """`max` of two or more values or of one tuple."""
    return _fold(xs, larger, builtins.max)


def _fold(xs: Sequence[Any], pick: Callable[[Any, Any], Any], plain: Callable[[Any], Any]) -> Any:
    items = list(xs[0]) if len(xs) == 1 else list(xs)
    if not any(is_symbolic(x) for x in items):
        return plain(items)
    out = items[0]
    for x in items[1:]:
        out = pick(out, x) if is_symbolic(out) or is_symbolic(x) else plain([out, x])
    return out


def integer(x: Any = 0) -> Any:
    """`int(x)`."""
    return number(x) if is_symbolic(x) else int(x)


def boolean(x: Any = False) -> Any:
    """`bool(x)`."""
    return Cond(truth(x)) if is_symbolic(x) else bool(x)


def magnitude(x: Any) -> Any:
    """`abs(x)`."""
    return larger(x, -number(x)) if is_symbolic(x) else abs(x)


def items(xs: Iterable[Any], wanted: Callable[[Any], Any], value: Callable[[Any], Any]) -> list[Item]:
    """A comprehension: for each item the condition under which it is there, and its value."""
    out: list[Item] = []
    for x in xs:
        there = wanted(x)
        if there is not False:
            out.append((there, lambda x=x: value(x)))  # type: ignore[misc]
    return out


def _plainly(there: Any) -> bool:
    return bool(there)


def listed(found: Iterable[Item]) -> list[Any]:
    """The comprehension as a list; a symbolic condition forks."""
    return [f() for there, f in found if _plainly(there)]


def any_item(found: Iterable[Item]) -> Any:
    """`any(...)` over a comprehension."""
    return any_of(*[lambda there=there, f=f: all_of(lambda: there, f) for there, f in found])


def all_items(found: Iterable[Item]) -> Any:
    """`all(...)` over a comprehension."""
    return all_of(*[lambda there=there, f=f: any_of(lambda: negation(there), f) for there, f in found])


def sum_items(found: Iterable[Item]) -> Any:
    """`sum(...)` over a comprehension."""
    total: Any = 0
    for there, f in found:
        total = total + choose(there, f, lambda: 0)
    return total


def require(condition: Any, why: str = "") -> None:
    """The guard: assumed of the path, not forked on."""
    if not is_symbolic(condition):
        if not condition:
            raise NotEnabled(why)
        return
    explorer = space().decider
    if not isinstance(explorer, Explorer):
        raise Unprovable("require stands in a helper that the prover merges; a guard belongs at the top of a rule")
    explorer.assume(condition, why)


def pure(fn: Callable[..., Any]) -> Callable[..., Any]:
    """A helper whose branches merge into one value, computed once for each combination of arguments."""

    @wraps(fn)
    def run(*args: Any, **named: Any) -> Any:
        if not any(_holds_symbols(x) for x in (*args, *named.values())):
            return fn(*args, **named)
        key = (fn, *map(_key, args), *((n, _key(x)) for n, x in sorted(named.items())))
        cache = space().pure
        if key not in cache:
            try:
                cache[key] = (merged(lambda: fn(*args, **named)), (args, named))
            except CannotMerge:
                return fn(*args, **named)
        return cache[key][0]

    return run


def _key(x: Any) -> Any:
    return (type(x), x) if isinstance(x, (int, str)) else id(x)


RUNTIME: Final[dict[str, Any]] = {
    "min": least,
    "max": greatest,
    "int": integer,
    "bool": boolean,
    "abs": magnitude,
    "require": require,
    "l_and": all_of,
    "l_or": any_of,
    "l_not": negation,
    "l_if": choose,
    "l_eq": equal,
    "l_in": member,
    "l_get": lookup,
    "l_items": items,
    "l_list": listed,
    "l_any": any_item,
    "l_all": all_items,
    "l_sum": sum_items,
}
