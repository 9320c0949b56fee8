"""Lifting: recompile the functions of a machine from their source so that they read symbolic values.

and/or/not/?:/in/==/chained comparisons/min/max/any/all/sum become calls into `merging`, `@pure` helpers merge into one
term, `require` assumes. Classes, enums and constants are the originals; calls between modules go from lifted function
to lifted function. What is lifted is what the machine's rules and properties reach. A construct that isn't on the list
is refused with file and line, and so is a `require` that doesn't stand at the top of its rule.
"""

import ast
import importlib
import inspect
import sys
from collections.abc import Callable, Iterable, Sequence
from enum import IntEnum
from types import FunctionType, ModuleType
from typing import Any, Final, NamedTuple, NoReturn

from msgspec import Struct
from msgspec.structs import replace

from refmodel.engine import merging
from refmodel.engine.linear import Unprovable
from refmodel.rule import Machine, Property, Rule, stamp

OURS: Final = frozenset(
    {"rule", "step", "pure", "invariant", "transition", "assume", "wraps"}
)  # decorators that the prover knows
NOT_READ: Final = frozenset({"refmodel.rule"})
BUILTINS: Final = frozenset(
    {"min", "max", "any", "all", "sum", "len", "int", "bool", "abs", "isinstance", "tuple", "range", "type", "cast"}
)
RUNTIME: Final[dict[str, Any]] = {
    "min": merging.least,
    "max": merging.greatest,
    "int": merging.integer,
    "bool": merging.boolean,
    "abs": merging.magnitude,
    "require": merging.require,
    "l_and": merging.all_of,
    "l_or": merging.any_of,
    "l_not": merging.negation,
    "l_if": merging.choose,
    "l_eq": merging.equal,
    "l_in": merging.member,
    "l_get": merging.lookup,
    "l_items": merging.items,
    "l_list": merging.listed,
    "l_any": merging.any_item,
    "l_all": merging.all_items,
    "l_sum": merging.sum_items,
}
GUARD: Final = "__guard"


class Edit(NamedTuple):
    """A seeded fault: in the source of `module`, `old` (which occurs) is replaced by `new`."""

    module: str
    old: str
    new: str


class LiftedRule(Struct, frozen=True):
    """A rule with its lifted guard and body."""

    rule: Rule
    guard: Callable[..., Any]
    body: Callable[..., Any]


class Lifted(Struct, frozen=True):
    """The lifted reading of one machine."""

    rules: tuple[LiftedRule, ...]
    functions: dict[tuple[str, str], Callable[..., Any]]
    edited: bool = False

    def property_of(self, q: Property) -> Callable[..., Any]:
        """The lifted predicate of a property."""
        return self.functions[key_of(q.fn)]


def key_of(fn: Callable[..., Any]) -> tuple[str, str]:
    """(module, name) of a function, seen through its decorators."""
    return fn.__module__, fn.__name__


class Source:
    """One module's text, tree and functions, with the seeded edits applied."""

    def __init__(self, name: str, edits: Sequence[Edit] = ()) -> None:
        self.name = name
        self.module: ModuleType = sys.modules.get(name) or importlib.import_module(name)
        self.file = inspect.getsourcefile(self.module) or name
        text = inspect.getsource(self.module)
        self.original = ast.parse(text)
        for e in edits:
            if e.old not in text:
                raise Unprovable(f"the edit of {name} finds no {e.old!r}")
            text = text.replace(e.old, e.new)
        self.edited = bool(edits)
        self.tree = ast.parse(text) if edits else self.original
        self.functions = {n.name: n for n in self.tree.body if isinstance(n, ast.FunctionDef)}
        self.namespace: dict[str, Any] = dict(vars(self.module))
        self.namespace.update(RUNTIME)
        if self.edited:
            self._same_classes()

    def refuse(self, node: ast.AST, why: str) -> NoReturn:
        """Raises Unprovable at the node."""
        raise Unprovable(f"{self.file}:{getattr(node, 'lineno', 0)}: {why}")

    def _same_classes(self) -> None:
        def classes(tree: ast.Module) -> list[str]:
            return [ast.dump(n) for n in tree.body if isinstance(n, ast.ClassDef)]

        if classes(self.tree) != classes(self.original):
            raise Unprovable(f"an edit of {self.name} changes a class; edits reach functions and constants")

    def changed_constants(self) -> list[ast.stmt]:
        """The assignments that an edit changed, and those that read them, in order."""
        if not self.edited:
            return []
        before = {ast.dump(n) for n in self.original.body}
        names: set[str] = set()
        out: list[ast.stmt] = []
        for n in self.tree.body:
            if not isinstance(n, (ast.Assign, ast.AnnAssign)) or n.value is None:
                continue
            if ast.dump(n) not in before or names & loaded(n.value):
                out.append(n)
                targets = n.targets if isinstance(n, ast.Assign) else [n.target]
                names |= {t.id for t in targets if isinstance(t, ast.Name)}
        return out


def loaded(node: ast.AST) -> set[str]:
    """The names that a piece of source reads."""
    return {x.id for x in ast.walk(node) if isinstance(x, ast.Name)}


def decorators(fn: ast.FunctionDef) -> dict[str, ast.expr]:
    """The decorators of a function by name."""
    out: dict[str, ast.expr] = {}
    for d in fn.decorator_list:
        head = d.func if isinstance(d, ast.Call) else d
        out[head.attr if isinstance(head, ast.Attribute) else getattr(head, "id", "?")] = d
    return out


def _is_require(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "require"


ALLOWED: Final = (
    ast.FunctionDef, ast.arguments, ast.arg, ast.keyword, ast.Return, ast.Assign, ast.AnnAssign, ast.AugAssign, ast.If,
    ast.Expr, ast.Pass, ast.Call, ast.Attribute, ast.Name, ast.Constant, ast.Tuple, ast.List, ast.Starred, ast.BoolOp,
    ast.BinOp, ast.UnaryOp, ast.Compare, ast.IfExp, ast.Subscript, ast.Slice, ast.GeneratorExp, ast.ListComp,
    ast.comprehension, ast.JoinedStr, ast.FormattedValue, ast.expr_context, ast.boolop, ast.operator, ast.unaryop,
    ast.cmpop, ast.Dict,
)  # fmt: skip
ADVICE: Final[dict[type[ast.AST], str]] = {
    ast.For: "a loop; use any/all/sum over a tuple",
    ast.While: "a loop; a rule is one step",
    ast.Lambda: "a lambda; write a @pure function",
    ast.Try: "try; a rule raises nothing but NotEnabled",
    ast.Raise: "raise; use require at the top",
    ast.Assert: "assert; use require at the top",
    ast.Match: "match; use if",
    ast.NamedExpr: ":=; assign in a statement of its own",
    ast.Global: "global; a rule is pure",
}


class Checker(ast.NodeVisitor):
    """Refuses what the prover can't read, in one function."""

    def __init__(self, source: Source, fn: ast.FunctionDef) -> None:
        self.source = source
        self.fn = fn

    def run(self) -> None:
        """Raises Unprovable at the first construct that isn't read."""
        if self.fn.args.vararg or self.fn.args.kwarg:
            self.source.refuse(self.fn, f"{self.fn.name} takes *args or **kwargs")
        for name, node in decorators(self.fn).items():
            if name not in OURS:
                self.source.refuse(node, f"decorator {name} is not read")
        for stmt in self.fn.body:
            self.visit(stmt)
        self._requires()

    def _requires(self) -> None:
        body = self.fn.body
        at_top = [i for i, s in enumerate(body) if isinstance(s, ast.Expr) and _is_require(s.value)]
        every = [n for s in body for n in ast.walk(s) if _is_require(n)]
        if every and "rule" not in decorators(self.fn):
            self.source.refuse(every[0], f"require stands in {self.fn.name}, which is no rule: guards belong in rules")
        top_calls = [s.value for i in at_top if isinstance(s := body[i], ast.Expr)]
        for n in every:
            if n not in top_calls:
                self.source.refuse(n, "require stands inside another statement: every require stands at the top")
        for s in body[: at_top[-1]] if at_top else []:
            plain = isinstance(s, (ast.Assign, ast.AnnAssign)) or (
                isinstance(s, ast.Expr) and (_is_require(s.value) or isinstance(s.value, ast.Constant))
            )
            if not plain:
                self.source.refuse(s, "a statement stands before a require: every require stands at the top")

    def generic_visit(self, node: ast.AST) -> None:
        if not isinstance(node, ALLOWED) or (isinstance(node, ast.FunctionDef) and node is not self.fn):
            what = ADVICE.get(type(node), type(node).__name__)
            self.source.refuse(node, f"the prover doesn't read {what}")
        super().generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self.visit(node.target)
        if node.value is not None:
            self.visit(node.value)

    def visit_Compare(self, node: ast.Compare) -> None:
        for op, right in zip(node.ops, node.comparators, strict=True):
            if isinstance(op, (ast.Is, ast.IsNot)) and not (isinstance(right, ast.Constant) and right.value is None):
                self.source.refuse(node, "`is` compares objects; use == (enums and truth values may be symbolic)")
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Invert):
            self.source.refuse(node, "~ on a truth value is -1 or -2 in Python; use not")
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        if node.is_async:
            self.source.refuse(node.iter, "async; a rule does no I/O")
        self.generic_visit(node)

    def visit_GeneratorExp(self, node: ast.GeneratorExp | ast.ListComp) -> None:
        if len(node.generators) != 1 or not isinstance(node.generators[0].target, ast.Name):
            self.source.refuse(node, "only a comprehension of one `for name in tuple` is read")
        self.generic_visit(node)

    visit_ListComp = visit_GeneratorExp

    def visit_Call(self, node: ast.Call) -> None:
        self._called(node)
        if any(k.arg is None for k in node.keywords):
            self.source.refuse(node, "** in a call")
        if _is_require(node):
            self.visit(node.args[0])
            return
        self.generic_visit(node)

    def _called(self, node: ast.Call) -> None:
        f = node.func
        ns = vars(self.source.module)
        if isinstance(f, ast.Name):
            if f.id in self.source.functions or f.id == "require":
                return
            if f.id not in ns:
                if f.id not in BUILTINS:
                    self.source.refuse(node, f"a call of {f.id} is not read")
                return
            target = ns[f.id]
        elif (
            isinstance(f, ast.Attribute)
            and isinstance(f.value, ast.Name)
            and isinstance(ns.get(f.value.id), (ModuleType, type))
        ):
            target = getattr(ns[f.value.id], f.attr, None)
        else:
            self.source.refuse(node, "a method call; write a function of the struct")
        if not (isinstance(target, (FunctionType, type)) or target is replace or f_is_ours(target)):
            self.source.refuse(node, f"a call of {ast.unparse(f)} is not read")


def f_is_ours(target: Any) -> bool:
    """Whether a callable is a step's wrapper, which wraps a plain function."""
    return isinstance(getattr(target, "__wrapped__", None), FunctionType)


class Transformer(ast.NodeTransformer):
    """Rewrites one checked function into its merging form."""

    def _call(self, name: str, *args: ast.expr) -> ast.Call:
        return ast.Call(ast.Name(name, ast.Load()), list(args), [])

    def _thunk(self, body: ast.expr, arg: str = "") -> ast.Lambda:
        names = [ast.arg(arg)] if arg else []
        return ast.Lambda(ast.arguments([], names, None, [], [], None, []), body)

    def visit_BoolOp(self, n: ast.BoolOp) -> ast.expr:
        self.generic_visit(n)
        return self._call("l_and" if isinstance(n.op, ast.And) else "l_or", *map(self._thunk, n.values))

    def visit_UnaryOp(self, n: ast.UnaryOp) -> ast.expr:
        self.generic_visit(n)
        return self._call("l_not", n.operand) if isinstance(n.op, ast.Not) else n

    def visit_IfExp(self, n: ast.IfExp) -> ast.expr:
        self.generic_visit(n)
        return self._call("l_if", n.test, self._thunk(n.body), self._thunk(n.orelse))

    def visit_Subscript(self, n: ast.Subscript) -> ast.expr:
        self.generic_visit(n)
        if isinstance(n.ctx, ast.Load) and not isinstance(n.slice, ast.Slice):
            return self._call("l_get", n.value, n.slice)
        return n

    def visit_Compare(self, n: ast.Compare) -> ast.expr:
        self.generic_visit(n)
        parts: list[ast.expr] = []
        left = n.left
        for op, right in zip(n.ops, n.comparators, strict=True):
            parts.append(self._compare(left, op, right))
            left = right
        return parts[0] if len(parts) == 1 else self._call("l_and", *map(self._thunk, parts))

    def _compare(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> ast.expr:
        if isinstance(op, (ast.In, ast.NotIn)):
            found = self._call("l_in", left, right)
            return found if isinstance(op, ast.In) else self._call("l_not", found)
        if isinstance(op, (ast.Eq, ast.NotEq)):
            same = self._call("l_eq", left, right)
            return same if isinstance(op, ast.Eq) else self._call("l_not", same)
        return ast.Compare(left, [op], [right])

    def _items(self, n: ast.GeneratorExp | ast.ListComp) -> ast.expr:
        g = n.generators[0]
        assert isinstance(g.target, ast.Name)  # the checker saw to it
        wanted: ast.expr = ast.Constant(True)
        if g.ifs:
            wanted = g.ifs[0] if len(g.ifs) == 1 else self._call("l_and", *map(self._thunk, g.ifs))
        return self._call("l_items", g.iter, self._thunk(wanted, g.target.id), self._thunk(n.elt, g.target.id))

    def visit_GeneratorExp(self, n: Any) -> Any:
        self.generic_visit(n)
        return self._call("l_list", self._items(n))

    visit_ListComp = visit_GeneratorExp

    def visit_Call(self, n: ast.Call) -> ast.expr:
        if _is_require(n):
            return self._call("require", self.visit(n.args[0]))
        if (
            isinstance(n.func, ast.Name)
            and n.func.id in ("any", "all", "sum")
            and len(n.args) == 1
            and isinstance(n.args[0], (ast.GeneratorExp, ast.ListComp))
        ):
            self.generic_visit(n.args[0])
            return self._call(f"l_{n.func.id}", self._items(n.args[0]))
        self.generic_visit(n)
        if isinstance(n.func, ast.Name) and n.func.id in ("any", "all"):
            spread = ast.GeneratorExp(
                ast.Name("x", ast.Load()),
                [ast.comprehension(ast.Name("x", ast.Store()), n.args[0], [], 0)],
            )
            return self._call(f"l_{n.func.id}", self._items(spread))
        return n

    def visit_FunctionDef(self, n: ast.FunctionDef) -> Any:
        is_rule = "rule" in decorators(n)
        body = [self.visit(s) for s in n.body]
        lifted = ast.FunctionDef(n.name, n.args, body, [], n.returns, None)
        ast.copy_location(lifted, n)
        if not is_rule:
            return lifted
        requires = [i for i, s in enumerate(n.body) if isinstance(s, ast.Expr) and _is_require(s.value)]
        top = [*body[: requires[-1] + 1 if requires else 0], ast.Return(ast.Constant(True))]
        guard = ast.FunctionDef(n.name + GUARD, n.args, top, [], None, None)
        return [lifted, ast.copy_location(guard, n)]


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
        return Lifted(tuple(out), self.functions, bool(self.edits))

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
            Checker(source, fn).run()
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
        made = Transformer().visit(node)
        tree = ast.Module(made if isinstance(made, list) else [made], [])
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
