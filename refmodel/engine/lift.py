"""Lifting: recompile the functions of a machine from their source so that they read symbolic values.

`@pure` helpers merge into one term, `require` assumes, `if` statements fork. Classes, enums and constants are the
originals; calls between modules go from lifted function to lifted function. What is lifted is what the machine's rules
and properties reach, in whatever module it stands.
"""

import ast
from collections.abc import Callable, Iterable
from enum import IntEnum
from types import FunctionType, ModuleType
from typing import Any, Final

from msgspec import Struct

from refmodel.engine import merging
from refmodel.engine.source import Edit, Source, decorators
from refmodel.engine.space import Unprovable
from refmodel.engine.syntax import GUARD, check, f_is_ours, rewritten
from refmodel.rule import Machine, Property, Rule, stamp

NOT_READ: Final = frozenset({"refmodel.rule", "typing"})  # their functions are taken as they are


class LiftedRule(Struct, frozen=True):
    """A rule with its lifted guard and body."""

    rule: Rule
    guard: Callable[..., Any]
    body: Callable[..., Any]


class Lifted(Struct, frozen=True):
    """The lifted reading of one machine."""

    rules: tuple[LiftedRule, ...]
    functions: dict[tuple[str, str], Callable[..., Any]]
    files: frozenset[str]
    edited: bool = False

    def property_of(self, q: Property) -> Callable[..., Any]:
        """The lifted predicate of a property."""
        return self.functions[key_of(q.fn)]


def key_of(fn: Callable[..., Any]) -> tuple[str, str]:
    """(module, name) of a function, seen through its decorators."""
    return fn.__module__, fn.__name__


def _stamped(fn: Callable[..., Any], ident: str) -> Callable[..., Any]:
    def run(*args: Any, **named: Any) -> Any:
        out = fn(*args, **named)
        stamp(out[1], ident)
        return out

    run.__name__, run.__module__ = fn.__name__, fn.__module__
    return run


class Lifter:
    """Lifts what a machine's rules and properties reach."""

    def __init__(self, machine: Machine, edits: Iterable[Edit] = ()) -> None:
        self.machine = machine
        self.edits: dict[str, list[Edit]] = {}
        for e in edits:
            self.edits.setdefault(e.module, []).append(e)
        self.sources: dict[str, Source] = {}
        self.functions: dict[tuple[str, str], Callable[..., Any]] = {}
        for name in machine.modules:
            self.source(name)
        for name in self.edits:
            self.source(name)

    def source(self, module: str) -> Source:
        """The module's source, read once."""
        if module not in self.sources:
            self.sources[module] = Source(module, self.edits.get(module, ()))
        return self.sources[module]

    def lift(self) -> Lifted:
        """Reads everything; raises Unprovable."""
        rules = self._rules()
        roots = [key_of(r.fn) for r in rules]
        roots += [
            key_of(q.fn) for kind in ("invariant", "transition", "assumption") for q in self.machine.properties(kind)
        ]
        self._constants()
        reached = self._reached(roots)
        for module, name in reached:
            self._compile(self.source(module), name)
        self._link(reached)
        out: list[LiftedRule] = []
        for r in rules:
            module, name = key_of(r.fn)
            ns = self.source(module).namespace
            body = _stamped(self.functions[module, name], r.id)
            out.append(LiftedRule(self._as_edited(r), ns[name + GUARD], body))
        files = frozenset(self.source(module).file for module, _ in reached)
        return Lifted(tuple(out), self.functions, files, bool(self.edits))

    def _rules(self) -> list[Rule]:
        known = {key_of(r.fn): r for r in self.machine.rules}
        gone = [k for k in known if k[1] not in self.source(k[0]).functions]
        for module, name in gone:
            raise Unprovable(f"the edit of {module} loses rule {name}: change its body or its guard instead")
        return list(known.values())

    def _as_edited(self, r: Rule) -> Rule:
        """The rule with the decorator that an edited source gives it."""
        source = self.source(r.fn.__module__)
        if not source.edited:
            return r
        call = decorators(source.functions[r.fn.__name__]).get("rule")
        given = {k.arg: self._value(source, k.value) for k in call.keywords} if isinstance(call, ast.Call) else {}
        at = given.get("at", ())
        return Rule(
            id=r.id, fn=r.fn, state=r.state, event=r.event, params=r.params, kernel=r.kernel, rfc=r.rfc, says=r.says,
            deviates=r.deviates, since=given.get("since", ""), until=given.get("until", ""),
            at=(at,) if isinstance(at, IntEnum) else tuple(at),
        )  # fmt: skip

    def _value(self, source: Source, node: ast.expr) -> Any:
        code = compile(ast.fix_missing_locations(ast.Expression(node)), source.file, "eval")
        return eval(code, dict(vars(source.module)) | self._changed(source))

    def _changed(self, source: Source) -> dict[str, Any]:
        names = {
            t.id
            for n in source.changed_constants()
            for t in (n.targets if isinstance(n, ast.Assign) else [n.target] if isinstance(n, ast.AnnAssign) else [])
            if isinstance(t, ast.Name)
        }
        return {n: source.namespace[n] for n in names}

    def _constants(self) -> None:
        """Recomputes the constants that an edit changed, and hands them to the modules that import them."""
        for s in list(self.sources.values()):
            changed = s.changed_constants()
            if changed:
                exec(compile(ast.Module(changed, []), s.file, "exec"), s.namespace)
            values = self._changed(s)
            for other in self.sources.values():
                for n in other.tree.body:
                    if isinstance(n, ast.ImportFrom) and n.module == s.name:
                        for a in n.names:
                            if a.name in values:
                                other.namespace[a.asname or a.name] = values[a.name]

    def _reached(self, roots: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        seen: dict[tuple[str, str], None] = {}
        work = list(roots)
        while work:
            key = work.pop()
            if key in seen:
                continue
            seen[key] = None
            source = self.source(key[0])
            fn = source.functions.get(key[1])
            if fn is None:
                raise Unprovable(f"{key[0]}.{key[1]} is no function at the top of its module: the prover can't read it")
            check(source, fn)
            for node in fn.body:
                work += self._calls(source, node)
        return list(seen)

    def _calls(self, source: Source, node: ast.AST) -> list[tuple[str, str]]:
        out: list[tuple[str, str]] = []
        ns = vars(source.module)
        for x in ast.walk(node):
            target: Any = None
            if isinstance(x, ast.Name):
                if x.id in source.functions:
                    out.append((source.name, x.id))
                    continue
                target = ns.get(x.id)
            elif isinstance(x, ast.Attribute) and isinstance(x.value, ast.Name):
                owner = ns.get(x.value.id)
                target = getattr(owner, x.attr, None) if isinstance(owner, ModuleType) else None
            if (isinstance(target, FunctionType) or f_is_ours(target)) and target.__module__ not in NOT_READ:
                out.append(key_of(target))
        return out

    def _compile(self, source: Source, name: str) -> None:
        node = source.functions[name]
        tree = ast.Module(rewritten(node), [])
        exec(compile(ast.fix_missing_locations(tree), source.file, "exec"), source.namespace)
        fn = source.namespace[name]
        marks = decorators(node)
        if "pure" in marks or {"invariant", "transition", "assume"} & set(marks):
            fn = merging.pure(fn)
        elif "step" in marks:
            fn = _stamped(fn, source.name.removeprefix("refmodel.") + "." + name)
        source.namespace[name] = fn
        self.functions[source.name, name] = fn

    def _link(self, reached: Iterable[tuple[str, str]]) -> None:
        """Makes every lifted function call lifted functions, whatever module or alias it names them by."""
        modules = {m for m, _ in reached}
        for module in modules:
            ns = self.source(module).namespace
            for name, value in list(ns.items()):
                if isinstance(value, ModuleType) and value.__name__ in modules:
                    twin = ModuleType(value.__name__)
                    twin.__dict__.update(self.source(value.__name__).namespace)
                    ns[name] = twin
                elif isinstance(value, FunctionType) or f_is_ours(value):
                    lifted = self.functions.get(key_of(value))
                    if lifted is not None:
                        ns[name] = lifted


def lift(machine: Machine, edits: Iterable[Edit] = ()) -> Lifted:
    """Lifts `machine`, with seeded `edits` applied to the source; the registry stays as it is.

    Raises Unprovable with file and line where the source uses something that the prover doesn't read.
    """
    return Lifter(machine, edits).lift()
