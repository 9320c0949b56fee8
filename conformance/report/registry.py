"""The registry of rules, steps and properties as rows for a reader or a program."""

from msgspec import Struct
from rich.console import Console
from rich.markup import escape

from refmodel.rule import PROPERTIES, RULES, STEPS


class Entry(Struct, frozen=True):
    """One row: `kind` is rule, step, invariant, transition or assumption."""

    kind: str
    id: str
    at: tuple[str, ...]
    kernel: tuple[str, ...]
    rfc: tuple[str, ...]
    says: str
    deviates: str = ""


def registry(pattern: str = "", properties: bool = False) -> list[Entry]:
    """The entries whose id contains `pattern`, rules first."""
    rows = [
        Entry("rule", r.id, tuple(a.name for a in r.at), r.kernel, r.rfc, r.says, r.deviates) for r in RULES.values()
    ]
    rows += [Entry("step", s.id, (), s.kernel, s.rfc, s.says) for s in STEPS.values()]
    if properties:
        rows += [
            Entry(q.kind, q.id, tuple(a.name for a in q.at), (), (), q.says, q.falsified) for q in PROPERTIES.values()
        ]
    return [r for r in rows if pattern in r.id]


def print_registry(rows: list[Entry], to: Console) -> None:
    """Prints entries as a reader wants them: id and sentence, then where they come from."""
    for r in rows:
        at = f" at {', '.join(r.at)}" if r.at else ""
        to.print(f"[bold]{escape(r.id)}[/] ({r.kind}{at})")
        to.print(f"  {escape(r.says)}")
        if r.kernel or r.rfc:
            to.print(f"  [dim]{escape(', '.join((*r.kernel, *r.rfc)))}[/]")
        if r.deviates:
            to.print(f"  [yellow]{escape(r.deviates)}[/]")
    to.print(f"{len(rows)} entries")
