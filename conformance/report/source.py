"""Where a label comes from: the sentence and the citations of a rule or step, found by its id or by its function."""

from conformance.check.verdict import FrameLabel
from conformance.oracle.steps import sender
from refmodel.rule import RULES, STEPS, Rule, Step


def entry(by: str) -> Rule | Step | None:
    """The rule or step with this id, or the step of the whole TCP that a bare name of a kernel function means."""
    found = RULES.get(by) or STEPS.get(by)
    if found is None and by.isidentifier():
        found = STEPS.get(sender(by).id)
    return found


def ident(by: str) -> str:
    """The id that a name has in the registry; itself if it is not there."""
    found = entry(by)
    return found.id if found is not None else by


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
