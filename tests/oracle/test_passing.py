"""What one tap saw of a segment, beside what another tap on its way saw."""

import pytest

from conformance.check.setup import Host, Setup
from conformance.check.verdict import Outcome, Verdict
from conformance.oracle import passing
from conformance.oracle.passing import Passing
from conformance.oracle.text import address
from refmodel.packet.segment import Segment
from tests.oracle.frames import ACK, APORT, BPORT, PSH, A, B, Tap, ts

HOSTS = (Host("a", addresses=(A,)), Host("b", addresses=(B,)))
TAPS = {"hosts": ["a", "b"], "kinds": ["near", "near"], "dropped": 0, "start": "whole"}
SETUP = Setup("6.12", hosts=HOSTS, extra={"taps": TAPS})
SUBJECT = f"{address(A, APORT)} > {address(B, BPORT)}"


@pytest.fixture(autouse=True)
def checksums_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """The frames here have none."""
    monkeypatch.setattr(passing, "damaged", lambda s: False)


def segments(*texts: bytes) -> list[Segment]:
    """Segments of A, each with its text; without one an acknowledgment."""
    tap, at, found = Tap(), 1001, []
    for n, text in enumerate(texts):
        flags = ACK | (PSH if text else 0)
        s = tap.frame(0, flags, at, 5001, payload=text, options=ts(1000 + n, 2000), ip_id=10 + n)
        found.append(s)
        at += len(text)
    return found


def outcome(sights: list[tuple[Segment, int]], setup: Setup = SETUP) -> Outcome:
    """The verdict when these were the sights, each at its tap."""
    judge = Passing(setup)
    for s, tap in sights:
        judge.frame(s, tap)
    [(_, v)] = judge.judged([(1, Verdict("tcp", SUBJECT, Outcome.CONFORMS))])
    return v.outcome


def both(found: list[Segment]) -> list[tuple[Segment, int]]:
    """Each as the first tap saw it, then the second."""
    return [(s, tap) for s in found for tap in (0, 1)]


def test_what_passes_both_taps_unchanged_conforms() -> None:
    assert outcome(both(segments(b"x" * 10, b"", b"y" * 20))) is Outcome.CONFORMS


def test_what_only_the_second_tap_saw_so_was_changed() -> None:
    sights = both(segments(b"x" * 10, b"", b"y" * 20))
    s = sights[3][0]
    for changed in (s.changed(window=s.window + 1), s.changed(ack_seq=s.ack_seq - 1), s.changed(ip_id=99)):
        assert outcome([*sights[:3], (changed, 1), *sights[4:]]) is Outcome.DIVERGES


def test_what_only_the_first_tap_saw_was_lost() -> None:
    sights = both(segments(b"x" * 10, b"", b"y" * 20))
    assert outcome([*sights[:3], *sights[4:]]) is Outcome.CONFORMS


def test_the_first_taps_stamp_may_come_later() -> None:
    sights = both(segments(b"x" * 10, b"", b"y" * 20))
    assert outcome([*sights[:2], sights[3], sights[2], *sights[4:]]) is Outcome.CONFORMS


def test_a_segment_may_be_cut_on_its_way_but_not_moved() -> None:
    whole = segments(b"x" * 10, b"y" * 40)
    first, second = whole[1].changed(len=20), whole[1].changed(len=20, seq=whole[1].seq + 20)
    sights = [*both(whole[:1]), (whole[1], 0), (first, 1)]
    assert outcome([*sights, (second, 1)]) is Outcome.CONFORMS
    assert outcome([*sights, (second.changed(seq=whole[1].seq + 40), 1)]) is Outcome.DIVERGES


def test_the_tap_on_the_receivers_host_is_the_last() -> None:
    """Stamps of two processors may be out of order."""
    a, b, c = segments(b"x" * 10, b"", b"y" * 20)
    assert outcome([(a, 1), (a, 0), (b, 0), (c, 0), (c, 1)]) is Outcome.CONFORMS
    assert outcome([(a, 1), (a, 0), (b, 1), (c, 0), (c, 1)]) is Outcome.DIVERGES


def test_taps_that_missed_frames_prove_nothing() -> None:
    assert Passing.applies(SETUP)
    assert not Passing.applies(Setup("6.12", hosts=HOSTS, extra={"taps": {**TAPS, "dropped": 3}}))
    assert not Passing.applies(Setup("6.12", hosts=HOSTS))


def test_what_was_sent_before_the_recording_began_may_have_passed_the_first_tap() -> None:
    """Its timestamp tells."""
    setup = Setup("6.12", hosts=HOSTS, extra={"taps": {**TAPS, "start": "middle"}})
    a, b, c = segments(b"x" * 10, b"", b"y" * 20)
    assert outcome([*both([b]), (a, 1)], setup) is Outcome.CONFORMS
    assert outcome([*both([b]), (c, 1)], setup) is Outcome.DIVERGES
