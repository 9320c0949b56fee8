"""The source text of a machine's modules, with seeded faults applied where a test asks for them."""

import ast
import importlib
import inspect
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any, NamedTuple, NoReturn

from refmodel.engine.merging import RUNTIME
from refmodel.engine.space import Unprovable


class Edit(NamedTuple):
    """A seeded fault: in the source of `module`, `old` (which occurs) is replaced by `new`."""

    module: str
    old: str
    new: str


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
