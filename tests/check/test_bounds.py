"""Captures that want to grow: what is kept of them has a bound, and each connection gets its verdict."""

import tracemalloc
from pathlib import Path

import pytest

from bench.hostile import blocks, frames, reused, syns
from bench.traffic import connection
from conformance.check import capture as capture_module
from conformance.check import flows as flows_module
from conformance.check.capture import check_capture
from conformance.check.flows import Flows
from conformance.check.setup import Setup
from conformance.check.verdict import Outcome
from refmodel.packet.segment import segment


def test_syns_that_nobody_answers_do_not_pile_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "syns.pcapng"
    n, most = 10_000, 2_000
    frames(path, syns(n))
    monkeypatch.setattr(flows_module, "MOST_OPEN", most)
    monkeypatch.setattr(capture_module, "MOST_OPEN", most)
    followed = []
    look = Flows._look
    monkeypatch.setattr(Flows, "_look", lambda f, now: (look(f, now), followed.append(len(f.open)))[0])
    report = check_capture(path)
    assert len(report.verdicts) == n
    assert {v.outcome for v in report.verdicts} == {Outcome.CONFORMS}
    assert max(followed) <= most
    (notice,) = report.notices
    assert "connections were judged before their end: more than 2000 were open" in notice


@pytest.mark.slow
def test_ports_that_are_used_a_thousand_times_are_as_many_connections(tmp_path: Path) -> None:
    path = tmp_path / "reused.pcapng"
    n = 1_000
    count = frames(path, reused(n))
    report = check_capture(path)
    assert report.frames == count
    assert len(report.verdicts) == n
    assert {v.outcome for v in report.verdicts} == {Outcome.CONFORMS}


def test_unknown_blocks_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "blocks.pcapng"
    count = blocks(path, 100_000)
    report = check_capture(path)
    assert (report.frames, report.error) == (count, "")
    assert [v.outcome for v in report.verdicts] == [Outcome.CONFORMS] * 4


def test_frames_of_a_connection_that_was_judged_early_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flows_module, "MOST_OPEN", 4)
    flows = Flows(Setup(kernel="6.12"), False)
    sent = [[segment(n, at, data) for n, (at, data) in enumerate(connection(k), 100 * k)] for k in range(8)]
    for s in (x for one in sent for x in one[:6]):
        assert s is not None
        flows.follow(s)
    flows._look(max(s.time for one in sent for s in one[:6] if s is not None) // 1000)
    assert flows.crowded_out == 5
    for s in (x for one in sent for x in one[6:]):
        assert s is not None
        flows.follow(s)
    verdicts = [v for _, v in flows.finish(10_000_000, 200)]
    assert len(verdicts) == 8
    assert {v.outcome for v in verdicts} == {Outcome.CONFORMS}


def test_what_is_kept_of_a_connection_that_is_over_is_its_verdict() -> None:
    flows = Flows(Setup(kernel="6.12"), False)
    flows.labels = False
    sizes = []
    tracemalloc.start()
    try:
        for k in range(150):
            for number, (at, data) in enumerate(connection(k, 5_000_000_000), 30_000 + 100 * k):
                s = segment(number, at, data)
                assert s is not None
                flows.follow(s)
            if k % 50 == 49:
                flows._look((k + 20) * 5_000_000)
                sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert not flows.open
    assert sizes[2] - sizes[1] < 50 * 3_000
