"""A capture that lacks frames is no witness against what would need them; what a frame shows alone stands."""

import pytest

from conformance.check.lacking import doubt, doubted
from conformance.check.verdict import Divergence, FileReport, Outcome, Verdict


def diverging(constraint: str, layer: str = "tcp") -> Verdict:
    """A divergence of that constraint at frame 7."""
    d = Divergence(7, 1.0, "a", "it should not be", constraint=constraint)
    return Verdict(layer, "a > b", Outcome.DIVERGES, d.what, divergence=d)


LACKING = Verdict(
    "tcp",
    "c > d",
    Outcome.INCONCLUSIVE,
    "the capture lacks frames: nothing brought 9 bytes; nothing is said of 4",
)


def said(*verdicts: Verdict) -> list[Outcome]:
    """What is said of a capture with these verdicts in the end."""
    report = FileReport("x", verdicts=list(verdicts))
    doubt(report)
    return [v.outcome for v in report.verdicts]


def test_one_connection_that_lacks_frames_casts_doubt_on_the_others() -> None:
    assert said(LACKING, diverging("ack-of-what-did-not-arrive")) == [Outcome.INCONCLUSIVE, Outcome.INCONCLUSIVE]


def test_the_doubt_says_which_connection_shows_it() -> None:
    v = doubted(diverging("ack-without-cause"), "the capture lacks frames (c > d)")
    assert v.reason == "the capture lacks frames (c > d); with all of them frame 7 may be right: it should not be"
    assert v.divergence is None


def test_without_one_there_is_none() -> None:
    other = Verdict("tcp", "c > d", Outcome.INCONCLUSIVE, "more hypotheses than are tried")
    assert said(other, diverging("ack-of-what-did-not-arrive"))[1] is Outcome.DIVERGES


@pytest.mark.parametrize(("constraint", "layer"), [("flags-combination", "tcp"), ("udp-length", "udp")])
def test_what_a_frame_shows_alone_needs_no_other(constraint: str, layer: str) -> None:
    assert said(LACKING, diverging(constraint, layer))[1] is Outcome.DIVERGES
