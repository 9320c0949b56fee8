"""Strings of a capture, made fit to be printed: what a file name, an interface or a comment holds is anyone's.

Nothing that leaves a report holds control characters, lone surrogates (of a file name that is no UTF-8) or code points
that XML forbids: each such character stands there as its escape, `\\x1b`.
"""

from msgspec.structs import replace

from conformance.check.verdict import Divergence, FileReport, FrameLabel, NearMiss, Verdict


def printable(text: str) -> str:
    """`text` in one line, each character that cannot be shown as its escape."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def raw(text: str) -> bytes:
    """The bytes that a text stands for: a file name's own ones, even if they are no UTF-8."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def cleaned(report: FileReport) -> FileReport:
    """The report with printable texts alone; what is clean already is kept, not copied."""
    return replace(
        report,
        path=printable(report.path),
        profile=printable(report.profile),
        error=printable(report.error),
        notices=[printable(n) for n in report.notices],
        verdicts=[_verdict(v) for v in report.verdicts],
    )


def _lines(texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(printable(t) for t in texts)


def _verdict(v: Verdict) -> Verdict:
    return replace(
        v,
        layer=printable(v.layer),
        subject=printable(v.subject),
        reason=printable(v.reason),
        labels=tuple(_label(x) for x in v.labels),
        divergence=_divergence(v.divergence) if v.divergence is not None else None,
        unmodelled={printable(k): n for k, n in v.unmodelled.items()},
        inferred=_lines(v.inferred),
        events=_lines(v.events),
        counters={
            printable(host): {printable(name): bounds for name, bounds in found.items()}
            for host, found in v.counters.items()
        },
    )


def _label(x: FrameLabel) -> FrameLabel:
    if (x.host + x.by + x.step + x.note + x.state).isprintable():
        return x
    return replace(
        x,
        host=printable(x.host),
        by=printable(x.by),
        step=printable(x.step),
        note=printable(x.note),
        state=printable(x.state),
    )


def _divergence(d: Divergence) -> Divergence:
    return replace(
        d,
        host=printable(d.host),
        what=printable(d.what),
        allowed=_lines(d.allowed),
        near=tuple(NearMiss(printable(n.rule), printable(n.why)) for n in d.near),
        state=_lines(d.state),
        around=_lines(d.around),
        constraint=printable(d.constraint),
    )
