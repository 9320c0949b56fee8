"""Where a label comes from: the sentence and the citations of a rule or step, found by its id or by its function."""

from functools import cache
from importlib import import_module
from pkgutil import iter_modules

import conformance.oracle
from conformance.check.verdict import FrameLabel
from conformance.oracle.constraint import Constraint
from conformance.oracle.steps import Sends, sender
from refmodel.rule import RULES, STEPS, Rule, Step


def entry(by: str) -> Rule | Step | None:
    """The rule or step with this id, or the step of the whole TCP that a bare name of a kernel function means."""
    found = RULES.get(by) or STEPS.get(by)
    if found is None and by.isidentifier():
        found = STEPS.get(sender(by).id)
    return found


def beside(by: str) -> Sends | None:
    """What a kernel function sends that no layer of the model has, or None."""
    found = sender(by) if by.isidentifier() else None
    return found if found is not None and found.kernel else None


def ident(by: str) -> str:
    """The id that a name has in the registry; itself if it is not there."""
    found = entry(by)
    return found.id if found is not None else by


@cache
def constraints() -> dict[str, Constraint]:
    """What the half-models of the oracle hold frames against, by id."""
    modules = (m.name for m in iter_modules(conformance.oracle.__path__) if not m.name.startswith("_"))
    found = (getattr(import_module(f"conformance.oracle.{name}"), "CONSTRAINTS", ()) for name in modules)
    return {c.id: c for several in found for c in several}


def says(by: str) -> str:
    """The sentence of a rule, step or constraint, or ''."""
    found = entry(by) or beside(by)
    if found is not None:
        return found.says
    return constraints()[by].sentence if by in constraints() else ""


def cites(by: str) -> tuple[str, ...]:
    """The kernel functions and RFC sections of a rule, step or constraint."""
    found = entry(by) or beside(by)
    if found is not None:
        return (*found.kernel, *found.rfc)
    return constraints()[by].cites if by in constraints() else ()


def citation(by: str) -> str:
    """The kernel functions and RFC sections of a rule, step or constraint in a line, or ''."""
    return ", ".join(cites(by))


def violated(constraint: str) -> str:
    """A constraint in a line: its id, sentence and citations."""
    sentence, cite = says(constraint), citation(constraint)
    told_of = f": {sentence.removesuffix('.')}" if sentence else ""
    return constraint + told_of + (f" ({cite})" if cite else "")


def told(label: FrameLabel) -> str:
    """The label in a line: step, sentence, citation, note."""
    name = label.step or label.by
    sentence, cite = says(name) or says(label.by), citation(name) or citation(label.by)
    text = name + (f" — {sentence.removesuffix('.')}" if sentence else "") + (f" ({cite})" if cite else "")
    return "; ".join(filter(None, (text, label.note)))
