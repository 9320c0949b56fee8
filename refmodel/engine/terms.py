"""z3 terms as plain Python: one function that evaluates many terms on given values of their variables.

Used to compare the prover's reading with the concrete rule on many samples; it shares no code with z3's simplifier.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import z3

from refmodel.engine.space import Unprovable

JOINED: Final = {
    z3.Z3_OP_AND: " and ",
    z3.Z3_OP_OR: " or ",
    z3.Z3_OP_ADD: " + ",
    z3.Z3_OP_MUL: " * ",
    z3.Z3_OP_SUB: " - ",
    z3.Z3_OP_EQ: " == ",
    z3.Z3_OP_IFF: " == ",
    z3.Z3_OP_XOR: " != ",
    z3.Z3_OP_DISTINCT: " != ",
    z3.Z3_OP_LE: " <= ",
    z3.Z3_OP_LT: " < ",
    z3.Z3_OP_GE: " >= ",
    z3.Z3_OP_GT: " > ",
    z3.Z3_OP_MOD: " % ",
    z3.Z3_OP_IDIV: " // ",
}


def compiled(terms: Sequence[Any], variables: Sequence[Any]) -> Callable[..., tuple[Any, ...]]:
    """A function of the variables' values, in order, that gives the terms' values."""
    names: dict[int, str] = {int(v.get_id()): f"a{i}" for i, v in enumerate(variables)}
    lines: list[str] = []

    def name(root: Any) -> str:
        work = [root]
        while work:
            t = work[-1]
            if int(t.get_id()) in names:
                work.pop()
                continue
            missing = [c for c in t.children() if int(c.get_id()) not in names]
            if missing:
                work += missing
                continue
            work.pop()
            label = f"v{len(lines)}"
            lines.append(f"    {label} = {_expression(t, [names[int(c.get_id())] for c in t.children()])}")
            names[int(t.get_id())] = label
        return names[int(root.get_id())]

    results = [name(t) for t in terms]
    arguments = ", ".join(f"a{i}" for i in range(len(variables)))
    text = "\n".join([f"def evaluate({arguments}):", *lines, f"    return ({''.join(r + ', ' for r in results)})"])
    scope: dict[str, Any] = {}
    exec(text, scope)
    evaluate: Callable[..., tuple[Any, ...]] = scope["evaluate"]
    return evaluate


def _expression(t: Any, xs: list[str]) -> str:
    if z3.is_int_value(t):
        return f"({t.as_long()})"
    if z3.is_true(t) or z3.is_false(t):
        return str(z3.is_true(t))
    kind = t.decl().kind()
    if kind == z3.Z3_OP_NOT:
        return f"not {xs[0]}"
    if kind == z3.Z3_OP_UMINUS:
        return f"-{xs[0]}"
    if kind == z3.Z3_OP_ITE:
        return f"{xs[1]} if {xs[0]} else {xs[2]}"
    if kind == z3.Z3_OP_IMPLIES:
        return f"not {xs[0]} or {xs[1]}"
    if kind in JOINED:
        return JOINED[kind].join(xs)
    raise Unprovable(f"a term of kind {t.decl().name()} is not evaluated")
