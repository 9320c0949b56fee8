"""Neighbours of a capture without a sidecar: where its tap is, and how many hosts there are, nobody says."""

import pytest

from conformance.check import neigh
from conformance.check.capture import check_frames
from conformance.check.setup import Setup
from conformance.check.verdict import FileReport, Outcome
from tests.check.neigh_runs import IP_A, IP_B, A, check, reply, request, timed, udp

ALONE = Setup(kernel="6.12", extra={"told": True})
SLOW = 0.2  # s: longer than a host takes


def numbered(k: int) -> tuple[bytes, bytes]:
    """The link-layer address and the address of one of many hosts."""
    return b"\x02\x01" + k.to_bytes(4, "big"), bytes([10, 8, k >> 8, k & 255])


def test_an_answer_may_be_long_on_its_way_to_the_tap() -> None:
    frames = timed((0.0, request()), (SLOW, reply()), (SLOW + 0.0001, udp()))
    assert {v.outcome for v in check(frames, ALONE)} == {Outcome.CONFORMS}


def test_what_waited_for_an_answer_may_be_so_too() -> None:
    frames = timed((0.0, request()), (0.0001, reply()), (SLOW, udp()))
    assert {v.outcome for v in check(frames, ALONE)} == {Outcome.CONFORMS}


def test_an_answer_that_nothing_asked_for_is_none_of_linux() -> None:
    frames = timed((0.0, request()), (0.001, reply()), (5.0, reply()))
    assert Outcome.DIVERGES in {v.outcome for v in check(frames, ALONE)}


def test_who_is_not_asked_hears_a_request_of_one_that_it_knows() -> None:
    moved = b"\x02" + b"\x05" * 5
    frames = timed(
        (0.0, request(dst=b"\xff" * 6)),
        (0.001, reply()),
        (0.002, udp()),
        (3.0, request(sip=IP_B, sha=moved, tip=bytes([10, 9, 0, 9]))),
        (3.1, udp(dst=moved, src=A, saddr=IP_A, daddr=IP_B)),
    )
    said = [v for v in check(frames, ALONE) if "10.9.0.2" in v.subject and v.subject.startswith("02:00:00:00:00:01")]
    assert {v.outcome for v in said} == {Outcome.CONFORMS}


def test_more_hosts_than_are_followed_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neigh, "PARTIES", 8)
    asked = [(k * 0.001, request(sip=ip, sha=hw)) for k, (hw, ip) in enumerate(map(numbered, range(20)))]
    report = FileReport("frames")
    check_frames(timed(*asked), ALONE, report)
    assert {v.outcome for v in report.verdicts if v.layer == "neigh"} <= {Outcome.CONFORMS}
    assert len([v for v in report.verdicts if v.layer == "neigh"]) <= 8
    assert any("neighbours" in n for n in report.notices)


def test_entries_of_a_scanner_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neigh, "WATCHES", 16)
    asked = [(k * 0.001, request(tip=ip)) for k, (_, ip) in enumerate(map(numbered, range(100)))]
    verdicts = check(timed(*asked), ALONE)
    assert len(verdicts) <= 17
    assert {v.outcome for v in verdicts} == {Outcome.CONFORMS}
