"""z3 terms, built through z3's C interface.

z3's own operators compare the sorts of both sides, wrap them and check each call, which costs several times what the
proof itself costs. Every term here is a truth value or an integer of the current space, so none of that is needed.
"""

from collections.abc import Sequence
from typing import Any

import z3
from z3 import z3core

from refmodel.engine.space import space


def integer(n: int) -> Any:
    """The numeral `n`."""
    known = space().numerals
    if n not in known:
        known[n] = z3.IntVal(int(n), space().ctx)
    return known[n]


def boolean(b: bool) -> Any:
    """True or false."""
    return space().true if b else space().false


def is_true(t: Any) -> bool:
    """Whether a simplified term is plainly true."""
    return bool(t.get_id() == space().true_id)


def is_false(t: Any) -> bool:
    """Whether a simplified term is plainly false."""
    return bool(t.get_id() == space().false_id)


def _array(ts: Sequence[Any]) -> Any:
    return (z3.Ast * len(ts))(*[t.ast for t in ts])


def every(ts: Sequence[Any]) -> Any:
    """And; of nothing it is true."""
    if len(ts) < 2:
        return ts[0] if ts else boolean(True)
    ctx = ts[0].ctx
    return z3.BoolRef(z3core.Z3_mk_and(ctx.ref(), len(ts), _array(ts)), ctx)


def some(ts: Sequence[Any]) -> Any:
    """Or; of nothing it is false."""
    if len(ts) < 2:
        return ts[0] if ts else boolean(False)
    ctx = ts[0].ctx
    return z3.BoolRef(z3core.Z3_mk_or(ctx.ref(), len(ts), _array(ts)), ctx)


def negated(t: Any) -> Any:
    """Not."""
    return z3.BoolRef(z3core.Z3_mk_not(t.ctx.ref(), t.ast), t.ctx)


def ite(c: Any, a: Any, b: Any) -> Any:
    """If c then a else b, of two truth values or two integers."""
    ctx = c.ctx
    kind = z3.BoolRef if isinstance(a, z3.BoolRef) else z3.ArithRef
    return kind(z3core.Z3_mk_ite(ctx.ref(), c.ast, a.ast, b.ast), ctx)


def same(a: Any, b: Any) -> Any:
    """a == b."""
    return z3.BoolRef(z3core.Z3_mk_eq(a.ctx.ref(), a.ast, b.ast), a.ctx)


def below(a: Any, b: Any) -> Any:
    """a < b."""
    return z3.BoolRef(z3core.Z3_mk_lt(a.ctx.ref(), a.ast, b.ast), a.ctx)


def at_most(a: Any, b: Any) -> Any:
    """a <= b."""
    return z3.BoolRef(z3core.Z3_mk_le(a.ctx.ref(), a.ast, b.ast), a.ctx)


def within(t: Any, lo: int, hi: int) -> list[Any]:
    """lo <= t <= hi, as two terms."""
    return [at_most(integer(lo), t), at_most(t, integer(hi))]


def among(t: Any, values: Sequence[int]) -> Any:
    """t is one of `values`."""
    return some([same(t, integer(v)) for v in values])


def total(ts: Sequence[Any]) -> Any:
    """The sum; of nothing it is 0."""
    if len(ts) < 2:
        return ts[0] if ts else integer(0)
    ctx = ts[0].ctx
    return z3.ArithRef(z3core.Z3_mk_add(ctx.ref(), len(ts), _array(ts)), ctx)


def scaled(k: int, t: Any) -> Any:
    """k * t."""
    return z3.ArithRef(z3core.Z3_mk_mul(t.ctx.ref(), 2, _array([integer(k), t])), t.ctx)


def remainder(t: Any, m: int) -> Any:
    """t modulo the constant m > 0, in [0, m)."""
    return z3.ArithRef(z3core.Z3_mk_mod(t.ctx.ref(), t.ast, integer(m).ast), t.ctx)


def quotient(t: Any, m: int) -> Any:
    """t divided by the constant m > 0, rounded down."""
    return z3.ArithRef(z3core.Z3_mk_div(t.ctx.ref(), t.ast, integer(m).ast), t.ctx)


def boolean_variable(name: str) -> Any:
    """The truth value called `name`."""
    return z3.Bool(name, space().ctx)


def integer_variable(name: str) -> Any:
    """The integer called `name`."""
    return z3.Int(name, space().ctx)
