"""The source of rules: what the prover reads, what it refuses, and how it rewrites what it reads.

`check` refuses a construct that isn't on the list, with file and line, and a `require` that doesn't stand at the top of
its rule. `rewritten` gives the merging form of a function: and/or/not/?:/in/==/chained comparisons/any/all/sum become
calls into `merging`, and a rule gets a twin that is its guard alone.
"""

import ast
from types import FunctionType, ModuleType
from typing import Any, Final

from msgspec.structs import replace

from refmodel.engine.source import Source, decorators

OURS: Final = frozenset({"rule", "step", "pure", "invariant", "transition", "assume"})  # decorators that are read
BUILTINS: Final = frozenset(
    {"min", "max", "any", "all", "sum", "len", "int", "bool", "abs", "isinstance", "tuple", "range", "type", "cast"}
)
GUARD: Final = "__guard"


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


class _Checker(ast.NodeVisitor):
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


class _Transformer(ast.NodeTransformer):
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

    def visit_GeneratorExp(self, n: ast.GeneratorExp | ast.ListComp) -> ast.expr:
        self.generic_visit(n)
        return self._call("l_list", self._items(n))

    def visit_ListComp(self, n: ast.ListComp) -> ast.expr:
        return self.visit_GeneratorExp(n)

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


def check(source: Source, fn: ast.FunctionDef) -> None:
    """Raises Unprovable, with file and line, at the first construct of `fn` that isn't read."""
    _Checker(source, fn).run()


def rewritten(fn: ast.FunctionDef) -> list[ast.stmt]:
    """The merging form of a checked function; of a rule also its guard, called name + GUARD."""
    made = _Transformer().visit(fn)
    return made if isinstance(made, list) else [made]
