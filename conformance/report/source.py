"""Where a label comes from: the sentence and the citations of a rule or step, found by its id or by its function."""

from functools import cache

from conformance.check.verdict import FrameLabel
from refmodel.rule import RULES, STEPS, Rule, Step


@cache
def _by_function(known: int) -> dict[str, str]:
    """Ids by the name of their function, where only one registered thing has that name."""
    found: dict[str, str] = {}
    twice: set[str] = set()
    for ident in (*RULES, *STEPS):
        name = ident.rpartition(".")[2]
        if name in found:
            twice.add(name)
        found[name] = ident
    return {name: ident for name, ident in found.items() if name not in twice}


def entry(by: str) -> Rule | Step | None:
    """The rule or step with this id, or the only one whose function has this name."""
    found = RULES.get(by) or STEPS.get(by)
    if found is None and by:
        ident = _by_function(len(RULES) + len(STEPS)).get(by.rpartition(".")[2], "")
        found = RULES.get(ident) or STEPS.get(ident)
    return found


def says(by: str) -> str:
    """The sentence of a rule or step, or ''."""
    found = entry(by)
    return found.says if found is not None else ""


def citation(by: str) -> str:
    """The kernel function and RFC of a rule or step, or ''."""
    found = entry(by)
    return ", ".join((*found.kernel, *found.rfc)) if found is not None else ""


def told(label: FrameLabel) -> str:
    """The label in a line: step, sentence, citation, note."""
    name = label.step or label.by
    sentence, cite = says(name) or says(label.by), citation(name) or citation(label.by)
    text = name + (f" — {sentence.removesuffix('.')}" if sentence else "") + (f" ({cite})" if cite else "")
    return text + (f"; {label.note}" if label.note else "")
