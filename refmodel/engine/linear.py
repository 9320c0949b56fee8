"""Symbolic numbers of the prover: linear forms over bounded atoms, with wrap-around decided as late as possible.

The law of this file: a `Num` is an exact integer. Arithmetic never overflows, so there is nothing to prove about it;
`& M32` only marks a form as "modulo 2**32". Differences cancel their common base before any case split on wrap-around,
so `(seq - rcv_nxt) & M32` over `seq = rcv_nxt + d` is just `d`. A `Cond` is a symbolic truth value; asking for its
Python truth (an `if` statement) is the only place where a reading forks.

Everything symbolic lives in the current `Space`.
"""

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from refmodel.engine import build
from refmodel.engine.space import CannotMerge, Unprovable, space
from refmodel.types import M32

WRAP = M32 + 1
SPLITS = 64  # a variable factor, shift or divisor with more values than this is refused
CHAIN = 8  # more wraps than this are left to z3's mod


class Linear:
    """sum(factor * atom) + const, over the atoms of the current space."""

    __slots__ = ("const", "parts")

    def __init__(self, parts: dict[int, int], const: int) -> None:
        self.parts = parts
        self.const = const

    def plus(self, other: "Linear", times: int = 1) -> "Linear":
        """self + times * other."""
        parts = dict(self.parts)
        for key, factor in other.parts.items():
            n = parts.get(key, 0) + times * factor
            if n:
                parts[key] = n
            else:
                parts.pop(key, None)
        return Linear(parts, self.const + times * other.const)

    def times(self, k: int) -> "Linear":
        """k * self."""
        return Linear({i: f * k for i, f in self.parts.items()} if k else {}, self.const * k)

    def bounds(self) -> tuple[int, int]:
        """The (lo, hi) that follow from the atoms' bounds."""
        atoms = space().atoms
        lo = hi = self.const
        for key, factor in self.parts.items():
            _, low, high = atoms[key]
            lo += factor * (low if factor > 0 else high)
            hi += factor * (high if factor > 0 else low)
        return lo, hi

    def term(self) -> Any:
        """The z3 term."""
        atoms = space().atoms
        xs = [build.scaled(k, atoms[i].term) if k != 1 else atoms[i].term for i, k in self.parts.items()]
        if self.const:
            xs.append(build.integer(self.const))
        return build.total(xs)


def of_atom(term: Any, lo: int, hi: int) -> Linear:
    """The form that is one atom."""
    return Linear({space().atom(term, lo, hi): 1}, 0)


def modulo(form: Linear, m: int = WRAP) -> Linear:
    """The value of `form` modulo the constant `m`, as an exact form: one case for each wrap its bounds allow."""
    lo, hi = form.bounds()
    first, last = lo // m, hi // m
    if first == last:
        return Linear(form.parts, form.const - first * m)
    key = (m, form.const, tuple(sorted(form.parts.items())))
    known = space().reduced.get(key)
    if isinstance(known, Linear):
        return known
    x = form.term()
    if last - first > CHAIN:
        t = build.remainder(x, m)
    else:
        t = form.plus(Linear({}, last * m), -1).term()
        for k in range(last - 1, first - 1, -1):
            t = build.ite(build.below(x, build.integer((k + 1) * m)), form.plus(Linear({}, k * m), -1).term(), t)
    out = of_atom(t, 0, m - 1)
    space().reduced[key] = out
    return out


class Cond:
    """A symbolic truth value."""

    __slots__ = ("term",)
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, term: Any) -> None:
        self.term = term

    def __bool__(self) -> bool:
        return space().decide(self.term)

    def __repr__(self) -> str:
        return f"Cond({self.term})"

    def __eq__(self, other: object) -> Any:
        if isinstance(other, (Cond, bool)):
            return Cond(build.same(self.term, truth(other)))
        return number(self) == other

    def __ne__(self, other: object) -> Any:
        return Cond(build.negated(truth(self == other)))

    def __and__(self, other: Any) -> "Cond":
        return Cond(build.every([self.term, _flag(other)]))

    def __or__(self, other: Any) -> "Cond":
        return Cond(build.some([self.term, _flag(other)]))

    def __xor__(self, other: Any) -> "Cond":
        return Cond(build.negated(build.same(self.term, _flag(other))))

    __rand__, __ror__, __rxor__ = __and__, __or__, __xor__

    def __add__(self, other: Any) -> Any:
        return number(self) + other

    def __sub__(self, other: Any) -> Any:
        return number(self) - other

    def __rsub__(self, other: Any) -> Any:
        return number(other) - number(self)

    def __mul__(self, other: Any) -> Any:
        return merge(self.term, other, 0)

    def __lt__(self, other: Any) -> Any:
        return number(self) < other

    def __le__(self, other: Any) -> Any:
        return number(self) <= other

    def __gt__(self, other: Any) -> Any:
        return number(self) > other

    def __ge__(self, other: Any) -> Any:
        return number(self) >= other

    __radd__, __rmul__ = __add__, __mul__


def _flag(x: Any) -> Any:
    if not isinstance(x, (bool, Cond)):
        raise Unprovable("& | ^ join truth values only; flags are bool fields")
    return truth(x)


class Num:
    """A symbolic integer.

    `form` is congruent to the value modulo 2**32. If `modular` the value is that residue; else it is `form` itself, or
    what `exact` computes where residues were added.
    """

    __slots__ = ("_exact", "form", "modular")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, form: Linear, modular: bool = False, exact: Callable[[], Linear] | None = None) -> None:
        self.form = form
        self.modular = modular
        self._exact: Linear | Callable[[], Linear] | None = exact

    def exact(self) -> Linear:
        """The value as an exact linear form."""
        if self._exact is None:
            self._exact = modulo(self.form) if self.modular else self.form
        if callable(self._exact):
            self._exact = self._exact()
        return self._exact

    def residue(self) -> Linear | None:
        """A form congruent to the value, if the value is known to lie in [0, 2**32); else None."""
        if self.modular:
            return self.form
        if self._exact is not None:
            return None
        lo, hi = self.form.bounds()
        return self.form if lo >= 0 and hi <= M32 else None

    def bounds(self) -> tuple[int, int]:
        """Known bounds of the value."""
        return self.exact().bounds()

    @property
    def term(self) -> Any:
        """The z3 term of the value."""
        return self.exact().term()

    def __repr__(self) -> str:
        return f"Num({len(self.form.parts)} terms + {self.form.const})"

    def __bool__(self) -> bool:
        return space().decide(truth(self != 0))

    def __index__(self) -> int:
        raise Unprovable("a symbolic number was used where Python needs a plain int")

    def _plus(self, other: Any, times: int) -> "Num":
        b = number(other)
        if self.modular or b.modular or self._exact is not None or b._exact is not None:
            return Num(self.form.plus(b.form, times), False, lambda: self.exact().plus(b.exact(), times))
        return Num(self.form.plus(b.form, times))

    def __add__(self, other: Any) -> "Num":
        return self._plus(other, 1)

    __radd__ = __add__

    def __sub__(self, other: Any) -> "Num":
        return self._plus(other, -1)

    def __rsub__(self, other: Any) -> "Num":
        return number(other)._plus(self, -1)

    def __neg__(self) -> Any:
        return self * -1

    def __mul__(self, other: Any) -> Any:
        if isinstance(other, Cond):
            return merge(other.term, self, 0)
        if isinstance(other, int):
            if self.modular or self._exact is not None:
                return Num(self.form.times(other), False, lambda: self.exact().times(other))
            return Num(self.form.times(other))
        a, b = (self, other) if _width(other) <= _width(self) else (other, self)
        return by_cases(b, lambda v: a * v, "a product of two variables is not linear")

    __rmul__ = __mul__

    def __mod__(self, m: Any) -> Any:
        return by_cases(m, lambda v: Num(modulo(self.exact(), v)), "% by a variable")

    def __rmod__(self, x: Any) -> Any:
        return by_cases(self, lambda v: number(x) % v, "% by a variable")

    def __floordiv__(self, m: Any) -> Any:
        return by_cases(m, lambda v: _quotient(self.exact(), v), "// by a variable")

    def __rfloordiv__(self, x: Any) -> Any:
        return by_cases(self, lambda v: number(x) // v, "// by a variable")

    def __lshift__(self, k: Any) -> Any:
        return by_cases(k, lambda v: self * (1 << v), "<< by a variable")

    def __rlshift__(self, x: Any) -> Any:
        return by_cases(self, lambda v: number(x * (1 << v)), "<< by a variable")

    def __rshift__(self, k: Any) -> Any:
        return by_cases(k, lambda v: _quotient(self.exact(), 1 << v), ">> by a variable")

    def __rrshift__(self, x: Any) -> Any:
        return by_cases(self, lambda v: number(x) >> v, ">> by a variable")

    def __and__(self, mask: Any) -> "Num":
        if not isinstance(mask, int) or mask < 0 or mask & (mask + 1):
            raise Unprovable("& takes a constant mask 2**n - 1 only; keep flags in bool fields")
        if mask == M32:
            return Num(self.form, True)
        return Num(modulo(self.exact(), mask + 1))

    __rand__ = __and__

    def _minus(self, other: Any) -> Linear:
        return self.exact().plus(number(other).exact(), -1)

    def __lt__(self, other: Any) -> Cond:
        d = self._minus(other)
        lo, hi = d.bounds()
        if hi < 0 or lo >= 0:
            return Cond(build.boolean(hi < 0))
        return Cond(build.below(d.term(), build.integer(0)))

    def __gt__(self, other: Any) -> Cond:
        return number(other) < self

    def __ge__(self, other: Any) -> Cond:
        return Cond(build.negated((self < other).term))

    def __le__(self, other: Any) -> Cond:
        return Cond(build.negated((number(other) < self).term))

    def __eq__(self, other: object) -> Any:
        if not isinstance(other, (int, Num, Cond)):
            return False
        b = number(other)
        x, y = self.residue(), b.residue()
        if (self.modular or b.modular) and x is not None and y is not None:
            d = x.plus(y, -1)
            if not d.parts:
                return Cond(build.boolean(d.const % WRAP == 0))
            lo, hi = d.bounds()
            wraps = range(-(-lo // WRAP), hi // WRAP + 1)
            return Cond(build.among(d.term(), [k * WRAP for k in wraps]))
        d = self._minus(b)
        lo, hi = d.bounds()
        if lo == hi or lo > 0 or hi < 0:
            return Cond(build.boolean(lo == hi == 0))
        return Cond(build.same(d.term(), build.integer(0)))

    def __ne__(self, other: object) -> Any:
        same = self == other
        return Cond(build.negated(same.term)) if isinstance(same, Cond) else not same


def _width(x: Any) -> int:
    lo, hi = number(x).bounds()
    return hi - lo


def _quotient(form: Linear, m: int) -> Num:
    if m <= 0:
        raise Unprovable(f"// by {m}: only positive divisors are read")
    lo, hi = form.bounds()
    if lo // m == hi // m:
        return Num(Linear({}, lo // m))
    return Num(of_atom(build.quotient(form.term(), m), lo // m, hi // m))


def by_cases(k: Any, f: Callable[[int], Any], what: str) -> Any:
    """f(k), one case for each value that a symbolic `k` can take; raises Unprovable if these are too many."""
    if isinstance(k, int):
        return f(int(k))
    lo, hi = number(k).bounds()
    if hi - lo >= SPLITS:
        raise Unprovable(f"{what}, and neither has a range of at most {SPLITS} values (this one: {lo} to {hi})")
    out = f(hi)
    for v in range(hi - 1, lo - 1, -1):
        out = merge(truth(number(k) == v), f(v), out)
    return out


def is_symbolic(x: Any) -> bool:
    """Whether `x` is a symbolic number or truth value."""
    return isinstance(x, (Num, Cond))


def number(x: Any) -> Num:
    """`x` as a Num: a Num, a Cond (0 or 1), an int, bool or IntEnum."""
    if isinstance(x, Num):
        return x
    if isinstance(x, Cond):
        return Num(of_atom(build.ite(x.term, build.integer(1), build.integer(0)), 0, 1))
    if isinstance(x, int):
        return Num(Linear({}, int(x)))
    raise Unprovable(f"{type(x).__name__} is not a number")


def truth(x: Any) -> Any:
    """`x` as a z3 truth value."""
    if isinstance(x, Cond):
        return x.term
    if isinstance(x, Num):
        return truth(x != 0)
    return build.boolean(bool(x))


def merge(cond: Any, a: Any, b: Any) -> Any:
    """If(cond, a, b) on numbers, truth values, structs and tuples of one shape; raises CannotMerge."""
    if a is b:
        return a
    if isinstance(a, (bool, Cond)) and isinstance(b, (bool, Cond)):
        if isinstance(a, bool) and isinstance(b, bool):
            return a if a == b else Cond(cond if a else build.negated(cond))
        return Cond(build.ite(cond, truth(a), truth(b)))
    if isinstance(a, (int, Num, Cond)) and isinstance(b, (int, Num, Cond)):
        if isinstance(a, int) and isinstance(b, int) and a == b:
            return a
        return _merge_numbers(cond, number(a), number(b))
    if isinstance(a, tuple) and type(a) is type(b) and len(a) == len(b):
        xs = [merge(cond, x, y) for x, y in zip(a, b, strict=True)]
        return type(a)(*xs) if hasattr(a, "_fields") else tuple(xs)
    if isinstance(a, Struct) and type(a) is type(b):
        return type(a)(**{f: merge(cond, getattr(a, f), getattr(b, f)) for f in a.__struct_fields__})
    if isinstance(a, str) and a == b:
        return a
    raise CannotMerge(f"{type(a).__name__} and {type(b).__name__} have no common shape")


def _merge_numbers(cond: Any, a: Num, b: Num) -> Num:
    """If(cond, a, b) that keeps the common part of the two forms outside."""
    x, y = a.residue(), b.residue()
    modular = (a.modular or b.modular) and x is not None and y is not None
    if not modular or x is None or y is None:
        x, y = a.exact(), b.exact()
    common = {i: k for i, k in x.parts.items() if y.parts.get(i) == k}
    p = Linear({i: k for i, k in x.parts.items() if i not in common}, x.const)
    q = Linear({i: k for i, k in y.parts.items() if i not in common}, y.const)
    if not p.parts and not q.parts and p.const == q.const:
        return Num(x, modular)
    (lo1, hi1), (lo2, hi2) = p.bounds(), q.bounds()
    common[space().atom(build.ite(cond, p.term(), q.term()), min(lo1, lo2), max(hi1, hi2))] = 1
    return Num(Linear(common, 0), modular)


def smaller(a: Any, b: Any) -> Any:
    """min(a, b) of two symbolic numbers, with the bounds that follow."""
    return _tightened(merge(truth(number(a) < b), number(a), number(b)), a, b, min)


def larger(a: Any, b: Any) -> Any:
    """max(a, b) of two symbolic numbers, with the bounds that follow."""
    return _tightened(merge(truth(number(a) < b), number(b), number(a)), a, b, max)


def _tightened(out: Any, a: Any, b: Any, pick: Callable[[int, int], int]) -> Any:
    (lo1, hi1), (lo2, hi2) = number(a).bounds(), number(b).bounds()
    lo, hi = pick(lo1, lo2), pick(hi1, hi2)
    known = out.bounds()
    if known[0] >= lo and known[1] <= hi:
        return out
    form = out.exact()
    if len(form.parts) == 1 and form.const == 0 and next(iter(form.parts.values())) == 1:
        return Num(of_atom(form.term(), lo, hi))
    return out
