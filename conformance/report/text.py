"""Verdicts as text for a terminal."""

from io import StringIO

from rich.console import Console
from rich.markup import escape

from conformance.check.verdict import Divergence, FileReport, Outcome, Verdict
from conformance.report.clean import cleaned
from conformance.report.source import citation, violated

COLOURS = {
    Outcome.CONFORMS: "green",
    Outcome.DIVERGES: "red",
    Outcome.INCONCLUSIVE: "yellow",
    Outcome.NOT_MODELLED: "magenta",
}


def print_file(report: FileReport, to: Console, verbose: bool = False) -> None:
    """Prints one capture's verdicts; with `verbose` every frame's label too. Control characters come out escaped."""
    report = cleaned(report)
    counts = {o: sum(v.outcome is o for v in report.verdicts) for o in Outcome}
    said = ", ".join(f"[{COLOURS[o]}]{n} {o}[/]" for o, n in counts.items() if n) or "nothing to judge"
    to.print(f"[bold]{escape(report.path)}[/]: {report.frames} frames, kernel {report.profile or '?'}: {said}")
    if report.error:
        to.print(f"  [red]{escape(report.error)}[/]")
    for n in report.notices:
        to.print(f"  [yellow]{escape(n)}[/]")
    for v in report.verdicts:
        if verbose or v.outcome is not Outcome.CONFORMS:
            print_verdict(v, to, verbose)


def print_verdict(v: Verdict, to: Console, verbose: bool = False) -> None:
    """Prints one verdict with its reason, divergence and, with `verbose`, its labels."""
    reason = f": {escape(v.reason)}" if v.reason else ""
    to.print(f"  [{COLOURS[v.outcome]}]{v.outcome}[/] {v.layer} {escape(v.subject)}{reason}")
    for name, n in v.unmodelled.items():
        to.print(f"    not modelled: {n} frames of {escape(name)}")
    if verbose:
        for what in v.inferred:
            to.print(f"    inferred: {escape(what)}")
        print_labels(v, to)
    if v.divergence is not None:
        print_divergence(v.divergence, to, _unit(v))


def _unit(v: Verdict) -> str:
    return "line" if v.layer == "nic" else "frame"


def print_labels(v: Verdict, to: Console) -> None:
    """Prints, frame by frame, who sent it, by which rule, why, and where that stands in the kernel and the RFCs."""
    rows = [(_unit(v), "from", "sent by", "why", "source")]
    rows += [(str(x.number), x.host, x.by, x.note, citation(x.by)) for x in v.labels]
    widths = [max(len(r[k]) for r in rows) for k in range(4)]
    for row in rows if v.labels else ():
        cells = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False))
        to.print(f"    {escape(cells)}  [dim]{escape(row[4])}[/]")


def print_divergence(d: Divergence, to: Console, unit: str = "frame") -> None:
    """Prints the first frame (or line of a register log) that the specification does not allow, and what it allows."""
    to.print(f"    {unit} {d.frame} at {d.time:.6f} s from {escape(d.host)}: {escape(d.what)}")
    for line in d.around:
        to.print(f"      {escape(line)}")
    if d.constraint:
        to.print(f"    violates {escape(violated(d.constraint))}")
    for line in d.allowed:
        to.print(f"    allowed then: {escape(line)}")
    for miss in d.near:
        to.print(f"    near miss {escape(miss.rule)} ({escape(citation(miss.rule))}): {escape(miss.why)}")
    for line in d.state:
        to.print(f"    state: {escape(line)}")


def as_text(v: Verdict) -> str:
    """One verdict as `print_verdict` prints it, without colours."""
    text = StringIO()
    print_verdict(v, Console(file=text, soft_wrap=True, color_system=None, highlight=False))
    return text.getvalue()
