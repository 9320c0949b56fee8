"""What a proof reports: plain values that print as text and travel as JSON or between processes."""

from collections.abc import Iterator
from typing import Any

from msgspec import Struct
from msgspec.structs import asdict

Progress = Any  # Callable[[str, int, int], None]: cell, cells done, cells in all


class Counterexample(Struct, frozen=True):
    """A step that breaks an obligation: from `state` by `event` under `params` to `next` with `effects`.

    `before` holds the steps (state, event) that lead to `state`, where k-induction was asked. `confirmed` says that the
    concrete rule, run on these values, did exactly this. It need not be reachable: explore or a live kernel decides.
    """

    state: Any
    event: Any
    params: Any
    next: Any = None
    effects: tuple[Any, ...] = ()
    before: tuple[tuple[Any, Any], ...] = ()
    confirmed: bool = False

    def lines(self) -> Iterator[str]:
        """The counterexample as text; of the next state only what changed."""
        for s, e in self.before:
            yield f"before  {_show(s)}"
            yield f"        {_show(e)}"
        yield f"state   {_show(self.state)}"
        if self.event is not None:
            yield f"event   {_show(self.event)}"
        yield f"params  {_show(self.params)}"
        if self.next is not None:
            yield f"next    {_show(self.next, self.state)}"
            yield f"effects {', '.join(_show(x) for x in self.effects) or '-'}"
        yield "the concrete rule does this" if self.confirmed else "not confirmed by the concrete rule"


class Failure(Struct, frozen=True):
    """An obligation that doesn't hold, or wasn't decided.

    `kind`: vacuous, total, disjoint, type, range, invariant, transition, initial, not-falsified, unknown, reading.
    `id`: the property, the field, or the rules in question. `cell`: 'Type.STATE+Event'.
    """

    kind: str
    id: str
    cell: str
    rule: str = ""
    says: str = ""
    counterexample: Counterexample | None = None

    def text(self) -> str:
        """A paragraph for a reader."""
        head = f"{self.kind}: {self.id}" + (f" by {self.rule}" if self.rule else "") + f" in {self.cell}"
        lines = [head] + ([f"  {self.says}"] if self.says else [])
        if self.counterexample is not None:
            lines += ["    " + x for x in self.counterexample.lines()]
        return "\n".join(lines)


class Falsified(Struct, frozen=True):
    """A property that Linux doesn't have, with the counterexample that shows it."""

    id: str
    why: str
    cell: str
    rule: str
    counterexample: Counterexample


class Proof(Struct, frozen=True):
    """How a property was proved: `obligations` queries by plain induction; `k` > 1 where that needed longer runs."""

    id: str
    kind: str
    says: str
    obligations: int
    k: int = 1

    @property
    def how(self) -> str:
        """In words."""
        return "by induction" if self.k == 1 else f"by {self.k}-induction"


class Report(Struct, frozen=True):
    """The outcome of proving one machine. `ok` only if nothing failed."""

    machine: str
    seconds: float
    cells: int
    rules: int
    pairs: int
    paths: int
    queries: int
    obligations: int
    failures: tuple[Failure, ...]
    proved: tuple[Proof, ...]
    never_enabled: tuple[str, ...]
    excluded: tuple[str, ...]
    falsified: tuple[Falsified, ...]

    @property
    def ok(self) -> bool:
        """Whether every obligation was discharged."""
        return not self.failures

    @property
    def failed(self) -> frozenset[str]:
        """The ids of what failed: properties, fields, 'total', 'disjoint' and other kinds."""
        named = ("invariant", "transition", "range", "initial", "not-falsified")
        return frozenset(f.id if f.kind in named else f.kind for f in self.failures)

    def text(self) -> str:
        """The report for a terminal."""
        out = [
            f"{self.machine}: {self.rules} rules, {self.cells} cells, {self.pairs} rules in cells, {self.paths} paths, "
            f"{self.obligations} obligations, {self.queries} queries, {self.seconds:.1f} s"
        ]
        broken = {f.id for f in self.failures}
        if self.ok:
            out.append("rules are total and pairwise disjoint; every result keeps its ranges")
        for p in self.proved:
            verdict = "FAILS" if p.id in broken else p.how
            out.append(f"  {p.kind:10} {p.id}: {verdict} ({p.obligations} obligations). {p.says}")
        for x in self.falsified:
            out.append(f"falsified, as expected: {x.id}: {x.why}")
            out += ["    " + line for line in (f"by {x.rule} in {x.cell}", *x.counterexample.lines())]
        if self.excluded:
            out.append("no such state, or no such event in it: " + ", ".join(self.excluded))
        if self.never_enabled:
            out.append("never enabled under the invariants: " + ", ".join(self.never_enabled))
        out += [f.text() for f in self.failures]
        out.append(f"{self.machine}: " + ("PROVED" if self.ok else f"{len(self.failures)} FAILURES"))
        return "\n".join(out)


def _show(x: Any, beside: Any = None) -> str:
    if not isinstance(x, Struct):
        return repr(x)
    values = asdict(x)
    if beside is not None and type(beside) is type(x):
        values = {k: v for k, v in values.items() if getattr(beside, k) != v}
    elif beside is None:
        values = {k: v for k, v in values.items() if k != "by"}
    inside = ", ".join(f"{k}={getattr(v, 'name', v)}" for k, v in values.items())
    return f"{type(x).__name__}({inside})" + (" otherwise as before" if beside is not None else "")
