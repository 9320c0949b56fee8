"""How connections are followed: with and without shortcuts, by one process and by several, and for how long."""

import gc
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench.traffic import connection, write
from conformance.check import flows as flows_module
from conformance.check import spread as spread_module
from conformance.check import tcp as tcp_module
from conformance.check.capture import captures_in, check_capture, check_frames, check_together
from conformance.check.flows import FRAME, NEIGHBOURS, QUIET, Flows, Share
from conformance.check.frontier import Frontier
from conformance.check.options import RULES
from conformance.check.setup import Setup, setup_for
from conformance.check.tcp import Connection
from conformance.check.verdict import FileReport, Outcome
from conformance.frames import Frame
from conformance.pcap import Reader
from refmodel.packet.segment import segment

CAPTURES = Path(__file__).parents[2] / "captures"
SECOND = 1_000_000_000


def judged(frames: list[Frame], setup: Setup, **given: Any) -> FileReport:
    report = FileReport("capture")
    check_frames(frames, setup, report, **given)
    return report


def frames_of(sent: list[tuple[int, bytes]]) -> list[Frame]:
    return [Frame(n, 1_700_000_000 * SECOND + at, 1, 0, data, len(data)) for n, (at, data) in enumerate(sent, 1)]


@pytest.mark.parametrize(("first", "without"), [(0, 0), (1, 5)])
def test_shortcuts_change_no_verdict_no_label_and_no_near_miss(
    first: int, without: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = []
    for path in captures_in(sorted(CAPTURES.glob("*.pcapng")))[first::3]:
        if path.name.startswith("tcp-"):
            with Reader(path) as r:
                cases.append((setup_for(path), [f for f in r if f.number != without]))
    short = [judged(frames, setup, engine=RULES) for setup, frames in cases]
    monkeypatch.setattr(tcp_module, "Likely", Frontier)
    assert msgspec.json.encode(short) == msgspec.json.encode(
        [judged(frames, setup, engine=RULES) for setup, frames in cases]
    )


def test_one_process_and_several_say_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spread_module, "LARGE", 1)
    path = tmp_path / "many.pcapng"
    write(path, 40)
    alone = check_capture(path)
    assert len(alone.verdicts) == 40
    assert alone.outcome is Outcome.CONFORMS
    for jobs in (1, 3):
        assert list(check_together([path], jobs=jobs)) == [alone]


def test_one_process_and_several_find_the_same_divergence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spread_module, "LARGE", 1)
    path, broken = tmp_path / "many.pcapng", tmp_path / "broken.pcap"
    write(path, 12)
    with Reader(path) as r, broken.open("wb") as out:
        out.write(bytes.fromhex("4d3cb2a1 0200 0400 00000000 00000000 00000400 01000000"))
        for f in r:
            data = f.data if f.number != 100 else f.data[:42] + bytes([f.data[42] ^ 0x40]) + f.data[43:]  # the ack
            out.write(b"".join(x.to_bytes(4, "little") for x in (*divmod(f.time, SECOND), len(data), f.orig_len)))
            out.write(data)
    alone = check_capture(broken)
    assert sum(v.outcome is Outcome.DIVERGES for v in alone.verdicts) == 1
    assert list(check_together([broken], jobs=2)) == [alone]


def test_every_frame_falls_to_exactly_one_share_and_with_all_others_of_its_connection() -> None:
    shares = [Share(k, 3) for k in range(3)]
    owners: dict[int, set[int]] = {}
    for number, (at, data) in enumerate(x for k in range(90) for x in connection(k)):
        f = Frame(number, at, 1, 0, data, len(data))
        (owner,) = (k for k, share in enumerate(shares) if share.sees(f))
        s = segment(number, at, data)
        assert s is not None
        owners.setdefault(max(s.source, s.dest), set()).add(owner)
    assert all(len(x) == 1 for x in owners.values())
    held = [sum(x == {k} for x in owners.values()) for k in range(3)]
    assert held[1] == pytest.approx(held[2], abs=2)
    assert FRAME * held[0] + NEIGHBOURS * 90 == pytest.approx(FRAME * held[1], abs=2 * FRAME)


def test_frames_that_are_not_plain_ipv4_fall_where_their_connection_does() -> None:
    plain = [data for _, data in connection(0)]
    tagged = [data[:12] + b"\x81\0\0\x05" + data[12:] for data in plain]
    for part in range(3):
        share = Share(part, 3)
        for k in range(5):
            assert share.sees(Frame(1, 0, 1, 0, next(connection(k))[1], 60)) in (True, False)
        first = share.sees(Frame(2, 0, 1, 0, plain[1], len(plain[1])))
        assert {share.sees(Frame(3, 0, 1, 0, data, len(data))) for data in tagged} == {first}


def test_connections_beyond_those_that_are_dealt_in_turn_fall_to_one_share_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(flows_module, "DEALT", 4)
    shares = [Share(k, 2) for k in range(2)]
    for k in range(40):
        seen = [[share.sees(Frame(1, 0, 1, 0, data, len(data))) for share in shares] for _, data in connection(k)]
        assert sum(seen[0]) == 1
        assert all(x == seen[0] for x in seen)
    assert len(shares[0].dealt) == 8


def test_finished_connections_are_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    connections, look = 200, 512
    monkeypatch.setattr(flows_module, "LOOK", look)
    flows = Flows(Setup(kernel="6.12"), False)
    most = number = last = 0
    for k in range(connections):
        for at, data in connection(k, SECOND):
            number, last = number + 1, at
            s = segment(number, at, data)
            assert s is not None
            flows.follow(s)
        most = max(most, len(flows.open))
    assert most <= QUIET // 1_000_000 + look // 21 + 2
    verdicts = flows.finish(last // 1000, number)
    assert len(verdicts) == connections
    assert [n for n, _ in verdicts] == sorted(n for n, _ in verdicts)
    del flows
    gc.collect()
    assert not [x for x in gc.get_objects() if isinstance(x, Connection)]


def later(sent: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    """The same an hour later."""
    return [(at + 3600 * SECOND, data) for at, data in sent]


def test_a_port_pair_may_be_used_again_long_after_the_end() -> None:
    sent = list(connection(0))
    report = judged(frames_of([*sent, *later(sent)]), Setup(kernel="6.12"))
    assert [v.outcome for v in report.verdicts if v.layer == "tcp"] == [Outcome.CONFORMS] * 2


def test_a_segment_long_after_the_end_meets_closed_ends() -> None:
    sent = list(connection(0))
    report = judged(frames_of([*sent, *later(sent[5:6])]), Setup(kernel="6.12"))
    assert [v.outcome for v in report.verdicts if v.layer == "tcp"] == [Outcome.CONFORMS, Outcome.DIVERGES]


def test_labels_of_a_large_capture_are_kept_on_request_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flows_module, "LABELS_UP_TO", 100)
    sent = [x for k in range(10) for x in connection(k)]
    setup = Setup(kernel="6.12")
    assert not any(v.labels or v.events for v in judged(frames_of(sent), setup).verdicts)
    asked = judged(frames_of(sent), setup, labelled=True)
    assert sum(len(v.labels) for v in asked.verdicts) == len(sent)
