"""Synthesized captures are what a real tap would have written, and their truth is true."""

from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path as Folder

import pytest

from conformance.check.setup import read_sidecar
from conformance.live.sidecar import parse
from conformance.synth.plan import SHAPES, plan
from conformance.synth.truth import FrameTruth, Truth, load, synthesize, write
from conformance.synth.wire import Half, Path
from refmodel.packet import Checksum, Icmp, Icmp6Word, checksums, decode
from refmodel.packet.segment import Segment, segment
from refmodel.packet.transport import ACK, RST, SYN

SEEDS = range(1, 41)


def segments(truth: Truth) -> list[Segment]:
    out = []
    for f in truth.captured():
        s = segment(f.number, f.time, f.data, f.linktype, f.orig_len)
        if s is not None:
            out.append(s)
    return out


def of_hosts(truth: Truth) -> list[FrameTruth]:
    """The truth of every segment: what is not one came from a router."""
    return [f for f in truth.frames if f.host != "r"]


@pytest.fixture(scope="module")
def truths() -> list[Truth]:
    return [synthesize(seed) for seed in SEEDS]


def test_the_same_seed_gives_the_same_bytes() -> None:
    a, b = synthesize(7), synthesize(7)
    assert a == b
    assert synthesize(8).data != a.data


def test_every_frame_has_a_label_of_the_host_that_owns_its_source(truths: list[Truth]) -> None:
    for t in truths:
        shown = segments(t)
        assert [f.number for f in of_hosts(t)] == [s.number for s in shown]
        owners = {a: h.name for h in t.setup.hosts for a in h.addresses}
        assert all(owners[s.saddr] == f.host and all(f.by) for s, f in zip(shown, of_hosts(t), strict=True)), t.seed


def test_each_tap_stamps_in_order(truths: list[Truth]) -> None:
    for t in truths:
        last: dict[int, int] = {}
        for f in t.captured():
            assert f.time >= last.get(f.interface, 0)
            last[f.interface] = f.time


def test_segments_that_left_a_tapped_host_are_what_it_counted(truths: list[Truth]) -> None:
    """OutSegs holds no retransmission but those of SYN-ACKs, which are in RetransSegs too."""
    judged = 0
    for t in truths:
        if t.lost["before"] or "super" in t.says:
            continue
        for host in set(t.vantage) & {"a", "b"}:
            left, syns, synacks = 0, Counter[int](), 0
            for s, f in zip(segments(t), of_hosts(t), strict=True):
                if f.host != host or f.tap != host:
                    continue
                if s.flags & (SYN | ACK) == SYN | ACK:
                    synacks += syns[s.seq] > 0
                    syns[s.seq] += 1
                left += 1
            mib = t.mib[host]
            assert left == mib["Tcp.OutSegs"] + mib.get("Tcp.RetransSegs", 0) - synacks, (t.seed, host)
            judged += 1
    assert judged > 5


def test_ipv4_ids_step_by_one_a_segment_at_the_senders_tap(truths: list[Truth]) -> None:
    """Per socket; zero on SYN-ACKs and on what is sent without a full socket (net/ipv4/ip_output.c)."""
    steps = 0
    for t in truths:
        if t.lost["before"] or "super" in t.says:
            continue
        ids = defaultdict(list)
        isn: dict[tuple[bytes, int], int] = {}  # a port that is used again has another socket
        for s, f in zip(segments(t), of_hosts(t), strict=True):
            if f.tap != f.host or s.ip_id is None:
                continue
            if s.flags & SYN:
                isn[s.saddr, s.source] = s.seq
            if (s.flags & (SYN | ACK) == SYN | ACK) or set(f.by) & {"tcp_v4_send_reset", "tcp_v4_timewait_ack"}:
                assert s.ip_id == 0
            elif not (s.flags & RST and s.ip_id == 0):
                ids[s.saddr, s.source, s.dest, isn.get((s.saddr, s.source))].append(s.ip_id)
        for series in ids.values():
            steps += len(series) - 1
            assert all((b - a) & 0xFFFF == 1 for a, b in pairwise(series)), (t.seed, series)
    assert steps > 300


def test_a_retransmission_has_the_bytes_of_the_original(truths: list[Truth]) -> None:
    again = 0
    for t in truths:
        stream: dict[tuple[bytes, int, int], int] = {}
        for s, f in zip(segments(t), of_hosts(t), strict=True):
            if f.fate == "damaged":
                continue
            for k, byte in enumerate(s.payload):
                at = s.saddr, s.source, (s.seq + k + s.flags // 2 % 2) & 0xFFFFFFFF
                again += at in stream
                assert stream.setdefault(at, byte) == byte
    assert again > 1000


def test_only_damaged_frames_have_a_wrong_checksum(truths: list[Truth]) -> None:
    damaged = 0
    noisy = Half(damage=0.1)
    for t in [*truths, synthesize(5, shape="bulk", taps=("b",), paths=(Path(noisy, noisy), Path(noisy, noisy)))]:
        for f, x in zip(t.captured(), t.frames, strict=True):
            said = checksums(decode(f.data))[-1][1]
            assert (said == Checksum.WRONG) == (x.fate == "damaged"), (t.seed, f.number, said)
            damaged += said == Checksum.WRONG
    assert damaged


def test_a_sidecar_says_what_the_setup_holds(tmp_path: Folder, truths: list[Truth]) -> None:
    for t in truths[:6]:
        path = write(t, tmp_path)
        assert parse(t.sidecar).kernel.hz == t.setup.hz
        assert read_sidecar(path.with_suffix(".toml")) == t.setup
        assert load(path) == t


@pytest.mark.parametrize("addresses", [(b"\x0a\0\0\1", b"\x0a\0\0\2"), (bytes(15) + b"\2", bytes(15) + b"\3")])
def test_a_router_says_when_a_packet_is_too_big_and_the_sender_learns(addresses: tuple[bytes, bytes]) -> None:
    small = Path(Half(), Half(mtu=1300))
    t = synthesize(
        11, shape="bulk", taps=("a", "b"), paths=(small, small), addresses=addresses, rx="each", tx="segments", mtu=1500
    )
    words = [f for f in t.frames if f.host == "r"]
    assert words
    assert {f.by for f in words} == {("icmpv6_send" if len(addresses[0]) == 16 else "icmp_send",)}
    shown = {f.number: decode(f.data) for f in t.captured()}
    for f in words:
        layer = shown[f.number].layers[-1]
        assert isinstance(layer, Icmp | Icmp6Word)
        assert layer.mtu == 1300
        assert {c for _, c in checksums(shown[f.number])} == {Checksum.OK}
    last = max(f.number for f in words)
    room = 1300 - (60 if len(addresses[0]) == 16 else 40)
    sizes = [s.len for s in segments(t) if s.number > last + 20]
    assert sizes
    assert max(sizes) <= room


@pytest.mark.parametrize("shape", sorted(set(SHAPES)))
def test_every_shape_can_be_asked_for(shape: str) -> None:
    t = synthesize(3, shape=shape)
    assert t.frames
    assert t.says.startswith(shape)


def test_plans_reach_everything_that_is_drawn() -> None:
    plans = [plan(seed) for seed in range(1, 120)]
    assert {p.kernel for p in plans} == {"6.1", "6.12", "6.18"}
    assert {p.hz for p in plans} == {100, 250, 1000}
    assert {p.taps for p in plans} == {("a",), ("b",), ("a", "b"), ("m",)}
    assert {c for p in plans for c in p.congestion} == {"cubic", "reno", "bbr"}
    assert {len(p.addresses[0]) for p in plans} == {4, 16}
    assert {(p.tx, p.rx) for p in plans} >= {("segments", "each"), ("segments", "gro"), ("super", "whole")}
    assert {p.shape for p in plans} == set(SHAPES)
