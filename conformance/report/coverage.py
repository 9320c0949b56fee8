"""Which rules and steps fired in a run, how often, and which never did."""

from collections import Counter
from collections.abc import Iterable

from msgspec import Struct

from conformance.check.verdict import Verdict
from conformance.report.source import citation, ident, says
from refmodel.rule import RULES, STEPS


class Fired(Struct, array_like=True):
    """One rule or step: its id, kind, sentence and citations, in how many frames and subjects it fired."""

    id: str
    kind: str
    says: str
    cites: str
    frames: int
    subjects: int


def coverage(verdicts: Iterable[Verdict]) -> list[Fired]:
    """Every rule and step that is known, those that fired most first; a label counts for its rule and its step."""
    frames: Counter[str] = Counter()
    subjects: Counter[str] = Counter()
    for v in verdicts:
        here: Counter[str] = Counter()
        for x in v.labels:
            here.update({x.by, x.step} - {""})
        frames.update(here)
        subjects.update(here.keys())
    ids = {name: ident(name) for name in frames}
    # Two names may mean one step: its id and its function's bare name.
    by_id: Counter[str] = Counter()
    in_subjects: Counter[str] = Counter()
    for name, known_as in ids.items():
        by_id[known_as] += frames[name]
        in_subjects[known_as] += subjects[name]
    rows = [_fired(x, by_id[x], in_subjects[x]) for x in dict.fromkeys((*by_id, *RULES, *STEPS))]
    return sorted(rows, key=lambda r: (-r.frames, r.id))


def _fired(known_as: str, frames: int, subjects: int) -> Fired:
    kind = "rule" if known_as in RULES else "step" if known_as in STEPS else ""
    return Fired(known_as, kind, says(known_as), citation(known_as), frames, subjects)
