"""Symbolic states, events and parameters, made from the annotations of their types.

A field's range becomes a hypothesis where the field is given and an obligation where it is written. `Near` becomes a
change of variables: the field is base + sign * d (mod 2**32) for a fresh d, which is a bijection, so nothing is lost
and differences to the base are linear.
"""

from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import Annotated, Any, Final, NamedTuple, get_args, get_origin, get_type_hints

import z3
from msgspec import Struct

from refmodel.engine import build
from refmodel.engine.linear import (
    Cond,
    Linear,
    Num,
    number,
    of_atom,
)
from refmodel.engine.space import Unprovable
from refmodel.profile import KERNELS, version_number
from refmodel.rule import State
from refmodel.types import M32, Near, bounds

VERSIONS: Final = tuple(version_number(k) for k in KERNELS)
HZ: Final = (100, 250, 300, 1000)  # what kernel/Kconfig.hz offers
CHOICES: Final = {"kernel": VERSIONS, "hz": HZ}


class Field(NamedTuple):
    """What the prover knows of one field: its kind and the values it may take."""

    name: str
    kind: str  # "bool", "enum", "int" or "struct"
    type: type
    lo: int = 0
    hi: int = 0
    values: tuple[int, ...] = ()
    near: Near | None = None


class Variable(NamedTuple):
    """A z3 variable and how a concrete value of the field gives it: value, or sign * (value - base) mod 2**32."""

    term: Any
    path: tuple[str, ...]
    base: tuple[str, ...] | None = None
    sign: int = 1


_fields: dict[type, tuple[Field, ...]] = {}


def fields(cls: type) -> tuple[Field, ...]:
    """The fields of a struct in order; raises Unprovable for a type that the prover doesn't read."""
    if cls not in _fields:
        _fields[cls] = _read(cls)
    return _fields[cls]


def _read(cls: Any) -> tuple[Field, ...]:
    hints = get_type_hints(cls, include_extras=True)
    for name, value in vars(cls).items():
        if isinstance(value, property):
            raise Unprovable(f"{cls.__name__}.{name} is a property; write a @pure function of the struct")
    return tuple(_field(cls, name, hints[name]) for name in cls.__struct_fields__)


def _field(cls: type, name: str, hint: Any) -> Field:
    metadata: tuple[Any, ...] = ()
    if get_origin(hint) is Annotated:
        hint, *extra = get_args(hint)
        metadata = tuple(extra)
    known = bounds(metadata)
    if hint is bool:
        return Field(name, "bool", bool, 0, 1)
    if isinstance(hint, type) and issubclass(hint, IntEnum):
        members = tuple(sorted({int(m) for m in hint}))
        if known is not None:
            members = tuple(m for m in members if known[0] <= m <= known[1])
        return Field(name, "enum", hint, members[0], members[-1], members)
    if hint is int:
        near = next((m for m in metadata if isinstance(m, Near)), None)
        if known is not None:
            return Field(name, "int", int, known[0], known[1], (), near)
        if name in CHOICES:
            return Field(name, "int", int, CHOICES[name][0], CHOICES[name][-1], CHOICES[name])
        raise Unprovable(f"{cls.__name__}.{name} is an int without a range; write Annotated[int, Range(lo, hi)]")
    if isinstance(hint, type) and issubclass(hint, Struct):
        return Field(name, "struct", hint)
    what = getattr(hint, "__name__", str(hint))
    raise Unprovable(
        f"{cls.__name__}.{name} is a {what}; provable machines hold int, bool, IntEnum and structs of them: "
        "a queue is represented by counters, an absent value by a flag of its own"
    )


class Symbols:
    """The symbolic structs of one question, their hypotheses and their variables."""

    def __init__(self) -> None:
        self.hypotheses: list[Any] = []
        self.variables: list[Variable] = []

    def make(self, cls: type[Any], name: str, fixed: dict[str, Any] | None = None, beside: Any = None) -> Any:
        """A symbolic `cls` whose variables are called name.field.

        `fixed` gives plain values; `beside` is the struct in whose fields `Near` looks for a base besides its own.
        """
        return self._make(cls, (name,), fixed or {}, beside)

    def _make(self, cls: type[Any], path: tuple[str, ...], fixed: dict[str, Any], beside: Any) -> Any:
        values: dict[str, Any] = dict(fixed)
        waiting: list[Field] = []
        for f in fields(cls):
            if f.name in fixed:
                continue
            if f.near is not None and (f.lo, f.hi) == (0, M32):
                waiting.append(f)
            else:
                values[f.name] = self._value(f, (*path, f.name), beside)
        self._near(cls, values, waiting, path, beside)
        return cls(**{f: values[f] for f in cls.__struct_fields__})

    def _value(self, f: Field, path: tuple[str, ...], beside: Any) -> Any:
        if f.kind == "struct":
            return self._make(f.type, path, {}, beside)
        label = ".".join(path)
        if f.kind == "bool":
            flag = build.boolean_variable(label)
            self.variables.append(Variable(flag, path))
            return Cond(flag)
        x = build.integer_variable(label)
        self.variables.append(Variable(x, path))
        self.hypotheses += build.within(x, f.lo, f.hi)
        if f.values and len(f.values) <= f.hi - f.lo:
            self.hypotheses.append(build.among(x, f.values))
        return Num(of_atom(x, f.lo, f.hi))

    def _near(
        self, cls: type, values: dict[str, Any], waiting: list[Field], path: tuple[str, ...], beside: Any
    ) -> None:
        """Gives the fields near a base their values, bases first."""
        pending = {f.name for f in waiting}
        while waiting:
            rest: list[Field] = []
            for f in waiting:
                assert f.near is not None
                base: Any = None
                where: tuple[str, ...] | None = None
                for b in f.near.bases:
                    if beside is not None and b in beside.__struct_fields__:
                        base, where = getattr(beside, b), ("s", b)
                    elif b in values:
                        base, where = values[b], (*path, b)
                    elif b in pending:
                        where = ("", b)
                    if where is not None:
                        break
                if where is not None and where[0] == "":
                    rest.append(f)
                    continue
                values[f.name] = self._shifted(f, (*path, f.name), base, where)
                pending.discard(f.name)
            if len(rest) == len(waiting):
                names = ", ".join(f.name for f in rest)
                raise Unprovable(f"{cls.__name__}: {names} are near each other in a circle")
            waiting = rest

    def _shifted(self, f: Field, path: tuple[str, ...], base: Any, where: tuple[str, ...] | None) -> Num:
        assert f.near is not None
        x = build.integer_variable(".".join(path))
        self.hypotheses += build.within(x, 0, M32)
        d = of_atom(x, 0, M32)
        if where is None or not isinstance(base, (int, Num)):
            self.variables.append(Variable(x, path))
            return Num(d)
        self.variables.append(Variable(x, path, where, f.near.sign))
        return Num(number(base).form.plus(d, f.near.sign), True)


def range_terms(x: Struct, before: Any = None) -> Iterator[tuple[str, Any]]:
    """(Type.field, term) for each field of `x` whose annotated range doesn't follow from bounds alone.

    A field that is as in `before`, a struct of the same type, keeps its range and is passed over.
    """
    ranges = _written(type(x))
    for name in x.__struct_fields__:
        value = getattr(x, name)
        old = getattr(before, name, None) if type(before) is type(x) else None
        if value is old:
            continue
        if isinstance(value, Struct):
            yield from range_terms(value, old)
        elif isinstance(value, (int, Num)) and not isinstance(value, bool):
            for t in _in_range(ranges[name], value):
                yield f"{type(x).__name__}.{name}", t


_ranges: dict[type, dict[str, Field | None]] = {}


def _written(cls: Any) -> dict[str, Field | None]:
    """The fields' ranges; None for an effect's field that states none."""
    if cls not in _ranges:
        hints = get_type_hints(cls, include_extras=True)
        found: dict[str, Field | None] = {}
        for name in cls.__struct_fields__:
            try:
                found[name] = _field(cls, name, hints[name])
            except Unprovable:
                if issubclass(cls, State):
                    raise
                found[name] = None
        _ranges[cls] = found
    return _ranges[cls]


def _in_range(f: Field | None, value: Any) -> list[Any]:
    if f is None or f.kind not in ("int", "enum"):
        return []
    form: Linear = number(value).exact()
    lo, hi = form.bounds()
    out = []
    if f.values and len(f.values) <= f.hi - f.lo:
        out.append(build.boolean(lo in f.values) if lo == hi else build.among(form.term(), f.values))
    else:
        if lo < f.lo:
            out.append(build.at_most(build.integer(f.lo), form.term()))
        if hi > f.hi:
            out.append(build.at_most(form.term(), build.integer(f.hi)))
    return out


Evaluate = Callable[[Any], Any]


def in_model(model: Any) -> Evaluate:
    """Evaluates z3 terms in a model, free variables as 0 or false."""

    def evaluate(term: Any) -> Any:
        v = model.eval(term, model_completion=True)
        return v.as_long() if z3.is_int_value(v) else bool(z3.is_true(v))

    return evaluate


def concrete(x: Any, evaluate: Evaluate) -> Any:
    """The plain value of a symbolic struct, tuple, number or truth value."""
    if isinstance(x, Cond):
        return bool(evaluate(x.term))
    if isinstance(x, Num):
        return int(evaluate(x.term))
    if isinstance(x, tuple):
        out = [concrete(y, evaluate) for y in x]
        return type(x)(*out) if hasattr(x, "_fields") else tuple(out)
    if isinstance(x, Struct):
        values = {}
        for name, hint in _plain(type(x)).items():
            v = concrete(getattr(x, name), evaluate)
            values[name] = v if hint is None or type(v) is hint else hint(v)
        return type(x)(**values)
    return x


_hints: dict[type, dict[str, Any]] = {}


def _plain(cls: Any) -> dict[str, Any]:
    """For each field the enum or bool that its plain value is made of, or None."""
    if cls not in _hints:
        hints = get_type_hints(cls)
        _hints[cls] = {
            n: h if isinstance(h := hints[n], type) and issubclass(h, (IntEnum, bool)) else None
            for n in cls.__struct_fields__
        }
    return _hints[cls]
