"""Code as it would be with a line changed: the functions that the change touches run the new code until the end.

Only code objects and constants are exchanged, so every importer of a function sees the change, and no class or
registry is made twice. Whatever happens meanwhile, the old code is back afterwards.
"""

import ast
import importlib
import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import CodeType, FunctionType, ModuleType
from typing import Any

PACKAGE = "refmodel.tcp.whole"


def source_of(name: str) -> str:
    """The text of a module of the package."""
    return inspect.getsource(importlib.import_module(f"{PACKAGE}.{name}"))


def functions(module: ModuleType) -> Iterator[FunctionType]:
    """The functions and methods that a module defines, without those inside other functions."""
    for thing in list(vars(module).values()):
        if isinstance(thing, type) and thing.__module__ == module.__name__:
            members = list(vars(thing).values())
        else:
            members = [thing]
        for member in members:
            inner = getattr(member, "fget", None) or getattr(member, "__func__", None) or member
            inner = inspect.unwrap(inner) if callable(inner) else inner
            if isinstance(inner, FunctionType) and inner.__module__ == module.__name__:
                yield inner


def codes(code: CodeType) -> Iterator[CodeType]:
    """A code object's own constants that are code: of functions, and of the methods of classes."""
    for const in code.co_consts:
        if isinstance(const, CodeType):
            if const.co_name == const.co_qualname or "<locals>" not in const.co_qualname:
                yield const
            if not const.co_flags & inspect.CO_NEWLOCALS:
                yield from codes(const)


def same(a: CodeType, b: CodeType) -> bool:
    """Both do the same: where they stand doesn't matter."""
    first = (a.co_code, a.co_names, a.co_varnames, len(a.co_consts))
    if first != (b.co_code, b.co_names, b.co_varnames, len(b.co_consts)):
        return False
    for x, y in zip(a.co_consts, b.co_consts, strict=True):
        if isinstance(x, CodeType) and isinstance(y, CodeType):
            if not same(x, y):
                return False
        elif type(x) is not type(y) or x != y:
            return False
    return True


def constants(tree: ast.Module) -> dict[str, ast.expr]:
    """What a module assigns to names at its top level."""
    found = {}
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            found[node.target.id] = node.value
    return found


def importers(name: str, value: object) -> Iterator[ModuleType]:
    """The modules of the package in which a name stands for this very value."""
    for key, module in list(sys.modules.items()):
        if key.startswith(PACKAGE) and vars(module).get(name) is value:
            yield module


@contextmanager
def edited(name: str, text: str) -> Iterator[list[str]]:
    """The module `name` of the package as if its source were `text`; gives the names of what changed."""
    module = importlib.import_module(f"{PACKAGE}.{name}")
    before = source_of(name)
    tree = ast.parse(text)
    old, new = ({c.co_qualname: c for c in codes(compile(t, name, "exec", dont_inherit=True))} for t in (before, tree))
    undo: list[tuple[Any, str, Any]] = []
    touched = []
    for fn in functions(module):
        was, code = old.get(fn.__qualname__), new.get(fn.__qualname__)
        if was is not None and code is not None and not same(was, code):
            undo.append((fn, "__code__", fn.__code__))
            touched.append(fn.__qualname__)
    then, now = constants(ast.parse(before)), constants(tree)
    values = {k: eval(compile(ast.Expression(v), name, "eval"), vars(module)) for k, v in now.items()
              if k in then and ast.dump(v) != ast.dump(then[k])}  # fmt: skip
    for key in values:
        touched.append(key)
        value = vars(module)[key]
        undo += [(m, key, value) for m in importers(key, value)]
    try:
        for where, key, _ in undo:
            setattr(where, key, new[where.__qualname__] if key == "__code__" else values[key])
        yield touched
    finally:
        for where, key, value in undo:
            setattr(where, key, value)


@contextmanager
def replaced(name: str, old: str, new: str) -> Iterator[list[str]]:
    """The same with `old`, which occurs exactly once, replaced by `new`; raises ValueError if nothing would change."""
    text = source_of(name)
    if text.count(old) != 1:
        raise ValueError(f"{old!r} occurs {text.count(old)} times in {name}")
    with edited(name, text.replace(old, new)) as touched:
        if not touched:
            raise ValueError(f"{old!r} -> {new!r} changes no function of {name}")
        yield touched
