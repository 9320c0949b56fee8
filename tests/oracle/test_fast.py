"""The short way of usual frames: what it decides is what the parts decide, on captures of kernels and on wrong ones."""

from collections.abc import Callable
from pathlib import Path

import pytest

from conformance.check.flows import Flows
from conformance.check.setup import setup_for, tap_of
from conformance.check.verdict import Outcome, Verdict
from conformance.oracle import following
from conformance.oracle.connection import Connection
from conformance.pcap import Reader
from refmodel.packet.segment import Segment, segment

CAPTURES = sorted((Path(__file__).parent.parent.parent / "captures").rglob("*.pcapng*"))
M32 = 0xFFFFFFFF

Seen = tuple[list[tuple[Segment, int]], int, int]


def load(path: Path) -> Seen:
    """The segments of a capture with their taps, when it ends (us), how many frames it has."""
    found, last, n = [], 0, 0
    with Reader(path) as r:
        for f in r:
            n, last = n + 1, max(last, f.time // 1000)
            s = segment(f.number, f.time, f.data, f.linktype, f.orig_len)
            if s is not None:
                found.append((s, tap_of(f.interface, f.linktype, f.data)))
    return found, last, n


def verdicts(path: Path, seen: Seen, short: bool, monkeypatch: pytest.MonkeyPatch) -> list[Verdict]:
    """The verdicts with or without the short way."""
    monkeypatch.setattr(following, "FAST", short)
    segments, last, n = seen
    flows = Flows(setup_for(path), True, Connection)
    for s, tap in segments:
        flows.follow(s, tap)
    return [v for _, v in flows.finish(last, n)]


def both(path: Path, seen: Seen, monkeypatch: pytest.MonkeyPatch) -> list[Verdict]:
    """The verdicts, which are the same either way."""
    short, long = (verdicts(path, seen, how, monkeypatch) for how in (True, False))
    assert short == long
    return short


@pytest.mark.parametrize("part", range(8))
def test_every_shipped_capture_is_judged_labelled_and_counted_the_same(
    part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in CAPTURES[part::8]:
        seen = load(path)
        if len(seen[0]) < 3_000:
            both(path, seen, monkeypatch)


CHANGES: dict[str, Callable[[Segment], Segment]] = {
    "ack": lambda s: s.changed(ack_seq=(s.ack_seq + 1) & M32),
    "seq": lambda s: s.changed(seq=(s.seq + 7) & M32),
    "window": lambda s: s.changed(window=min(s.window * 3 + 500, 0xFFFF)),
    "smaller window": lambda s: s.changed(window=s.window // 2),
    "id": lambda s: s.changed(ip_id=None if s.ip_id is None else (s.ip_id + 5) & 0xFFFF),
    "timestamp": lambda s: s.changed(tsval=None if s.tsval is None else (s.tsval - 900) & M32),
    "echo": lambda s: s.changed(tsecr=None if s.tsecr is None else (s.tsecr + 3) & M32),
    "TTL": lambda s: s.changed(ttl=s.ttl - 1),
    "ECE": lambda s: s.changed(flags=s.flags ^ 0x40),
    "PSH": lambda s: s.changed(flags=s.flags ^ 8),
    "length": lambda s: s.changed(len=s.len + 1),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_frame_that_was_changed_is_judged_the_same(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    diverged = 0
    for path in CAPTURES[:: len(CAPTURES) // 20]:
        segments, last, n = load(path)
        if not 10 < len(segments) < 400:
            continue
        k = len(segments) * 2 // 3
        s, tap = segments[k]
        changed = [*segments[:k], (CHANGES[what](s), tap), *segments[k + 1 :]]
        found = both(path, (changed, last, n), monkeypatch)
        diverged += any(v.outcome is Outcome.DIVERGES for v in found)
    assert diverged > 0 or what in ("window", "smaller window", "PSH")


def test_a_frame_that_is_missing_is_missed_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    for path in CAPTURES[:: len(CAPTURES) // 20]:
        segments, last, n = load(path)
        if 10 < len(segments) < 400:
            k = len(segments) // 2
            both(path, ([*segments[:k], *segments[k + 1 :]], last, n), monkeypatch)
