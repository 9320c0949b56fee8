"""Verdicts as GitHub's workflow commands: one annotation for each subject that does not conform."""

from collections.abc import Iterator, Sequence

from conformance.check.verdict import FileReport, Outcome, Verdict
from conformance.report.clean import cleaned
from conformance.report.source import violated

LEVELS = {Outcome.DIVERGES: "error", Outcome.INCONCLUSIVE: "warning", Outcome.NOT_MODELLED: "notice"}


def github(reports: Sequence[FileReport]) -> str:
    """The annotations, one a line: a divergence or an unreadable file is an error, the rest warnings and notices."""
    return "".join(f"{line}\n" for r in reports for line in _annotations(cleaned(r)))


def _annotations(r: FileReport) -> Iterator[str]:
    if r.error:
        yield command("error", r.path, "cannot be read", r.error)
    for notice in r.notices:
        yield command("warning", r.path, "capture", notice)
    for v in r.verdicts:
        if v.outcome is not Outcome.CONFORMS:
            yield command(LEVELS[v.outcome], r.path, f"{v.layer} {v.subject}: {v.outcome}", message(v))


def message(v: Verdict) -> str:
    """What a reader of the verdict needs first, in lines."""
    d = v.divergence
    if d is None:
        return v.reason or str(v.outcome)
    unit = "line" if v.layer == "nic" else "frame"
    lines = [f"{unit} {d.frame} at {d.time:.6f} s{f' from {d.host}' if d.host else ''}: {d.what}"]
    lines += [f"violates {violated(d.constraint)}"] * bool(d.constraint)
    lines += [f"allowed then: {x}" for x in d.allowed]
    lines += [f"near miss {n.rule}: {n.why}" if n.rule else f"near miss: {n.why}" for n in d.near]
    return "\n".join(lines)


def command(level: str, file: str, title: str, text: str) -> str:
    """A workflow command with its properties and message escaped as the runner unescapes them."""
    return f"::{level} file={_property(file)},title={_property(title)}::{_data(text)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
