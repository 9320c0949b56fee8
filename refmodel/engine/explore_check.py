"""Properties of a whole system: an expression over its components' fields, or a function of its components' states.

An expression names components, their fields and enum members: ``not (a.state == CLOSE and b.state == ESTABLISHED)``.
Comparisons, and/or/not, ``x if c else y``, ``in (…)``, arithmetic and constants are understood, nothing else.
``a.type == 'Tw'`` asks which kind of object the component is at the moment; a field that the object lacks is an error,
so guard with it. The text is never handed to Python's own evaluator.
"""

import ast
import importlib
import inspect
import operator
import types
import typing
from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Any, Final, get_args, get_origin, get_type_hints

from msgspec import Struct

from refmodel.engine.explore_system import System
from refmodel.rule import State

Evaluate = Callable[[Mapping[str, Any]], Any]
Reads = tuple[tuple[str, ...], ...]


class PropertyError(ValueError):
    """A property cannot be understood or asked; the text says which part and what there is instead."""


class Predicate(Struct, frozen=True):
    """A truth about one global state. `holds` takes {component: state}; `reads` are the fields that decide it.

    A component that is not in `reads` does not matter; one that maps to None matters as a whole.
    """

    text: str
    holds: Callable[[Mapping[str, Any]], bool]
    reads: Mapping[str, Reads | None]


_COMPARE: Final[dict[type, Callable[[Any, Any], Any]]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda x, y: x in y,
    ast.NotIn: lambda x, y: x not in y,
}
_ARITHMETIC: Final[dict[type, Callable[[Any, Any], Any]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
}
_UNARY: Final[dict[type, Callable[[Any], Any]]] = {ast.Not: operator.not_, ast.USub: operator.neg}


def predicate(text: str, system: System) -> Predicate:
    """Reads an expression, or 'module:function' whose parameters name components; raises PropertyError."""
    if ":" in text and text.replace(":", "").replace(".", "").replace("_", "").isalnum():
        return _function(text, system)
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except SyntaxError as e:
        raise PropertyError(f"{text!r} is not an expression: {e.msg} at column {e.offset}") from e
    reader = _Reader(text, system)
    evaluate = reader.read(tree.body)
    return Predicate(
        text, lambda states: bool(evaluate(states)), {c: tuple(sorted(r)) for c, r in reader.reads.items()}
    )


def _function(text: str, system: System) -> Predicate:
    module, name = text.split(":", 1)
    try:
        fn = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as e:
        raise PropertyError(f"{text}: {e}") from e
    return of_function(fn, system, text)


def of_function(fn: Callable[..., bool], system: System, text: str = "") -> Predicate:
    """A predicate from a function whose parameters are named as components; raises PropertyError."""
    names = tuple(inspect.signature(fn).parameters)
    there = [c.name for c in system.components]
    for n in names:
        if n not in there:
            raise PropertyError(
                f"{text or fn.__name__}: parameter {n!r} is no component of {system.name}; there are {there}"
            )
    doc = (inspect.getdoc(fn) or "").split("\n\n")[0].replace("\n", " ")
    return Predicate(doc or text or fn.__name__, lambda s: bool(fn(*(s[n] for n in names))), dict.fromkeys(names))


class _Reader:
    """Turns the syntax tree into nested functions, and notes the fields read."""

    def __init__(self, text: str, system: System) -> None:
        self.text = text
        self.states = {c.name: c.states for c in system.components}
        self.enums = _enums(t for c in system.components for t in c.states)
        self.reads: dict[str, set[tuple[str, ...]]] = {}

    def wrong(self, node: ast.AST, why: str) -> PropertyError:
        return PropertyError(f"{self.text!r}: {ast.unparse(node)}: {why}")

    def read(self, node: ast.expr) -> Evaluate:
        """The meaning of one node; raises PropertyError for anything not listed in the module's text."""
        match node:
            case ast.Constant(value=bool() | int() | str() | None as value):
                return lambda s: value
            case ast.Name(id=name):
                return self._name(node, name)
            case ast.Attribute():
                return self._attribute(node)
            case ast.Tuple(elts=elts) | ast.List(elts=elts):
                parts = [self.read(x) for x in elts]
                return lambda s: tuple(p(s) for p in parts)
            case ast.BoolOp(op=op, values=values):
                parts = [self.read(x) for x in values]
                if isinstance(op, ast.And):
                    return lambda s: all(p(s) for p in parts)
                return lambda s: any(p(s) for p in parts)
            case ast.UnaryOp(op=op, operand=x) if type(op) in _UNARY:
                return self._apply(node, _UNARY[type(op)], self.read(x))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
                return self._apply(node, _ARITHMETIC[type(op)], self.read(left), self.read(right))
            case ast.Compare(left=left, ops=ops, comparators=rights):
                return self._compare(node, left, ops, rights)
            case ast.IfExp(test=test, body=body, orelse=orelse):
                c, then, other = self.read(test), self.read(body), self.read(orelse)
                return lambda s: then(s) if c(s) else other(s)
        raise self.wrong(node, f"{type(node).__name__} is not part of the property language")

    def _apply(self, node: ast.expr, fn: Callable[..., Any], *args: Evaluate) -> Evaluate:
        def run(s: Mapping[str, Any]) -> Any:
            try:
                return fn(*(a(s) for a in args))
            except (TypeError, ZeroDivisionError) as e:
                raise self.wrong(node, str(e)) from e

        return run

    def _compare(self, node: ast.expr, left: ast.expr, ops: list[ast.cmpop], rights: list[ast.expr]) -> Evaluate:
        for op in ops:
            if type(op) not in _COMPARE:
                raise self.wrong(node, f"{type(op).__name__} is not part of the property language")
        terms = [self.read(x) for x in (left, *rights)]
        pairs = [self._apply(node, _COMPARE[type(op)], terms[i], terms[i + 1]) for i, op in enumerate(ops)]
        return lambda s: all(p(s) for p in pairs)

    def _name(self, node: ast.expr, name: str) -> Evaluate:
        members = {m for e in self.enums.values() for m in e if m.name == name}
        if len(members) > 1:
            owners = sorted(type(m).__name__ for m in members)
            raise self.wrong(node, f"a member of {' and '.join(owners)}: write {owners[0]}.{name}")
        if members:
            (member,) = members
            return lambda s: member
        if name in self.states:
            raise self.wrong(node, f"a component, not a value: name one of its fields, as {name}.{self._some(name)}")
        known = ", ".join([*self.states, *self.enums])
        raise self.wrong(node, f"neither a component nor an enum member; there are {known}")

    def _some(self, component: str) -> str:
        return next((f for t in self.states[component] for f in t.__struct_fields__), "type")

    def _attribute(self, node: ast.Attribute) -> Evaluate:
        chain: list[str] = []
        at: ast.expr = node
        while isinstance(at, ast.Attribute):
            chain.insert(0, at.attr)
            at = at.value
        if not isinstance(at, ast.Name):
            raise self.wrong(node, "only fields of components and enum members have names after a dot")
        if at.id in self.enums and at.id not in self.states:
            enum = self.enums[at.id]
            if len(chain) != 1 or chain[0] not in enum.__members__:
                raise self.wrong(node, f"{at.id} has {', '.join(enum.__members__)}")
            member = enum[chain[0]]
            return lambda s: member
        if at.id not in self.states:
            raise self.wrong(node, f"no component is called {at.id}; there are {', '.join(self.states)}")
        if chain[0] != "type" and not any(chain[0] in t.__struct_fields__ for t in self.states[at.id]):
            fields = sorted({f for t in self.states[at.id] for f in t.__struct_fields__})
            raise self.wrong(node, f"no state of {at.id} has the field {chain[0]}; there are type, {', '.join(fields)}")
        self.reads.setdefault(at.id, set()).add(tuple(chain))
        component, path = at.id, tuple(chain)

        def value(s: Mapping[str, Any]) -> Any:
            found = follow(s[component], path)
            if found is ABSENT:
                kind = type(s[component]).__name__
                raise self.wrong(node, f"a {kind} has no such field: ask {component}.type == '…' first")
            return found

        return value


ABSENT: Final = ("no such field",)


def follow(value: Any, path: tuple[str, ...]) -> Any:
    """The value at the end of a chain of fields, or ABSENT. 'type' is the name of a struct's type."""
    for name in path:
        if name == "type" and isinstance(value, Struct) and "type" not in value.__struct_fields__:
            value = type(value).__name__
        elif isinstance(value, Struct) and name in value.__struct_fields__:
            value = getattr(value, name)
        else:
            return ABSENT
    return value


def _enums(states: typing.Iterable[type[State]]) -> dict[str, type[IntEnum]]:
    """Every enum that a field of the states, or of structs within them, is annotated with."""
    found: dict[str, type[IntEnum]] = {}
    todo: list[Any] = list(states)
    seen: set[Any] = set()
    while todo:
        hint = todo.pop()
        if get_origin(hint) is not None:
            todo += [a for a in get_args(hint) if isinstance(a, type | types.UnionType) or get_origin(a) is not None]
        elif hint not in seen and isinstance(hint, type):
            seen.add(hint)
            if issubclass(hint, IntEnum):
                found[hint.__name__] = hint
            elif issubclass(hint, Struct):
                todo += get_type_hints(hint, include_extras=False).values()
    return found
