"""The assertions of `%{ }%` blocks: a part of Python, read and evaluated here; nothing is ever handed to exec or eval.

A block may assert, assign to simple names and print. Expressions are numbers, strings, names, arithmetic, comparisons,
and/or/not, in, conditional expressions, tuples, f-strings, % formatting, and the functions in FUNCTIONS. Everything
else is refused with its place, before anything is evaluated. Values and texts have bounds, so that evaluation ends
soon whatever a script says.
"""

import ast
import operator
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NoReturn

from msgspec import Struct

from conformance.pkt import constants
from conformance.pkt.ast import Code
from conformance.pkt.source import NOWHERE, Pos, ScriptError, Source

Scalar = int | float | str | bool | None
Value = Scalar | tuple[Scalar, ...]

LONGEST_CODE: Final = 16 * 1024
LONGEST_TEXT: Final = 10_000
DEEPEST: Final = 80
MOST_BITS: Final = 512
MOST_DIGITS: Final = 99


class Failure(Struct, frozen=True):
    """An assertion that does not hold: its text, its message, the names in it with their values, its place."""

    assertion: str
    message: str
    names: tuple[tuple[str, Value], ...]
    at: Pos


class Outcome(Struct, frozen=True):
    """What a block did: the first assertion that failed, what it printed, the names it leaves to later blocks."""

    failure: Failure | None
    printed: tuple[str, ...]
    names: Mapping[str, Value]


class Program(Struct, frozen=True):
    """A block that has been read and found to use only what is known; `run` may be called any number of times.

    `wanted` are the names that it takes from outside.
    """

    code: Code
    source: Source | None
    body: tuple[Any, ...]
    wanted: frozenset[str]

    def run(self, values: Mapping[str, Value], names: Mapping[str, Value] | None = None) -> Outcome:
        """Evaluates the block.

        `values` are the block's own variables, `names` those that earlier blocks left. Raises ScriptError for a name
        that is in neither, and for what cannot be computed.
        """
        return _Evaluation(self, {**(names or {}), **values}, dict(names or {})).run()


def compile_code(code: Code, source: Source | None = None) -> Program:
    """Reads a block; raises ScriptError, with its place, for whatever a block may not do."""
    body = _Reader(code, source).read()
    wanted: set[str] = set()
    assigned = {*FUNCTIONS, *constants.CODE_NAMES, "print"}
    for statement in body:
        names = [n for n in ast.walk(statement) if isinstance(n, ast.Name)]
        wanted |= {
            n.id for n in names if isinstance(n.ctx, ast.Load) or isinstance(statement, ast.AugAssign)
        } - assigned
        assigned |= {n.id for n in _targets(statement)}
    return Program(code=code, source=source, body=tuple(body), wanted=frozenset(wanted))


def calculate(text: str, at: Pos = NOWHERE, source: Source | None = None) -> int:
    """The value of an expression without names, as in the shell's $(( )); raises ScriptError."""
    program = compile_code(Code(text=text, text_at=at), source)
    if len(program.body) != 1 or not isinstance(program.body[0], ast.Expr):
        raise ScriptError(f"{text[:60]!r} is no expression", at, source)
    evaluation = _Evaluation(program, {}, {})
    value = evaluation.value(program.body[0].value)
    if not isinstance(value, int):
        raise ScriptError(f"{text[:60]!r} is no integer", at, source)
    return value


_UNARY: Final[dict[type[ast.unaryop], Callable[[Any], Any]]] = {
    ast.Not: operator.not_,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Invert: operator.invert,
}
_BINARY: Final[dict[type[ast.operator], Callable[[Any, Any], Any]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.LShift: operator.lshift,
    ast.RShift: operator.rshift,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
}
_COMPARE: Final[dict[type[ast.cmpop], Callable[[Any, Any], Any]]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
}
FUNCTIONS: Final[Mapping[str, Callable[..., Any]]] = {
    "abs": abs,
    "bool": bool,
    "float": float,
    "int": int,
    "len": len,
    "max": max,
    "min": min,
    "round": round,
    "str": str,
}
"""What a block may call, with print."""

_STATEMENTS: Final = (ast.Assert, ast.Assign, ast.AugAssign, ast.Expr, ast.Pass)
_EXPRESSIONS: Final = (
    ast.BinOp,
    ast.BoolOp,
    ast.Call,
    ast.Compare,
    ast.Constant,
    ast.FormattedValue,
    ast.IfExp,
    ast.JoinedStr,
    ast.List,
    ast.Name,
    ast.Tuple,
    ast.UnaryOp,
)
_ALLOWED: Final = "assert, NAME = expression, print(...)"


def _targets(node: ast.stmt) -> Iterator[ast.Name]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AugAssign) else []
    yield from (t for t in targets if isinstance(t, ast.Name))


class _Reader:
    """Reads a block's text and refuses what it does not know."""

    def __init__(self, code: Code, source: Source | None) -> None:
        self.text, self.source = code.text, source
        self.at = code.text_at if code.text_at.line else Pos(1, 1, code.at.file)
        self.lines = code.text.split("\n")

    def read(self) -> list[ast.stmt]:
        if len(self.text) > LONGEST_CODE:
            raise ScriptError(f"a code block of {len(self.text)} characters", self.at, self.source, f"{LONGEST_CODE}")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(self.text)
        except SyntaxError as why:
            at = self.place(why.lineno or 1, max((why.offset or 1) - 1, 0))
            raise ScriptError(f"the code block is no Python: {why.msg}", at, self.source) from why
        except ValueError as why:
            raise ScriptError(f"the code block is no Python: {why}", self.at, self.source) from why
        except (MemoryError, RecursionError) as why:
            raise ScriptError("the code block nests too deep", self.at, self.source, f"{DEEPEST} levels") from why
        for statement in tree.body:
            self.statement(statement)
        return tree.body

    def place(self, line: int, column: int) -> Pos:
        """The script's place for one of the block, its column a count of characters from 0."""
        if line <= 1:
            return Pos(self.at.line, self.at.column + column, self.at.file)
        return Pos(self.at.line + line - 1, column + 1, self.at.file)

    def where(self, node: ast.stmt | ast.expr) -> Pos:
        line = self.lines[node.lineno - 1] if node.lineno <= len(self.lines) else ""
        before = line.encode()[: node.col_offset].decode(errors="replace")
        return self.place(node.lineno, len(before))

    def refuse(self, node: ast.stmt | ast.expr, what: str, help: str = "") -> NoReturn:
        raise ScriptError(f"a code block cannot have {what}", self.where(node), self.source, _ALLOWED, help)

    def statement(self, node: ast.stmt) -> None:
        if not isinstance(node, _STATEMENTS):
            self.refuse(node, f"{_NAMES.get(type(node), type(node).__name__)}")
        match node:
            case ast.Assert():
                self.expression(node.test, 0)
                if node.msg:
                    self.expression(node.msg, 0)
            case ast.Assign() | ast.AugAssign():
                if len(list(_targets(node))) != (len(node.targets) if isinstance(node, ast.Assign) else 1):
                    self.refuse(node, "an assignment to anything but names")
                for target in _targets(node):
                    self.name(target)
                self.expression(node.value, 0)
            case ast.Expr():
                self.expression(node.value, 0)
            case _:
                pass

    def name(self, node: ast.Name) -> None:
        if node.id.startswith("__"):
            self.refuse(node, f"the name {node.id}")
        if isinstance(node.ctx, ast.Store) and (node.id in FUNCTIONS or node.id == "print"):
            self.refuse(node, f"another meaning of {node.id}")

    def expression(self, node: ast.expr, depth: int) -> None:
        if depth > DEEPEST:
            self.refuse(node, f"more than {DEEPEST} levels")
        if not isinstance(node, _EXPRESSIONS):
            self.refuse(node, _NAMES.get(type(node), f"{type(node).__name__}"))
        match node:
            case ast.Name():
                self.name(node)
                if node.id in FUNCTIONS or node.id == "print":
                    self.refuse(node, f"{node.id} without a call")
            case ast.Constant():
                if not isinstance(node.value, (int, float, str, type(None))):
                    self.refuse(node, f"a {type(node.value).__name__}")
            case ast.Call():
                self.call(node)
            case ast.BinOp() if type(node.op) not in _BINARY:
                self.refuse(node, f"the operator {type(node.op).__name__}")
            case _:
                pass
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr) and not (isinstance(node, ast.Call) and child is node.func):
                self.expression(child, depth + 1)

    def call(self, node: ast.Call) -> None:
        if not isinstance(node.func, ast.Name):
            self.refuse(node, "a call of anything but a function's name")
        name = node.func.id
        if name not in FUNCTIONS and name != "print":
            self.refuse(node, f"the function {name}", f"there are {', '.join(FUNCTIONS)} and print")
        if node.keywords:
            self.refuse(node, "named arguments")


_NAMES: Final[Mapping[type[ast.AST], str]] = {
    ast.Import: "an import",
    ast.ImportFrom: "an import",
    ast.If: "an if statement; write A if C else B",
    ast.For: "a loop",
    ast.While: "a loop",
    ast.FunctionDef: "a function definition",
    ast.ClassDef: "a class",
    ast.With: "a with statement",
    ast.Try: "a try statement",
    ast.Delete: "a del statement",
    ast.Attribute: "an attribute",
    ast.Subscript: "a subscript",
    ast.Lambda: "a lambda",
    ast.ListComp: "a comprehension",
    ast.SetComp: "a comprehension",
    ast.DictComp: "a comprehension",
    ast.GeneratorExp: "a comprehension",
    ast.NamedExpr: "an assignment within an expression",
    ast.Starred: "a starred argument",
    ast.Dict: "a dictionary",
    ast.Set: "a set",
}


class _Evaluation:
    """One run of a block over its variables."""

    def __init__(self, program: Program, variables: dict[str, Value], kept: dict[str, Value]) -> None:
        self.program, self.variables, self.kept = program, variables, kept
        self.reader = _Reader(program.code, program.source)
        self.printed: list[str] = []

    def run(self) -> Outcome:
        for node in self.program.body:
            match node:
                case ast.Assert():
                    if not self.value(node.test):
                        return Outcome(self.failure(node), tuple(self.printed), self.kept)
                case ast.Assign():
                    value = self.value(node.value)
                    for target in _targets(node):
                        self.assign(target.id, value)
                case ast.AugAssign():
                    (target,) = _targets(node)
                    left = self.named(target.id, target)
                    self.assign(target.id, self.binary(node, node.op, left, self.value(node.value)))
                case ast.Expr():
                    self.value(node.value)
                case _:
                    pass
        return Outcome(None, tuple(self.printed), self.kept)

    def assign(self, name: str, value: Value) -> None:
        self.variables[name] = value
        self.kept[name] = value

    def failure(self, node: ast.Assert) -> Failure:
        names = dict.fromkeys(n.id for n in ast.walk(node.test) if isinstance(n, ast.Name) and n.id in self.variables)
        return Failure(
            assertion=ast.get_source_segment(self.program.code.text, node.test) or ast.unparse(node.test),
            message=str(self.value(node.msg)) if node.msg else "",
            names=tuple((n, self.variables[n]) for n in names),
            at=self.reader.where(node),
        )

    def cannot(self, node: ast.stmt | ast.expr, why: str, help: str = "") -> ScriptError:
        return ScriptError(f"cannot be computed: {why}", self.reader.where(node), self.program.source, help=help)

    def named(self, name: str, node: ast.expr) -> Value:
        if name in self.variables:
            return self.variables[name]
        if name in constants.CODE_NAMES:
            return constants.CODE_NAMES[name]
        raise self.cannot(
            node, f"no variable {name}", constants.nearest(name, [*self.variables, *constants.CODE_NAMES])
        )

    def value(self, node: ast.expr) -> Value:
        """An expression's value; raises ScriptError."""
        match node:
            case ast.Constant():
                return self.bounded(node, node.value)
            case ast.Name():
                return self.named(node.id, node)
            case ast.UnaryOp():
                return self.computed(node, _UNARY[type(node.op)], self.value(node.operand))
            case ast.BinOp():
                return self.binary(node, node.op, self.value(node.left), self.value(node.right))
            case ast.BoolOp():
                return self.boolean(node)
            case ast.Compare():
                return self.compare(node)
            case ast.IfExp():
                return self.value(node.body if self.value(node.test) else node.orelse)
            case ast.Tuple() | ast.List():
                return self.items(node)
            case ast.JoinedStr():
                return self.bounded(node, "".join(str(self.value(part)) for part in node.values))
            case ast.FormattedValue():
                return self.formatted(node)
            case ast.Call(func=ast.Name(id=name)):
                return self.call(node, name)
            case _:
                raise self.cannot(node, type(node).__name__)

    def items(self, node: ast.Tuple | ast.List) -> tuple[Scalar, ...]:
        out: list[Scalar] = []
        for item in node.elts:
            value = self.value(item)
            if isinstance(value, tuple):
                raise self.cannot(item, "a tuple within a tuple")
            out.append(value)
        return tuple(out)

    def bounded(self, node: ast.stmt | ast.expr, value: Any) -> Value:
        if isinstance(value, int) and value.bit_length() > MOST_BITS:
            raise self.cannot(node, f"a number of more than {MOST_BITS} bits")
        if isinstance(value, str) and len(value) > LONGEST_TEXT:
            raise self.cannot(node, f"a text of more than {LONGEST_TEXT} characters")
        if value is not None and not isinstance(value, (int, float, str, tuple)):
            raise self.cannot(node, f"a value that is a {type(value).__name__}")
        return value

    def computed(self, node: ast.stmt | ast.expr, function: Callable[..., Any], *args: Value) -> Value:
        try:
            result = function(*args)
        except (TypeError, ValueError, ArithmeticError) as why:
            raise self.cannot(node, str(why)[:200]) from why
        return self.bounded(node, result)

    def binary(self, node: ast.stmt | ast.expr, op: ast.operator, left: Value, right: Value) -> Value:
        """An operation whose result has its bounds known before it is made."""
        match op:
            case ast.Mod() if isinstance(left, str):
                for conversion in re.findall(r"%[^a-zA-Z%]*", left):
                    self.format_bounds(node, conversion)
            case _ if isinstance(left, tuple) or isinstance(right, tuple):
                raise self.cannot(node, "arithmetic on a tuple")
            case ast.Pow() if isinstance(left, int) and isinstance(right, int):
                if right > MOST_BITS or left.bit_length() * max(right, 1) > 2 * MOST_BITS:
                    raise self.cannot(node, f"a number of more than {MOST_BITS} bits")
            case ast.LShift() if isinstance(right, int) and right > MOST_BITS:
                raise self.cannot(node, f"a number of more than {MOST_BITS} bits")
            case ast.Mult() if isinstance(left, str) or isinstance(right, str):
                text, count = (left, right) if isinstance(left, str) else (right, left)
                if isinstance(text, str) and isinstance(count, int) and len(text) * count > LONGEST_TEXT:
                    raise self.cannot(node, f"a text of more than {LONGEST_TEXT} characters")
            case _:
                pass
        return self.computed(node, _BINARY[type(op)], left, right)

    def boolean(self, node: ast.BoolOp) -> Value:
        value: Value = None
        for part in node.values:
            value = self.value(part)
            if bool(value) != isinstance(node.op, ast.And):
                break
        return value

    def compare(self, node: ast.Compare) -> bool:
        left = self.value(node.left)
        for op, part in zip(node.ops, node.comparators, strict=True):
            right = self.value(part)
            if not self.computed(node, _COMPARE[type(op)], left, right):
                return False
            left = right
        return True

    def format_bounds(self, node: ast.stmt | ast.expr, spec: str) -> None:
        """A width or a precision is a small number that is written out."""
        if "*" in spec:
            raise self.cannot(node, "a format with * as its width")
        if any(len(digits) > 5 or int(digits) > MOST_DIGITS for digits in re.findall(r"[0-9]+", spec)):
            raise self.cannot(node, f"a format wider than {MOST_DIGITS}")

    def formatted(self, node: ast.FormattedValue) -> str:
        value: Value = self.value(node.value)
        if node.conversion != -1:
            value = repr(value) if node.conversion in (ord("r"), ord("a")) else str(value)
        spec = str(self.value(node.format_spec)) if node.format_spec else ""
        self.format_bounds(node, spec)
        return str(self.computed(node, format, value, spec))

    def call(self, node: ast.Call, name: str) -> Value:
        args = [self.value(arg) for arg in node.args]
        if name == "print":
            self.printed.append(" ".join(str(arg) for arg in args))
            return None
        if name == "round" and len(args) == 2 and isinstance(args[1], int) and abs(args[1]) > MOST_DIGITS:
            raise self.cannot(node, f"round to more than {MOST_DIGITS} digits")
        return self.computed(node, FUNCTIONS[name], *args)
