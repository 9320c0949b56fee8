"""What a capture that lacks frames, or whose stamps are no clock's, may still say.

The law: what a sender went by may be among the frames that a capture lost. Where the capture says that it lost some, or
one of its connections shows it, a frame of another that would need what is missing is not held against its sender; what
a frame shows alone is. So it is with stamps that were edited, converted, cleared, or made while the clock was set.
"""

from typing import Final

from msgspec.structs import replace

from conformance.check.verdict import FileReport, Outcome, Verdict
from conformance.oracle.evidence import BACK
from conformance.oracle.view import BY_ITSELF, LACKS, NO_CLOCK

FEW: Final = 5  # frames that a clock may stamp at equal distances
LEAST: Final = 1_000  # ns: what makes up stamps steps so far at most; a generator of traffic may keep time


def doubted(v: Verdict, why: str) -> Verdict:
    """A verdict on a capture that may lack what a frame's sender went by: `why` says how that is known."""
    timed = v.layer == "tcp" or (v.layer == "neigh" and why.startswith(NO_CLOCK))
    if not timed or v.divergence is None or v.divergence.constraint in BY_ITSELF:
        return v
    return replace(
        v,
        outcome=Outcome.INCONCLUSIVE,
        reason=f"{why}; otherwise frame {v.divergence.frame} may be right: {v.reason}",
        divergence=None,
    )


def doubt(report: FileReport) -> None:
    """Doubts the divergences of a capture of which a connection, or a notice, shows what it is no witness of."""
    why = next((n for n in report.notices if n.startswith(NO_CLOCK)), "")
    for shows in (NO_CLOCK, LACKS):
        shown = next((v for v in report.verdicts if v.layer == "tcp" and v.reason.startswith(shows)), None)
        if shown is not None and not why:
            why = f"{shown.reason.partition(';')[0]} ({shown.subject})"
    if why:
        report.verdicts = [doubted(v, why) for v in report.verdicts]


class Stamps:
    """Whether a capture's stamps (ns) can be a clock's, from the order and the steps in which they come."""

    __slots__ = ("back", "count", "even", "last", "step")

    def __init__(self) -> None:
        self.count = self.last = self.step = self.back = 0
        self.even = True

    def sees(self, time: int) -> None:
        """Takes the next frame's."""
        step = time - self.last
        if self.count:
            if -step > self.back:
                self.back = -step
            if self.even and self.count > 1:
                self.even = step == self.step
        self.count, self.last, self.step = self.count + 1, time, step

    def why_none(self) -> str:
        """Why they are none's; '' if they may be."""
        if self.back > BACK:
            return f"{NO_CLOCK}: they go back by {self.back // 1_000_000} ms"
        if self.even and self.count >= FEW and self.step <= LEAST:
            return f"{NO_CLOCK}: all frames are {self.step} ns apart"
        return ""
