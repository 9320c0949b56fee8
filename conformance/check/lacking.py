"""What a capture that lacks frames may still say of its TCP connections.

The law: what a sender went by may be among the frames that a capture lost. Where the capture says that it lost some, or
one of its connections shows it, a frame of another that would need what is missing is not held against its sender; what
a frame shows alone is.
"""

from msgspec.structs import replace

from conformance.check.verdict import FileReport, Outcome, Verdict
from conformance.oracle.view import BY_ITSELF, LACKS


def doubted(v: Verdict, why: str) -> Verdict:
    """A verdict on a capture that may lack what a frame's sender went by: `why` says how that is known."""
    if v.layer != "tcp" or v.divergence is None or v.divergence.constraint in BY_ITSELF:
        return v
    return replace(
        v,
        outcome=Outcome.INCONCLUSIVE,
        reason=f"{why}; with all of them frame {v.divergence.frame} may be right: {v.reason}",
        divergence=None,
    )


def doubt(report: FileReport) -> None:
    """Doubts the divergences of a capture of which a connection shows that it lacks frames."""
    shown = next((v for v in report.verdicts if v.layer == "tcp" and v.reason.startswith(LACKS)), None)
    if shown is not None:
        why = shown.reason.partition(";")[0]
        report.verdicts = [doubted(v, f"{why} ({shown.subject})") for v in report.verdicts]
