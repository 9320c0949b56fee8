"""Verdicts as text, for a terminal or a file."""

from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.text import Text

from conformance.check.verdict import Divergence, FileReport, Outcome, Verdict
from conformance.report.clean import cleaned
from conformance.report.source import citation, violated

COLOURS = {
    Outcome.CONFORMS: "green",
    Outcome.DIVERGES: "red",
    Outcome.INCONCLUSIVE: "yellow",
    Outcome.NOT_MODELLED: "magenta",
}

Span = tuple[str, str]
"""A text and its style."""
Line = tuple[Span, ...]


def print_file(report: FileReport, to: Console, verbose: bool = False) -> None:
    """Prints one capture's verdicts; with `verbose` every frame's label too. Control characters come out escaped."""
    print_lines(of_file(report, verbose), to)


def print_verdict(v: Verdict, to: Console, verbose: bool = False) -> None:
    """Prints one verdict with its reason, divergence and, with `verbose`, its labels."""
    print_lines(of_verdict(v, verbose), to)


def print_lines(lines: Iterable[Line], to: Console) -> None:
    """Prints lines with their styles on a terminal, as they are elsewhere."""
    for line in lines:
        if to.is_terminal:
            to.print(Text.assemble(*line), soft_wrap=True)
        else:
            to.file.write(plain(line) + "\n")


def plain(line: Line) -> str:
    """A line without its styles."""
    return "".join(text for text, _ in line)


def as_text(v: Verdict) -> str:
    """One verdict as `print_verdict` prints it, without colours."""
    return "".join(plain(line) + "\n" for line in of_verdict(v))


def of_file(report: FileReport, verbose: bool = False) -> Iterator[Line]:
    """What `print_file` prints."""
    report = cleaned(report)
    counts = {o: sum(v.outcome is o for v in report.verdicts) for o in Outcome}
    said: list[Span] = []
    for o, n in counts.items():
        if n:
            said += [(", ", "")] * bool(said) + [(f"{n} {o}", COLOURS[o])]
    head = f": {report.frames} frames, kernel {report.profile or '?'}: "
    yield (report.path, "bold"), (head, ""), *(said or [("nothing to judge", "")])
    if report.error:
        yield ("  ", ""), (report.error, "red")
    for notice in report.notices:
        yield ("  ", ""), (notice, "yellow")
    for v in report.verdicts:
        if verbose or v.outcome is not Outcome.CONFORMS:
            yield from of_verdict(v, verbose)


def of_verdict(v: Verdict, verbose: bool = False) -> Iterator[Line]:
    """What `print_verdict` prints."""
    reason = f": {v.reason}" if v.reason else ""
    yield ("  ", ""), (v.outcome, COLOURS[v.outcome]), (f" {v.layer} {v.subject}{reason}", "")
    for name, n in v.unmodelled.items():
        yield ((f"    not modelled: {n} frames of {name}", ""),)
    if verbose:
        for what in v.inferred:
            yield ((f"    inferred: {what}", ""),)
        yield from _labels(v)
        yield from _counters(v)
    if v.divergence is not None:
        yield from _divergence(v.divergence, _unit(v))


def _unit(v: Verdict) -> str:
    return "line" if v.layer == "nic" else "frame"


def _labels(v: Verdict) -> Iterator[Line]:
    """Frame by frame, who sent it, by which rule, why, and where that stands in the kernel and the RFCs."""
    rows = [(_unit(v), "from", "sent by", "why", "source")]
    rows += [(str(x.number), x.host, x.by, x.note, citation(x.by)) for x in v.labels]
    widths = [max(len(r[k]) for r in rows) for k in range(4)]
    for row in rows if v.labels else ():
        cells = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False))
        yield (f"    {cells}  ", ""), (row[4], "dim")


def _counters(v: Verdict) -> Iterator[Line]:
    """Host by host, the counters that the labels give: a value, or the bounds of one."""
    for host, found in v.counters.items():
        said = (f"{name} {low if low == high else f'{low}..{high}'}" for name, (low, high) in found.items())
        yield ((f"    counters of {host}: {', '.join(said)}", ""),)


def _divergence(d: Divergence, unit: str) -> Iterator[Line]:
    """The first frame (or line of a register log) that the specification does not allow, and what it allows."""
    yield ((f"    {unit} {d.frame} at {d.time:.6f} s{f' from {d.host}' if d.host else ''}: {d.what}", ""),)
    for line in d.around:
        yield ((f"      {line}", ""),)
    if d.constraint:
        yield ((f"    violates {violated(d.constraint)}", ""),)
    for line in d.allowed:
        yield ((f"    allowed then: {line}", ""),)
    for miss in d.near:
        cite = citation(miss.rule)
        rule = f" {miss.rule}{f' ({cite})' if cite else ''}" if miss.rule else ""
        yield ((f"    near miss{rule}: {miss.why}", ""),)
    for line in d.state:
        yield ((f"    state: {line}", ""),)
