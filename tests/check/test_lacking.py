"""A capture that lacks frames is no witness against what would need them; what a frame shows alone stands."""

import pytest

from conformance.check.lacking import Stamps, doubt, doubted
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
    assert v.reason == "the capture lacks frames (c > d); otherwise frame 7 may be right: it should not be"
    assert v.divergence is None


def test_without_one_there_is_none() -> None:
    other = Verdict("tcp", "c > d", Outcome.INCONCLUSIVE, "more hypotheses than are tried")
    assert said(other, diverging("ack-of-what-did-not-arrive"))[1] is Outcome.DIVERGES


@pytest.mark.parametrize(("constraint", "layer"), [("flags-combination", "tcp"), ("udp-length", "udp")])
def test_what_a_frame_shows_alone_needs_no_other(constraint: str, layer: str) -> None:
    assert said(LACKING, diverging(constraint, layer))[1] is Outcome.DIVERGES


MS = 1_000_000


def why_none(*times: int) -> str:
    """Why stamps are no clock's."""
    stamps = Stamps()
    for t in times:
        stamps.sees(t)
    return stamps.why_none()


@pytest.mark.parametrize(
    "times", [(0,) * 6, tuple(range(0, 6_000, 1_000)), (5_000 * MS, 5_001 * MS, 1_000 * MS), (10**18, 10**18 + 1, 5)]
)
def test_stamps_that_no_clock_makes(times: tuple[int, ...]) -> None:
    assert why_none(*times).startswith("the capture's stamps are no clock's")


@pytest.mark.parametrize(
    "times",
    [
        (),
        (7,),
        (0, 0),
        (0, 1_000, 2_000),
        (0, 3 * MS, 5 * MS, 9 * MS),
        (0, 900 * MS, 0, 5 * MS),
        tuple(range(0, 9 * MS, MS)),
    ],
)
def test_stamps_that_a_clock_may_have_made(times: tuple[int, ...]) -> None:
    assert not why_none(*times)


@pytest.mark.parametrize(
    ("layer", "outcome"), [("tcp", "inconclusive"), ("neigh", "inconclusive"), ("udp", "diverges")]
)
def test_without_a_clock_nothing_is_said_of_times(layer: str, outcome: str) -> None:
    report = FileReport("x", verdicts=[diverging("ack-withheld", layer)], notices=[why_none(*(0,) * 6)])
    doubt(report)
    assert [str(v.outcome) for v in report.verdicts] == [outcome]
