"""What a proof says, for a terminal and as JSON."""

from typing import Any

from rich.console import Console
from rich.markup import escape

from refmodel.engine.report import Report
from refmodel.engine.runs import plain


def print_proof(report: Report, to: Console, verbose: bool = False) -> None:
    """Prints one machine's proof: what was asked, what failed; with `verbose` every property and how it was proved."""
    to.print(
        f"[bold]{report.machine}[/]: {report.rules} rules in {report.cells} cells, {report.paths} paths, "
        f"{report.obligations} obligations, {report.queries} queries, {report.seconds:.1f} s"
    )
    broken = {f.id for f in report.failures}
    kept = [p for p in report.proved if p.id not in broken]
    if report.ok:
        longer = sum(p.k > 1 for p in kept)
        more = f", {longer} of them by k-induction" if longer else ""
        to.print(f"  total, pairwise disjoint, all ranges kept; {len(kept)} properties proved{more}")
    if verbose:
        for p in kept:
            to.print(f"  [green]{p.kind}[/] {escape(p.id)}: {escape(p.says)} [dim]({p.how}, {p.obligations} cells)[/]")
    for x in report.falsified:
        to.print(f"  [yellow]false in Linux, as stated:[/] {escape(x.id)}: {escape(x.why)}")
        if verbose:
            to.print(f"    by {escape(x.rule)} in {escape(x.cell)}")
            for line in x.counterexample.lines():
                to.print(f"    {escape(line)}")
    if verbose and report.excluded:
        to.print(f"  no such state, or no such event in it: {escape(', '.join(report.excluded))}")
    if verbose and report.never_enabled:
        to.print(f"  never enabled under the invariants: {escape(', '.join(report.never_enabled))}")
    for f in report.failures:
        for k, line in enumerate(f.text().splitlines()):
            to.print(f"  [red]{escape(line)}[/]" if k == 0 else f"  {escape(line)}")
    said = "[green]proved[/]" if report.ok else f"[red]{len(report.failures)} obligations failed[/]"
    to.print(f"  {said}")


def as_builtins(report: Report) -> Any:
    """The report in JSON's types; states and events carry their type's name, enums theirs."""
    return plain(report) | {"ok": report.ok}
